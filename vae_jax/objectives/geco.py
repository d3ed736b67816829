"""The least rate under a constraint on the reconstruction error."""

import math
from typing import Annotated

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.objectives import base
from vae_jax.objectives.base import Kl, Terms, one_draw
from vae_jax.objectives.constraints import at_least, checked


class Multiplier(nn.Module):
  """A positive number, initially `initial`, learned by its logarithm."""

  initial: float = 1.0

  @nn.compact
  def __call__(self) -> Float[Array, ""]:
    """Returns the logarithm."""
    if not self.initial > 0:
      raise ConfigError(
        f"config.objective.auxiliary.args.initial is {self.initial}; it must "
        "be above 0."
      )
    start = nn.initializers.constant(math.log(self.initial))
    return self.param("log_value", start, ())


@base.needs(Multiplier, reads="nothing")
@checked
def geco(
  vae: models.Vae,
  batch: Batch,
  *,
  kappa: Annotated[float, at_least(0)] = 0.1,
  kl: Kl = "auto",
) -> Terms:
  """Least rate such that the error is at most kappa: rate + lambda C, one draw.

  C = |x - mean(z)|^2 - D kappa^2 with x in [0, 1]^D. The networks descend on
  rate + lambda C; log lambda ascends on it, its gradient in the loss being
  -lambda E[C], so that lambda rises while the error is too high and falls
  once it is low enough. lambda weighs the error as a normal likelihood of
  sigma^2 = 1 / (2 lambda) would. The published algorithm smooths C over
  steps; here the momentum of `config.optim.auxiliary.optimizer` does, and its
  learning rate is the speed of log lambda. The likelihood's own scale is not
  learned by this loss.

  Args:
    kappa: tolerated root mean square error of a pixel value in [0, 1]; the
      paper's kappa is this times sqrt(D), D = height * width * channels.

  Returns:
    Extras: lambda; constraint, C, in squared pixel values.

  References:
    Rezende and Viola, arXiv 1810.00597, algorithm 1, with the
    reconstruction-error constraint.
  """
  base.check_all_levels("geco", vae)
  draw = one_draw(vae, batch, kl=kl)
  x = distributions.unit_pixels(batch.image)
  error = jnp.square(x - draw.likelihood.mean) - kappa**2
  constraint = jnp.sum(error, axis=(1, 2, 3))
  log_multiplier = vae.auxiliary()
  multiplier = jnp.exp(lax.stop_gradient(log_multiplier))
  # Zero in value: it adds only the multiplier's gradient, upwards.
  ascent = log_multiplier - lax.stop_gradient(log_multiplier)
  ascent = ascent * lax.stop_gradient(multiplier * constraint)
  loss = draw.rate + multiplier * constraint - ascent
  extras = {"lambda": multiplier, "constraint": constraint}
  return base.terms(draw, loss, **extras)
