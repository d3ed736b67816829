"""The exact model, and gradients of its terms, compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives.elbo import elbo


@pytest.fixture
def exact():
  """Returns parameters and a batch of 8."""
  return linear.exact_model()[0], linear.batch_of(8)


@pytest.fixture(scope="session")
def slopes_of():
  """Returns a function of parameters and batch that gives the gradients of
  the mean distortion, squared error and KL of each dimension."""

  def means(params, batch):
    def objective(vae, batch):
      terms = elbo(vae, batch)
      (q,), (p,) = vae.encode(batch.image).groups, vae.prior().groups
      extras = {f"kl_{j}": v for j, v in enumerate(q.kl_per_dimension(p).T)}
      return terms.replace(extras={**terms.extras, **extras})

    terms = linear.terms_of(objective, params, batch)
    parts = [terms.distortion, terms.extras["squared_error"]]
    parts += [terms.extras["kl_0"], terms.extras["kl_1"]]
    return jnp.stack([v.mean() for v in parts])

  compiled = linear.jit(jax.jacrev(means))

  def weigh(params, batch, *weights):
    rows = compiled(params, batch)
    return jax.tree.map(
      lambda v: np.tensordot(np.array(weights), v, axes=1), rows
    )

  return weigh
