"""Measures speed and memory of training, to <workdir>/benchmark.json."""

import resource
import sys
import tempfile
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax.runtime import devices, distributed, storage
from vae_jax.train import train
from vae_jax.training import setup

NEEDS = "config"
SHARED = True


def run(config: ConfigDict, workdir: str, *, seconds: float = 15.0) -> str:
  """Measures how fast a config trains on this machine; returns a table.

  Trains briefly in a temporary folder, with the config's own logging. A short
  run estimates how many steps fill the seconds; a second is measured.
  Validation, pictures and saves are left out of images/s.

  Writes `<workdir>/benchmark.json`.
  """
  rate = _measure(config, 2 * config.train.steps_per_call)["images_per_second"]
  rate = distributed.from_lead("images per second", rate)
  steps = max(
    4 * config.train.steps_per_call,
    round(seconds * rate / config.train.batch_size),
  )
  result = _measure(config, steps)
  if devices.is_lead():
    storage.write_json(storage.path(workdir) / "benchmark.json", result)
  return "\n".join(
    f"{k:>24}  {f'{v:,.4g}' if isinstance(v, float) else v}"
    for k, v in result.items()
  )


def _measure(config: ConfigDict, steps: int) -> dict[str, Any]:
  config = config.copy_and_resolve_references()
  config.train.num_steps = steps
  config.train.num_epochs = 0.0
  config.train.validate_every_steps = steps + 1
  config.checkpoint.every_steps = steps + 1
  costs = setup.Costs()
  begin = time.monotonic()
  # In a job the first process alone writes to its folder.
  with tempfile.TemporaryDirectory() as folder:
    train(config, folder, costs=costs)
  total = time.monotonic() - begin
  rate = costs.images / costs.seconds
  return {
    "images_per_second": rate,
    "ms_per_step": 1e3 * config.train.batch_size / rate,
    "share_waiting_for_data": costs.waited / costs.seconds,
    "compile_seconds": costs.compile_seconds,
    "flops_per_image": costs.flops_per_image,
    "flops_per_second": costs.flops_per_image * rate,
    "peak_memory_bytes": _peak_memory(),
    "device_memory_bytes": costs.memory_bytes,
    "images": costs.images,
    "total_seconds": total,
    "devices": devices.describe_devices(),
    "jax": jax.__version__,
  }


def _peak_memory() -> int:
  """Returns the most bytes held: on the accelerator, else by the process."""
  stats = jax.local_devices()[0].memory_stats() or {}
  # In bytes on a Mac, elsewhere in kB.
  unit = 1 if sys.platform == "darwin" else 1024
  process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  return stats.get("peak_bytes_in_use", process)
