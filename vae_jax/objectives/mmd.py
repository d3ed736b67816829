"""Maximum mean discrepancy between codes and draws from the prior."""

from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax.data.batch import Batch
from vae_jax.objectives import global_batch
from vae_jax.objectives.constraints import checked, choice

Kernel = Annotated[str, choice("imq", "rbf")]

_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@checked
def kernel_values(
  x: Float[Array, "b d"], y: Float[Array, "n d"], *, kernel: Kernel
) -> Float[Array, "b n"]:
  """Returns a kernel of every pair, summed over scales.

  With r = |x - y|^2 / (2 d), which is 1 on average for draws from N(0, I):
    imq  sum_s s / (s + r)
    rbf  sum_s exp(-r / s)
  over s = 0.1, 0.2, 0.5, 1, 2, 5, 10; both are 7 at r = 0, with the
  same slope.

  References:
    Tolstikhin et al., arXiv 1711.01558, section 4: C = 2 d sigma^2, or
    2 sigma_k^2 = C; the scales are those of the authors' code.
  """
  # Differences, since |x|^2 + |y|^2 - 2 x y loses the small distances.
  square = jnp.square(x[:, None, :] - y[None, :, :])
  ratio = square.sum(axis=-1, keepdims=True) / (2 * x.shape[-1])
  scales = jnp.array(_SCALES)[None, None, :]
  if kernel == "imq":
    return jnp.sum(scales / (scales + ratio), axis=-1)
  return jnp.sum(jnp.exp(-ratio / scales), axis=-1)


@checked
def mmd(
  batch: Batch,
  z: Float[Array, "b d"],
  prior_z: Float[Array, "b d"],
  *,
  kernel: Kernel,
) -> Float[Array, " b"]:
  """Returns each example's part of MMD^2(codes, prior draws).

  The mean of the parts over the global batch is the unbiased estimate, which
  may be below 0: with n codes z and n draws p,
    sum_{i != j} (k(z_i, z_j) + k(p_i, p_j)) / (n (n - 1))
    - 2 sum_{i, j} k(z_i, p_j) / n^2.
  A batch of one has the last term alone.

  References:
    Gretton et al., JMLR 13, 2012, lemma 6.
  """
  codes, mask = global_batch.gather(batch, z)
  draws, _ = global_batch.gather(batch, prior_z)
  count = jnp.maximum(jnp.sum(mask), 1)
  rows = global_batch.positions(batch)
  other = rows[:, None] != jnp.arange(len(mask))[None, :]
  same = kernel_values(z, codes, kernel=kernel)
  same += kernel_values(prior_z, draws, kernel=kernel)
  same = jnp.where(other & mask[None, :], same, 0).sum(axis=1)
  cross = kernel_values(z, draws, kernel=kernel)
  cross = jnp.where(mask[None, :], cross, 0).sum(axis=1)
  return same / jnp.maximum(count - 1, 1) - 2 * cross / count
