"""The objects that a config and a data set decide, built once per run."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from vae_jax import models, objectives
from vae_jax.config import ConfigError
from vae_jax.data import cache, datasets
from vae_jax.training import build as build_lib
from vae_jax.training import optim


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """A resolved config, and everything built from it."""

  config: ConfigDict
  objective: objectives.Objective
  vae_train: models.Vae
  vae_eval: models.Vae
  # None for a trained model whose config counts epochs, because its data set
  # is not opened.
  num_steps: int | None
  learning_rate: Callable[[jax.Array | int], Float[Array, ""]]  # of a step
  optimizer: optax.GradientTransformation
  open_splits: Callable[[], datasets.Splits]

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of the images."""
    return tuple(self.config.data.image_shape)

  @property
  def steps_per_epoch(self) -> float:
    """Optimizer steps per pass over the training split."""
    return len(self.splits.train) / self.config.train.batch_size

  @functools.cached_property
  def splits(self) -> datasets.Splits:
    """The data set; opened on first use, so that sampling needs none.

    Raises:
      ConfigError: its images are not of the model's shape.
    """
    splits = self.open_splits()
    if tuple(splits.image_shape) != self.image_shape:
      raise ConfigError(
        f"{splits.name} has images of {list(splits.image_shape)} after crop, "
        f"resize and grayscale, but the model reads {list(self.image_shape)}; "
        "set config.data.crop, resize and grayscale to give that."
      )
    return splits

  def source(self, split: str) -> datasets.Source:
    """Returns the `train`, `validation` or `test` split, or `all` of them one
    after the other, decoded and cached as the config asks.

    Raises:
      DataError: a label is none of a conditional model's classes.
    """
    if split == datasets.ALL:
      return datasets.Joined([self.source(p) for p in datasets.PURPOSES])
    data, splits = self.config.data, self.splits
    source = cache.open_source(getattr(splits, split), data)
    if self.config.model.condition != "label":
      return source
    return datasets.check_labels(source, data.num_labels, splits.name)


def num_steps_of(
  config: ConfigDict, splits: datasets.Splits | None
) -> int | None:
  """Returns the number of optimizer steps; None if the config counts epochs and
  there is no data set."""
  if config.train.num_steps or splits is None:
    return config.train.num_steps or None
  images = round(config.train.num_epochs * len(splits.train))
  return max(1, images // config.train.batch_size)


def build(
  config: ConfigDict,
  splits: datasets.Splits | None = None,
  *,
  num_steps: int | None = None,
) -> Experiment:
  """Builds everything that a resolved config decides.

  Without `splits` the data set is opened when it is first asked for, which
  sampling and decoding never do; without `num_steps` the config decides.

  Raises:
    ConfigError: a name or an argument is unknown, or the parts do not fit.
  """
  shape = build_lib.image_shape(config)
  if num_steps is None:
    num_steps = num_steps_of(config, splits)
  # Without a data set nothing is trained, and no rate is read.
  length = num_steps or 1
  return Experiment(
    config=config,
    objective=objectives.from_config(config),
    vae_train=build_lib.model(config, shape, train=True),
    vae_eval=build_lib.model(config, shape, train=False),
    num_steps=num_steps,
    learning_rate=optim.learning_rate(config, length),
    optimizer=optim.optimizer(config, length),
    open_splits=lambda: splits or datasets.open_splits(config.data),
  )
