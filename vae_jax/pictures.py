"""What a run shows of itself: the model's outputs, drawn."""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures, latents, metrics, models, trained
from vae_jax.train_step import TrainState

_RECONSTRUCTIONS = 30
_SAMPLE_ROWS = 10
_MANIFOLD_ROWS = 20
_SCATTER = 10_000
# Images encoded or decoded at a time.
_CHUNK = 500


def reconstructions(
  config: ConfigDict, state: TrainState, source: Any, path: pathlib.Path
) -> np.ndarray:
  """Draws the split's first images above their reconstructions."""
  vae, variables = trained.model_for_use(config, state)
  index = np.arange(min(_RECONSTRUCTIONS, len(source)), dtype=np.int32)
  data = source.fetch(index)
  image = latents.as_model_input(
    data["image"], index, config.eval.seed, mode=config.data.binarization
  )
  given = models.given(label=data.get("label"))
  decoded = latents.reconstruct(vae, {**variables, **given}, image)
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
  config: ConfigDict, state: TrainState, source: Any, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
  """Draws 10 x 10 decoded prior samples; returns the picture and them.

  With ten classes a column holds one class.
  """
  vae, variables = trained.model_for_use(config, state)
  label = sample_labels(config, source, _SAMPLE_ROWS**2)
  images = np.asarray(
    latents.sample(
      vae,
      {**variables, **models.given(label=label)},
      np.arange(_SAMPLE_ROWS**2, dtype=np.int32),
      config.sample.seed,
      config.sample.temperature,
    )
  )
  return figures.image_grid(images, path, columns=_SAMPLE_ROWS), images


def validation(
  config: ConfigDict,
  state: TrainState,
  source: Any,
  folder: pathlib.Path,
  writer: metrics.Writer,
) -> None:
  """Draws reconstructions and samples, to files and to TensorBoard."""
  step = int(state.step)
  for name, picture in (
    (
      "reconstructions",
      reconstructions(config, state, source, folder / "reconstructions.png"),
    ),
    ("samples", samples(config, state, source, folder / "samples.png")[0]),
  ):
    writer.image(step, name, picture)


def at_the_end(
  config: ConfigDict,
  workdir: str,
  state: TrainState,
  source: Any,
  *,
  label_names: tuple[str, ...] | None,
  steps_per_epoch: float,
) -> None:
  """Draws the loss curves and, for two latents, the map of the codes."""
  folder = pathlib.Path(workdir) / "figures"
  figures.loss_curves(
    metrics.read_rows(workdir),
    folder / "curves.png",
    steps_per_epoch=steps_per_epoch,
  )
  if config.model.latent_dim == 2:
    codes = _scatter(config, state, source, label_names, folder / "latents.png")
    # What a code decodes to must not depend on a label too.
    if config.model.condition == "none":
      _manifold(config, state, codes, folder / "manifold.png")


def _has_standard_prior(config: ConfigDict) -> bool:
  return (
    config.model.prior.name == "standard_normal"
    and config.model.posterior.name != "deterministic"
  )


def _scatter(
  config: ConfigDict,
  state: TrainState,
  source: Any,
  label_names: tuple[str, ...] | None,
  path: pathlib.Path,
) -> np.ndarray:
  vae, variables = trained.model_for_use(config, state)
  codes, labels = [], []
  for begin in range(0, min(_SCATTER, len(source)), _CHUNK):
    index = np.arange(begin, min(begin + _CHUNK, len(source)), dtype=np.int32)
    data = source.fetch(index)
    image = latents.as_model_input(
      data["image"], index, config.eval.seed, mode=config.data.binarization
    )
    given = models.given(label=data.get("label"))
    codes.append(
      np.asarray(latents.encode(vae, {**variables, **given}, image)[0])
    )
    labels.append(data.get("label"))
  classes = source.label_shape == ()
  figures.latent_scatter(
    np.concatenate(codes),
    np.concatenate(labels) if classes else None,
    path,
    class_names=label_names if classes else None,
    standard_normal=_has_standard_prior(config),
  )
  return np.concatenate(codes)


def _manifold(
  config: ConfigDict, state: TrainState, codes: np.ndarray, path: pathlib.Path
) -> None:
  """Draws what a grid decodes to: quantiles of N(0, I), where codes should lie,
  or of the codes themselves where there is no such prior."""
  vae, variables = trained.model_for_use(config, state)
  if _has_standard_prior(config):
    z1 = z2 = latents.prior_quantiles(_MANIFOLD_ROWS)
  else:
    levels = (np.arange(_MANIFOLD_ROWS) + 0.5) / _MANIFOLD_ROWS
    z1, z2 = np.quantile(codes, levels, axis=0).T
  grid = latents.grid(z1, z2)
  images = latents.decode(vae, variables, (jnp.asarray(grid),))
  figures.manifold(np.asarray(images), path, z1=z1, z2=z2[::-1])
