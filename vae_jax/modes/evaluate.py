"""Evaluates a trained model on held-out images, to <workdir>/eval/."""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.config import ConfigError, exits, reason
from vae_jax.data import datasets, errors, ground_truth, preparation
from vae_jax.data.batch import Batch
from vae_jax.distributions import pixels
from vae_jax.evaluate import bound, diagnostics, features, fidelity
from vae_jax.latents import density as density_lib
from vae_jax.latents import likelihood, per_example, trained_model
from vae_jax.latents.trained_model import TrainedModel
from vae_jax.modes import evaluate_table, other_data
from vae_jax.runtime import devices, distributed, storage
from vae_jax.training import batch_statistics, memory, metrics, setup, step

NEEDS = "run"
SHARED = True
OTHER_DATA = True

# Of pictures and results; None in all processes but the first, which writes.
Folder = storage.Path | None
# Returns numbers by name.
Part = Callable[[TrainedModel, datasets.Source, Folder], dict[str, Any]]

# Results of an earlier evaluation are kept if these are the same.
_CONTEXT = ("step", "checkpoint", "seed", "data", "data_split", "batch_size")


def run(config: ConfigDict, workdir: str, *, density: str | None = None) -> str:
  """Evaluates a run; returns the results as a table.

  Args:
    density: see `evaluate`.
  """
  with memory.explain_oom(config, evaluating=True):
    return evaluate_table.table(evaluate(config, workdir, density=density))


def evaluate(
  config: ConfigDict, workdir: str, *, density: str | None = None
) -> dict[str, Any]:
  """Evaluates the checkpoint `config.eval.checkpoint` on `config.eval.split`.

  Writes `<workdir>/eval/<split>.json`, for other data than those of the
  training in a folder of its own; "trained_on" then names the latter. Parts
  that an earlier evaluation of the same checkpoint computed with the same
  settings are kept.

  A fitted density in the place of p(z) leaves the model a proper one, whose
  rate is E[log q(z | x) - log p(z)]: bound, likelihood, latents and samples are
  then those of that model, in a folder `<density>` of their own. The terms are
  those of `elbo`, whatever the loss of the training.

  Args:
    density: see `latents.density`. None = the prior, but samples are from
      the density that `latents.density.choose` returns.

  Returns:
    The content of that file: the means of all terms in nats per image, bits
    per dimension, the other parts that `config.eval` names, and the settings
    that the numbers depend on. "not_made" holds the reasons for parts that
    could not be computed.

  Raises:
    ConfigError: there is no run.
  """
  drawn_from = density_lib.choose(config, density)
  density = density or density_lib.PRIOR
  model, source = _open(config, workdir)
  trained_on = other_data.trained_on(model)
  folder = other_data.folder(model, "eval") if devices.is_lead() else None
  base, model = model, _with_density(model, density)
  if density != density_lib.PRIOR:
    folder = folder and folder / density
  split = config.eval.split
  parts, not_made = _parts(base, drawn_from)
  result = {
    **metrics.finite(_bound(model, source)),
    "split": split,
    "data": model.experiment.splits.name,
    "data_split": model.experiment.splits.words(split),
    **({"trained_on": trained_on} if trained_on else {}),
    "step": model.step,
    "checkpoint": config.eval.checkpoint,
    "seed": config.eval.seed,
    # Statistics of a batch, such as a total correlation, depend on it.
    "batch_size": devices.round_up(config.eval.batch_size),
    "objective": config.objective.name,
    "likelihood": config.model.likelihood.name,
    "density": density,
    "binarization": config.data.binarization,
    "dequantization": config.data.dequantization,
    "weights": "averaged" if config.optim.ema_decay else "last",
  }
  distributed.agree("the parts of the evaluation", {"parts": list(parts)})
  result = _earlier(folder, f"{split}.json", result) | result
  for name, part in parts.items():
    _write(folder, f"{split}.json", result)
    try:
      result.update(metrics.finite(part(model, source, folder)))
    except ConfigError as error:
      if jax.process_count() > 1 and isinstance(error, errors.DataError):
        raise  # One host's disk failed while the others compute this part.
      not_made[name] = str(error)
    except Exception as error:
      if jax.process_count() > 1:
        raise  # The others may be computing this part.
      if exits.exit_code(error) == exits.EXIT_STORAGE:
        raise  # Nothing else can be written either.
      # Out of memory, or a defect: do not lose hours of other parts.
      logging.exception("No %s", name)
      not_made[name] = f"{type(error).__name__}: {reason(error)}"
  distributed.agree("the end of the evaluation", {"not made": not_made})
  for name, why in not_made.items():
    logging.warning("No %s: %s", name, why)
  if not_made:
    result["not_made"] = not_made
  _write(folder, f"{split}.json", result)
  return result


def _open(
  config: ConfigDict, workdir: str
) -> tuple[TrainedModel, datasets.Source]:
  """Opens the run and the split in all processes."""
  splits = setup.open_splits(config)
  model = trained_model.open_run(config, workdir, splits=splits)
  source = distributed.lead_first(
    lambda: model.experiment.source(config.eval.split), "decoding images"
  )
  distributed.agree(
    "the evaluation",
    {
      "the checkpoint's step": model.step,
      **distributed.data_facts("the images", source),
    },
  )
  return model, source


def _with_density(model: TrainedModel, name: str) -> TrainedModel:
  """Returns `density.applied`, the same in all processes."""
  if name == density_lib.PRIOR:
    return model
  may_fit = not other_data.trained_on(model)
  fitted = distributed.lead_first(
    lambda: density_lib.applied(model, name, may_fit=may_fit),
    "fitting a density",
  )
  distributed.agree("the density", {"its digest": fitted.digest()})
  return fitted


def _parts(
  model: TrainedModel, density: str
) -> tuple[dict[str, Part], dict[str, str]]:
  """Returns the parts beyond the bound by name, and the reasons why others
  cannot be computed."""
  config, not_made = model.config.eval, {}
  wanted = {
    "likelihood": (config.importance_samples, _likelihood),
    "latents": (config.latents, _latents),
    "disentanglement": (config.disentanglement, _disentanglement),
  }
  parts = {name: part for name, (on, part) in wanted.items() if on}
  if config.fidelity:
    try:
      extractor = features.build(config.features, model.image_shape)
      parts["fidelity"] = functools.partial(
        _fidelity, extractor=extractor, base=model, density=density
      )
    except ConfigError as error:
      not_made["fidelity"] = str(error)
  return parts, not_made


def _write(folder: Folder, name: str, content: Any) -> None:
  if folder is not None:
    storage.write_json(folder / name, content)


def _earlier(
  folder: Folder, name: str, context: dict[str, Any]
) -> dict[str, Any]:
  """Returns the results of an earlier evaluation, {} in another context."""
  if folder is None or not (folder / name).exists():
    return {}
  with storage.parsing(folder / name, "delete it, and evaluate again"):
    earlier = json.loads((folder / name).read_text())
    earlier.pop("not_made", None)
    same = all(earlier.get(k) == context[k] for k in _CONTEXT)
  return earlier if same else {}


def _bound(model: TrainedModel, source: datasets.Source) -> dict[str, Any]:
  means = bound.mean_terms(
    step.make_eval_step(model.experiment),
    model.replicated,
    source,
    batch_size=model.config.eval.batch_size,
    step=model.step,
    seed=model.config.eval.seed,
    independent=lambda: (
      not batch_statistics.has(model.experiment, model.variables, source)
    ),
    progress=True,
  )
  return {**means, **bound.bits(model.experiment, means)}


def _likelihood(
  model: TrainedModel, source: datasets.Source, folder: Folder
) -> dict[str, Any]:
  del folder
  estimate = likelihood.importance_nll(
    model.experiment,
    model.replicated,
    source,
    num_samples=model.config.eval.importance_samples,
    progress=True,
  )
  # In the same unit as the bits of the looser bound, under another name.
  bits = bound.bits(model.experiment, {"neg_elbo": estimate["nll"]})
  return {**estimate, "nll_bits_per_dim": bits["bits_per_dim"]}


def _latents(
  model: TrainedModel, source: datasets.Source, folder: Folder
) -> dict[str, Any]:
  report = diagnostics.latent_report(
    model.experiment, model.replicated, source, folder
  )
  lists = {k: v for k, v in report.items() if isinstance(v, list)}
  name = f"{model.config.eval.split}_latents.json"
  _write(folder, name, metrics.finite(lists))
  # Rate and distortion are left out, because the bound reports the same draws'.
  names = ("active_units", "mutual_information", "mutual_information_examples")
  return {k: report[k] for k in (*names, "marginal_kl")}


def _disentanglement(
  model: TrainedModel, source: datasets.Source, folder: Folder
) -> dict[str, Any]:
  # It imports scikit-learn, which takes as long as all else together.
  from vae_jax.evaluate import disentanglement

  split = model.config.eval.split
  factors = ground_truth.read(
    preparation.builder(model.config.data), model.experiment.splits.words(split)
  )

  def code(vae: models.Vae, batch: Batch) -> jax.Array:
    return jnp.concatenate(vae.encode(batch.image).mean, axis=-1)

  codes = per_example.rows(model.experiment, code, model.replicated, source)
  try:
    scores = disentanglement.evaluate_codes(
      np.concatenate(list(codes)), factors.values, factors.names, folder
    )
  except ValueError as error:
    # Too few examples, or factors that do not vary among them.
    raise ConfigError(str(error)) from error
  _write(folder, f"{split}_disentanglement.json", metrics.finite(scores))
  # That file alone holds the matrices, and the names of their columns.
  numbers = {k: v for k, v in scores.items() if np.ndim(v) < 2}
  numbers["num_factors"] = len(numbers.pop("factors"))
  return {"disentanglement": numbers}


def _fidelity(
  model: TrainedModel,
  source: datasets.Source,
  folder: Folder,
  *,
  extractor: features.Extractor,
  base: TrainedModel,
  density: str,
) -> dict[str, Any]:
  del folder
  drawn = _with_density(base, density)
  config, variables = model.config, model.replicated
  count = min(config.eval.num_samples, len(source))

  def reconstruct(vae: models.Vae, batch: Batch) -> jax.Array:
    return pixels.to_uint8(vae.decode(vae.encode(batch.image).mean).mean)

  index = np.arange(count)
  chunks = np.array_split(index, -(-count // config.eval.batch_size))
  labels = None
  if config.model.condition != "none":
    # Of the reference images, because other shares of the classes would count
    # as a fault.
    labels = source.fetch(index)["label"]
  scores = fidelity.evaluate_fidelity(
    extractor,
    (source.fetch(chunk)["image"] for chunk in chunks),
    per_example.samples(drawn.experiment, drawn.replicated, count, labels),
    per_example.rows(
      model.experiment, reconstruct, variables, datasets.First(source, count)
    ),
    seed=config.eval.seed,
    reference_split=config.eval.split,
    num_images=3 * count,
    progress=True,
  )
  sampling = {
    "sample_seed": config.sample.seed,
    "sample_temperature": config.sample.temperature,
    "density": density,
  }
  return {"fidelity": {**scores, **sampling}}
