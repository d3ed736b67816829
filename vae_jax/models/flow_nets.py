"""The networks of flows: of affine couplings and of layers of an IAF."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from vae_jax.models import layers

# A coupling scales by at most exp(2), so that a long chain cannot overflow.
_MAX_LOG_SCALE = 2.0
# Initial logit of the gates: they are close to 1, where a layer of an IAF is
# close to the identity (arXiv 1606.04934, section 4).
_GATE_LOGIT = 2.0


def weights_of(
  owner: nn.Module, name: str, network: nn.Module, *inputs: Array
) -> dict[str, Any]:
  """Returns {"params": ...} of a network, stored in its owner under a name.

  The network stays unbound (`parent=None`) and is used by `apply`, because a
  bound one cannot be called inside `jax.grad`, `vmap` or a loop. Only the
  shapes of the inputs matter.
  """
  start = lambda key: network.init(key, *inputs)["params"]  # noqa: E731
  return {"params": owner.param(name, start)}


class Coupling(nn.Module):
  """Maps one half of a vector to (log-scale, shift) of the other half.

  Log-scales are 2 tanh(x / 2), between -2 and 2. Both outputs are initially 0,
  which makes the coupling the identity.

  Attributes:
    features: size of the other half.
    hidden: units of each hidden layer.
    initializer: of the hidden layers.
  """

  features: int
  hidden: tuple[int, ...]
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, kept: Float[Array, "b m"]
  ) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
    """Returns log-scale and shift of the other half."""
    x = kept
    for features in self.hidden:
      x = nn.swish(layers.dense(x, features, initializer=self.initializer))
    last = nn.Dense(2 * self.features, kernel_init=nn.initializers.zeros)
    raw, shift = jnp.split(last(x), 2, axis=-1)
    log_scale = _MAX_LOG_SCALE * jnp.tanh(raw / _MAX_LOG_SCALE)
    return log_scale, shift


def couplings(
  dim: int, num_layers: int, hidden: tuple[int, ...], initializer: str = "flax"
) -> list[tuple[Coupling, int]]:
  """Returns the unbound network of each layer of a `CouplingFlow`, and how many
  numbers it reads."""
  first = dim // 2
  kept = [dim - first if i % 2 else first for i in range(num_layers)]
  return [
    (Coupling(dim - k, tuple(hidden), initializer, parent=None), k)
    for k in kept
  ]


class MaskedDense(nn.Module):
  """y = x (W * mask) + b, of so many features."""

  features: int
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b m"], mask: Bool[np.ndarray, "m n"]
  ) -> Float[Array, "b n"]:
    """Maps features to features through the masked kernel."""
    kernel_init, bias_init = layers.initializers(self.initializer, x.shape[-1])
    kernel = self.param("kernel", kernel_init, mask.shape)
    bias = self.param("bias", bias_init, (self.features,))
    return x @ jnp.where(mask, kernel, 0) + bias[None]


class Made(nn.Module):
  """(m_i, s_i) of each z_i from z_1 ... z_(i-1) and a context.

  A hidden unit of degree j in 0 ... d-1 depends on z_1 ... z_j and the context;
  output i depends on hidden units of degrees below i. Units of degree 0 carry
  the context to the first output.

  Attributes:
    hidden: units of each hidden layer.

  References:
    Germain et al., arXiv 1502.03509, section 4.
  """

  hidden: tuple[int, ...]
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, z: Float[Array, "b d"], context: Float[Array, "b c"]
  ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """Returns shifts and logits of the gates."""
    dim = z.shape[-1]
    order = np.arange(1, dim + 1)
    x, degrees = z, order
    for features in self.hidden:
      # Spread over 0 ... d-1 for any number of units.
      above = np.arange(features) * dim // features
      mask = above[None] >= degrees[:, None]
      # The masked layer adds the bias of both.
      of_context = layers.dense(
        context, features, use_bias=False, initializer=self.initializer
      )
      x = MaskedDense(features, self.initializer)(x, mask)
      x = nn.elu(x + of_context)
      degrees = above
    mask = np.tile(order[None] > degrees[:, None], 2)
    outputs = MaskedDense(2 * dim, self.initializer)(x, mask)
    shift, logit = jnp.split(outputs, 2, axis=-1)
    return shift, logit + _GATE_LOGIT
