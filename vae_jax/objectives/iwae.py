"""Bounds of several weighted draws of the latents, tighter than the ELBO.

With K draws z_k from q(z | x) and weights
log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x),
L_K = log 1/K sum_k w_k rises in expectation from the ELBO at K = 1 to
log p(x). Besides the loss, every objective here reports -L of all its draws as
`neg_iwae` and how many of them the weights leave as `effective_samples`;
distortion and rate are means over the draws, so that neg_elbo stays the one of
a single draw.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8

from vae_jax import models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import base
from vae_jax.objectives.base import Terms


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
  posterior: Any, key: Key[Array, " b"], draws: Int[Array, " k"]
) -> tuple[tuple[Float[Array, "k b _"], ...], Float[Array, "k b"]]:
  """Returns the numbered draws of each image and their log q(z | x), nats."""
  return jax.vmap(posterior.sample_and_log_prob)(draw_keys(key, draws))


def weigh(
  vae: models.Vae,
  image: UInt8[Array, "b h w c"],
  z: tuple[Float[Array, "k b _"], ...],
  log_q: Float[Array, "k b"],
) -> Weighted:
  """Returns the densities of draws from q(z | image).

  Args:
    vae: the bound model.
    image: b images.
    z: k draws for each.
    log_q: their log q(z | x).
  """
  count, size = log_q.shape
  flat = tuple(v.reshape(count * size, -1) for v in z)
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
  posterior: Any,
  prior: Any,
  drawn: Weighted,
) -> Terms:
  """Returns a loss beside what all losses of weighted draws report.

  The rate is the closed form where there is one, else the mean over the draws
  of log q(z | x) - log p(z).
  """
  if posterior.has_kl(prior):
    rate = posterior.kl(prior)
  else:
    rate = jnp.mean(drawn.log_q - drawn.log_prior, axis=0)
  weight = jax.nn.softmax(drawn.log_w, axis=0)
  return Terms(
    loss=loss,
    distortion=-jnp.mean(drawn.log_likelihood, axis=0),
    rate=rate,
    extras={
      "neg_iwae": -log_mean_exp(drawn.log_w),
      "effective_samples": 1 / jnp.sum(jnp.square(weight), axis=0),
      **drawn.metrics,
    },
  )


def iwae(vae: models.Vae, batch: Batch, *, num_samples: int = 50) -> Terms:
  """-L_K, the importance-weighted bound.

  Its gradient is that of -sum_k v_k log w_k at fixed v = softmax(log w).

  Args:
    vae: the bound model.
    batch: this device's examples.
    num_samples: K, draws per image; 1 is the ELBO with a sampled rate.

  References:
    Burda, Grosse and Salakhutdinov, arXiv 1509.00519, equation 8.
  """
  return miwae(vae, batch, num_outer=1, num_samples=num_samples)


def miwae(
  vae: models.Vae,
  batch: Batch,
  *,
  num_outer: int = 8,
  num_samples: int = 8,
) -> Terms:
  """-1/M sum_m L_K of M groups of K draws: a mean of bounds.

  Args:
    vae: the bound model.
    batch: this device's examples.
    num_outer: M, bounds that are averaged; with K = 1 this is the ELBO of M
      draws.
    num_samples: K, draws per bound and image.

  References:
    Rainforth et al., arXiv 1802.04537, section 5 (MIWAE).
  """
  base.check("num_outer", num_outer, num_outer >= 1, "at least 1")
  base.check("num_samples", num_samples, num_samples >= 1, "at least 1")
  posterior = vae.encode(batch.image)
  z, log_q = sample(posterior, batch.key, jnp.arange(num_outer * num_samples))
  drawn = weigh(vae, batch.image, z, log_q)
  loss = -_mean_bound(drawn.log_w, num_samples)
  return terms_of(loss, posterior, vae.prior(), drawn)


def _mean_bound(log_w: Float[Array, "n b"], size: int) -> Float[Array, " b"]:
  """Returns the mean over groups of `size` draws of their bounds."""
  groups = log_w.reshape(-1, size, log_w.shape[1])
  return jnp.mean(log_mean_exp(groups.swapaxes(0, 1)), axis=0)


def piwae(
  vae: models.Vae,
  batch: Batch,
  *,
  num_outer: int = 8,
  num_samples: int = 8,
) -> Terms:
  """-L_MK for decoder and prior, `miwae` for the encoder, of the same draws.

  The value is -L_MK. A tight bound serves the model; the encoder's gradient
  drowns in noise as a bound gets tighter.

  Args:
    vae: the bound model.
    batch: this device's examples.
    num_outer: M, bounds that are averaged for the encoder.
    num_samples: K, draws in each of them.

  References:
    Rainforth et al., arXiv 1802.04537, section 5 (PIWAE).
  """
  base.check("num_outer", num_outer, num_outer >= 1, "at least 1")
  base.check("num_samples", num_samples, num_samples >= 1, "at least 1")
  posterior = vae.encode(batch.image)
  z, log_q = sample(posterior, batch.key, jnp.arange(num_outer * num_samples))
  drawn = weigh(vae, batch.image, *lax.stop_gradient((z, log_q)))
  # Without dropout the same values: the compiler merges the two passes.
  encoded = base.frozen(weigh, vae, batch.image, z, log_q)
  loss = -log_mean_exp(drawn.log_w)
  for_encoder = -_mean_bound(encoded.log_w, num_samples)
  loss += for_encoder - lax.stop_gradient(for_encoder)
  return terms_of(loss, posterior, vae.prior(), drawn)


def ciwae(
  vae: models.Vae,
  batch: Batch,
  *,
  beta: float = 0.05,
  num_samples: int = 50,
) -> Terms:
  """-(beta mean_k log w_k + (1 - beta) L_K): ELBO and bound of K draws.

  Args:
    vae: the bound model.
    batch: this device's examples.
    beta: share of the ELBO, 0 to 1.
    num_samples: K, draws per image.

  References:
    Rainforth et al., arXiv 1802.04537, section 5 (CIWAE).
  """
  base.check("num_samples", num_samples, num_samples >= 1, "at least 1")
  base.check("beta", beta, 0 <= beta <= 1, "from 0 to 1")
  posterior = vae.encode(batch.image)
  z, log_q = sample(posterior, batch.key, jnp.arange(num_samples))
  drawn = weigh(vae, batch.image, z, log_q)
  elbo = jnp.mean(drawn.log_w, axis=0)
  loss = -(beta * elbo + (1 - beta) * log_mean_exp(drawn.log_w))
  return terms_of(loss, posterior, vae.prior(), drawn)
