"""Autoencoders: autoencoder, denoising_autoencoder and sparse_autoencoder.

The code is a point, the posterior's mean, and the loss has no rate.
"""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from vae_jax import distributions, models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms
from vae_jax.objectives.constraints import (
  at_least,
  between,
  checked,
  choice,
  require,
)

Corruption = Annotated[str, choice("masking", "salt_and_pepper", "gaussian")]


def autoencoder(vae: models.Vae, batch: Batch) -> Terms:
  """-log p(x | z) at z = the posterior's mean.

  With likelihood gaussian of sigma^2 = 1/2 this is the summed squared error,
  up to a constant.

  References:
    Rumelhart, Hinton and Williams, Nature 323, 1986.
  """
  return reconstruct(vae, vae.encode(batch.image).mean, batch.image)


@checked
def denoising_autoencoder(
  vae: models.Vae,
  batch: Batch,
  *,
  corruption: Corruption = "masking",
  amount: Annotated[float, at_least(0)] = 0.25,
) -> Terms:
  """-log p(x | z) of the clean image at z = the code of a corrupted one.

  Args:
    corruption, amount: see `corrupt`.

  References:
    Vincent et al., ICML 2008 (masking); Vincent et al., JMLR 11, 2010,
    section 3.3 (all three).
  """
  key = base.stream(batch.key, Stream.CORRUPTION)
  corrupted = corrupt(batch.image, key, corruption=corruption, amount=amount)
  return reconstruct(vae, vae.encode(corrupted).mean, batch.image)


@checked
def sparse_autoencoder(
  vae: models.Vae,
  batch: Batch,
  *,
  penalty: Annotated[str, choice("kl", "l1")] = "kl",
  weight: Annotated[float, at_least(0)] = 1.0,
  rho: Annotated[float, between(0, 1, ends=False)] = 0.05,
) -> Terms:
  """-log p(x | z) + weight * penalty of a code that is not sparse.

  With a_j = the mean over the global batch of sigmoid(z_j), an activation,
    kl  sum_j rho log(rho / a_j) + (1 - rho) log((1 - rho) / (1 - a_j))
    l1  sum_j |z_j| of each image
  The decoder reads z itself.

  Args:
    weight: nats of loss per nat of kl, or per unit of l1.
    rho: kl: the desired share of images on which a unit is active.

  Returns:
    Extras: sparsity_penalty, nats (kl) or units of the code (l1).

  References:
    Ng, "Sparse autoencoder", CS294A lecture notes, 2011, section 3.
  """
  z = vae.encode(batch.image).mean
  terms = reconstruct(vae, z, batch.image)
  code = base.flatten(z)
  if penalty == "l1":
    value = jnp.sum(jnp.abs(code), axis=-1)
  else:
    value = _activation_kl(batch, code, rho)
  loss = terms.distortion + weight * value
  return terms.with_loss(loss, sparsity_penalty=value)


def reconstruct(
  vae: models.Vae, z: distributions.Latents, image: UInt8[Array, "b h w c"]
) -> Terms:
  """Returns -log p(image | z) as loss and distortion, without a rate."""
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(image)
  return Terms(
    loss=distortion, distortion=distortion, extras=likelihood.metrics(image)
  )


@checked
def corrupt(
  image: UInt8[Array, "b h w c"],
  key: Key[Array, " b"],
  *,
  corruption: Corruption,
  amount: Annotated[float, at_least(0)],
) -> UInt8[Array, "b h w c"]:
  """Returns images with noise, drawn from one key per image.

  Args:
    corruption: "masking" sets values to 0, each channel of each pixel by
      itself; "salt_and_pepper" to 0 or 255 with equal probability;
      "gaussian" adds normal noise, rounded and clipped to 0..255.
    amount: probability that a value is replaced; with gaussian, the standard
      deviation of the noise, for values in [0, 1].
  """
  shape = image.shape[1:]
  if corruption == "gaussian":
    noise = jax.vmap(lambda k: jax.random.normal(k, shape))(key)
    noisy = jnp.round(image + 255 * amount * noise)
    return jnp.clip(noisy, 0, 255).astype(jnp.uint8)
  require("amount", amount, amount <= 1, "it must be a probability")
  # Below `amount` a value is replaced, and below half of it by salt.
  chance = jax.vmap(lambda k: jax.random.uniform(k, shape))(key)
  salt = 255 if corruption == "salt_and_pepper" else 0
  replacement = jnp.where(chance < amount / 2, salt, 0).astype(jnp.uint8)
  return jnp.where(chance < amount, replacement, image)


def _activation_kl(
  batch: Batch, code: Float[Array, "b d"], rho: float
) -> Float[Array, ""]:
  # Both logarithms of the mean activation are computed separately, because
  # 1 - a and a round to 0 where the gradient is needed most.
  logs = jnp.stack([jax.nn.log_sigmoid(code), jax.nn.log_sigmoid(-code)], 1)
  logs, mask = global_batch.gather(batch, logs)
  count = mask.astype(jnp.float32)
  total = jax.nn.logsumexp(logs, axis=0, b=count[:, None, None])
  log_on, log_off = total - jnp.log(jnp.maximum(count.sum(), 1))
  off = (1 - rho) * (math.log(1 - rho) - log_off)
  return jnp.sum(rho * (math.log(rho) - log_on) + off)
