"""Objectives without a rate: the code is a point, the posterior's mean."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from vae_jax import models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms

Code = tuple[Float[Array, "b _"], ...]


def _decode(vae: models.Vae, z: Code, image: jax.Array) -> Terms:
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(image)
  return Terms(
    loss=distortion, distortion=distortion, extras=likelihood.metrics(image)
  )


def _penalised(
  plain: Terms, weighted: Float[Array, " b"], **extras: Float[Array, " b"]
) -> Terms:
  return plain.replace(
    loss=plain.distortion + weighted, extras={**plain.extras, **extras}
  )


def autoencoder(vae: models.Vae, batch: Batch) -> Terms:
  """-log p(x | z) at z = the posterior's mean.

  With likelihood gaussian of sigma^2 = 1/2 this is the summed squared error,
  up to a constant.

  References:
    Rumelhart, Hinton and Williams, Nature 323, 1986.
  """
  return _decode(vae, vae.encode(batch.image).mean, batch.image)


def denoising_autoencoder(
  vae: models.Vae,
  batch: Batch,
  *,
  corruption: str = "masking",
  amount: float = 0.25,
) -> Terms:
  """-log p(x | z) of the clean image at z = the code of a corrupted one.

  Args:
    vae: the bound model.
    batch: this device's examples.
    corruption: masking | salt_and_pepper | gaussian, see `corrupt`.
    amount: how much of it, see `corrupt`.

  References:
    Vincent et al., ICML 2008 (masking); Vincent et al., JMLR 11, 2010,
    section 3.3 (all three).
  """
  corrupted = corrupt(
    batch.image,
    base.stream(batch.key, Stream.CORRUPTION),
    corruption=corruption,
    amount=amount,
  )
  return _decode(vae, vae.encode(corrupted).mean, batch.image)


def corrupt(
  image: UInt8[Array, "b h w c"],
  key: Key[Array, " b"],
  *,
  corruption: str,
  amount: float,
) -> UInt8[Array, "b h w c"]:
  """Returns images with noise, each from a key of its own.

  Args:
    image: clean images.
    key: one per image.
    corruption: "masking" sets values to 0, each channel of each pixel by
      itself; "salt_and_pepper" to 0 or to 255, as likely; "gaussian" adds
      normal noise, rounded and clipped to 0..255.
    amount: probability that a value is replaced; of gaussian the noise's
      standard deviation, of values in [0, 1].

  Raises:
    ConfigError: an argument out of its range.
  """
  known = ("masking", "salt_and_pepper", "gaussian")
  base.check("corruption", corruption, corruption in known, f"of {known}")
  base.check("amount", amount, amount >= 0, "0 or more")
  shape = image.shape[1:]
  if corruption == "gaussian":
    noise = jax.vmap(lambda k: jax.random.normal(k, shape))(key)
    noisy = jnp.round(image + 255 * amount * noise)
    return jnp.clip(noisy, 0, 255).astype(jnp.uint8)
  base.check("amount", amount, amount <= 1, "a probability")
  # The chance comes first: below `amount` a value is replaced, and below half
  # of it by salt.
  chance = jax.vmap(lambda k: jax.random.uniform(k, shape))(key)
  salt = 255 if corruption == "salt_and_pepper" else 0
  replacement = jnp.where(chance < amount / 2, salt, 0).astype(jnp.uint8)
  return jnp.where(chance < amount, replacement, image)


def sparse_autoencoder(
  vae: models.Vae,
  batch: Batch,
  *,
  penalty: str = "kl",
  weight: float = 1.0,
  rho: float = 0.05,
) -> Terms:
  """-log p(x | z) + weight * penalty of a code that is not sparse.

  With a_j = the mean over the global batch of sigmoid(z_j), an activation,
    kl  sum_j rho log(rho / a_j) + (1 - rho) log((1 - rho) / (1 - a_j))
    l1  sum_j |z_j| of each image
  The decoder reads z itself.

  Args:
    vae: the bound model.
    batch: this device's examples.
    penalty: kl | l1.
    weight: nats of loss per nat of kl, or per unit of l1.
    rho: kl: the share of images that each unit is to be active on.

  References:
    Ng, "Sparse autoencoder", CS294A lecture notes, 2011, section 3.
  """
  base.check("penalty", penalty, penalty in ("kl", "l1"), "kl or l1")
  base.check("weight", weight, weight >= 0, "0 or more")
  base.check("rho", rho, 0 < rho < 1, "between 0 and 1")
  z = vae.encode(batch.image).mean
  plain = _decode(vae, z, batch.image)
  code = base.flatten(z)
  if penalty == "l1":
    value = jnp.sum(jnp.abs(code), axis=-1)
  else:
    value = _activation_kl(batch, code, rho)
    value = jnp.broadcast_to(value, plain.loss.shape)
  return _penalised(plain, weight * value, sparsity_penalty=value)


def _activation_kl(
  batch: Batch, code: Float[Array, "b d"], rho: float
) -> Float[Array, ""]:
  # Both logarithms of the mean activation are taken by themselves: 1 - a
  # and a round to 0 where the gradient is needed most.
  logs = jnp.stack([jax.nn.log_sigmoid(code), jax.nn.log_sigmoid(-code)], 1)
  logs, mask = global_batch.gather(batch, logs)
  count = mask.astype(jnp.float32)
  total = jax.nn.logsumexp(logs, axis=0, b=count[:, None, None])
  log_on, log_off = total - jnp.log(jnp.maximum(count.sum(), 1))
  off = (1 - rho) * (math.log(1 - rho) - log_off)
  return jnp.sum(rho * (math.log(rho) - log_on) + off)


def rae(
  vae: models.Vae,
  batch: Batch,
  *,
  beta: float = 1e-4,
  kind: str = "l2",
  weight: float = 1e-7,
) -> Terms:
  """-log p(x | z) + beta/2 |z|^2 + weight * regulariser of the decoder.

  The regulariser is
    l2                |theta|^2, all parameters of the decoder
    gradient_penalty  |d mean / d z|^2 at the code, summed over pixels and
                      latents: the expectation of |v^T d mean / d z|^2 over
                      random signs v, of which one v per image is drawn
  With likelihood gaussian of sigma^2 = 1/2 the first term is the published
  squared error, up to a constant.

  Args:
    vae: the bound model.
    batch: this device's examples.
    beta: nats per squared unit of the code.
    kind: l2 | gradient_penalty.
    weight: nats per unit of the regulariser.

  References:
    Ghosh et al., arXiv 1903.12436, section 3; the expectation: Hutchinson,
    Communications in Statistics 18, 1989.
  """
  known = ("l2", "gradient_penalty")
  base.check("kind", kind, kind in known, " or ".join(known))
  base.check("beta", beta, beta >= 0, "0 or more")
  base.check("weight", weight, weight >= 0, "0 or more")
  z = vae.encode(batch.image).mean
  plain = _decode(vae, z, batch.image)
  if kind == "l2":
    leaves = jax.tree.leaves(vae.decoder.variables["params"])
    value = sum(jnp.sum(jnp.square(leaf)) for leaf in leaves)
    value = jnp.broadcast_to(value, plain.loss.shape)
  else:
    value = _gradient_penalty(
      vae, z, base.stream(batch.key, Stream.JACOBIAN_SIGNS)
    )
  size = sum(jnp.sum(jnp.square(group), axis=-1) for group in z)
  return _penalised(
    plain,
    0.5 * beta * size + weight * value,
    squared_code=size,
    regularizer=value,
  )


def _gradient_penalty(
  vae: models.Vae, z: Code, key: Key[Array, " b"]
) -> Float[Array, " b"]:
  # Flax differentiates no bound module that is made of others: decode once
  # more with an unbound copy, and leave its batch statistics behind.
  unbound, variables = vae.unbind()
  rngs = {}
  if vae.has_rng("dropout"):
    rngs["dropout"] = vae.make_rng("dropout")

  def decode(z: Code) -> Float[Array, "b h w c"]:
    likelihood, _ = unbound.apply(
      variables, z, method="decode", mutable=["batch_stats"], rngs=rngs
    )
    return likelihood.mean

  # Backwards, since the layers have no forward mode; the penalty's own
  # gradient is then a second pass backwards.
  mean, pull_back = jax.vjp(decode, z)
  signs = jax.vmap(
    lambda k: jax.random.rademacher(k, mean.shape[1:], mean.dtype)
  )(key)
  (slopes,) = pull_back(signs)
  return sum(jnp.sum(jnp.square(group), axis=-1) for group in slopes)
