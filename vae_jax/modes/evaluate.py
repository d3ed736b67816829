"""`--mode=evaluate`: all that a config asks to know of a trained model."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.config import ConfigError, reason
from vae_jax.data import datasets, errors, ground_truth, preparation
from vae_jax.data.batch import Batch
from vae_jax.evaluate import (
  bound,
  diagnostics,
  disentanglement,
  features,
  fidelity,
  likelihood,
  per_example,
)
from vae_jax.runtime import devices, distributed, storage
from vae_jax.training import (
  experiment,
  metrics,
  restore,
  setup,
  step,
)
from vae_jax.training import state as state_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained model and the split that it is evaluated on.

  Attributes:
    experiment: of the run.
    variables: replicated parameters and model state.
    source: the split.
    state: host copy of the checkpoint.
    folder: of pictures and results; None in all processes but the first,
      which writes.
  """

  experiment: Experiment
  variables: Any
  source: datasets.Source
  state: TrainState
  folder: storage.Path | None

  @property
  def config(self) -> ConfigDict:
    """The resolved config."""
    return self.experiment.config


Part = Callable[[Model], dict[str, Any]]

# What the numbers of an evaluation depend on, beside the run.
_CONTEXT = ("step", "checkpoint", "seed", "data_split", "batch_size")


def evaluate(config: ConfigDict, workdir: str) -> dict[str, Any]:
  """Evaluates a run on `config.eval.split`: its newest checkpoint, or its
  best one, as `config.eval.checkpoint` says.

  Writes `<workdir>/eval/<split>.json` and returns what it wrote: the means of
  all terms in nats per image, bits/dim, what else `config.eval` asks for, and
  what the numbers depend on. A part that cannot be made is named under
  "not_made" with its reason, and the others are made. Parts that an earlier
  evaluation of the same checkpoint made with the same settings are kept.

  Raises:
    ConfigError: there is no run.
  """
  model = _open(config, workdir)
  split = config.eval.split
  parts, not_made = _asked_for(model.experiment)
  result = {
    **metrics.finite(_bound(model)),
    "split": split,
    "data": model.experiment.splits.name,
    "data_split": model.experiment.splits.split_strings[split],
    "step": int(model.state.step),
    "checkpoint": config.eval.checkpoint,
    "seed": config.eval.seed,
    # Statistics of a batch, as a total correlation, depend on it.
    "batch_size": devices.round_up(config.eval.batch_size),
    "objective": config.objective.name,
    "likelihood": config.model.likelihood.name,
    "binarization": config.data.binarization,
    "dequantization": config.data.dequantization,
    "weights": "averaged" if config.optim.ema_decay else "last",
  }
  distributed.agree("the parts of the evaluation", {"parts": list(parts)})
  result = _earlier(model, f"{split}.json", result) | result
  for name, part in parts.items():
    _write(model, f"{split}.json", result)
    try:
      result.update(metrics.finite(part(model)))
    except ConfigError as error:
      if jax.process_count() > 1 and isinstance(error, errors.DataError):
        raise  # Of the disk of one host: the others are in the middle of it.
      not_made[name] = str(error)
    except Exception as error:
      if jax.process_count() > 1:
        raise  # The others may be in the middle of it.
      # Out of memory, or a defect: no reason to lose hours of other parts.
      logging.exception("No %s", name)
      not_made[name] = f"{type(error).__name__}: {reason(error)}"
  distributed.agree("the end of the evaluation", {"not made": not_made})
  for name, why in not_made.items():
    logging.warning("No %s: %s", name, why)
  if not_made:
    result["not_made"] = not_made
  _write(model, f"{split}.json", result)
  return result


def _write(model: Model, name: str, content: Any) -> None:
  if model.folder is not None:
    storage.write_json(model.folder / name, content)


def _earlier(
  model: Model, name: str, context: dict[str, Any]
) -> dict[str, Any]:
  """Returns what an earlier evaluation wrote, if all that its numbers depend
  on is the same."""
  if model.folder is None or not (model.folder / name).exists():
    return {}
  earlier = json.loads((model.folder / name).read_text())
  earlier.pop("not_made", None)
  same = all(earlier.get(k) == context[k] for k in _CONTEXT)
  return earlier if same else {}


def _open(config: ConfigDict, workdir: str) -> Model:
  opened = experiment.build(config, setup.open_splits(config))
  best = config.eval.checkpoint == "best"
  state = restore.load_state(workdir, best=best, experiment=opened)
  source = distributed.lead_first(
    lambda: opened.source(config.eval.split), "decoding images"
  )
  distributed.agree(
    "the evaluation",
    {
      "the checkpoint's step": int(state.step),
      **distributed.data_facts("the images", source),
    },
  )
  return Model(
    experiment=opened,
    variables=devices.replicate(state_lib.eval_variables(config, state)),
    source=source,
    state=state,
    folder=storage.path(workdir) / "eval" if devices.is_lead() else None,
  )


def _asked_for(
  experiment: Experiment,
) -> tuple[dict[str, Part], dict[str, str]]:
  """Returns the parts beyond the bound by name, and those of them of which it
  is known at once why they cannot be made."""
  config = experiment.config
  parts: dict[str, Part] = {}
  not_made = {}
  if config.eval.importance_samples:
    parts["likelihood"] = _likelihood
  if config.eval.latents:
    parts["latents"] = _latents
  if config.eval.disentanglement:
    parts["disentanglement"] = _disentanglement
  if config.eval.fidelity:
    try:
      extractor = features.build(config.eval.features, experiment.image_shape)
      parts["fidelity"] = functools.partial(_fidelity, extractor=extractor)
    except ConfigError as error:
      not_made["fidelity"] = str(error)
  return parts, not_made


def _bound(model: Model) -> dict[str, Any]:
  config = model.config
  means = bound.mean_terms(
    step.make_eval_step(model.experiment),
    model.variables,
    model.source,
    batch_size=config.eval.batch_size,
    step=int(model.state.step),
    seed=config.eval.seed,
    progress=True,
  )
  return {**means, **bound.bits(model.experiment, means)}


def _likelihood(model: Model) -> dict[str, Any]:
  config = model.config
  found = likelihood.importance_nll(
    model.experiment,
    model.variables,
    model.source,
    num_samples=config.eval.importance_samples,
    progress=True,
  )
  # Bits per dimension are of the tighter of the two bounds, under its name.
  bits = bound.bits(model.experiment, {"neg_elbo": found["nll"]})
  return {**found, "nll_bits_per_dim": bits["bits_per_dim"]}


def _latents(model: Model) -> dict[str, Any]:
  report = diagnostics.latent_report(
    model.experiment, model.variables, model.source, model.folder
  )
  # The bound's own rate and distortion are of the same draws.
  per_dimension = {k: v for k, v in report.items() if isinstance(v, list)}
  _write(
    model,
    f"{model.config.eval.split}_latents.json",
    metrics.finite(per_dimension),
  )
  return {
    k: report[k]
    for k in (
      "active_units",
      "mutual_information",
      "mutual_information_examples",
      "marginal_kl",
    )
  }


def _disentanglement(model: Model) -> dict[str, Any]:
  config = model.config
  found = ground_truth.read(
    preparation.builder(config.data),
    model.experiment.splits.split_strings[config.eval.split],
  )

  def code(vae: models.Vae, batch: Batch) -> jax.Array:
    return jnp.concatenate(vae.encode(batch.image).mean, axis=-1)

  codes = per_example.rows(
    model.experiment, code, model.variables, model.source
  )
  try:
    scores = disentanglement.evaluate_codes(
      np.concatenate(list(codes)), found.values, found.names, model.folder
    )
  except ValueError as error:
    # Too few examples, or factors that do not vary among them.
    raise ConfigError(str(error)) from error
  _write(
    model,
    f"{config.eval.split}_disentanglement.json",
    metrics.finite(scores),
  )
  # The matrices, and the names of their columns, are in that file.
  kept = {
    name: value
    for name, value in scores.items()
    if name != "factors" and not _is_matrix(value)
  }
  return {"disentanglement": {**kept, "num_factors": len(scores["factors"])}}


def _is_matrix(value: Any) -> bool:
  return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _fidelity(model: Model, *, extractor: features.Extractor) -> dict[str, Any]:
  config = model.config
  count = min(config.eval.num_samples, len(model.source))

  def reconstruct(vae: models.Vae, batch: Batch) -> jax.Array:
    mean = vae.decode(vae.encode(batch.image).mean).mean
    return jnp.round(mean * 255).astype(jnp.uint8)

  def first(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    left = count
    for batch in images:
      yield batch[:left]
      left -= len(batch)
      if left <= 0:
        break

  index = np.arange(count)
  chunks = np.array_split(index, -(-count // config.eval.batch_size))
  labels = None
  if config.model.condition != "none":
    # Of the reference images: classes in other shares would count as a fault.
    labels = model.source.fetch(index)["label"]
  found = fidelity.evaluate_fidelity(
    extractor,
    (model.source.fetch(chunk)["image"] for chunk in chunks),
    per_example.samples(model.experiment, model.variables, count, labels),
    first(
      per_example.rows(
        model.experiment, reconstruct, model.variables, model.source
      )
    ),
    seed=config.eval.seed,
    reference_split=config.eval.split,
    num_images=3 * count,
    progress=True,
  )
  sampling = {
    "sample_seed": config.sample.seed,
    "sample_temperature": config.sample.temperature,
  }
  return {"fidelity": {**found, **sampling}}


# Of the numbers in a table, those in nats per image.
