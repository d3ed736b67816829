"""A trained model opened for use: images to codes and back.

Everything is computed in chunks of one size, so that each function is compiled
once and a code decodes to the same bits at every position of an array.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Integer, Shaped, UInt8
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.latents import apply
from vae_jax.runtime import devices, storage
from vae_jax.training import (
  contracts,
  experiment,
  parts,
  restore,
  running_statistics,
)
from vae_jax.training import state as state_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState

CHUNK = 64  # Images encoded or decoded at a time.
_FETCHED = 500  # Images read from a source at a time.


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
  """A run's checkpoint, ready to encode and decode."""

  experiment: Experiment
  workdir: storage.Path
  step: int  # optimizer steps of the checkpoint
  variables: Any  # its parameters and model state
  chunk: int = CHUNK

  @property
  def config(self) -> ConfigDict:
    """The resolved config."""
    return self.experiment.config

  @property
  def vae(self) -> models.Vae:
    """The model in evaluation mode."""
    return self.experiment.vae_eval

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of the images."""
    return self.experiment.image_shape

  @functools.cached_property
  def replicated(self) -> Any:
    """The variables on all devices, for functions that are mapped over them."""
    return devices.replicate(self.variables)

  def as_input(
    self, image: UInt8[np.ndarray, "n h w c"], index: Int32[np.ndarray, " n"]
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Returns images as the model's input in evaluation: binarized, with the
    keys of their positions in the split, if the model was trained so."""
    return np.asarray(
      apply.as_model_input(
        image, index, self.config.eval.seed, mode=self.config.data.binarization
      )
    )

  def encode(
    self,
    image: UInt8[np.ndarray, "n h w c"],
    label: Integer[np.ndarray, "n ..."] | None = None,
  ) -> Float32[np.ndarray, "n d"]:
    """Returns the posterior means of images, as `as_input` returns them.

    Labels are read by conditional models only, here and below.
    """
    return self._in_chunks(
      lambda *args: apply.encode(self.vae, *args)[0], image, label
    )

  def decode(
    self,
    code: Float32[np.ndarray, "n d"],
    label: Integer[np.ndarray, "n ..."] | None = None,
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Returns the means of the likelihood as images."""
    return self._in_chunks(
      lambda variables, code: apply.decode(self.vae, variables, (code,)),
      code,
      label,
    )

  def sample(
    self,
    index: Int32[np.ndarray, " n"],
    label: Integer[np.ndarray, "n ..."] | None = None,
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Returns decoded draws from the prior, by their numbers.

    Seed and temperature are those of `config.sample`. Draw i depends on the
    seed and i alone.
    """
    how = self.config.sample
    return self._in_chunks(
      lambda *args: apply.sample(self.vae, *args, how.seed, how.temperature),
      index,
      label,
    )

  def first_codes(
    self, source: datasets.Source, count: int
  ) -> tuple[Float32[np.ndarray, "n d"], Integer[np.ndarray, "n ..."] | None]:
    """Returns the codes of a split's first images, at most `count`, and their
    labels; None where the split has none."""
    codes, labels = [], []
    total = min(count, len(source))
    for begin in range(0, total, _FETCHED):
      index = np.arange(begin, min(begin + _FETCHED, total), dtype=np.int32)
      data = source.fetch(index)
      labels.append(data.get("label"))
      image = self.as_input(data["image"], index)
      codes.append(self.encode(image, labels[-1]))
    known = labels[0] is not None
    return np.concatenate(codes), np.concatenate(labels) if known else None

  def _check_labels(self, label: np.ndarray | None, count: int) -> None:
    """Raises a ConfigError if a conditional model lacks a label, or has one
    that it was not trained with."""
    condition, known = self.config.model.condition, self.config.data.num_labels
    if condition == "none":
      return
    shape, last = ((count,), known - 1)
    if condition == "attributes":
      shape, last = (count, known), 1
    if label is None or np.shape(label) != shape:
      has = "none" if label is None else f"of shape {list(np.shape(label))}"
      raise ConfigError(
        f"The labels are {has}; config.model.condition is {condition!r}, which "
        f"needs integers of shape {list(shape)}, from 0 to {last}."
      )
    wrong = np.argwhere((label < 0) | (label > last))
    if len(wrong):
      at = wrong[0].tolist()
      raise ConfigError(
        f"label{at} is {label[tuple(at)]}; it must be from 0 to {last}."
      )

  def _in_chunks(
    self,
    function: Callable[[Any, np.ndarray], Any],
    values: np.ndarray,
    label: np.ndarray | None,
  ) -> np.ndarray:
    """Returns function(variables, values), computed in padded chunks."""
    self._check_labels(label, len(values))
    parts = []
    for begin in range(0, len(values), self.chunk):
      rows = slice(begin, begin + self.chunk)
      variables = self.variables
      if label is not None:
        labels = padded(label[rows], self.chunk)
        variables = {**variables, **models.side_inputs(label=labels)}
      results = function(variables, padded(values[rows], self.chunk))
      parts.append(np.asarray(results)[: len(values[rows])])
    return np.concatenate(parts)


def padded(
  values: Shaped[np.ndarray, "n ..."], count: int
) -> Shaped[np.ndarray, "count ..."]:
  """Returns values, padded to `count` with copies of the first."""
  return np.concatenate([values, np.repeat(values[:1], count - len(values), 0)])


def load(
  workdir: str | os.PathLike[str], *, best: bool = False, chunk: int = CHUNK
) -> TrainedModel:
  """Opens the latest checkpoint of a run, or that with the best validation.

  Raises:
    ConfigError: there is no run, or no checkpoint that can be read.
  """
  config = restore.load_config(workdir)
  config.eval.checkpoint = "best" if best else "latest"
  return open_run(config, workdir, chunk=chunk)


def open_run(
  config: ConfigDict,
  workdir: str | os.PathLike[str],
  *,
  chunk: int = CHUNK,
  splits: datasets.Splits | None = None,
) -> TrainedModel:
  """Opens the checkpoint of a run that `config.eval.checkpoint` names.

  Args:
    config: the resolved config.
    workdir: folder or address of the run.
    chunk: see `TrainedModel`.
    splits: the data set; None = opened when it is first asked for.

  Raises:
    ConfigError: there is no run, or no checkpoint that can be read.
  """
  opened = experiment.build(config, splits)
  # They may have changed since the training.
  if any(part.is_own for part in parts.of(opened).values()):
    contracts.check_model(opened)
  best = config.eval.checkpoint == "best"
  state = restore.load_state(
    workdir, best=best, experiment=opened, weights=True
  )
  state = running_statistics.complete(opened, state)
  return of_state(opened, workdir, state, chunk=chunk)


def of_state(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  state: TrainState,
  *,
  chunk: int = CHUNK,
) -> TrainedModel:
  """Returns the model of a state on the host, with averaged weights if it has
  them."""
  return TrainedModel(
    experiment=experiment,
    workdir=storage.path(workdir),
    step=int(state.step),
    variables=state_lib.eval_variables(experiment.config, state),
    chunk=chunk,
  )


def sample_labels(
  config: ConfigDict, source: datasets.Source | None, count: int
) -> Integer[np.ndarray, "n ..."] | None:
  """Returns the labels of samples of a conditional model, None for others.

  They are the classes in turn, or the attributes of the split's first images.
  """
  if config.model.condition == "none":
    return None
  if config.model.condition == "label":
    return (np.arange(count) % config.data.num_labels).astype(np.int32)
  return source.fetch(np.arange(count) % len(source))["label"]
