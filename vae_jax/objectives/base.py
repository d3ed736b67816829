"""What every objective returns, and what one may declare."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Key

from vae_jax.config import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_INPUTS = ("images", "latents", "nothing")


@struct.dataclass
class Terms:
  """Per-example values in nats; the step averages them over the batch.

  Attributes:
    loss: what is minimised.
    distortion: -log p(x | z), with its normaliser.
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


@dataclasses.dataclass(frozen=True)
class Auxiliary:
  """A network that an objective needs beside the VAE.

  Attributes:
    network: a class of flax.linen modules. Its fields are
      `config.objective.auxiliary.args`; train, dtype, initializer, axis_name,
      latent_dim, image_shape and image_channels are filled in if declared.
    reads: what it is called with: "images" in [0, 1] [b h w c], "latents"
      [b d], or "nothing".
  """

  network: type[nn.Module]
  reads: str


def needs(network: type[nn.Module], *, reads: str) -> Callable[[F], F]:
  """Declares an objective's own network, which it calls as `vae.auxiliary`.

  Its parameters live under "auxiliary" and have the optimiser of
  `config.optim.auxiliary`. One loss trains both players: whatever must not
  train the one is given `lax.stop_gradient` of its values, or calls it
  through `frozen`.

  Args:
    network: see `Auxiliary`.
    reads: see `Auxiliary`.
  """
  if reads not in _INPUTS:
    raise ConfigError(
      f"The auxiliary network reads {reads!r}; allowed are "
      f"{', '.join(_INPUTS)}."
    )

  def declare(objective: F) -> F:
    objective.auxiliary = Auxiliary(network, reads)
    return objective

  return declare


def frozen(function: Callable[..., Any], module: nn.Module, *args: Any) -> Any:
  """Returns function(module, *args) with the module's weights held constant:
  gradients flow to `args` alone. Running statistics stay as they are."""
  return _apart(function, module, *args, hold=True)


def unrecorded(
  function: Callable[..., Any], module: nn.Module, *args: Any
) -> Any:
  """Returns function(module, *args), a further pass of a step, of which the
  running statistics (BatchNorm, gaussian_optimal) are to see only one."""
  return _apart(function, module, *args, hold=False)


def _apart(
  function: Callable[..., Any], module: nn.Module, *args: Any, hold: bool
) -> Any:
  unbound, variables = module.unbind()
  if hold:
    params = jax.tree.map(lax.stop_gradient, variables["params"])
    variables = {**variables, "params": params}
  rngs = {}
  if module.has_rng("dropout"):
    rngs["dropout"] = module.make_rng("dropout")
  run = nn.apply(function, unbound, mutable=["batch_stats"])
  return run(variables, *args, rngs=rngs)[0]


def stream(key: Key[Array, " b"], number: int) -> Key[Array, " b"]:
  """Returns keys for a purpose of its own, by a number of its own."""
  return jax.vmap(lambda k: jax.random.fold_in(k, number))(key)


def flatten(z: tuple[Float[Array, "b _"], ...]) -> Float[Array, "b d"]:
  """Returns the groups of a code side by side, as a critic reads them."""
  return jnp.concatenate(z, axis=-1)


def check_all_levels(objective: str, vae: Any) -> None:
  """Stops an objective that compares pixels with a likelihood's mean, where
  that is the mean of quantised pixels.

  Raises:
    ConfigError: the likelihood has fewer than 8 bits.
  """
  if getattr(vae.likelihood, "bits", 8) < 8:
    raise ConfigError(
      f"config.objective.name is {objective}, which compares 8-bit pixels with "
      "the likelihood's mean; set config.model.likelihood.args.bits to 8."
    )


def check(name: str, value: Any, good: bool, allowed: str) -> None:
  """Stops with one sentence unless a hyperparameter is good.

  Args:
    name: the argument of `config.objective.args`.
    value: what it is.
    good: whether that is allowed.
    allowed: what it must be, in words.

  Raises:
    ConfigError: it is not good.
  """
  if not good:
    raise ConfigError(
      f"config.objective.args.{name} is {value!r}; it must be {allowed}."
    )


def rate(
  posterior: Any,
  prior: Any,
  z: tuple[Float[Array, "b _"], ...],
  log_q: Float[Array, " b"],
  *,
  kl: str,
) -> Float[Array, " b"]:
  """Returns KL(q(z | x) || p(z)), nats, or its unbiased one-draw estimate.

  Args:
    posterior: q.
    prior: p.
    z: a draw from q.
    log_q: its log q(z | x).
    kl: "closed" is the closed form; "sampled" is log q(z | x) - log p(z);
      "auto" is the closed form where there is one.

  Raises:
    ConfigError: another `kl`, or no closed form where it is asked for.
  """
  if kl not in ("auto", "closed", "sampled"):
    raise ConfigError(
      f"config.objective.args.kl is {kl!r}; allowed are auto, closed, sampled."
    )
  if kl == "closed" or (kl == "auto" and posterior.has_kl(prior)):
    return posterior.kl(prior)
  return log_q - prior.log_prob(z)
