"""One process of a real job, which does what its first argument names.

    python -m tests.support.member exchange [job.start's arguments as JSON]

It prints a JSON object, and ends as `vae_jax.main` would.
"""

import json
import sys

import ml_dtypes
import numpy as np
from absl import logging

from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.runtime import distributed, job, logs

# Bits that sums, conversions or zeros could change.
BITS = np.array(
  [0x00000000, 0x80000000, 0x00000001, 0x7F800000, 0xFF800000, 0x7FC00123],
  np.uint32,
)
DTYPES = (np.float32, np.int32, ml_dtypes.bfloat16, np.float16, np.uint8, bool)


def arrays():
  """Returns arrays of all types, a scalar and an empty one."""
  tree = {
    str(np.dtype(t)): (
      np.array([True, False, True]) if t is bool else BITS.view(t)
    )
    for t in DTYPES
  }
  return tree | {"scalar": np.int32(-5), "empty": np.zeros((0, 3), np.float32)}


def message(function, *args):
  """Returns the message of the error that a function raises."""
  try:
    function(*args)
  except (ConfigError, RuntimeError) as error:
    return f"{type(error).__name__}: {error}"
  return ""


def exchange():
  """Returns the results of all functions of `distributed`."""
  import jax

  index = jax.process_index()
  tree = arrays()
  if index:
    tree = {k: np.ones_like(v) for k, v in tree.items()}
  received = distributed.broadcast(tree)

  def fail():
    if index:
      raise ConfigError("No data here.")

  return {
    "index": index,
    "here": distributed.processes_here(),
    "processes": [p[0] for p in distributed.processes()],
    # Of different lengths, and beyond ASCII.
    "gathered": distributed.gather("here", ["é" * index, index]),
    "lead": distributed.from_lead("lead", index + 7),
    "bits": {k: v.tobytes().hex() for k, v in received.items()},
    "types": {k: [str(v.dtype), v.shape] for k, v in received.items()},
    "first": distributed.lead_first(lambda: index, "working"),
    "shared": message(distributed.lead_first, fail, "failing"),
    "agreed": message(distributed.agree, "same", {"seed": [1, 2]}),
    "differs": message(
      distributed.agree, "facts", {"seed": index, "same": 3} | {index: index}
    ),
    "places": message(distributed.barrier, f"place {index}"),
  }


def leave():
  """Raises an error in process 1 while process 0 waits for it."""
  import jax

  if jax.process_index():
    raise ConfigError("Only here.")
  distributed.barrier("the others")


if __name__ == "__main__":
  logging.set_verbosity(logging.INFO)
  logs.configure()
  config = config_lib.default()
  config.watch.heartbeat_seconds = 2.0
  options = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
  config.watch.start_seconds = options.pop("seconds", 60.0)
  try:
    job.start(config, **options)
    print(json.dumps(globals()[sys.argv[1]]()), flush=True)
    job.finish()
  except Exception as error:
    code = 2 if isinstance(error, ConfigError) else None
    code = getattr(error, "exit_code", code)
    job.leave(error, code)
    print(error, file=sys.stderr)
    sys.exit(code or 1)
