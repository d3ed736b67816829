"""What a run shows of itself: the model's outputs, drawn."""

import numpy as np

from vae_jax import figures, models
from vae_jax.data import datasets
from vae_jax.latents import apply, quantiles, trained_model
from vae_jax.runtime import storage
from vae_jax.training import metrics
from vae_jax.training import state as state_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState

_RECONSTRUCTIONS = 30
_SAMPLE_ROWS = 10
_MANIFOLD_ROWS = 20
_SCATTER = 10_000


def reconstructions(
  experiment: Experiment,
  state: TrainState,
  source: datasets.Source,
  path: storage.Path,
) -> np.ndarray:
  """Draws the split's first images above their reconstructions."""
  config, vae = experiment.config, experiment.vae_eval
  variables = state_lib.eval_variables(config, state)
  index = np.arange(min(_RECONSTRUCTIONS, len(source)), dtype=np.int32)
  data = source.fetch(index)
  image = apply.as_model_input(
    data["image"], index, config.eval.seed, mode=config.data.binarization
  )
  side_inputs = models.side_inputs(label=data.get("label"))
  decoded = apply.reconstruct(vae, {**variables, **side_inputs}, image)
  return figures.reconstruction_grid(
    np.asarray(image), np.asarray(decoded), path, columns=15
  )


def samples(
  experiment: Experiment,
  state: TrainState,
  source: datasets.Source,
  path: storage.Path,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws 10 x 10 decoded prior samples; returns the picture and them.

  With ten classes a column holds one class.
  """
  config, vae = experiment.config, experiment.vae_eval
  variables = state_lib.eval_variables(config, state)
  label = trained_model.sample_labels(config, source, _SAMPLE_ROWS**2)
  images = np.asarray(
    apply.sample(
      vae,
      {**variables, **models.side_inputs(label=label)},
      np.arange(_SAMPLE_ROWS**2, dtype=np.int32),
      config.sample.seed,
      config.sample.temperature,
    )
  )
  return figures.image_grid(images, path, columns=_SAMPLE_ROWS), images


def validation(
  experiment: Experiment,
  state: TrainState,
  source: datasets.Source,
  folder: storage.Path,
  writer: metrics.Writer,
) -> None:
  """Draws reconstructions and samples, to files and to TensorBoard."""
  step = int(state.step)
  for name, picture in (
    (
      "reconstructions",
      reconstructions(
        experiment, state, source, folder / "reconstructions.png"
      ),
    ),
    ("samples", samples(experiment, state, source, folder / "samples.png")[0]),
  ):
    writer.image(step, name, picture)


def at_the_end(
  experiment: Experiment,
  workdir: str,
  state: TrainState,
  source: datasets.Source,
  *,
  steps_per_epoch: float,
) -> None:
  """Draws the loss curves and, for two latents, the map of the codes."""
  folder = storage.path(workdir) / "figures"
  figures.loss_curves(
    metrics.read_rows(workdir),
    folder / "curves.png",
    steps_per_epoch=steps_per_epoch,
  )
  config = experiment.config
  if config.model.latent_dim != 2:
    return
  variables = state_lib.eval_variables(config, state)
  model = trained_model.TrainedModel(
    experiment, storage.path(workdir), int(state.step), variables
  )
  codes, labels = model.first_codes(source, _SCATTER)
  classes = source.label_shape == ()
  figures.latent_scatter(
    codes,
    labels if classes else None,
    folder / "latents.png",
    class_names=experiment.splits.label_names if classes else None,
    standard_normal=quantiles.has_standard_prior(config),
  )
  # What a code decodes to must not depend on a label too.
  if config.model.condition == "none":
    manifold(model, codes, folder / "manifold.png")


def manifold(
  model: trained_model.TrainedModel,
  codes: np.ndarray | None,
  path: storage.Path,
  *,
  rows: int = _MANIFOLD_ROWS,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws what a grid of two latents decodes to.

  Args:
    model: with two latents.
    codes: see `quantiles.ticks`.
    path: of the picture.
    rows: and columns.

  Returns:
    Codes [n 2], row by row from the top left, and images [n h w c].
  """
  z1, z2 = quantiles.ticks(model.config, codes, rows)
  grid = quantiles.grid(z1, z2)
  images = model.decode(grid)
  figures.manifold(images, path, z1=z1, z2=z2[::-1])
  return grid, images
