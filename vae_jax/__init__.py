"""Variational autoencoders in JAX: train, load, parameter_count.

  import vae_jax
  state = vae_jax.train(config, "runs/mine")   # see `vae_jax.config.default`
  vae_jax.train(config, "runs/own", data=images)  # uint8 [n h w c]
  model = vae_jax.load("runs/mine")            # a `TrainedModel`: encode, ...
  vae_jax.parameter_count(config)

Importing this package imports no JAX: each name is loaded when it is used.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vae_jax.latents.trained_model import load
  from vae_jax.train import train
  from vae_jax.training.build import parameter_count

if sys.platform not in ("linux", "darwin"):
  raise ImportError(
    f"vae_jax runs on Linux and macOS, not on {sys.platform}; on Windows "
    "install it in WSL, the Windows Subsystem for Linux."
  )

__version__ = "0.1.0"
__all__ = ["__version__", "load", "parameter_count", "train"]

_MODULES = {
  "load": "vae_jax.latents.trained_model",
  "parameter_count": "vae_jax.training.build",
  "train": "vae_jax.train",
}


def _public(name: str) -> property:
  def get(package: types.ModuleType) -> Any:
    return getattr(importlib.import_module(_MODULES[name]), name)

  # The import of a submodule sets an attribute of its name on the package,
  # which for `train` would hide the function.
  return property(get, lambda package, value: None)


class _Package(types.ModuleType):
  load = _public("load")
  parameter_count = _public("parameter_count")
  train = _public("train")

  def __dir__(self) -> list[str]:
    return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
