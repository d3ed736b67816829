"""Exports a model to files that need no vae_jax, to <workdir>/export/.

The programs are StableHLO through `jax.export`, for any batch size and for CPU,
GPU and TPU, with the weights inside. They return the same bits as
`TrainedModel` with chunks of the batch size, on the same platform; another
batch size changes the order of sums, and so the last bits of a code.
"""

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import numpy as np
from flax import traverse_util
from jax import lax
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.config import ConfigError
from vae_jax.latents import apply, trained_model
from vae_jax.modes import export_card
from vae_jax.runtime import storage
from vae_jax.training import metrics

NEEDS = "run"

_PLATFORMS = ("cpu", "cuda", "tpu")
_NEEDED = ("flatbuffers", "safetensors.numpy")
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
  _require(_NEEDED)
  model = trained_model.open_run(config, workdir)
  card = export_card.card(
    model, platforms=_PLATFORMS, label_shape=_label_shape(model)
  )
  text = json.dumps(metrics.finite(card), indent=2, allow_nan=False)
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


def _require(names: tuple[str, ...]) -> None:
  for name in names:
    try:
      importlib.import_module(name)
    except ImportError as error:
      package = name.partition(".")[0]
      raise ConfigError(
        f"--mode=export needs the package {package} ({error}): "
        '`pip install -e ".[export]"`.'
      ) from error


def programs(model: trained_model.TrainedModel) -> dict[str, bytes]:
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


def _variables(
  model: trained_model.TrainedModel, *label: jax.Array
) -> dict[str, Any]:
  # Without the barrier the compiler would fold computations of the constant
  # weights, and round them differently than computations of arguments.
  variables = lax.optimization_barrier(model.variables)
  return {**variables, **(models.side_inputs(label=label[0]) if label else {})}


def _label_shape(model: trained_model.TrainedModel) -> tuple[int, ...] | None:
  shapes = {"none": None, "label": (), "attributes": (model.vae.num_labels,)}
  return shapes[model.config.model.condition]


def _program(
  model: trained_model.TrainedModel,
  function: Callable[..., jax.Array],
  shape: tuple[int, ...],
  dtype: Any,
) -> bytes:
  """Returns a function of an array [b, *shape], and of labels, as bytes."""
  (batch,) = jax.export.symbolic_shape("b")
  inputs = [jax.ShapeDtypeStruct((batch, *shape), dtype)]
  label_shape = _label_shape(model)
  if label_shape is not None:
    labels = (batch, *label_shape)
    inputs.append(jax.ShapeDtypeStruct(labels, np.int32))
  with _no_locations():
    exported = jax.export.export(jax.jit(function), platforms=_PLATFORMS)(
      *inputs
    )
  return bytes(exported.serialize())


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


def weights(model: trained_model.TrainedModel) -> bytes:
  """Returns parameters, as "decoder/Conv_0/kernel", and the model's state, as
  "batch_stats/...", in the format safetensors."""
  from safetensors import numpy as safetensors

  params = model.variables["params"]
  state = {k: v for k, v in model.variables.items() if k != "params"}
  flat = traverse_util.flatten_dict({**params, **state}, sep="/")
  return safetensors.save({k: np.asarray(v) for k, v in flat.items()})
