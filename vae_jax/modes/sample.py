"""Draws samples from the prior or a fitted density to <workdir>/figures/."""

import math

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.latents import conditions, trained_model
from vae_jax.latents import density as density_lib
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"


def run(
  config: ConfigDict,
  workdir: str,
  *,
  count: int = 100,
  individual: bool = False,
  temperature: float | None = None,
  density: str | None = None,
  label: str | None = None,
  attribute: str | None = None,
) -> str:
  """Decodes draws; returns the path of the picture.

  Writes `figures/samples.png`, or one PNG for each sample to
  `figures/samples/`, and the images to `figures/samples.npz`, with the labels
  of a conditional model: the condition, or the classes in turn, one row of the
  picture each, or attributes of the first validation images.

  Args:
    temperature: factor on the standard deviation of the prior, or of the
      density's components; None = `config.sample.temperature`.
    density: to draw from, see `latents.density.choose`.
    label: see `arguments.condition`, as attribute.
  """
  if count < 1:
    raise ConfigError(f"--count is {count}; it must be 1 or more.")
  if temperature is None:
    temperature = config.sample.temperature
  if not 0 <= temperature < math.inf:
    raise ConfigError(
      f"--temperature is {temperature}; it must be a finite number of at "
      "least 0."
    )
  chosen = arguments.condition(config, label, attribute)
  density = density_lib.choose(config, density)
  model = trained_model.open_run(config, workdir)
  if chosen is not None:
    # Attributes that are not named are absent, as in Python.
    chosen = conditions.chosen(model.experiment, chosen)
  labels = conditions.of_samples(model.experiment, count, chosen)
  seed = config.sample.seed
  images = model.sample(count, temperature, seed, labels, density)
  arrays = {"images": images} | ({} if labels is None else {"labels": labels})
  folder = model.workdir / "figures"
  storage.write_arrays(folder / "samples.npz", **arrays)
  if not individual:
    path = folder / "samples.png"
    title = density_lib.title(density, temperature)
    if config.model.condition == "label" and chosen is None:
      _draw_classes(
        images, labels, conditions.names(model.experiment), path, title
      )
    else:
      figures.image_grid(images, path, columns=10, title=title)
    return str(path)
  folder /= "samples"
  for i, image in enumerate(images):
    figures.write_image(image, folder / f"{i:05}.png")
  # A reader of the folder would take the rest of an earlier, longer run for
  # samples of this one.
  for path in folder.glob("*.png"):
    if path.stem.isdecimal() and int(path.stem) >= count:
      path.unlink()
  return str(folder)


def _draw_classes(
  images: np.ndarray,
  labels: np.ndarray,
  names: tuple[str, ...],
  path: storage.Path,
  title: str,
) -> None:
  """Draws one row of images for each class that has some."""
  rows = [images[labels == i] for i in range(len(names))]
  titles = [name for name, row in zip(names, rows, strict=True) if len(row)]
  longest = max(map(len, rows))
  blank = np.full_like(images[:1], 255)
  filled = [
    np.concatenate([row, np.repeat(blank, longest - len(row), axis=0)])
    for row in rows
    if len(row)
  ]
  figures.image_strip(filled, titles, path=path, title=title)
