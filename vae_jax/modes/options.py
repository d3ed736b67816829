"""What the flags beside the config ask of a mode."""

import dataclasses

from vae_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Options:
  """Values of the flags of the modes; None = not given.

  Attributes:
    images: which images, as `images.select` reads it.
    latent: a code, as "0.0,0.03", or a file of codes.
    attribute: what to edit, as "Smiling" or "Smiling=2,Eyeglasses=-1"; or what
      colours the codes, as "Smiling".
    strength: first, last and step of the strengths, as "-3:3:0.5".
    direction: kinds of directions, as "mean" or "mean,probe".
    examples: images that an edit is measured on.
    steps: pictures along each path.
    count: how many samples.
    individual: whether each sample is a file of its own.
    host: address that the page is served on.
    port: port that the page is served on; 0 = any free one.
    seconds: that a measurement takes.
  """

  images: str | None = None
  latent: str | None = None
  attribute: str | None = None
  strength: str | None = None
  direction: str | None = None
  examples: int | None = None
  steps: int | None = None
  count: int | None = None
  individual: bool | None = None
  host: str | None = None
  port: int | None = None
  seconds: float | None = None


# Which of them each mode reads.
READS = {
  "train": (),
  "evaluate": (),
  "benchmark": ("seconds",),
  "compare": (),
  "reconstruct": ("images",),
  "sample": ("count", "individual"),
  "interpolate": ("images", "steps"),
  "traverse": ("images", "steps"),
  "decode": ("latent",),
  "manifold": ("steps",),
  "attributes": (),
  "edit": ("attribute", "strength", "images", "direction", "examples"),
  "embed": ("attribute",),
  "lesson": (),
  "explore": ("host", "port"),
  "export": (),
}


# Beyond it, a picture of so many is too large to look at.
_MOST_STEPS = 100


def steps(options: Options, default: int) -> int:
  """Returns --steps, the pictures along each path.

  Args:
    options: what was asked for.
    default: where nothing was.

  Raises:
    ConfigError: it is not from 2 to 100.
  """
  count = default if options.steps is None else options.steps
  if not 2 <= count <= _MOST_STEPS:
    raise ConfigError(
      f"--steps is {count}; it must be from 2 to {_MOST_STEPS}."
    )
  return count


def check(mode: str, options: Options) -> None:
  """Stops with one sentence if a flag is given that the mode does not read.

  Raises:
    ConfigError: it names the modes that read the flag.
  """
  for field in dataclasses.fields(Options):
    given = getattr(options, field.name) is not None
    if given and field.name not in READS[mode]:
      readers = [m for m, names in READS.items() if field.name in names]
      raise ConfigError(
        f"--{field.name} is for --mode={' or '.join(readers)}, not {mode}."
      )
