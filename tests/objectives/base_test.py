"""What all losses share: the names of terms, and draws of several groups."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.linear_gaussian_vae import (
  VAE,
  kl_of,
  terms_of,
  values_of,
  without_noise,
)
from vae_jax import distributions, models, objectives
from vae_jax.config import ConfigError
from vae_jax.models import posteriors
from vae_jax.models.draw import rates
from vae_jax.objectives import (
  base,
  beta_vae,
  capacity_vae,
  elbo,
  free_bits,
  info_vae,
  ssim_vae,
  swae,
  wae,
)


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
  terms = objectives.Terms(
    loss=ones, distortion=ones, extras={"mine": 3 * ones}
  )
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
    return objectives.Terms(
      loss=draw.likelihood.log_prob(batch.image),
      distortion=draw.distortion,
      rate=draw.rate,
      extras={
        "log_q": draw.log_q - draw.posterior.log_prob((z,)),
        "sampled": draw.log_q - prior.log_prob(z),
        **draw.extras,
      },
    )

  terms = values_of(objective, params, batch)
  plain = values_of(elbo.elbo, params, batch)
  np.testing.assert_allclose(terms.distortion, -terms.loss, rtol=1e-6)
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  np.testing.assert_allclose(terms.extras["log_q"], 0, atol=1e-4)
  assert set(plain.extras) < set(terms.extras)
  expected = kl_of(params, batch.image).sum(1)
  if kl == "sampled":
    expected = terms.extras["sampled"]
  np.testing.assert_allclose(terms.rate, expected, rtol=1e-5)


def test_a_point_has_no_rate_and_refuses_where_it_is_asked_for(exact):
  params, batch = exact
  vae = VAE.clone(posterior=posteriors.Deterministic(2))
  params = without_noise(params)

  def ask(name, vae, batch):
    draw = objectives.one_draw(vae, batch)
    assert not draw.has_rate
    getattr(draw, name)

  for name in ("rate", "log_q"):
    with pytest.raises(ConfigError, match="deterministic posterior has no KL"):
      terms_of(functools.partial(ask, name), params, batch, vae=vae)
  with pytest.raises(ConfigError, match="deterministic posterior has no KL"):
    terms_of(elbo.elbo, params, batch, vae=vae)


class _Hierarchy(models.Vae):
  """Two groups of latents: z_1 as in the exact model, z_2 [b 1 2] given z_1.

  q(z_2 | z_1) = N(z_1 + 1, I) and p(z_2 | z_1) = N(z_1, I), so that the rate
  of the second group is 1 nat for each image; the decoder reads z_1.
  """

  def draw(self, image, key, *, kl="auto"):
    first = super().draw(image, key, kl=kl)
    (z,) = first.z
    normal = lambda mean: _Map(  # noqa: E731
      distributions.DiagonalNormal(mean, jnp.zeros_like(mean))
    )
    posterior = distributions.Groups((*first.posterior.groups, normal(z + 1)))
    prior = distributions.Groups((*first.prior.groups, normal(z)))
    below, log_q = posterior.groups[1].sample_and_log_prob(key)
    z, log_q = (z, below), (*first.log_q_per_group, log_q)
    return first.replace(
      posterior=posterior,
      prior=prior,
      z=z,
      log_q_per_group=log_q,
      rate_per_group=rates(posterior, prior, z, log_q, kl=kl),
    )


class _Map:
  """A normal distribution of maps [b 1 2], from one of vectors [b 2]."""

  def __init__(self, vectors):
    self.vectors = vectors

  def sample(self, key, **options):
    return self.vectors.sample(key, **options)[:, None]

  def sample_and_log_prob(self, key):
    z, log_q = self.vectors.sample_and_log_prob(key)
    return z[:, None], log_q

  def log_prob(self, z):
    return self.vectors.log_prob(z[:, 0])

  def has_kl(self, prior):
    return self.vectors.has_kl(prior.vectors)

  def kl(self, prior):
    return self.vectors.kl(prior.vectors)


HIERARCHY = _Hierarchy(
  encoder=VAE.encoder,
  posterior=VAE.posterior,
  latent_prior=VAE.latent_prior,
  decoder=VAE.decoder,
  likelihood=VAE.likelihood,
)


@pytest.mark.parametrize(
  "objective",
  [
    elbo.elbo,
    beta_vae.beta_vae,
    capacity_vae.capacity_vae,
    functools.partial(free_bits.free_bits, per="group"),
    info_vae.info_vae,
    ssim_vae.ssim_vae,
    swae.swae,
    wae.wae_mmd,
  ],
)
def test_losses_of_one_draw_sum_the_rate_over_groups(exact, objective):
  params, batch = exact
  terms = values_of(objective, params, batch, vae=HIERARCHY)
  plain = values_of(elbo.elbo, params, batch)
  np.testing.assert_allclose(terms.rate, plain.rate + 1, rtol=1e-5)
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  assert np.isfinite(terms.loss).all()
  if objective is elbo.elbo:
    expected = plain.distortion + plain.rate + 1
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


def test_flatten_joins_groups_of_any_rank():
  vector, grid = jnp.arange(4.0).reshape(2, 2), jnp.ones((2, 1, 3, 2))
  code = base.flatten((vector, grid))
  np.testing.assert_array_equal(code, [[0, 1] + [1] * 6, [2, 3] + [1] * 6])
