"""Mixtures of normals with full covariances, and densities by class, in nats.

They have the contract of a prior, see `distributions.normal`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Integer, Key

from vae_jax.distributions.normal import LOG_2PI, Codes, Keys, PerExample


@struct.dataclass
class FullNormalMixture:
  """sum_k w_k N(mean_k, L_k L_k^T), w = softmax(logits).

  Attributes:
    mean: mean of each of the n components.
    scale_tril: L, lower triangular, with a positive diagonal.
    logits: log weights of the components, up to a constant.
  """

  mean: Float[Array, "n d"]
  scale_tril: Float[Array, "n d d"]
  logits: Float[Array, " n"]

  def sample(self, key: Keys, temperature: float | jax.Array = 1.0) -> Codes:
    """Returns one draw per key.

    `temperature` is a factor on the standard deviations of the components; it
    changes neither their weights nor their means.
    """

    def draw(key: Key[Array, ""]) -> Float[Array, " d"]:
      pick, noise = jax.random.split(key)
      k = jax.random.categorical(pick, self.logits)
      normal = temperature * jax.random.normal(noise, self.mean.shape[1:])
      return self.mean[k] + _times(self.scale_tril[k], normal)

    return jax.vmap(draw)(key)

  def log_prob(self, z: Codes) -> PerExample:
    """Returns log sum_k w_k N(z; mean_k, L_k L_k^T), nats."""

    def of_component(
      mean: Float[Array, " d"], scale: Float[Array, "d d"]
    ) -> PerExample:
      return _log_normal(z, mean, scale)

    each = jax.vmap(of_component)(self.mean, self.scale_tril)
    weights = jax.nn.log_softmax(self.logits)
    return jax.nn.logsumexp(weights[:, None] + each, axis=0)


@struct.dataclass
class Affine:
  """z = mean + L e of a density of e, such as a flow.

  Attributes:
    base: density of e, which `temperature` is passed to.
    mean: image of 0.
    scale_tril: L, lower triangular, with a positive diagonal.
  """

  base: Any
  mean: Float[Array, " d"]
  scale_tril: Float[Array, "d d"]

  def sample(self, key: Keys, temperature: float | jax.Array = 1.0) -> Codes:
    """Returns one draw per key."""
    e = self.base.sample(key, temperature)
    return self.mean[None] + _times(self.scale_tril, e.T).T

  def log_prob(self, z: Codes) -> PerExample:
    """Returns log p(e) - log |det L| at e = L^-1 (z - mean), nats."""
    e = _whitened(z, self.mean, self.scale_tril)
    return self.base.log_prob(e) - _log_det(self.scale_tril)


@struct.dataclass
class PerClass:
  """p(z | y) with a density for each class y.

  Attributes:
    arrays: of the densities, stacked over classes.
    label: y of each row; of k stacked batches of codes the same in each.
    build: function from the arrays of one class to its density.
  """

  arrays: Any
  label: Integer[Array, " b"]
  build: Callable[[Any], Any] = struct.field(pytree_node=False)

  def sample(self, key: Keys, temperature: float | jax.Array = 1.0) -> Codes:
    """Returns one draw per key, of the density of its label."""
    return self._select(lambda density: density.sample(key, temperature))

  def log_prob(self, z: Codes) -> PerExample:
    """Returns log p(z | y), nats."""
    return self._select(lambda density: density.log_prob(z))

  def _select(self, function: Callable[[Any], jax.Array]) -> jax.Array:
    """Returns the rows of function(density) that each label asks for."""
    # Class by class, because the arrays of each row's own class would fill the
    # memory.
    of_class = lambda arrays: function(self.build(arrays))  # noqa: E731
    first = jax.tree.map(lambda v: v[0], self.arrays)
    shape = jax.eval_shape(of_class, first)
    label = jnp.tile(self.label, shape.shape[0] // len(self.label))
    label = label.reshape(-1, *[1] * (len(shape.shape) - 1))

    def add(chosen: jax.Array, item: Any) -> tuple[jax.Array, None]:
      number, arrays = item
      return jnp.where(label == number, of_class(arrays), chosen), None

    count = len(jax.tree.leaves(self.arrays)[0])
    start = jnp.full(shape.shape, jnp.nan, shape.dtype)
    return lax.scan(add, start, (jnp.arange(count), self.arrays))[0]


def _log_normal(
  z: Codes, mean: Float[Array, " d"], scale: Float[Array, "d d"]
) -> PerExample:
  square = jnp.square(_whitened(z, mean, scale))
  return -0.5 * jnp.sum(square + LOG_2PI, axis=-1) - _log_det(scale)


def _whitened(
  z: Codes, mean: Float[Array, " d"], scale: Float[Array, "d d"]
) -> Codes:
  """Returns L^-1 (z - mean)."""
  # Solved, because products with an inverse lose digits of narrow components.
  centered = (z - mean[None]).T
  return jax.scipy.linalg.solve_triangular(scale, centered, lower=True).T


def _log_det(scale: Float[Array, "d d"]) -> Float[Array, ""]:
  return jnp.sum(jnp.log(jnp.diagonal(scale)))


def _times(scale: Float[Array, "d d"], e: Float[Array, "d ..."]) -> jax.Array:
  # A TPU would round the factors to 8 bits.
  return jnp.matmul(scale, e, precision=lax.Precision.HIGHEST)
