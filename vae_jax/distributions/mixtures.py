"""Mixtures of normal distributions, in nats."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key

from vae_jax.distributions.normal import LOG_2PI


@struct.dataclass
class NormalMixture:
  """sum_k w_k N(mean_k, diag(exp(log_variance_k))), w = softmax(logits).

  Attributes:
    mean: of each of the n components.
    log_variance: of each component.
    logits: of the components' weights, up to a constant.
  """

  mean: Float[Array, "n d"]
  log_variance: Float[Array, "n d"]
  logits: Float[Array, " n"]

  def sample(
    self, key: Key[Array, " b"], temperature: float | jax.Array = 1.0
  ) -> Float[Array, "b d"]:
    """Returns one draw per key.

    The component is drawn by its weight; `temperature` is a factor on the
    standard deviation inside it, and changes neither weights nor means.
    """
    scale = temperature * jnp.exp(0.5 * self.log_variance)

    def draw(key: Key[Array, ""]) -> Float[Array, " d"]:
      pick, noise = jax.random.split(key)
      k = jax.random.categorical(pick, self.logits)
      normal = jax.random.normal(noise, self.mean.shape[1:])
      return self.mean[k] + scale[k] * normal

    return jax.vmap(draw)(key)

  def log_prob(self, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns log sum_k w_k N(z; mean_k, variance_k), nats."""
    # The differences themselves: squares expanded into matrix products would
    # cancel where a component is narrow.
    square = jnp.square(z[:, None] - self.mean[None])
    scaled = square * jnp.exp(-self.log_variance)[None]
    constant = jnp.sum(self.log_variance + LOG_2PI, axis=-1)
    each = jax.nn.log_softmax(self.logits) - 0.5 * constant
    return jax.nn.logsumexp(each[None] - 0.5 * scaled.sum(-1), axis=1)
