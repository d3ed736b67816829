"""Features of images, in which sample quality is measured.

`config.eval.features` names them: a function of this module, or any Flax
network by its dotted path.
"""

import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import linen as nn
from jaxtyping import ArrayLike, Float32
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.config import ConfigError, reason, registry
from vae_jax.latents import apply
from vae_jax.runtime import storage
from vae_jax.training import experiment, restore, running_statistics
from vae_jax.training import state as state_lib

Shape = tuple[int, int, int]
_FIELD = "eval.features"
_NAMES = ["encoder", "inception"]
# The start of the SHA-256 of the weights that define the FID.
_STANDARD = "6726825d"
_WEIGHTS_URL = (
  "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
  "weights-inception-2015-12-05-6726825d.pth"
)
# Images at a time, because Inception's first layers take 50 MB an image.
_CHUNK = 32


@dataclasses.dataclass(frozen=True)
class Extractor:
  """A function from images [n h w c] to features [n f]; a report names it."""

  name: str
  function: Callable[[np.ndarray], ArrayLike]

  def __call__(self, image: apply.Images) -> Float32[np.ndarray, "n f"]:
    """Returns the features of images."""
    return np.asarray(self.function(np.asarray(image)), np.float32)


def build(node: ConfigDict, shape: Shape) -> Extractor:
  """Returns the extractor of `config.eval.features` for images [h w c].

  Raises:
    ConfigError: the name is unknown, the arguments or images do not fit, or a
      package or file is missing.
  """
  if "." in node.name:
    return _network(node, shape)
  module = sys.modules[__name__]
  function = registry.resolve(_FIELD, node.name, [module], _NAMES)
  known = registry.keyword_arguments(function)
  args = registry.check_arguments(_FIELD, node.name, node.args, known)
  return function(shape, **args)


def inception(shape: Shape, *, weights: str = "") -> Extractor:
  """Returns the 2048 pooled features of Inception-v3 that define the FID.

  They are computed by torch-fidelity, which resizes images as the original
  TensorFlow code does. Gray images are repeated to three channels.

  Args:
    shape: [h w c] of the images.
    weights: file with the network's weights; "" = downloaded once to
      PyTorch's folder of downloads.

  Raises:
    ConfigError: torch-fidelity or the weights are missing, or the images are
      neither gray nor RGB.

  References:
    Heusel et al., arXiv 1706.08500; Szegedy et al., arXiv 1512.00567.
  """
  if shape[2] not in (1, 3):
    raise ConfigError(
      f"config.{_FIELD}.name is 'inception', which takes images of 1 or 3 "
      f"channels; these have {shape[2]}."
    )
  try:
    import torch
    import torch_fidelity
  # RuntimeError is raised if the versions of torch and torchvision differ.
  except (ImportError, RuntimeError) as error:
    raise ConfigError(
      f"config.{_FIELD}.name is 'inception', which needs torch-fidelity "
      f'({reason(error)}): `pip install -e ".[fidelity]"`, and without '
      f"network the file {_WEIGHTS_URL}, as "
      f"--config.{_FIELD}.args.weights=FILE."
    ) from error
  path = pathlib.Path(weights) if weights else _download(torch.hub)
  try:
    # This refuses code, which torch-fidelity would unpickle and run.
    torch.load(path, map_location="cpu", weights_only=True)
    model = torch_fidelity.FeatureExtractorInceptionV3(
      "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
  except Exception as error:  # PyTorch's errors have no common base.
    raise ConfigError(
      f"config.{_FIELD}.args.weights: {path} cannot be read as the weights of "
      f"Inception ({reason(error)}); the file is {_WEIGHTS_URL}."
    ) from error
  device = "cuda" if torch.cuda.is_available() else "cpu"
  model.to(device)

  def run(image: np.ndarray) -> np.ndarray:
    image = np.repeat(image, 3 // image.shape[3], axis=3)
    features = []
    with torch.inference_mode():
      for begin in range(0, len(image), _CHUNK):
        chunk = image[begin : begin + _CHUNK].transpose(0, 3, 1, 2)
        features.append(model(torch.tensor(chunk, device=device))[0].cpu())
    return np.concatenate(features)

  which = "standard weights" if digest == _STANDARD else f"weights {digest}"
  version = f"torch-fidelity {torch_fidelity.__version__}, {which}"
  return Extractor(f"Inception-v3, 2048 pooled features ({version})", run)


def _download(hub: Any) -> pathlib.Path:
  path = pathlib.Path(hub.get_dir()) / "checkpoints"
  path /= _WEIGHTS_URL.rpartition("/")[2]
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      hub.download_url_to_file(_WEIGHTS_URL, str(path), _STANDARD)
  # RuntimeError is raised if the hash differs.
  except (OSError, RuntimeError) as error:
    raise ConfigError(
      f"The weights of Inception cannot be downloaded ({reason(error)}); "
      f"download {_WEIGHTS_URL} elsewhere and set "
      f"--config.{_FIELD}.args.weights=FILE."
    ) from error
  return path


def encoder(shape: Shape, *, workdir: str = "") -> Extractor:
  """Returns the posterior means of another trained run.

  Images are not binarized, so that features are a function of the image only.

  Args:
    shape: [h w c] of the images.
    workdir: folder of that run, whose newest checkpoint is used.

  Raises:
    ConfigError: there is no such run, or its images have another shape.
  """
  field = f"config.{_FIELD}.args.workdir is {workdir!r}"
  if not workdir or not (storage.path(workdir) / "config.json").exists():
    raise ConfigError(
      f"{field}; it must be the folder of a trained run, whose encoder "
      "computes the features."
    )
  config = restore.load_config(workdir)
  own = tuple(config.data.image_shape)
  if own != tuple(shape):
    raise ConfigError(
      f"{field}, a run on images of shape {own}; these have shape "
      f"{tuple(shape)}."
    )
  if config.model.condition != "none":
    raise ConfigError(
      f"{field}, a conditional model, whose codes need labels; name a run with "
      "config.model.condition=none."
    )
  run = experiment.build(config)
  state = restore.load_state(workdir, experiment=run, weights=True)
  state = running_statistics.complete(run, state)
  variables = state_lib.eval_variables(config, state)

  def encode(image: np.ndarray) -> np.ndarray:
    codes = apply.encode(run.vae_eval, variables, image)
    return np.concatenate([np.reshape(c, (len(image), -1)) for c in codes], 1)

  return Extractor(f"posterior means of {workdir}, step {state.step}", encode)


def _network(node: ConfigDict, shape: Shape) -> Extractor:
  """Returns a Flax network of images in [0, 1], selected by dotted path."""
  cls = registry.resolve(_FIELD, node.name, [])
  field = f"config.{_FIELD}.name is {node.name!r}, which"
  if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
    raise ConfigError(f"{field} is not a flax.linen.Module.")
  args = _arguments(cls, node)
  weights = args.pop("weights", "")
  module = cls(**args)
  example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  try:
    like = jax.eval_shape(module.init, jax.random.key(0), example)
    output = jax.eval_shape(module.apply, like, example)
  except Exception as error:  # The network of a user may raise anything.
    raise ConfigError(
      f"{field} does not take images of {example.shape} ({reason(error)})."
    ) from error
  if len(getattr(output, "shape", ())) != 2:
    raise ConfigError(
      f"{field} must return features [b f] of images [b h w c], but returns "
      f"{output} for {example.shape}."
    )
  if weights:
    variables, description = _restore(weights, like), f"weights of {weights}"
  else:
    zeros, description = jnp.zeros(example.shape), "random weights"
    variables = jax.jit(module.init)(jax.random.key(0), zeros)
  run = jax.jit(lambda image: module.apply(variables, image / 255.0))
  return Extractor(f"{node.name} ({description})", run)


def _arguments(cls: type[nn.Module], node: ConfigDict) -> dict[str, Any]:
  """Returns the checked arguments of a network, `weights` among them."""
  fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
  del fields["parent"], fields["name"]
  empty = dataclasses.MISSING
  known = {
    n: None if f.default is empty else f.default for n, f in fields.items()
  }
  known["weights"] = ""
  args = registry.check_arguments(_FIELD, node.name, node.args, known)
  for n, f in fields.items():
    if n not in args and f.default is empty and f.default_factory is empty:
      raise ConfigError(
        f"config.{_FIELD}.args.{n} is not set, and {node.name} has no default "
        "for it."
      )
  return args


def _restore(folder: str, like: models.Variables) -> models.Variables:
  """Returns variables from a checkpoint of Orbax's StandardCheckpointer."""
  try:
    with ocp.StandardCheckpointer() as reader:
      return reader.restore(pathlib.Path(folder).absolute(), like)
  except Exception as error:  # Orbax's errors have no common base.
    raise ConfigError(
      f"config.{_FIELD}.args.weights is {folder!r}, which cannot be read as "
      f"an Orbax checkpoint of the network's variables ({reason(error)})."
    ) from error
