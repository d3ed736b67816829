"""Gradients of weighted draws for the encoder, by other ways than `iwae`'s.

log w_k depends on the encoder's weights phi through the draw z_k and through
the density q(z_k | x) that it is divided by. The second way is noise with mean
zero at K = 1 and worse beyond. Here D_k is the derivative by the first way
alone, through z_k with q's parameters held, and v = softmax(log w). Decoder
and prior always follow sum_k v_k d log w_k, and the value of every loss is
the bound -L_K of `importance.iwae`.

Holding the parameters of q means holding its mean and variance only where
these depend on nothing but x: normal posteriors, in independent groups.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, iwae
from vae_jax.objectives.base import Terms


@jax.custom_jvp
def _scale_gradient(
  z: Float[Array, "k b d"], factor: Float[Array, "k b"]
) -> Float[Array, "k b d"]:
  """Returns z, whose gradient is that of the result times the factor."""
  del factor
  return z


@_scale_gradient.defjvp
def _scale_gradient_jvp(primals: tuple, tangents: tuple) -> tuple:
  (z, factor), (dz, _) = primals, tangents
  return z, factor[..., None] * dz


def stl(vae: models.Vae, batch: Batch, *, num_samples: int = 1) -> Terms:
  """-L_K, whose gradient for the encoder is -sum_k v_k D_k.

  Unbiased for K = 1, the ELBO; biased beyond, where `dreg` is not. It
  vanishes where q(z | x) is the exact posterior, whatever is drawn.

  Args:
    vae: the bound model.
    batch: this device's examples.
    num_samples: K, draws per image.

  References:
    Roeder, Wu and Duvenaud, arXiv 1703.09194 (the path derivative).
  """
  base.check("num_samples", num_samples, num_samples >= 1, "at least 1")
  posterior = _normal_posterior("stl", vae, batch)
  z, _ = iwae.sample(posterior, batch.key, jnp.arange(num_samples))
  drawn = _weigh_held(vae, batch, posterior, z)
  loss = -iwae.log_mean_exp(drawn.log_w)
  return iwae.terms_of(loss, posterior, vae.prior(), drawn)


def dreg(vae: models.Vae, batch: Batch, *, num_samples: int = 50) -> Terms:
  """-L_K, whose gradient for the encoder is -sum_k v_k^2 D_k.

  The mean of the gradient of `iwae`, with less noise, at the same cost.

  Args:
    vae: the bound model.
    batch: this device's examples.
    num_samples: K, draws per image.

  References:
    Tucker et al., arXiv 1810.04152 (IWAE-DReG).
  """
  base.check("num_samples", num_samples, num_samples >= 1, "at least 1")
  _refuse_dropout("dreg", vae)
  posterior = _normal_posterior("dreg", vae, batch)
  return _doubly(vae, batch, posterior, num_samples, lambda v: v)


def rws(
  vae: models.Vae,
  batch: Batch,
  *,
  num_samples: int = 50,
  doubly: bool = False,
) -> Terms:
  """-L_K; its gradient for the encoder is -sum_k v_k d log q(z_k | x).

  Reweighted wake-sleep without a sleep phase: the encoder follows
  KL(p(z | x) || q(z | x)), its weights estimated from the same draws, which
  are held. `doubly` estimates the same by -sum_k (v_k - v_k^2) D_k, with less
  noise.

  Args:
    vae: the bound model.
    batch: this device's examples.
    num_samples: K, draws per image, 2 or more: a single weight is always 1.
    doubly: whether the encoder's gradient goes through the draws.

  References:
    Bornschein and Bengio, arXiv 1406.2751 (wake-phase updates of both
    networks); doubly: Tucker et al., arXiv 1810.04152 (RWS-DReG).
  """
  base.check("num_samples", num_samples, num_samples >= 2, "at least 2")
  posterior = _normal_posterior("rws", vae, batch)
  if doubly:
    _refuse_dropout("rws with doubly", vae)
    return _doubly(vae, batch, posterior, num_samples, lambda v: 1 - v)
  z, log_q = lax.stop_gradient(
    iwae.sample(posterior, batch.key, jnp.arange(num_samples))
  )
  drawn = iwae.weigh(vae, batch.image, z, log_q)
  log_q = jax.vmap(posterior.log_prob)(z)
  for_encoder = -jnp.sum(_weights_held(drawn) * log_q, axis=0)
  loss = -iwae.log_mean_exp(drawn.log_w)
  loss += for_encoder - lax.stop_gradient(for_encoder)
  return iwae.terms_of(loss, posterior, vae.prior(), drawn)


def _doubly(
  vae: models.Vae,
  batch: Batch,
  posterior: distributions.Groups,
  num_samples: int,
  factor: Callable[[jax.Array], jax.Array],
) -> Terms:
  """-L_K, whose gradient for the encoder is -sum_k v_k factor(v_k) D_k."""
  z, _ = iwae.sample(posterior, batch.key, jnp.arange(num_samples))
  # The weights must be known before the pass that is differentiated. Its
  # values are the same: the compiler makes one pass of the two.
  known = base.unrecorded(
    _weigh_held, vae, batch, posterior, lax.stop_gradient(z)
  )
  scale = factor(_weights_held(known))
  z = tuple(_scale_gradient(v, scale) for v in z)
  drawn = _weigh_held(vae, batch, posterior, z)
  loss = -iwae.log_mean_exp(drawn.log_w)
  return iwae.terms_of(loss, posterior, vae.prior(), drawn)


def _refuse_dropout(name: str, vae: models.Vae) -> None:
  if getattr(vae.decoder, "dropout", 0.0) > 0:
    raise ConfigError(
      f"config.objective.name is {name}, which decodes each draw twice and "
      "needs the same image; set config.model.decoder.args.dropout to 0.0."
    )


def _normal_posterior(
  name: str, vae: models.Vae, batch: Batch
) -> distributions.Groups:
  posterior = vae.encode(batch.image)
  for group in getattr(posterior, "groups", (posterior,)):
    if not isinstance(group, distributions.DiagonalNormal):
      raise ConfigError(
        f"config.objective.name is {name}, which needs a posterior whose "
        f"parameters can be held, not a {type(group).__name__}; set "
        "config.model.posterior.name to diagonal_normal."
      )
  return posterior


def _weigh_held(
  vae: models.Vae,
  batch: Batch,
  posterior: distributions.Groups,
  z: tuple[Float[Array, "k b _"], ...],
) -> iwae.Weighted:
  """Returns weights that see the encoder through z alone."""
  held = lax.stop_gradient(posterior)
  return iwae.weigh(vae, batch.image, z, jax.vmap(held.log_prob)(z))


def _weights_held(drawn: iwae.Weighted) -> Float[Array, "k b"]:
  return lax.stop_gradient(jax.nn.softmax(drawn.log_w, axis=0))
