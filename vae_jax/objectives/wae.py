"""Losses that draw all codes of a batch together to the prior.

The distance between codes and as many draws from the prior is an MMD or a
sliced Wasserstein distance, and needs no density: the code may be a point.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms

_KERNELS = ("imq", "rbf")
_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def kernel_values(
  x: Float[Array, "b d"], y: Float[Array, "n d"], *, kernel: str
) -> Float[Array, "b n"]:
  """Returns a kernel of every pair, summed over scales.

  With r = |x - y|^2 / (2 d), which is 1 on average for draws from N(0, I):
    imq  sum_s s / (s + r)
    rbf  sum_s exp(-r / s)
  over s = 0.1, 0.2, 0.5, 1, 2, 5, 10; both are 7 at r = 0, and fall alike
  from there.

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


def mmd(
  batch: Batch,
  z: Float[Array, "b d"],
  prior_z: Float[Array, "b d"],
  *,
  kernel: str,
) -> Float[Array, " b"]:
  """Returns each example's part of MMD^2(codes, prior draws).

  The mean of the parts over the global batch is the unbiased estimate, which
  may be below 0: with n codes z and n draws p,
    sum_{i != j} (k(z_i, z_j) + k(p_i, p_j)) / (n (n - 1))
    - 2 sum_{i, j} k(z_i, p_j) / n^2,
  of which a batch of one has the last term alone.

  Args:
    batch: this device's examples.
    z: their codes.
    prior_z: as many draws from the prior.
    kernel: imq | rbf, see `kernel_values`.

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


def sliced_wasserstein(
  batch: Batch,
  z: Float[Array, "b d"],
  prior_z: Float[Array, "b d"],
  *,
  projections: int,
) -> Float[Array, ""]:
  """Returns the mean over random directions of W_2^2 between projections.

  In one dimension the best transport keeps the order: W_2^2 is the mean
  squared difference of the sorted codes and the sorted draws.

  Args:
    batch: this device's examples.
    z: their codes.
    prior_z: as many draws from the prior.
    projections: number of directions, uniform on the sphere, the same for
      the whole global batch.

  References:
    Kolouri et al., arXiv 1804.01947, algorithm 1.
  """
  key = jax.random.fold_in(global_batch.key(batch), Stream.PROJECTIONS)
  directions = jax.random.normal(key, (z.shape[-1], projections))
  directions /= jnp.linalg.norm(directions, axis=0, keepdims=True)

  def order(values: Float[Array, "b d"]) -> Float[Array, "n p"]:
    values, mask = global_batch.gather(batch, values)
    line = jnp.matmul(values, directions, precision="highest")
    # Padding comes last on both sides, where its differences are 0.
    last = jnp.finfo(line.dtype).max
    return jnp.sort(jnp.where(mask[:, None], line, last), axis=0)

  cost = jnp.sum(jnp.square(order(z) - order(prior_z)))
  _, mask = global_batch.gather(batch, batch.mask)
  return cost / (projections * jnp.maximum(jnp.sum(mask), 1))


def wae_mmd(
  vae: models.Vae,
  batch: Batch,
  *,
  weight: float = 200.0,
  kernel: str = "imq",
) -> Terms:
  """E_q[-log p(x | z)] + weight MMD^2(q(z), p(z)), one draw of z.

  With likelihood gaussian of sigma^2 = 1/2 the first term is the summed
  squared error, up to a constant. The authors' code has 0.05 of that for
  pixels in [0, 1] and 10 MMD^2 on MNIST: weight 200.

  Args:
    vae: the bound model; its posterior may be deterministic.
    batch: this device's examples.
    weight: nats per unit of MMD^2; see `kernel_values` for its scale.
    kernel: imq | rbf.

  References:
    Tolstikhin et al., arXiv 1711.01558, algorithm 2.
  """
  base.check("kernel", kernel, kernel in ("imq", "rbf"), "imq or rbf")
  base.check("weight", weight, weight >= 0, "0 or more")
  posterior = vae.encode(batch.image)
  z, rate = _code_and_rate(vae, batch, posterior)
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)
  distance = mmd(
    batch, base.flatten(z), _prior_draws(vae, batch), kernel=kernel
  )
  return Terms(
    loss=distortion + weight * distance,
    distortion=distortion,
    rate=rate,
    extras=likelihood.metrics(batch.image) | {"mmd": distance},
  )


def info_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  alpha: float = 0.0,
  lambda_mmd: float = 100.0,
  kernel: str = "rbf",
  kl: str = "auto",
) -> Terms:
  """E_q[-log p(x | z)] + (1 - alpha) rate + (alpha + lambda_mmd - 1) MMD^2.

  alpha = 1 leaves the MMD alone (MMD-VAE); alpha = 0 and lambda_mmd = 1 is
  the ELBO.

  Args:
    vae: the bound model.
    batch: this device's examples.
    alpha: weight of the information between image and code.
    lambda_mmd: weight of the divergence of q(z) from the prior, nats per unit
      of MMD^2; see `kernel_values` for its scale.
    kernel: imq | rbf.
    kl: auto | closed | sampled, see `terms.rate`.

  References:
    Zhao, Song and Ermon, arXiv 1706.02262, with the MMD as divergence.
  """
  base.check("kernel", kernel, kernel in ("imq", "rbf"), "imq or rbf")
  base.check("alpha", alpha, alpha <= 1, "at most 1")
  least = 1 - alpha
  base.check("lambda_mmd", lambda_mmd, lambda_mmd >= least, f"at least {least}")
  posterior = vae.encode(batch.image)
  z, log_q = posterior.sample_and_log_prob(batch.key)
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)
  rate = base.rate(posterior, vae.prior(), z, log_q, kl=kl)
  distance = mmd(
    batch, base.flatten(z), _prior_draws(vae, batch), kernel=kernel
  )
  divergence = (1 - alpha) * rate + (alpha + lambda_mmd - 1) * distance
  return Terms(
    loss=distortion + divergence,
    distortion=distortion,
    rate=rate,
    extras=likelihood.metrics(batch.image) | {"mmd": distance},
  )


def swae(
  vae: models.Vae,
  batch: Batch,
  *,
  weight: float = 10.0,
  projections: int = 50,
) -> Terms:
  """E_q[-log p(x | z)] + weight SW_2^2(q(z), p(z)), one draw of z.

  Args:
    vae: the bound model; its posterior may be deterministic.
    batch: this device's examples.
    weight: nats per squared unit of the latents.
    projections: random directions a step.

  References:
    Kolouri et al., arXiv 1804.01947, algorithm 1, squared cost.
  """
  base.check("weight", weight, weight >= 0, "0 or more")
  base.check("projections", projections, projections >= 1, "at least 1")
  posterior = vae.encode(batch.image)
  z, rate = _code_and_rate(vae, batch, posterior)
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)
  distance = sliced_wasserstein(
    batch, base.flatten(z), _prior_draws(vae, batch), projections=projections
  )
  distance = jnp.broadcast_to(distance, distortion.shape)
  return Terms(
    loss=distortion + weight * distance,
    distortion=distortion,
    rate=rate,
    extras=likelihood.metrics(batch.image) | {"sliced_wasserstein": distance},
  )


def _code_and_rate(
  vae: models.Vae, batch: Batch, posterior: distributions.Groups
) -> tuple[tuple[Float[Array, "b _"], ...], Float[Array, " b"] | None]:
  """Returns a draw of z and its rate, None where the code is a point."""
  if any(isinstance(g, distributions.Deterministic) for g in posterior.groups):
    return posterior.sample(batch.key), None
  z, log_q = posterior.sample_and_log_prob(batch.key)
  return z, base.rate(posterior, vae.prior(), z, log_q, kl="auto")


def _prior_draws(vae: models.Vae, batch: Batch) -> Float[Array, "b d"]:
  """Returns one draw from the prior per example."""
  key = base.stream(batch.key, Stream.PRIOR)
  return base.flatten(vae.prior().sample(key))
