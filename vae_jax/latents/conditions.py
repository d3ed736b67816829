"""The label of each image or code, which conditional models read.

A label of one's choice is a class by its name or index, `7` or `cat`, or
attributes: `Smiling`, `Smiling,Male=0` or {"Smiling": 1, "Male": 0}, of which
those not named are 0, or what they were where there is a label to change.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import datasets, errors
from vae_jax.training.experiment import Experiment

Labels = Integer[np.ndarray, "n ..."]


def is_conditional(config: ConfigDict) -> bool:
  """Returns whether the model reads labels."""
  return config.model.condition != "none"


def names(experiment: Experiment) -> tuple[str, ...]:
  """Returns the names of classes or attributes; numbers if they have none."""
  known = experiment.splits.label_names
  return known or tuple(map(str, range(experiment.config.data.num_labels)))


def names_of(experiment: Experiment, label: Labels | None) -> tuple[str, ...]:
  """Returns the names of the classes or attributes of a split's labels; numbers
  if they have none, and () without labels."""
  if label is None:
    return ()
  count = int(label.max()) + 1 if label.ndim == 1 else label.shape[1]
  return experiment.splits.label_names or tuple(map(str, range(count)))


def unconditional(what: str, value: Any) -> ConfigError:
  """Returns the error of a label for a model that reads none."""
  return ConfigError(
    f"{what} is {value!r}, but config.model.condition is 'none': this model "
    "was trained without labels."
  )


def labels(
  experiment: Experiment, given: Any, count: int, *, of: str = "images"
) -> Labels | None:
  """Returns the labels of `count` images or codes; None for a model that
  reads none.

  Args:
    experiment: of the model.
    given: one label of one's choice for all, or an array [n] of classes by
      index or name, or [n a] of attributes.
    count: n.
    of: what has the labels, for messages.

  Raises:
    ConfigError: a conditional model lacks a label, or knows none like it.
  """
  config = experiment.config
  condition, known = config.model.condition, config.data.num_labels
  if condition == "none":
    if isinstance(given, str | int | Mapping):
      raise unconditional("label", given)
    return None
  if isinstance(given, str | Mapping):
    return np.repeat(chosen(experiment, given)[None], count, axis=0)
  shape, last = (count,), known - 1
  if condition == "attributes":
    shape, last = (count, known), 1
  what = f"config.model.condition is {condition!r}"
  if given is None:
    raise ConfigError(
      f"{what}: the {of} need a label each, integers {list(shape)} from 0 to "
      f"{last}, or one for all by name."
    )
  array = np.asarray(given)
  if array.dtype.kind == "U" and array.ndim == 1 and condition == "label":
    array = np.array([chosen(experiment, name) for name in array.tolist()])
  if array.dtype.kind in "iub" and array.shape == shape[1:]:
    array = np.broadcast_to(array, shape)
  if array.dtype.kind not in "iub" or array.shape != shape:
    raise ConfigError(
      f"{what}: the labels of the {of} are {array.dtype} {list(array.shape)}; "
      f"they must be integers {list(shape)} from 0 to {last}."
    )
  wrong = np.argwhere((array < 0) | (array > last))
  if len(wrong):
    at = tuple(map(int, wrong[0]))
    raise ConfigError(
      f"The label of {of} number {at[0]} is {array[at]}; it must be from 0 to "
      f"{last}."
    )
  return array.astype(np.int32)


def chosen(
  experiment: Experiment,
  given: Any,
  base: Integer[np.ndarray, " a"] | None = None,
) -> Integer[np.ndarray, "..."]:
  """Returns the label of one's choice: a class id [], or attributes [a].

  Args:
    experiment: of the model.
    given: see the module.
    base: attributes of which the named ones change; None = all 0.

  Raises:
    ConfigError: there is no such class or attribute.
  """
  config = experiment.config
  try:
    known = names(experiment)
  except errors.DataError as error:
    raise ConfigError(
      f"The label is {given!r}, which is looked up among the names of the data "
      f"set: {error}"
    ) from error
  if config.model.condition == "label":
    if str(given) in known:
      return np.array(known.index(str(given)), np.int32)
    if str(given).isdecimal() and int(given) < config.data.num_labels:
      return np.array(int(given), np.int32)
    raise ConfigError(
      f"The label is {given!r}; it must be a class of {config.data.name}: "
      f"{', '.join(known[:20])}{', ...' if len(known) > 20 else ''}, or its "
      f"index, 0 to {config.data.num_labels - 1}."
    )
  label = np.zeros(len(known), np.int32) if base is None else base.copy()
  if not isinstance(given, Mapping):
    words = [part.partition("=") for part in str(given).split(",")]
    given = {name.strip(): value or "1" for name, _, value in words}
  for name, value in given.items():
    if name not in known:
      raise ConfigError(
        f"The attribute is {name!r}, which {config.data.name} does not have"
        f"{errors.suggest(name, known, most=len(known))}."
      )
    if str(value) not in ("0", "1"):
      raise ConfigError(
        f"The attribute {name} is {value}; as a condition it must be 0 or 1."
      )
    label[known.index(name)] = int(value)
  return label


def of_samples(
  experiment: Experiment,
  count: int,
  given: Any = None,
  *,
  source: datasets.Source | None = None,
) -> Labels | None:
  """Returns the labels of `count` samples; None for a model that reads none.

  Args:
    experiment: of the model.
    count: number of samples.
    given: see `labels`; None = the classes in turn, or the attributes of the
      first images of a split.
    source: that split; None = validation.

  Raises:
    ConfigError: see `labels`; or the model reads none, and one is given.
  """
  config = experiment.config
  if not is_conditional(config):
    if given is not None:
      raise unconditional("label", given)
    return None
  if given is not None:
    return labels(experiment, given, count, of="samples")
  if config.model.condition == "label":
    return (np.arange(count) % config.data.num_labels).astype(np.int32)
  source = source or experiment.source("validation")
  return source.fetch(np.arange(count) % len(source))["label"]
