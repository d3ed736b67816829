"""`--mode=export`: a trained model in files that need no `vae_jax` to be used.

The programs are StableHLO through `jax.export`, of any batch size and for CPU,
GPU and TPU, with the weights inside. With a batch size and on a platform, they
give the bits that `trained.Trained` gives with chunks of that size; another
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

from vae_jax import config as config_lib
from vae_jax import directions, latents, metrics, models, trained
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.modes import attributes
from vae_jax.modes import options as options_lib

_FOLDER = "export"
_PLATFORMS = ("cpu", "cuda", "tpu")
_NEEDED = ("flatbuffers", "safetensors.numpy")
# Settings that say where things lie on this machine, which is nobody's affair.
_PRIVATE = (
  "data.dir",
  "data.manual_dir",
  "data.cache_dir",
  "train.compilation_cache_dir",
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


def export(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Writes `export/` of a run; returns where that is.

    encoder.bin          uint8 images [b h w c] -> posterior means [b d]
    decoder.bin          codes [b d] -> uint8 images, means of the likelihood
    weights.safetensors  parameters and batch statistics, by name
    card.json            all that one must know to use them
    load.py              opens the two programs; needs jax and flatbuffers

  The programs of a conditional model take the labels as a second argument.

  Raises:
    ConfigError: a package of the extra is missing, or there is no run.
  """
  del options
  _require(_NEEDED)
  model = trained.open_run(config, workdir)
  card = json.dumps(metrics.finite(_card(model)), indent=2, allow_nan=False)
  # All of it is made before any of it is written.
  files = {
    **programs(model),
    "weights.safetensors": weights(model),
    "card.json": f"{card}\n".encode(),
    "load.py": _LOADER.encode(),
  }
  folder = model.workdir / _FOLDER
  for name, content in files.items():
    metrics.write_bytes(folder / name, content)
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


def programs(model: trained.Trained) -> dict[str, bytes]:
  """Returns encoder and decoder as programs of any batch size, by file name."""

  def encode(image: jax.Array, *label: jax.Array) -> jax.Array:
    (code,) = latents.encode(model.vae, _variables(model, *label), image)
    return code

  def decode(code: jax.Array, *label: jax.Array) -> jax.Array:
    return latents.decode(model.vae, _variables(model, *label), (code,))

  code_shape = (model.config.model.latent_dim,)
  return {
    "encoder.bin": _program(model, encode, model.image_shape, np.uint8),
    "decoder.bin": _program(model, decode, code_shape, np.float32),
  }


def _variables(model: trained.Trained, *label: jax.Array) -> dict[str, Any]:
  # Without the barrier the compiler would compute ahead whatever depends on
  # the weights alone, and round it otherwise than where they are arguments.
  variables = lax.optimization_barrier(model.variables)
  return {**variables, **(models.given(label=label[0]) if label else {})}


def _label_shape(model: trained.Trained) -> tuple[int, ...]:
  several = model.config.model.condition == "attributes"
  return (model.vae.num_labels,) if several else ()


def _program(
  model: trained.Trained,
  function: Callable[..., jax.Array],
  shape: tuple[int, ...],
  dtype: Any,
) -> bytes:
  """Returns a function of an array [b, *shape], and of labels, as bytes."""
  (batch,) = jax.export.symbolic_shape("b")
  inputs = [jax.ShapeDtypeStruct((batch, *shape), dtype)]
  if model.vae.num_labels:
    labels = (batch, *_label_shape(model))
    inputs.append(jax.ShapeDtypeStruct(labels, np.int32))
  with _no_locations():
    exported = jax.export.export(jax.jit(function), platforms=_PLATFORMS)(
      *inputs
    )
  return bytes(exported.serialize())


@contextlib.contextmanager
def _no_locations() -> Iterator[None]:
  """Keeps the paths of this machine's source files out of a program."""
  name = "jax_traceback_in_locations_limit"
  before = jax.config.values[name]
  jax.config.update(name, 0)
  try:
    yield
  finally:
    jax.config.update(name, before)


def weights(model: trained.Trained) -> bytes:
  """Returns parameters, as "decoder/Conv_0/kernel", and the model's state, as
  "batch_stats/...", in the format safetensors."""
  from safetensors import numpy as safetensors

  params = model.variables["params"]
  state = {k: v for k, v in model.variables.items() if k != "params"}
  flat = traverse_util.flatten_dict({**params, **state}, sep="/")
  return safetensors.save({k: np.asarray(v) for k, v in flat.items()})


def _card(model: trained.Trained) -> dict[str, Any]:
  c = model.config
  image = ["b", *model.image_shape]
  code = ["b", c.model.latent_dim]
  inputs: dict[str, Any] = {}
  if model.vae.num_labels:
    inputs = {"label": _argument("int32", ["b", *_label_shape(model)])}
  data = c.data
  return {
    "package": {"vae_jax": _version(), "jax": jax.__version__},
    "use": "from load import encode, decode",
    "needs": (
      f"flatbuffers and jax {jax.__version__} or later; jax promises to read "
      "programs for six months, and safetensors stays readable"
    ),
    "platforms": list(_PLATFORMS),
    "encoder.bin": {
      "inputs": {"image": _argument("uint8", image), **inputs},
      "output": _argument("float32", code),
      "meaning": "means of the posterior",
    },
    "decoder.bin": {
      "inputs": {"code": _argument("float32", code), **inputs},
      "output": _argument("uint8", image),
      "meaning": "means of the likelihood, round(255 x)",
    },
    "data": data.name,
    "label_names": _label_names(c),
    "preprocessing": {
      "order": ["crop", "grayscale", "resize", "binarization"],
      "crop": data.crop,
      "crop_means": "side of a centred square, pixels; 0 = none",
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
    "config": _public(c),
  }


def _argument(dtype: str, shape: list[str | int]) -> dict[str, Any]:
  return {"dtype": dtype, "shape": shape}


def _version() -> str | None:
  try:
    return importlib.metadata.version("vae_jax")
  except importlib.metadata.PackageNotFoundError:
    return None  # A checkout that was never installed.


def _label_names(config: ConfigDict) -> list[str] | None:
  if config.model.condition == "none":
    return None
  names = datasets.open_splits(config.data).label_names
  return None if names is None else list(names)


def _directions(model: trained.Trained) -> dict[str, Any] | None:
  """Returns the vectors by attribute and kind, and how to use them."""
  config = model.config
  if config.model.condition != "none" or not config.data.num_labels:
    return None
  found = attributes.directions_of(model)
  vectors = {
    name: {
      kind: _numbers(found.vectors[k, a])
      for k, kind in enumerate(directions.KINDS)
    }
    for a, name in enumerate(found.names)
  }
  return {
    "use": "decode(encode(image) + strength * vector), strength as -3 to 3",
    "unit": (
      "1 moves a code as far along the vector as the codes with and without "
      "the attribute lie apart on average"
    ),
    "split": found.split,
    "step": found.step,
    "vectors": vectors,
  }


def _numbers(vector: np.ndarray) -> list[float] | None:
  if not np.isfinite(vector).all():
    return None
  # Nine digits give a float32 back, and no more than it holds.
  return [float(f"{v:.9g}") for v in vector]


def _public(config: ConfigDict) -> dict[str, Any]:
  copy = config_lib.from_json(config_lib.to_json(config))
  for path in _PRIVATE:
    config_lib.update(copy, path, "")
  return json.loads(config_lib.to_json(copy))
