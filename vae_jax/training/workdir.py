"""The lock of a run's folder, and the config that the run started with."""

import contextlib
from collections.abc import Iterator

from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.runtime import locks, storage


@contextlib.contextmanager
def claim(workdir: str, config: ConfigDict) -> Iterator[None]:
  """Holds a workdir for one training run with one config, in the block.

  Writes `config.json` if it is new there.

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
    _write_config(folder, config)
    yield


def _write_config(folder: storage.Path, config: ConfigDict) -> None:
  path = folder / "config.json"
  with storage.using(folder):
    # A start that failed before its first save leaves nothing to protect.
    has_run = path.exists() and any((folder / "checkpoints").glob("*"))
    text = path.read_bytes() if has_run else b""
  if has_run:
    differing = config_lib.differences(
      config, config_lib.from_json(text, str(path))
    )
    if differing:
      raise ConfigError(
        f"{folder} holds a run with another config; name another folder with "
        "--workdir, or use the same settings:\n  " + "\n  ".join(differing)
      )
    return
  storage.write_bytes(path, (config_lib.to_json(config) + "\n").encode())
