"""What all losses share: the names of terms, and draws of several groups."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import linear_gaussian_vae as linear
from vae_jax import distributions, models, objectives
from vae_jax.config import ConfigError
from vae_jax.models.draw import rates
from vae_jax.objectives import base
from vae_jax.objectives.elbo import elbo


@pytest.mark.parametrize(
  "name", ["loss", "distortion", "rate", "neg_elbo", "count", "skipped"]
)
def test_an_extra_with_the_name_of_a_term_is_refused(name):
  ones = jnp.ones(2)
  terms = objectives.Terms(loss=ones, distortion=ones, extras={name: 2 * ones})
  with pytest.raises(ConfigError, match=f"extras named {name}; allowed are"):
    terms.named()


def test_named_holds_terms_and_extras():
  ones = jnp.ones(2)
  terms = objectives.Terms(ones, ones, extras={"mine": 3 * ones})
  assert set(terms.named()) == {"loss", "distortion", "mine"}
  named = terms.replace(rate=2 * ones).named()
  assert set(named) == {"loss", "distortion", "rate", "neg_elbo", "mine"}
  np.testing.assert_array_equal(named["neg_elbo"], [3, 3])


@pytest.mark.parametrize("kl", ["auto", "closed", "sampled"])
def test_one_draw_holds_what_a_loss_needs(exact, kl):
  params, batch = exact

  def objective(vae, batch):
    draw = objectives.one_draw(vae, batch, kl=kl)
    (z,), (prior,) = draw.z, draw.prior.groups
    loss = draw.likelihood.log_prob(batch.image)
    extras = {"log_q": draw.log_q - draw.posterior.log_prob((z,))}
    extras |= {"sampled": draw.log_q - prior.log_prob(z), **draw.extras}
    return objectives.Terms(loss, draw.distortion, draw.rate, extras)

  terms = linear.values_of(objective, params, batch)
  plain = linear.values_of(elbo, params, batch)
  np.testing.assert_allclose(terms.distortion, -terms.loss, rtol=1e-6)
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  np.testing.assert_allclose(terms.extras["log_q"], 0, atol=1e-4)
  assert set(plain.extras) < set(terms.extras)
  expected = linear.kl_of(params, batch.image).sum(1)
  if kl == "sampled":
    expected = terms.extras["sampled"]
  np.testing.assert_allclose(terms.rate, expected, rtol=1e-5)


def _values_of_points(objective, params, batch):
  params = linear.without_noise(params)
  return linear.values_of(objective, params, batch, vae=linear.POINT)


def _ask(name, vae, batch):
  draw = objectives.one_draw(vae, batch)
  assert not draw.has_rate
  return getattr(draw, name)


NORMAL = "posterior.name to diagonal_normal"
NO_KL = "deterministic posterior has no KL"


@pytest.mark.parametrize(
  "objective, message",
  [
    (functools.partial(_ask, "rate"), NO_KL),
    (functools.partial(_ask, "log_q"), NO_KL),
    (elbo, NO_KL),
    (linear.loss_of("free_bits"), "closed form of each dim"),
    (linear.loss_of("iwae"), "diagonal_normal"),
    *(
      (linear.loss_of(n), NORMAL) for n in ("beta_tcvae", "stl", "dreg", "rws")
    ),
  ],
)
def test_a_point_is_refused_where_its_density_is_needed(
  exact, objective, message
):
  with pytest.raises(ConfigError, match=message):
    _values_of_points(objective, *exact)


def test_a_point_may_be_compared_with_draws_of_the_prior(exact):
  plain = _values_of_points(linear.loss_of("autoencoder"), *exact)
  for name in ("wae_mmd", "swae"):
    terms = _values_of_points(linear.loss_of(name), *exact)
    assert terms.rate is None
    np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
    assert (np.asarray(terms.loss) != np.asarray(plain.loss)).all()


class _Hierarchy(models.Vae):
  """Two groups of latents: z_1 as in the exact model, z_2 [b 1 2] given z_1.

  q(z_2 | z_1) = N(z_1 + 1, I) and p(z_2 | z_1) = N(z_1, I), so that the rate
  of the second group is 1 nat for each image; the decoder reads z_1.
  """

  def draw(self, image, key, *, kl="auto"):
    first = super().draw(image, key, kl=kl)
    (z,) = first.z
    q, p = (_Map(mean, jnp.zeros_like(z)) for mean in (z + 1, z))
    posterior = distributions.Groups((*first.posterior.groups, q))
    prior = distributions.Groups((*first.prior.groups, p))
    below, log_q = q.sample_and_log_prob(key)
    z, log_q = (z, below), (*first.log_q_per_group, log_q)
    return first.replace(
      posterior=posterior,
      prior=prior,
      z=z,
      log_q_per_group=log_q,
      rate_per_group=rates(posterior, prior, z, log_q, kl=kl),
    )


class _Map(distributions.DiagonalNormal):
  """A normal distribution of maps [b 1 2], by means of vectors [b 2]."""

  def sample(self, key):
    return self.sample_and_log_prob(key)[0]

  def sample_and_log_prob(self, key):
    z, log_q = super().sample_and_log_prob(key)
    return z[:, None], log_q

  def log_prob(self, z):
    return super().log_prob(z[:, 0])


def test_losses_of_one_draw_sum_the_rate_over_groups(exact):
  losses = {"free_bits": linear.loss_of("free_bits", per="group"), "elbo": elbo}
  for name in "beta_vae capacity_vae info_vae ssim_vae swae wae_mmd".split():
    losses[name] = linear.loss_of(name)
  parts = "encoder", "posterior", "latent_prior", "decoder", "likelihood"
  vae = _Hierarchy(**{name: getattr(linear.VAE, name) for name in parts})
  run = linear.jit(functools.partial(linear.terms_of_each, losses, vae=vae))
  plain = linear.values_of(elbo, *exact)
  for name, terms in run(*exact).items():
    np.testing.assert_allclose(terms.rate, plain.rate + 1, rtol=1e-5)
    np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
    linear.assert_finite(terms.loss)
    if name == "elbo":
      np.testing.assert_allclose(terms.loss, plain.loss + 1, rtol=1e-5)


def test_flatten_joins_groups_of_any_rank():
  vector, grid = jnp.arange(4.0).reshape(2, 2), jnp.ones((2, 1, 3, 2))
  code = base.flatten((vector, grid))
  np.testing.assert_array_equal(code, [[0, 1] + [1] * 6, [2, 3] + [1] * 6])
