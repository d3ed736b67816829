"""Modes that draw what a model makes: an array beside each picture."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures, metrics, pictures, trained
from vae_jax.config import ConfigError
from vae_jax.modes import options as options_lib

_FOLDER = "figures"
_SAMPLES = 100


def sample(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Draws prior samples; returns where to.

  Writes `figures/samples.png` and the same images as `figures/samples.npz`,
  or a PNG each to `figures/samples/`.
  """
  count = _SAMPLES if options.count is None else options.count
  if count < 1:
    raise ConfigError(f"--count is {count}; it must be 1 or more.")
  model = trained.open_run(config, workdir)
  source = None
  if config.model.condition == "attributes":
    source = trained.open_split(config, "validation")
  label = pictures.sample_labels(config, source, count)
  images = model.sample(np.arange(count, dtype=np.int32), label)
  folder = model.workdir / _FOLDER
  metrics.write_arrays(folder / "samples.npz", images=images)
  if options.individual:
    for i, image in enumerate(images):
      figures.write_image(image, folder / "samples" / f"{i:05}.png")
    return str(folder / "samples")
  figures.image_grid(images, folder / "samples.png", columns=10)
  return str(folder / "samples.png")
