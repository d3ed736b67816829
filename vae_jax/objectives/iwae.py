"""Importance-weighted bounds: iwae, miwae, piwae and ciwae.

With K draws z_k from q(z | x) and weights
log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x),
L_K = log 1/K sum_k w_k rises in expectation from the ELBO at K = 1 to
log p(x). K is `num_samples`, draws per bound and image; M is `num_outer`,
bounds that are averaged. In addition to the loss, every objective here reports
-L of all its draws as `neg_iwae`, nats, and 1 / sum_k v_k^2 with
v = softmax(log w) as `effective_samples`; distortion and rate are means over
the draws, so that neg_elbo is that of a single draw.
"""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

from vae_jax import distributions, models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import base
from vae_jax.objectives.base import Terms
from vae_jax.objectives.constraints import at_least, between, checked

# Draws of the latents, one array per group.
Draws = tuple[Shaped[Array, "k b ..."], ...]
Count = Annotated[int, at_least(1)]


@checked
def iwae(vae: models.Vae, batch: Batch, *, num_samples: Count = 50) -> Terms:
  """-L_K = -log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x), K draws of z.

  Its gradient is that of -sum_k v_k log w_k at fixed v = softmax(log w).
  K = 1 is the ELBO with a sampled rate.

  References:
    Burda, Grosse and Salakhutdinov, arXiv 1509.00519, equation 8.
  """
  posterior, draws = weighted_draws(vae, batch, num_samples)
  loss = -log_mean_exp(draws.log_w)
  return terms_of(loss, posterior, vae.prior(), draws)


@checked
def miwae(
  vae: models.Vae, batch: Batch, *, num_outer: Count = 8, num_samples: Count = 8
) -> Terms:
  """-1/M sum_m L_K of M groups of K draws: a mean of bounds.

  With K = 1 this is the ELBO of M draws.

  References:
    Rainforth et al., arXiv 1802.04537, section 5 (MIWAE).
  """
  posterior, draws = weighted_draws(vae, batch, num_outer * num_samples)
  loss = -_mean_bound(draws.log_w, num_samples)
  return terms_of(loss, posterior, vae.prior(), draws)


@checked
def piwae(
  vae: models.Vae, batch: Batch, *, num_outer: Count = 8, num_samples: Count = 8
) -> Terms:
  """-L_MK for decoder and prior, `miwae` for the encoder, of the same draws.

  The value is -L_MK. A tight bound serves the model, but the tighter it is,
  the noisier is the encoder's gradient.

  References:
    Rainforth et al., arXiv 1802.04537, section 5 (PIWAE).
  """
  posterior = vae.encode(batch.image)
  z, log_q = sample(posterior, batch.key, jnp.arange(num_outer * num_samples))
  draws = weigh(vae, batch.image, *lax.stop_gradient((z, log_q)))
  # Without dropout the same values: the compiler merges the two passes.
  encoded = base.frozen(weigh, vae, batch.image, z, log_q)
  loss = -log_mean_exp(draws.log_w)
  for_encoder = -_mean_bound(encoded.log_w, num_samples)
  loss += for_encoder - lax.stop_gradient(for_encoder)
  return terms_of(loss, posterior, vae.prior(), draws)


@checked
def ciwae(
  vae: models.Vae,
  batch: Batch,
  *,
  beta: Annotated[float, between(0, 1)] = 0.05,
  num_samples: Count = 50,
) -> Terms:
  """-(beta mean_k log w_k + (1 - beta) L_K): ELBO and bound of K draws.

  References:
    Rainforth et al., arXiv 1802.04537, section 5 (CIWAE).
  """
  posterior, draws = weighted_draws(vae, batch, num_samples)
  elbo = jnp.mean(draws.log_w, axis=0)
  loss = -(beta * elbo + (1 - beta) * log_mean_exp(draws.log_w))
  return terms_of(loss, posterior, vae.prior(), draws)


@struct.dataclass
class Weighted:
  """Log densities of k draws for each of b images, nats.

  Attributes:
    log_likelihood: log p(x | z).
    log_prior: log p(z).
    log_q: log q(z | x).
    metrics: the likelihood's, averaged over the draws.
  """

  log_likelihood: Float[Array, "k b"]
  log_prior: Float[Array, "k b"]
  log_q: Float[Array, "k b"]
  metrics: dict[str, Float[Array, " b"]]

  @property
  def log_w(self) -> Float[Array, "k b"]:
    """log p(x | z) + log p(z) - log q(z | x)."""
    return self.log_likelihood + self.log_prior - self.log_q

  @property
  def weight(self) -> Float[Array, "k b"]:
    """v = softmax(log w)."""
    return jax.nn.softmax(self.log_w, axis=0)


def weighted_draws(
  vae: models.Vae, batch: Batch, count: int
) -> tuple[distributions.Groups, Weighted]:
  """Returns q(z | x) and the densities of `count` draws from it per image."""
  posterior = vae.encode(batch.image)
  z, log_q = sample(posterior, batch.key, jnp.arange(count))
  return posterior, weigh(vae, batch.image, z, log_q)


def draw_keys(
  key: Key[Array, " b"], draws: Int[Array, " k"]
) -> Key[Array, "k b"]:
  """Returns the key of each numbered draw of each image.

  A draw depends on its number alone, not on how many there are.
  """
  fold = jax.vmap(jax.random.fold_in, (0, None))
  own = fold(key, Stream.WEIGHTED_DRAWS)
  return jax.vmap(fold, (None, 0))(own, draws)


def sample(
  posterior: distributions.Groups,
  key: Key[Array, " b"],
  draws: Int[Array, " k"],
) -> tuple[Draws, Float[Array, "k b"]]:
  """Returns the numbered draws of each image and their log q(z | x), nats."""
  return jax.vmap(posterior.sample_and_log_prob)(draw_keys(key, draws))


def weigh(
  vae: models.Vae,
  image: UInt8[Array, "b h w c"],
  z: Draws,
  log_q: Float[Array, "k b"],
) -> Weighted:
  """Returns the densities of k draws from q(z | image) of each image."""
  count, size = log_q.shape
  flat = tuple(v.reshape(count * size, *v.shape[2:]) for v in z)
  images = jnp.tile(image, (count, 1, 1, 1))
  likelihood = vae.decode(flat)
  return Weighted(
    log_likelihood=likelihood.log_prob(images).reshape(count, size),
    log_prior=vae.prior().log_prob(flat).reshape(count, size),
    log_q=log_q,
    metrics={
      k: v.reshape(count, size).mean(axis=0)
      for k, v in likelihood.metrics(images).items()
    },
  )


def log_mean_exp(log_w: Float[Array, "k ..."]) -> Float[Array, "..."]:
  """Returns log 1/k sum_k exp(log_w_k) over the first axis."""
  return jax.nn.logsumexp(log_w, axis=0) - math.log(len(log_w))


def terms_of(
  loss: Float[Array, " b"],
  posterior: distributions.Groups,
  prior: distributions.Groups,
  draws: Weighted,
) -> Terms:
  """Returns a loss with the terms that all losses of weighted draws report.

  The rate is the closed form where there is one, else the mean over the draws
  of log q(z | x) - log p(z).
  """
  if posterior.has_kl(prior):
    rate = posterior.kl(prior)
  else:
    rate = jnp.mean(draws.log_q - draws.log_prior, axis=0)
  return Terms(
    loss=loss,
    distortion=-jnp.mean(draws.log_likelihood, axis=0),
    rate=rate,
    extras={
      "neg_iwae": -log_mean_exp(draws.log_w),
      "effective_samples": 1 / jnp.sum(jnp.square(draws.weight), axis=0),
      **draws.metrics,
    },
  )


def _mean_bound(log_w: Float[Array, "n b"], size: int) -> Float[Array, " b"]:
  """Returns the mean over groups of `size` draws of their bounds."""
  groups = log_w.reshape(-1, size, log_w.shape[1])
  return jnp.mean(log_mean_exp(groups.swapaxes(0, 1)), axis=0)
