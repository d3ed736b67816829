"""Normal noise through invertible maps, in nats.

The networks of a map are pure functions (weights, ...) -> outputs and the
weights are leaves, so that a distribution works inside `jax.grad`, `vmap` and
loops.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from vae_jax.config import ConfigError
from vae_jax.distributions.normal import (
  Codes,
  DiagonalNormal,
  Keys,
  PerExample,
  StandardNormal,
)


@struct.dataclass
class CouplingFlow:
  """z = f(e), e ~ N(0, I), with f a chain of affine couplings.

  A coupling keeps one half of its input, a, and maps the other half, b, to
  exp(s(a)) b + t(a). The first layer keeps the first dim // 2 numbers, the
  second layer the others, and so on.

  Attributes:
    weights: weights of each layer's network.
    dim: dimensions of z.
    networks: function (weights, a) -> (s, t) of each layer.

  References:
    Dinh, Sohl-Dickstein and Bengio, arXiv 1605.08803, equations 4 to 8.
  """

  weights: tuple[Any, ...]
  dim: int = struct.field(pytree_node=False)
  networks: tuple[Callable[..., Any], ...] = struct.field(pytree_node=False)

  def forward(self, noise: Codes) -> tuple[Codes, PerExample]:
    """Returns f(noise) and log |det df/dnoise|."""
    halves, log_det = self._halves(noise), jnp.zeros(noise.shape[0])
    for i, (network, weights) in self._layers():
      kept, moved = i % 2, 1 - i % 2
      log_scale, shift = network(weights, halves[kept])
      halves[moved] = halves[moved] * jnp.exp(log_scale) + shift
      log_det += log_scale.sum(-1)
    return jnp.concatenate(halves, axis=-1), log_det

  def inverse(self, z: Codes) -> tuple[Codes, PerExample]:
    """Returns the noise that became z, and log |det dnoise/dz|."""
    halves, log_det = self._halves(z), jnp.zeros(z.shape[0])
    for i, (network, weights) in reversed(self._layers()):
      kept, moved = i % 2, 1 - i % 2
      log_scale, shift = network(weights, halves[kept])
      halves[moved] = (halves[moved] - shift) * jnp.exp(-log_scale)
      log_det -= log_scale.sum(-1)
    return jnp.concatenate(halves, axis=-1), log_det

  def sample(self, key: Keys, temperature: float | jax.Array = 1.0) -> Codes:
    """Returns one draw per key; `temperature` scales the noise e."""
    return self.forward(StandardNormal(self.dim).sample(key, temperature))[0]

  def log_prob(self, z: Codes) -> PerExample:
    """Returns log N(f^-1(z); 0, I) + log |det df^-1/dz|, nats."""
    noise, log_det = self.inverse(z)
    return StandardNormal(self.dim).log_prob(noise) + log_det

  def _layers(self) -> list[tuple[int, tuple[Callable[..., Any], Any]]]:
    return list(enumerate(zip(self.networks, self.weights, strict=True)))

  def _halves(self, z: Codes) -> list[Float[Array, "b _"]]:
    return jnp.split(z, [self.dim // 2], axis=-1)


@struct.dataclass
class InverseAutoregressive:
  """A diagonal normal through inverse autoregressive layers.

  A layer maps z to g z + (1 - g) m, g = sigmoid(s), where (m_i, s_i) depend on
  z_1 ... z_(i-1) and on the context. Its Jacobian is triangular, with log
  determinant sum_i log g_i. The order of z is reversed before each layer but
  the first.

  Sampling with a density takes one pass. The density at any other point takes
  as many passes as there are dimensions, one after another, in each layer.

  Attributes:
    base: input of the first layer.
    context: features of each example, which all layers read.
    weights: weights of each layer's network.
    network: function (weights, z, context) -> (m, s), autoregressive in z.

  References:
    Kingma et al., arXiv 1606.04934, algorithm 1.
  """

  base: DiagonalNormal
  context: Float[Array, "b c"]
  weights: tuple[Any, ...]
  network: Callable[..., Any] = struct.field(pytree_node=False)

  @property
  def mean(self) -> Codes:
    """Returns the image of the base's mean, a deterministic code per example.

    It is not the expectation, which has no closed form.
    """
    return self.forward(self.base.mean)[0]

  def forward(self, z: Codes) -> tuple[Codes, PerExample]:
    """Returns the image of a point of the base, and log |det| of the map."""
    log_det = jnp.zeros(z.shape[0])
    for i, weights in enumerate(self.weights):
      z = z[:, ::-1] if i else z
      shift, logit = self.network(weights, z, self.context)
      # 1 - sigmoid(s) = sigmoid(-s), without cancellation.
      z = jax.nn.sigmoid(logit) * z + jax.nn.sigmoid(-logit) * shift
      log_det += jax.nn.log_sigmoid(logit).sum(-1)
    return z, log_det

  def inverse(self, z: Codes) -> tuple[Codes, PerExample]:
    """Returns the point of the base that maps to z, and log |det| of it.

    It is slow: dimensions x layers passes, one after another.
    """
    log_det = jnp.zeros(z.shape[0])
    for i, weights in reversed(list(enumerate(self.weights))):
      z, one = self._inverse_layer(weights, z)
      z = z[:, ::-1] if i else z
      log_det += one
    return z, log_det

  def _inverse_layer(self, weights: Any, z: Codes) -> tuple[Codes, PerExample]:
    # Entry j follows from the entries before it. Only it is set, because wrong
    # entries after it could overflow, and infinity times a mask of 0 is nan.
    def solve(j: Any, point: jax.Array) -> jax.Array:
      shift, logit = self.network(weights, point, self.context)
      # Dividing by the gate g: 1 / g = 1 + exp(-s), (1 - g) / g = exp(-s).
      solved = z + jnp.exp(-logit) * (z - shift)
      return point.at[:, j].set(solved[:, j])

    point = jax.lax.fori_loop(0, z.shape[-1], solve, jnp.zeros_like(z))
    _, logit = self.network(weights, point, self.context)
    return point, -jax.nn.log_sigmoid(logit).sum(-1)

  def sample(self, key: Keys) -> Codes:
    """Returns one draw per key, differentiable in all but the key."""
    return self.forward(self.base.sample(key))[0]

  def sample_and_log_prob(self, key: Keys) -> tuple[Codes, PerExample]:
    """Returns the draw of `sample` and its log density, nats, in one pass."""
    start = self.base.sample(key)
    z, log_det = self.forward(start)
    return z, self.base.log_prob(start) - log_det

  def log_prob(self, z: Codes) -> PerExample:
    """Returns the log density at z, nats; slow, see `inverse`."""
    start, log_det = self.inverse(z)
    return self.base.log_prob(start) + log_det

  def has_kl(self, prior: Any) -> bool:
    """Returns False: KL(self || prior) has no closed form."""
    return False

  def kl(self, prior: Any) -> PerExample:
    """Raises a ConfigError, because there is no closed form."""
    raise ConfigError(
      f"There is no closed form of KL(InverseAutoregressive || "
      f"{type(prior).__name__}); choose an objective that samples its rate, "
      "or set config.model.posterior.name to diagonal_normal."
    )
