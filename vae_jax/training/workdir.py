"""The lock of a run's folder, and the config that the run started with."""

import contextlib
from collections.abc import Callable, Iterator

from absl import logging
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.runtime import locks, storage
from vae_jax.training import longer, saved_config


@contextlib.contextmanager
def claim(
  workdir: str,
  config: ConfigDict,
  refusal: Callable[[ConfigDict], str] | None = None,
) -> Iterator[None]:
  """Holds a workdir for one training run with one config, in the block.

  Writes `config.json` if it is new there, or if the run becomes longer.
  `refusal` returns why a run of a config may not do so, see `longer`.

  Raises:
    ConfigError: another process trains there, the run there has another
      config, or nothing can be written there.
    storage.Unreachable: an object store fails, possibly for a while.
  """
  folder = storage.path(workdir)
  with contextlib.ExitStack() as stack:
    try:
      with storage.reaching("--workdir", workdir):
        if storage.is_remote(folder):
          stack.enter_context(locks.lease(folder / ".owner"))
        else:
          folder.mkdir(parents=True, exist_ok=True)
          stack.enter_context(locks.file_lock(folder / ".lock"))
    except BlockingIOError as error:
      raise ConfigError(
        f"Another process is training in {workdir}; wait for it, or name "
        "another folder with --workdir."
      ) from error
    except OSError as error:
      raise ConfigError(
        f"The workdir {workdir} cannot be written ({error.strerror}); name "
        "another folder with --workdir."
      ) from error
    _write_config(folder, config, refusal)
    yield


def _write_config(
  folder: storage.Path,
  config: ConfigDict,
  refusal: Callable[[ConfigDict], str] | None,
) -> None:
  path = folder / "config.json"
  with storage.using(folder):
    # A start that failed before its first save leaves nothing to protect.
    has_run = path.exists() and any((folder / "checkpoints").glob("*"))
  stored = saved_config.read(folder) if has_run else None
  differing = config_lib.differences(config, stored) if stored else []
  if differing:
    _check_length(folder, differing, refusal, stored)
    for length in longer.LENGTHS:
      config_lib.update(stored, length, config_lib.get(config, length))
    config = stored
  if differing or not stored:
    storage.write_bytes(path, (config_lib.to_json(config) + "\n").encode())


def _check_length(
  folder: storage.Path,
  differing: list[str],
  refusal: Callable[[ConfigDict], str] | None,
  stored: ConfigDict,
) -> None:
  """Raises a ConfigError unless a run only becomes longer."""
  names = {line.partition(":")[0].removeprefix("config.") for line in differing}
  weights = (
    f"--config.init_from={folder} with another --workdir starts from its "
    "weights"
  )
  if names <= set(longer.LENGTHS) and refusal is not None:
    reason = refusal(stored)
    if reason:
      raise ConfigError(f"{folder} holds a run, but {reason}. {weights}.")
    logging.info("%s becomes longer: %s.", folder, "; ".join(differing))
    return
  raise ConfigError(
    f"{folder} holds a run with another config; name another folder with "
    "--workdir, or use the same settings:\n  "
    + "\n  ".join([*differing, f"({weights}.)"])
  )
