"""The parts of a run as its config names them, and errors that name them."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from vae_jax import models
from vae_jax.config import ConfigError, own_code
from vae_jax.training.experiment import Experiment

# What each field of `Vae`, and the objective, must do.
_CONTRACTS = {
  "encoder": "it must map images [b h w c] in [0, 1] to features [b f]",
  "posterior": "it must map features [b f] to a distribution with mean "
  "[b {d}], sample(key) [b {d}] and log_prob(z) [b]",
  "latent_prior": "called with the function from images to posteriors, it must "
  "return a distribution with sample(key) [b {d}] and log_prob(z) [b]",
  "decoder": "it must map codes [b {d}] to outputs [b {h} {w} {o}]",
  "likelihood": "it must map outputs [b {h} {w} {o}] to a distribution with "
  "mean [b {h} {w} {c}] and log_prob(uint8 image) [b]",
  "auxiliary": "it reads {reads}",
  "objective": "it must return Terms(loss=..., distortion=..., rate=...), each "
  "float [b], one number per image",
}


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of a run.

  Attributes:
    field: dotted path of its node in the config.
    name: in the config; of an objective's own network that of the objective.
    value: its class or function.
    args: its arguments.
    contract: what is expected of it, in words.
  """

  field: str
  name: str
  value: Any
  args: dict[str, Any]
  contract: str

  @property
  def is_own(self) -> bool:
    """Whether it is a person's, not one of this package."""
    return not self.value.__module__.startswith("vae_jax.")

  def __str__(self) -> str:
    place = own_code.definition(self.value)
    where = f" ({place})" if place else ""
    args = f" with {self.args}" if self.args and not self.is_own else ""
    network = ""
    if self.field == "objective" and isinstance(self.value, type):
      network = f", whose network is {self.value.__name__}"
    return f"config.{self.field}.name is {self.name!r}{network}{args}{where}"

  def refuse(self, returned: str) -> ConfigError:
    """Returns the error of a part that returns something else."""
    return ConfigError(f"{self}, which returns {returned}; {self.contract}.")

  @contextlib.contextmanager
  def used(self, doing: str) -> Iterator[None]:
    """Names the part, and the person's line, of an error inside the block.

    Args:
      doing: the use, as "in training".
    """
    try:
      yield
    except ConfigError:
      raise
    except Exception as error:
      place = own_code.line_of(error)
      if not place and not self.is_own and not self.args:
        raise  # A defect of this package.
      raise ConfigError(
        f"{self}, which fails {doing}{f', at {place}' if place else ''}: "
        f"{own_code.gist(error)}; {self.contract}."
      ) from error


def of(experiment: Experiment) -> dict[str, Part]:
  """Returns the parts of an experiment: fields of `Vae`, and `objective`."""
  config, vae = experiment.config, experiment.vae_eval
  h, w, c = experiment.image_shape
  words = {
    "h": h,
    "w": w,
    "c": c,
    "o": models.decoder_outputs(vae.likelihood, c),
  }
  words |= {"d": config.model.latent_dim, "reads": vae.auxiliary_input}

  def part(kind: str, field: str, node: Any, value: Any) -> Part:
    return Part(
      field=field,
      name=node.name,
      value=value,
      args=node.args.to_dict(),
      contract=_CONTRACTS[kind].format(**words),
    )

  found = {}
  for name, node in config.model.items():
    kind = "latent_prior" if name == "prior" else name
    if kind in _CONTRACTS:
      found[kind] = part(kind, f"model.{name}", node, type(getattr(vae, kind)))
  node, function = config.objective, experiment.objective
  function = getattr(function, "func", function)  # Of functools.partial.
  found["objective"] = part("objective", "objective", node, function)
  if vae.auxiliary is not None:
    network = type(vae.auxiliary)
    critic = part("auxiliary", "objective", node, network)
    found["auxiliary"] = dataclasses.replace(
      critic, args=node.auxiliary.args.to_dict()
    )
  return found


def described(value: Any, count: int | None) -> str:
  """Returns a value in words; a first axis of `count` is printed as b."""
  if isinstance(value, tuple | list):
    inside = ", ".join(described(v, count) for v in value[:3])
    return f"a {type(value).__name__} of {len(value)} ({inside})"
  if isinstance(value, dict):
    return f"a dict of {', '.join(map(str, list(value)[:5]))}"
  if hasattr(value, "shape") and hasattr(value, "dtype"):
    sizes = [str(n) for n in value.shape]
    if sizes and value.shape[0] == count:
      sizes[0] = "b"
    return f"{value.dtype} [{' '.join(sizes)}]"
  if value is None or isinstance(value, bool | int | float | str):
    return repr(value)
  if callable(value) and hasattr(value, "__name__"):
    return f"the function {value.__name__}, which was not called"
  return f"a {type(value).__name__}"
