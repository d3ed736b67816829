"""The whole schema of a run: every setting, its default, unit and limits.

`default()` is the only place where a setting is born; a file in `configs/`
starts from it and overrides a few lines. The dictionary is locked, so that a
misspelt setting stops the run. Only the `args` nodes are open: they hold the
keyword arguments of what is named beside them and are checked against its
signature in `registry`. Impossible values are refused in `validation`.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

# Where things lie on one machine, how fast or in how much memory they go there,
# or what is evaluated afterwards: a run may go on with other values, since none
# changes a number.
FREE_FIELDS = frozenset(
  {
    "data.dir",
    "data.manual_dir",
    "data.cache",
    "data.cache_dir",
    "data.num_threads",
    "eval.batch_size",
    "eval.checkpoint",
    "eval.disentanglement",
    "eval.features.name",
    "eval.fidelity",
    "eval.importance_samples",
    "eval.latents",
    "eval.num_samples",
    "eval.split",
    "model.remat",
    "sample.seed",
    "sample.temperature",
    "train.compilation_cache_dir",
    "train.log_every_steps",
    "train.max_skips_in_row",
    "train.steps_per_call",
    "checkpoint.every_steps",
    "checkpoint.keep_best",
    "checkpoint.keep_latest",
    "watch.heartbeat_seconds",
    "watch.stall_seconds",
    "watch.start_seconds",
  }
)
# Of these, where things lie on one machine: the only settings in which the
# processes of one job may differ.
MACHINE_FIELDS = frozenset(
  {
    "data.dir",
    "data.manual_dir",
    "data.cache",
    "data.cache_dir",
    "data.num_threads",
    "train.compilation_cache_dir",
  }
)


class ConfigError(ValueError):
  """A setting is wrong; the message is one sentence for the person."""


def _named(name: str, **args: Any) -> dict[str, Any]:
  return {"name": name, "args": ConfigDict(args)}


def default() -> ConfigDict:
  """Returns the locked schema with its defaults."""
  c = ConfigDict()
  c.seed = 0  # of parameters, order of examples and all sampling in training

  c.data = ConfigDict()
  c.data.name = "synthetic_faces"  # TFDS name[/config][:version]
  c.data.dir = ""  # TFDS data dir; "" = $TFDS_DATA_DIR, ~/tensorflow_datasets
  c.data.manual_dir = ""  # folder with CelebA's official files; "" = none
  c.data.train_split = ""  # TFDS split; "" = train without what is held out
  c.data.validation_split = ""  # TFDS split; "" = its own, or end of train
  c.data.test_split = ""  # TFDS split; "" = its own, or end of train
  c.data.label = ""  # feature path, as attributes/Smiling; "" = automatic
  c.data.crop = 0  # side of a centred square crop, pixels; 0 = none
  c.data.resize = 0  # side after resizing, pixels; 0 = none
  c.data.grayscale = False  # one channel (luma)
  c.data.image_shape = ()  # height, width, channels; () = ask the data set
  c.data.num_labels = 0  # classes, or attributes; 0 = ask the data set
  c.data.dequantization = "none"  # none | uniform noise between grey levels
  c.data.binarization = "none"  # none | static | dynamic, on the device
  c.data.cache = "host"  # none | host: decode once into a memory map
  c.data.cache_dir = ""  # "" = data/ in $VAE_JAX_CACHE_DIR, ~/.cache/vae_jax
  c.data.num_threads = 4  # threads that decode images

  c.model = ConfigDict()
  c.model.encoder = _named("conv")  # class of vae_jax.models.encoders
  c.model.decoder = _named("conv")  # class of vae_jax.models.decoders
  c.model.posterior = _named("diagonal_normal")  # of vae_jax.models.posteriors
  c.model.prior = _named("standard_normal")  # class of vae_jax.models.priors
  c.model.likelihood = _named("bernoulli")  # of vae_jax.models.likelihoods
  c.model.latent_dim = 32  # numbers per image
  c.model.condition = "none"  # none | label | attributes, given to both nets
  c.model.dtype = "float32"  # float32 | bfloat16, of the networks' arithmetic
  c.model.remat = False  # recompute activations: less memory, more time
  c.model.init = "flax"  # flax | glorot | torch, initial weights
  c.model.output_bias = "init"  # init: as weights | data: of the mean image

  c.objective = ConfigDict(_named("elbo"))  # function of vae_jax.objectives
  c.objective.auxiliary = ConfigDict()  # the network that it declares
  c.objective.auxiliary.args = ConfigDict()  # fields of that network

  c.optim = ConfigDict()
  c.optim.optimizer = _named("adam")  # function of optax, or muon
  c.optim.learning_rate = 1e-3  # its highest value
  c.optim.schedule = _named("constant")  # function of vae_jax.optim
  c.optim.warmup_steps = 0  # steps of linear warm-up from 0
  c.optim.clip_norm = 0.0  # global gradient norm, nats per weight; 0 = off
  c.optim.skip_norm = 0.0  # skip a step whose norm is higher; 0 = off
  c.optim.auxiliary = ConfigDict()
  c.optim.auxiliary.optimizer = _named("adam")  # for that network; of optax
  c.optim.auxiliary.learning_rate = 1e-4  # its highest value, same schedule
  c.optim.ema_decay = 0.0  # of the averaged weights, per step; 0 = off

  c.train = ConfigDict()
  c.train.num_steps = 0  # optimiser steps; 0 = use num_epochs
  c.train.num_epochs = 0.0  # passes over the training split; 0 = use num_steps
  c.train.batch_size = 128  # images per step over all devices
  # Parts that a batch is computed in, one after another, to save memory; a
  # statistic of the batch (BatchNorm, gaussian_optimal) is then of a part.
  c.train.accumulate = 1  # parts
  c.train.steps_per_call = 50  # steps per dispatch, at most; a few seconds
  c.train.log_every_steps = 100  # steps per row of metrics.jsonl
  c.train.validate_every_steps = 0  # steps; 0 = once an epoch
  c.train.max_skips_in_row = 20  # skipped steps in a row that end the run
  c.train.compilation_cache_dir = ""  # "" = compiled/ there; "none" = off

  c.checkpoint = ConfigDict()
  c.checkpoint.every_steps = 1000  # steps; also at the end and on a signal
  c.checkpoint.keep_latest = 1  # checkpoints
  c.checkpoint.keep_best = 1  # checkpoints, by validation neg_elbo

  c.watch = ConfigDict()
  c.watch.start_seconds = 300.0  # seconds to wait for all processes of a job
  c.watch.heartbeat_seconds = 30.0  # of silence, after which one is given up
  c.watch.stall_seconds = 600.0  # seconds without a step; 0 = wait for ever

  c.eval = ConfigDict()
  c.eval.checkpoint = "latest"  # latest | best, by validation neg_elbo
  c.eval.split = "test"  # train | validation | test
  # Images over all devices; only statistics of a batch depend on it.
  c.eval.batch_size = 512  # images
  c.eval.seed = 0  # of sampling in evaluation; apart from `seed`
  c.eval.importance_samples = 0  # draws per image of the NLL; 0 = no NLL
  c.eval.latents = True  # active units, mutual information, pictures of both
  c.eval.disentanglement = False  # scores against the data set's true factors
  c.eval.fidelity = False  # FID, KID, precision and recall of samples
  c.eval.features = _named("inception")  # of fidelity; evaluate.features
  c.eval.num_samples = 10_000  # images to compare, for fidelity

  c.sample = ConfigDict()
  c.sample.seed = 0  # of the prior samples in pictures
  c.sample.temperature = 1.0  # factor on the prior's standard deviation

  c.lock()
  for path, value in _nodes(c):
    if path.rpartition(".")[2] == "args":
      value.unlock()
  return c


def _nodes(
  config: ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, ConfigDict]]:
  for key in config:
    value = config[key]
    if isinstance(value, ConfigDict):
      yield prefix + key, value
      yield from _nodes(value, prefix + key + ".")


def flatten(config: ConfigDict) -> dict[str, Any]:
  """Returns {dotted path: value} of every setting."""
  flat = {}
  for key in config:
    value = config[key]
    if isinstance(value, ConfigDict):
      flat.update({f"{key}.{k}": v for k, v in flatten(value).items()})
    else:
      flat[key] = value
  return flat


def get(config: ConfigDict, path: str) -> Any:
  """Returns the value at a dotted path."""
  for key in path.split("."):
    config = config[key]
  return config


def update(config: ConfigDict, path: str, value: Any) -> None:
  """Sets the value at a dotted path, which must exist or lie in `args`."""
  parent, _, key = path.rpartition(".")
  node = get(config, parent) if parent else config
  node[key] = value


def check_path(path: str) -> None:
  """Stops with one sentence if no setting has this dotted path.

  Raises:
    ConfigError: with the nearest names.
  """
  if re.search(r"(^|\.)args(\.|$)", path):
    path = path[: re.search(r"(^|\.)args(\.|$)", path).end()].rstrip(".")
  node, known = default(), []
  for key in path.split("."):
    known = [f"{k}" for k in node] if isinstance(node, ConfigDict) else []
    if key not in known:
      everything = list(flatten(default()))
      near = difflib.get_close_matches(path, everything, n=1, cutoff=0.5)
      near += [k for k in everything if k.rpartition(".")[2] == key]
      hint = f" Did you mean config.{near[0]}?" if near else ""
      raise ConfigError(f"There is no setting config.{path}.{hint}")
    node = node[key]


def file_error(path: str, error: Exception) -> str:
  """Returns ml_collections' complaint about a config file in one sentence."""
  text = str(error)
  key = re.search(r'Key "(\w+)" does not exist', text)
  near = re.search(r'Did you mean "(\w+)"', text)
  if not key:
    return f"{path}: {text.splitlines()[0]}"
  hint = f"; did you mean {near.group(1)!r}" if near else ""
  return f"{path} sets {key.group(1)!r}, which is no setting{hint}."


def override_for_use(config: ConfigDict, overrides: dict[str, Any]) -> None:
  """Applies command-line overrides to the saved config of a trained model.

  Raises:
    ConfigError: an override would make it another model than was trained.
  """
  flat = flatten(config)
  for path, value in overrides.items():
    free = path in FREE_FIELDS or path.startswith(("eval.", "sample."))
    if free:
      update(config, path, value)
    elif not _automatic(path, value) and not _means(value, flat.get(path)):
      raise ConfigError(
        f"config.{path} is {value!r} here, but the model was trained with "
        f"{flat.get(path)!r}; only eval.*, sample.* and where data lies may "
        "change."
      )


def _automatic(path: str, value: Any) -> bool:
  """Whether a setting, as given, leaves its value to the data or to another."""
  return (
    value in ("", ())
    or (
      path in ("data.num_labels", "train.num_epochs", "train.num_steps")
      or path.endswith(".dataset_size")
    )
    and not value
  )


def _means(given: Any, resolved: Any) -> bool:
  """Whether a setting, as given, may have been resolved to another value:
  fashion_mnist to fashion_mnist:3.0.1, or a/config:1.0.0."""
  if isinstance(given, str) and isinstance(resolved, str):
    return given == resolved or resolved.startswith((given + ":", given + "/"))
  return given == resolved


def to_json(config: ConfigDict) -> str:
  """Returns the resolved config as JSON, from which `from_json` rebuilds it."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> ConfigDict:
  """Returns the config that `to_json` wrote."""
  config = default()
  _overwrite(config, json.loads(text))
  return config


def _overwrite(config: ConfigDict, tree: dict[str, Any]) -> None:
  for key, value in tree.items():
    if isinstance(value, dict):
      _overwrite(config[key], value)
    else:
      config[key] = tuple(value) if isinstance(value, list) else value


def differences(ours: ConfigDict, theirs: ConfigDict) -> list[str]:
  """Returns a line for each field that makes two configs different runs."""
  a, b = flatten(ours), flatten(theirs)
  return [
    f"config.{path}: {a.get(path, 'not set')} here, "
    f"{b.get(path, 'not set')} there"
    for path in sorted(a.keys() | b.keys())
    if a.get(path) != b.get(path)
    and path not in FREE_FIELDS
    and not path.startswith("eval.features.args")
  ]
