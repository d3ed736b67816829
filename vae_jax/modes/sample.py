"""Draws samples from the prior, decoded, to <workdir>/figures/."""

import math

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.latents import trained_model
from vae_jax.runtime import storage

NEEDS = "run"


def run(
  config: ConfigDict,
  workdir: str,
  *,
  count: int = 100,
  individual: bool = False,
  temperature: float | None = None,
) -> str:
  """Decodes draws from the prior; returns the path of the picture.

  Writes `figures/samples.png`, or one PNG for each sample to
  `figures/samples/`, and the images to `figures/samples.npz`.

  Args:
    temperature: factor on the prior's standard deviation; None =
      `config.sample.temperature`.
  """
  if count < 1:
    raise ConfigError(f"--count is {count}; it must be 1 or more.")
  if temperature is not None:
    if not 0 <= temperature < math.inf:
      raise ConfigError(
        f"--temperature is {temperature}; it must be a finite number of at "
        "least 0."
      )
    config = config.copy_and_resolve_references()
    config.sample.temperature = float(temperature)
  model = trained_model.open_run(config, workdir)
  source = None
  if config.model.condition == "attributes":
    source = model.experiment.source("validation")
  label = trained_model.sample_labels(config, source, count)
  images = model.sample(np.arange(count, dtype=np.int32), label)
  folder = model.workdir / "figures"
  storage.write_arrays(folder / "samples.npz", images=images)
  if not individual:
    figures.image_grid(images, folder / "samples.png", columns=10)
    return str(folder / "samples.png")
  folder /= "samples"
  for i, image in enumerate(images):
    figures.write_image(image, folder / f"{i:05}.png")
  # A reader of the folder would take the rest of an earlier, longer run for
  # samples of this one.
  for path in folder.glob("*.png"):
    if path.stem.isdecimal() and int(path.stem) >= count:
      path.unlink()
  return str(folder)
