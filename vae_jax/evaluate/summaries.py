"""What a run shows of itself: the model's outputs, drawn."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures, models
from vae_jax.latents import apply, trained_model
from vae_jax.runtime import storage
from vae_jax.training import metrics
from vae_jax.training.experiment import Experiment
from vae_jax.training.step import TrainState

_RECONSTRUCTIONS = 30
_SAMPLE_ROWS = 10
_MANIFOLD_ROWS = 20
_SCATTER = 10_000
# Images encoded or decoded at a time.
_CHUNK = 500


def reconstructions(
  experiment: Experiment, state: TrainState, source: Any, path: storage.Path
) -> np.ndarray:
  """Draws the split's first images above their reconstructions."""
  config, vae = experiment.config, experiment.vae_eval
  variables = trained_model.eval_variables(config, state)
  index = np.arange(min(_RECONSTRUCTIONS, len(source)), dtype=np.int32)
  data = source.fetch(index)
  image = apply.as_model_input(
    data["image"], index, config.eval.seed, mode=config.data.binarization
  )
  given = models.given(label=data.get("label"))
  decoded = apply.reconstruct(vae, {**variables, **given}, image)
  return figures.reconstruction_grid(
    np.asarray(image), np.asarray(decoded), path, columns=15
  )


def sample_labels(config: ConfigDict, source: Any, count: int) -> Any:
  """Returns what samples of a conditional model are given, None for others:
  the classes in turn, or the attributes of the split's first images."""
  if config.model.condition == "none":
    return None
  if config.model.condition == "label":
    return (np.arange(count) % config.data.num_labels).astype(np.int32)
  return source.fetch(np.arange(count) % len(source))["label"]


def samples(
  experiment: Experiment, state: TrainState, source: Any, path: storage.Path
) -> tuple[np.ndarray, np.ndarray]:
  """Draws 10 x 10 decoded prior samples; returns the picture and them.

  With ten classes a column holds one class.
  """
  config, vae = experiment.config, experiment.vae_eval
  variables = trained_model.eval_variables(config, state)
  label = sample_labels(config, source, _SAMPLE_ROWS**2)
  images = np.asarray(
    apply.sample(
      vae,
      {**variables, **models.given(label=label)},
      np.arange(_SAMPLE_ROWS**2, dtype=np.int32),
      config.sample.seed,
      config.sample.temperature,
    )
  )
  return figures.image_grid(images, path, columns=_SAMPLE_ROWS), images


def validation(
  experiment: Experiment,
  state: TrainState,
  source: Any,
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
  source: Any,
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
  variables = trained_model.eval_variables(config, state)
  model = trained_model.Trained(
    experiment, storage.path(workdir), int(state.step), variables
  )
  codes, labels = first_codes(model, source, _SCATTER)
  classes = source.label_shape == ()
  figures.latent_scatter(
    codes,
    labels if classes else None,
    folder / "latents.png",
    class_names=experiment.splits.label_names if classes else None,
    standard_normal=has_standard_prior(config),
  )
  # What a code decodes to must not depend on a label too.
  if config.model.condition == "none":
    manifold(model, codes, folder / "manifold.png")


def first_codes(
  model: trained_model.Trained, source: Any, count: int
) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns the codes [n d] of a split's first images, at most `count`, and
  their labels, None where there are none."""
  codes, labels = [], []
  for begin in range(0, min(count, len(source)), _CHUNK):
    end = min(begin + _CHUNK, count, len(source))
    index = np.arange(begin, end, dtype=np.int32)
    data = source.fetch(index)
    label = data.get("label")
    codes.append(model.encode(model.as_input(data["image"], index), label))
    labels.append(label)
  known = labels[0] is not None
  return np.concatenate(codes), np.concatenate(labels) if known else None


def has_standard_prior(config: ConfigDict) -> bool:
  """Whether codes should lie as N(0, I) has them."""
  return (
    config.model.prior.name == "standard_normal"
    and config.model.posterior.name != "deterministic"
  )


def ticks(
  config: ConfigDict, codes: np.ndarray | None, count: int
) -> np.ndarray:
  """Returns `count` values at which each latent is shown, ascending, [d count]:
  quantiles of N(0, 1), where codes should lie, or of the codes themselves
  where there is no such prior.

  Args:
    config: the resolved config.
    codes: [n d]; not read, so that it may be None, with that prior.
    count: of values.
  """
  if has_standard_prior(config):
    quantiles = apply.prior_quantiles(count)
    return np.tile(quantiles, (config.model.latent_dim, 1))
  return apply.aggregate_quantiles(codes, count)


def manifold(
  model: trained_model.Trained,
  codes: np.ndarray | None,
  path: storage.Path,
  *,
  rows: int = _MANIFOLD_ROWS,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws what a grid of two latents decodes to.

  Args:
    model: with two latents.
    codes: see `ticks`.
    path: of the picture.
    rows: and columns.

  Returns:
    Codes [n 2], row by row from the top left, and images [n h w c].
  """
  z1, z2 = ticks(model.config, codes, rows)
  grid = apply.grid(z1, z2)
  images = model.decode(grid)
  figures.manifold(images, path, z1=z1, z2=z2[::-1])
  return grid, images
