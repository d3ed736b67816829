"""What all losses share: `Terms`, `one_draw`, and networks of a loss's own."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Key

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.models import draw as draw_lib
from vae_jax.objectives.constraints import choice

F = TypeVar("F", bound=Callable[..., Any])
# How the rate is computed, see `models.draw.rates`.
Kl = Annotated[str, choice(*draw_lib.KL)]

_INPUTS = ("images", "latents", "nothing")
# Names that the steps log themselves.
_RESERVED = ("loss", "distortion", "rate", "neg_elbo")
_RESERVED += ("count", "grad_norm", "learning_rate", "skipped")


@struct.dataclass
class Terms:
  """Per-example values in nats; the step averages them over the batch.

  Attributes:
    loss: the minimized value.
    distortion: -log p(x | z), with its normalizer.
    rate: KL(q(z | x) || p(z)) summed over groups of latents, or its estimate
      log q(z | x) - log p(z), never scaled or clamped; None where the code
      has no density. distortion + rate is logged as neg_elbo, whatever the
      loss is.
    extras: further values to log, by name.
  """

  loss: Float[Array, " b"]
  distortion: Float[Array, " b"]
  rate: Float[Array, " b"] | None = None
  extras: dict[str, Float[Array, " b"]] = struct.field(default_factory=dict)

  def with_loss(self, loss: Float[Array, " b"], **extras: jax.Array) -> "Terms":
    """Returns the terms with another loss and more extras, [b] or scalars."""
    extras = {k: jnp.broadcast_to(v, loss.shape) for k, v in extras.items()}
    return self.replace(loss=loss, extras=self.extras | extras)

  def named(self) -> dict[str, Float[Array, " b"]]:
    """Returns all values by name, neg_elbo among them.

    Raises:
      ConfigError: an extra has the name of another value in the log.
    """
    taken = sorted(set(self.extras) & set(_RESERVED))
    if taken:
      raise ConfigError(
        f"The objective has extras named {', '.join(taken)}; allowed are all "
        f"names but {', '.join(_RESERVED)}."
      )
    values = {"loss": self.loss, "distortion": self.distortion}
    if self.rate is not None:
      values["rate"] = self.rate
      values["neg_elbo"] = self.distortion + self.rate
    return {**self.extras, **values}


def one_draw(vae: models.Vae, batch: Batch, *, kl: str = "auto") -> models.Draw:
  """Returns one draw z ~ q(z | x) for each image x, see `models.Draw`."""
  return vae.draw(batch.image, batch.key, kl=kl)


def terms(
  draw: models.Draw, loss: Float[Array, " b"], **extras: jax.Array
) -> Terms:
  """Returns a loss, the terms of its draw, and more extras, [b] or scalars."""
  rate = draw.rate if draw.has_rate else None
  own = Terms(loss, draw.distortion, rate, draw.extras)
  return own.with_loss(loss, **extras)


@dataclasses.dataclass(frozen=True)
class Auxiliary:
  """A network that an objective needs in addition to the VAE.

  Attributes:
    network: a class of flax.linen modules. Its fields are
      `config.objective.auxiliary.args`; train, dtype, initializer, axis_name,
      latent_dim, image_shape and image_channels are filled in if declared.
    reads: its input: "images" in [0, 1] [b h w c], "latents" [b d], or
      "nothing".
  """

  network: type[nn.Module]
  reads: str


def needs(network: type[nn.Module], *, reads: str) -> Callable[[F], F]:
  """Declares an objective's `Auxiliary`, which it calls as `vae.auxiliary`.

  Its parameters live under "auxiliary" and have the optimizer of
  `config.optim.auxiliary`. One loss trains both players: `lax.stop_gradient`
  of a value, or a call through `frozen`, keeps a term from training a player.
  """
  if reads not in _INPUTS:
    raise ConfigError(
      f"The auxiliary network reads {reads!r}; allowed are "
      f"{', '.join(_INPUTS)}."
    )
  if not (isinstance(network, type) and issubclass(network, nn.Module)):
    raise ConfigError(
      f"An objective needs {network!r}; it must be a class of flax.linen "
      "modules."
    )

  def declare(objective: F) -> F:
    objective.auxiliary = Auxiliary(network, reads)
    return objective

  return declare


def frozen(function: Callable[..., Any], module: nn.Module, *args: Any) -> Any:
  """Returns function(module, *args) with the module's weights held constant:
  gradients flow to `args` alone. Running statistics stay as they are."""
  return detached(module, hold=True)(function, *args)


def frozen_auxiliary(vae: models.Vae, x: jax.Array) -> Any:
  """Returns vae.auxiliary(x) with the weights of that network constant."""
  return frozen(lambda vae, x: vae.auxiliary(x), vae, x)


def detached(module: nn.Module, *, hold: bool = False) -> Callable[..., Any]:
  """Returns `run(function, *args)` for further passes of a step: it calls
  function(copy, *args), and leaves running statistics of the bound module
  (BatchNorm, gaussian_optimal) as they are.

  Args:
    module: a bound module.
    hold: whether the copy's weights are constant.
  """
  unbound, variables = module.unbind()
  if hold:
    params = jax.tree.map(lax.stop_gradient, variables["params"])
    variables = {**variables, "params": params}
  rngs = {}
  if module.has_rng("dropout"):
    rngs["dropout"] = module.make_rng("dropout")

  def run(function: Callable[..., Any], *args: Any) -> Any:
    apply = nn.apply(function, unbound, mutable=["batch_stats"])
    return apply(variables, *args, rngs=rngs)[0]

  return run


def stream(key: Key[Array, " b"], number: int) -> Key[Array, " b"]:
  """Returns the keys of a `Stream`, one per example."""
  return jax.vmap(lambda k: jax.random.fold_in(k, number))(key)


def flatten(z: distributions.Latents) -> Float[Array, "b d"]:
  """Returns all groups of a code in one vector per example."""
  return jnp.concatenate([v.reshape(v.shape[0], -1) for v in z], axis=-1)


def check_all_levels(objective: str, vae: models.Vae) -> None:
  """Refuses a likelihood of fewer than 8 bits: its mean is not comparable with
  8-bit pixels."""
  if getattr(vae.likelihood, "bits", 8) < 8:
    raise ConfigError(
      f"config.objective.name is {objective}, which compares 8-bit pixels with "
      "the likelihood's mean; set config.model.likelihood.args.bits to 8."
    )


def check_normal(objective: str, posterior: distributions.Groups) -> None:
  """Refuses a posterior that is not a diagonal normal in every group."""
  for group in posterior.groups:
    if not isinstance(group, distributions.DiagonalNormal):
      raise ConfigError(
        f"config.objective.name is {objective}, which needs the mean and the "
        f"variance of a normal posterior, not of a {type(group).__name__}; "
        "set config.model.posterior.name to diagonal_normal."
      )


def normal_moments(
  objective: str, posterior: distributions.Groups
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
  """Returns means and log variances of all latents, after `check_normal`."""
  check_normal(objective, posterior)
  return (
    flatten(tuple(g.mean for g in posterior.groups)),
    flatten(tuple(g.log_variance for g in posterior.groups)),
  )
