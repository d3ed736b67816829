"""Pictures of a run: reconstructions, samples, latents and loss curves."""

import numpy as np
from absl import logging
from jaxtyping import Float32, UInt8

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.latents import conditions, quantiles
from vae_jax.latents import density as density_lib
from vae_jax.latents.trained_model import TrainedModel
from vae_jax.runtime import storage
from vae_jax.training import writer as writer_lib

_RECONSTRUCTIONS = 30
_SAMPLE_ROWS = 10
_SCATTER = 10_000  # Codes in the scatter plot, at most.


def reconstructions(
  model: TrainedModel, source: datasets.Source, path: storage.Path
) -> UInt8[np.ndarray, "h w c"]:
  """Draws the split's first images above their reconstructions."""
  index = np.arange(min(_RECONSTRUCTIONS, len(source)), dtype=np.int32)
  data = source.fetch(index)
  image, label = model.as_input(data["image"], index), data.get("label")
  decoded = model.reconstruct(image, label)
  return figures.reconstruction_grid(image, decoded, path, columns=15)


def samples(
  model: TrainedModel,
  source: datasets.Source,
  path: storage.Path,
  *,
  density: str = density_lib.PRIOR,
) -> UInt8[np.ndarray, "h w c"]:
  """Draws 10 x 10 decoded draws from a density, one class per column if there
  are ten classes."""
  index = np.arange(_SAMPLE_ROWS**2, dtype=np.int32)
  label = conditions.of_samples(model.experiment, len(index), source=source)
  images = density_lib.applied(model, density).draws(index, label)
  title = density_lib.title(density, model.config.sample.temperature)
  return figures.image_grid(images, path, columns=_SAMPLE_ROWS, title=title)


def validation(
  model: TrainedModel, source: datasets.Source, writer: writer_lib.Writer
) -> None:
  """Draws reconstructions and samples, to files and to TensorBoard."""
  folder = model.workdir / "figures"
  for draw in (reconstructions, samples):
    picture = draw(model, source, folder / f"{draw.__name__}.png")
    writer.image(model.step, draw.__name__, picture)


def at_the_end(model: TrainedModel, source: datasets.Source) -> None:
  """Draws the loss curves, for two latents the codes and their manifold, and
  samples where they are not from the prior."""
  folder = model.workdir / "figures"
  density = density_lib.choose(model.config, None)
  if density != density_lib.PRIOR:
    try:
      samples(model, source, folder / "samples.png", density=density)
    except ConfigError as error:
      # The training itself is complete.
      logging.warning("Samples are from the prior: %s", error)
  rows = writer_lib.read_rows(model.workdir)
  if rows:
    figures.loss_curves(
      rows,
      folder / "curves.png",
      steps_per_epoch=model.experiment.steps_per_epoch,
    )
  if model.config.model.latent_dim != 2:
    return
  codes, labels = model.first_codes(source, _SCATTER)
  classes = source.label_shape == ()
  figures.latent_scatter(
    codes,
    labels if classes else None,
    folder / "latents.png",
    class_names=model.experiment.splits.label_names if classes else None,
    standard_normal=quantiles.has_standard_prior(model.config),
  )
  # Without labels, on which the images of a conditional model depend.
  if model.config.model.condition == "none":
    manifold(model, codes, folder / "manifold.png")


def manifold(
  model: TrainedModel,
  codes: Float32[np.ndarray, "n d"] | None,
  path: storage.Path,
  *,
  rows: int = 20,
  label: np.ndarray | None = None,
) -> tuple[Float32[np.ndarray, "k 2"], UInt8[np.ndarray, "k h w c"]]:
  """Draws the decoded images of a grid of two latents.

  `codes` are those of `quantiles.ticks`, and `label` is a conditional model's
  of all images. Returns the codes of the `rows` x
  `rows` images, row by row from the top left, and the images.
  """
  z1, z2 = quantiles.ticks(model.config, codes, rows)
  grid = quantiles.grid(z1, z2)
  images = model.decode(grid, label=label)
  figures.manifold(images, path, z1=z1, z2=z2[::-1])
  return grid, images
