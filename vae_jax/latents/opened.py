"""A run's checkpoint in memory, and what its config builds."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.runtime import devices, storage
from vae_jax.training.experiment import Experiment

CHUNK = 64  # Images encoded or decoded at a time.


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Opened:
  """A run's checkpoint."""

  experiment: Experiment
  workdir: storage.Path
  step: int  # optimizer steps of the checkpoint
  variables: Any  # its parameters and model state
  chunk: int = CHUNK

  def __repr__(self) -> str:
    return f"{type(self).__name__}({str(self.workdir)!r}, step={self.step})"

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

  @functools.cached_property
  def with_densities(self) -> dict[str, "Opened"]:
    """This model with fitted densities, by name; see `density.applied`."""
    return {}

  def digest(self, *facts: Any) -> str:
    """Returns a hash of the variables, and of facts that JSON can hold."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for leaf in jax.tree.leaves(self.variables):
      digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
