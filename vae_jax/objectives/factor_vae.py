"""Objectives with a critic: two players, one loss, one step.

Each player descends its own term; `stop_gradient` and `terms.frozen` keep a
term from whom it is not for, so that the terms add up to one loss. Both play
at once, each against the other as it was before the step; the papers let them
take turns. Every critic has one logit, and every cross-entropy is a softplus
of it: no probability is rounded before its logarithm is taken.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch, Stream
from vae_jax.models import critics
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms


def _judge(vae: models.Vae, x: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
  return vae.auxiliary(x)


def permute_columns(
  values: Float[Array, "n d"],
  noise: Float[Array, "n d"],
  rows: Bool[Array, " n"],
) -> Float[Array, "n d"]:
  """Shuffles each column by itself, among some of the rows.

  A column keeps its values and loses its relation to the other columns: a
  draw from q(z) becomes one from the product of its marginals.

  Args:
    values: codes of the global batch.
    noise: uniform in [0, 1), a number for each value: sorting a column of it
      gives that column's permutation, every one as likely as another.
    rows: which rows take part; the others stay as they are.

  References:
    Kim and Mnih, arXiv 1802.05983, algorithm 1.
  """
  source = jnp.argsort(jnp.where(rows[:, None], noise, jnp.inf), axis=0)
  place = jnp.maximum(jnp.cumsum(rows) - 1, 0)
  shuffled = jnp.take_along_axis(values, source[place], axis=0)
  return jnp.where(rows[:, None], shuffled, values)


def _tell_dependence(
  vae: models.Vae, batch: Batch, code: Float[Array, "b d"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
  """Returns the cross-entropy and the accuracy of the critic of factor_vae.

  The first half of the global batch shows it q(z), the second, its columns
  permuted, the product of the marginals. Each example judges one code and
  carries such a weight that the mean over the global batch is the mean of
  the two halves' means, whatever their sizes; 0 without a second half.
  """
  everyone, mask = global_batch.gather(batch, code)
  shape = (code.shape[-1],)
  noise = jax.vmap(lambda k: jax.random.uniform(k, shape))(
    base.stream(batch.key, Stream.PERMUTATIONS)
  )
  noise, _ = global_batch.gather(batch, noise)
  count = mask.sum()
  second = mask & (2 * jnp.cumsum(mask) > count + 1)
  permuted = permute_columns(everyone, noise, second)

  here = global_batch.positions(batch)
  logit = vae.auxiliary(permuted[here])
  half = jnp.where(second, second.sum(), count - second.sum())
  weight = count / (2 * jnp.maximum(half, 1)) * (mask & second.any())
  entropy = jax.nn.softplus(jnp.where(second[here], logit, -logit))
  right = (logit < 0) == second[here]
  return weight[here] * entropy, weight[here] * right


@base.needs(critics.LatentCritic, reads="latents")
def factor_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  gamma: float = 10.0,
  kl: str = "auto",
) -> Terms:
  """-ELBO + gamma TC(z), the total correlation as a critic estimates it.

  TC = KL(q(z) || prod_j q(z_j)) = E_q[log D(z) / (1 - D(z))], the mean logit
  of a critic D that tells draws of q(z) from draws whose dimensions were
  permuted over the batch, by
  -1/2 (mean log D(z) + mean log(1 - D(permuted z'))).
  z' are other examples than z: halves of the global batch stand for the two
  batches of the paper, while the ELBO and TC(z) use all of it. The estimate
  is as good as the critic.

  Args:
    vae: the bound model.
    batch: this device's examples.
    gamma: weight of the total correlation, beyond its part of the ELBO.
    kl: auto | closed | sampled, see `terms.rate`.

  Returns:
    With extras total_correlation, nats; critic_loss, nats, log 2 where the
    critic cannot tell; critic_accuracy.

  References:
    Kim and Mnih, arXiv 1802.05983, equations 2 and 3, algorithm 2.
  """
  base.check("gamma", gamma, gamma >= 0, "0 or more")
  posterior = vae.encode(batch.image)
  z, log_q = posterior.sample_and_log_prob(batch.key)
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)
  rate = base.rate(posterior, vae.prior(), z, log_q, kl=kl)
  code = base.flatten(z)
  correlation = base.frozen(_judge, vae, code)
  critic_loss, accuracy = _tell_dependence(vae, batch, lax.stop_gradient(code))
  extras = {
    "total_correlation": correlation,
    "critic_loss": critic_loss,
    "critic_accuracy": accuracy,
  }
  return Terms(
    loss=distortion + rate + gamma * correlation + critic_loss,
    distortion=distortion,
    rate=rate,
    extras=extras | likelihood.metrics(batch.image),
  )


@base.needs(critics.WaeCritic, reads="latents")
def wae_gan(vae: models.Vae, batch: Batch, *, weight: float = 10.0) -> Terms:
  """E_q[-log p(x | z)] - weight E_q[log D(z)]: q(z) is to look like p(z).

  The critic D tells draws of the prior from codes, by
  -log D(z ~ p) - log(1 - D(z ~ q)), which `weight` does not scale: its
  optimiser sets its pace. The encoder's term is the non-saturating one. This
  is the adversarial autoencoder too. With posterior deterministic there is no
  rate; otherwise the rate is reported, not minimised.

  Args:
    vae: the bound model.
    batch: this device's examples.
    weight: nats of distortion for one nat of -log D; the paper's lambda,
      where its cost is the distortion.

  Returns:
    With extras encoder_adversarial_loss, -log D(z ~ q), nats; critic_loss,
    nats, 2 log 2 where the critic cannot tell; critic_accuracy.

  References:
    Tolstikhin et al., arXiv 1711.01558, algorithm 1; Makhzani et al., arXiv
    1511.05644, section 2.
  """
  base.check("weight", weight, weight >= 0, "0 or more")
  if vae.latent_prior.variables.get("params"):
    raise ConfigError(
      "config.objective.name is wae_gan, which does not train a prior; set "
      "config.model.prior.name to standard_normal."
    )
  posterior, prior = vae.encode(batch.image), vae.prior()
  rate = None
  if any(isinstance(g, distributions.Deterministic) for g in posterior.groups):
    z = posterior.sample(batch.key)
  else:
    z, log_q = posterior.sample_and_log_prob(batch.key)
    rate = base.rate(posterior, prior, z, log_q, kl="auto")
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)
  code, wanted = (
    base.flatten(z),
    base.flatten(prior.sample(base.stream(batch.key, Stream.WAE_GAN_PRIOR))),
  )
  fooling = jax.nn.softplus(-base.frozen(_judge, vae, code))
  real = vae.auxiliary(lax.stop_gradient(wanted))
  fake = vae.auxiliary(lax.stop_gradient(code))
  critic_loss = jax.nn.softplus(-real) + jax.nn.softplus(fake)
  extras = {
    "encoder_adversarial_loss": fooling,
    "critic_loss": critic_loss,
    "critic_accuracy": 0.5 * (real > 0) + 0.5 * (fake < 0),
  }
  return Terms(
    loss=distortion + weight * fooling + critic_loss,
    distortion=distortion,
    rate=rate,
    extras=extras | likelihood.metrics(batch.image),
  )
