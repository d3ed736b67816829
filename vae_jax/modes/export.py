"""Exports a model to files that need no vae_jax, to <workdir>/export/.

The programs are StableHLO through `jax.export`, for any batch size and for CPU,
GPU and TPU, with the weights inside. They return the same bits as
`TrainedModel` with chunks of the batch size, on the same platform; another
batch size changes the order of sums, and so the last bits of a code.
"""

import contextlib
import importlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import numpy as np
from flax import traverse_util
from jax import lax
from ml_collections import ConfigDict
from safetensors import numpy as safetensors

from vae_jax import config as config_lib
from vae_jax import models
from vae_jax.config import ConfigError
from vae_jax.latents import (
  apply,
  attribute_directions,
  directions,
  trained_model,
)
from vae_jax.latents.trained_model import TrainedModel
from vae_jax.runtime import storage
from vae_jax.training import metrics

NEEDS = "run"

_PLATFORMS = ("cpu", "cuda", "tpu")
# Settings that hold paths of this machine.
_PRIVATE = (
  *("data.dir", "data.manual_dir", "data.cache_dir"),
  "train.compilation_cache_dir",
  "init_from",
)
_LOADER = '''\
"""Opens the exported model: encode(image), decode(code); see card.json."""
import pathlib
import jax
from jax import export

def _open(name):
  program = pathlib.Path(__file__).with_name(name).read_bytes()
  return jax.jit(export.deserialize(bytearray(program)).call)

encode, decode = _open("encoder.bin"), _open("decoder.bin")
'''


def run(config: ConfigDict, workdir: str) -> str:
  """Exports a run; returns the folder `export/`, which holds:

    encoder.bin          uint8 images [b h w c] -> posterior means [b d]
    decoder.bin          codes [b d] -> uint8 images, means of the likelihood
    weights.safetensors  parameters and batch statistics, by name
    card.json            preprocessing, shapes, directions and settings
    load.py              opens the two programs; needs jax and flatbuffers

  The programs of a conditional model take the labels as a second argument.

  Raises:
    ConfigError: a package of the extra is missing, or there is no run.
  """
  try:
    importlib.import_module("flatbuffers")
  except ImportError as error:
    raise ConfigError(
      f"--mode=export needs the package flatbuffers ({error}): "
      '`pip install -e ".[export]"`.'
    ) from error
  model = trained_model.open_run(config, workdir)
  text = json.dumps(metrics.finite(_card(model)), indent=2, allow_nan=False)
  # All files are complete before the first is written.
  files = {
    **programs(model),
    "weights.safetensors": weights(model),
    "card.json": f"{text}\n".encode(),
    "load.py": _LOADER.encode(),
  }
  folder = model.workdir / "export"
  for name, content in files.items():
    storage.write_bytes(folder / name, content)
  return str(folder)


def programs(model: TrainedModel) -> dict[str, bytes]:
  """Returns encoder and decoder as programs of any batch size, by file name."""

  def encode(image: jax.Array, *label: jax.Array) -> jax.Array:
    (code,) = apply.encode(model.vae, _variables(model, *label), image)
    return code

  def decode(code: jax.Array, *label: jax.Array) -> jax.Array:
    return apply.decode(model.vae, _variables(model, *label), (code,))

  code_shape = (model.config.model.latent_dim,)
  return {
    "encoder.bin": _program(model, encode, model.image_shape, np.uint8),
    "decoder.bin": _program(model, decode, code_shape, np.float32),
  }


def _variables(model: TrainedModel, *label: jax.Array) -> dict[str, Any]:
  # Without the barrier the compiler would fold computations of the constant
  # weights, and round them differently than computations of arguments.
  variables = lax.optimization_barrier(model.variables)
  return {**variables, **(models.side_inputs(label=label[0]) if label else {})}


def _label_shape(model: TrainedModel) -> tuple[int, ...] | None:
  shapes = {"none": None, "label": (), "attributes": (model.vae.num_labels,)}
  return shapes[model.config.model.condition]


def _program(
  model: TrainedModel,
  function: Callable[..., jax.Array],
  shape: tuple[int, ...],
  dtype: Any,
) -> bytes:
  """Returns a function of an array [b, *shape], and of labels, as bytes."""
  (batch,) = jax.export.symbolic_shape("b")
  inputs = [jax.ShapeDtypeStruct((batch, *shape), dtype)]
  label = _label_shape(model)
  if label is not None:
    inputs.append(jax.ShapeDtypeStruct((batch, *label), np.int32))
  with _no_locations():
    export = jax.export.export(jax.jit(function), platforms=_PLATFORMS)
    return bytes(export(*inputs).serialize())


@contextlib.contextmanager
def _no_locations() -> Iterator[None]:
  """Removes the paths of this machine's source files from a program."""
  name = "jax_traceback_in_locations_limit"
  before = jax.config.values[name]
  jax.config.update(name, 0)
  try:
    yield
  finally:
    jax.config.update(name, before)


def weights(model: TrainedModel) -> bytes:
  """Returns parameters, as "decoder/Conv_0/kernel", and the model's state, as
  "batch_stats/...", in the format safetensors."""
  state = dict(model.variables)
  params = state.pop("params")
  flat = traverse_util.flatten_dict({**params, **state}, sep="/")
  return safetensors.save({k: np.asarray(v) for k, v in flat.items()})


def _card(model: TrainedModel) -> dict[str, Any]:
  """Returns preprocessing, shapes, directions and settings of the exported
  files, as JSON values."""
  c, data = model.config, model.config.data
  image = {"dtype": "uint8", "shape": ["b", *model.image_shape]}
  code = {"dtype": "float32", "shape": ["b", c.model.latent_dim]}
  label_shape, label, names = _label_shape(model), {}, None
  if label_shape is not None:
    label = {"label": {"dtype": "int32", "shape": ["b", *label_shape]}}
    names = model.experiment.splits.label_names
  try:
    version = importlib.metadata.version("vae_jax")
  except importlib.metadata.PackageNotFoundError:
    version = None  # A checkout that was never installed.
  public = config_lib.from_json(config_lib.to_json(c))
  for path in _PRIVATE:
    config_lib.update(public, path, "")
  public.eval.features.args = ConfigDict()  # Among them a file's name.
  return {
    "package": {"vae_jax": version, "jax": jax.__version__},
    "use": "from load import encode, decode",
    "needs": (
      f"flatbuffers and jax {jax.__version__} or later; jax promises to read "
      "programs for six months, and safetensors stays readable"
    ),
    "platforms": list(_PLATFORMS),
    "encoder.bin": {
      "inputs": {"image": image, **label},
      "output": code,
      "meaning": "means of the posterior",
    },
    "decoder.bin": {
      "inputs": {"code": code, **label},
      "output": image,
      "meaning": "means of the likelihood, round(255 x)",
    },
    "data": data.name,
    "label_names": None if names is None else list(names),
    "preprocessing": {
      "order": ["crop", "grayscale", "resize", "binarization"],
      "crop": data.crop,
      "crop_means": "side of a centered square, pixels; 0 = none",
      "grayscale": data.grayscale,
      "grayscale_means": "one channel, luma of ITU-R BT.601",
      "resize": data.resize,
      "resize_means": "side, each pixel the mean over its area; 0 = none",
      "binarization": data.binarization,
      "binarization_means": (
        "none, or each pixel becomes 255 with probability pixel / 255, else 0"
      ),
      "image_shape": list(model.image_shape),
      "pixels": "0 to 255; the encoder divides by 255 itself",
    },
    "latent_dim": c.model.latent_dim,
    "posterior": c.model.posterior.to_dict(),
    "prior": c.model.prior.to_dict(),
    "likelihood": c.model.likelihood.to_dict(),
    "condition": c.model.condition,
    "step": model.step,
    "averaged_weights": c.optim.ema_decay > 0,
    "directions": _directions(model),
    "config": json.loads(config_lib.to_json(public)),
  }


def _directions(model: TrainedModel) -> dict[str, Any] | None:
  """Returns the directions by attribute and kind, with their unit."""
  config = model.config
  if config.model.condition != "none" or not config.data.num_labels:
    return None
  linear, _ = attribute_directions.directions_of(model)
  vectors = {
    name: {
      kind: _numbers(linear.vectors[k, a])
      for k, kind in enumerate(directions.KINDS)
    }
    for a, name in enumerate(linear.names)
  }
  return {
    "use": "decode(encode(image) + strength * vector), strength as -3 to 3",
    "unit": (
      "1 is the mean distance, along the vector, between codes with and "
      "without the attribute"
    ),
    "split": linear.split,
    "step": linear.step,
    "vectors": vectors,
  }


def _numbers(vector: np.ndarray) -> list[float] | None:
  if not np.isfinite(vector).all():
    return None
  # Nine digits identify a float32.
  return [float(f"{v:.9g}") for v in vector]
