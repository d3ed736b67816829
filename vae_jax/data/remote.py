"""Prepared data sets that lie at an address, copied to this machine once.

ArrayRecord reads local files only, and training reads them out of order.
"""

import hashlib
import json
import pathlib

from vae_jax.data import errors
from vae_jax.runtime import devices, locks, storage, transfer


def local(remote: storage.Path, root: storage.Path) -> pathlib.Path:
  """Returns the copy of a prepared version, making it if there is none.

  It lies under `tfds` in `parallel.cache_root()` and is made again when what
  lies at the address has changed.

  Args:
    remote: folder of the version.
    root: address that `data.dir` names.

  Raises:
    ConfigError: the address cannot be read.
    DataError: the copy cannot be made.
    storage.Unreachable: the store fails, which may pass.
  """
  with storage.reaching("--config.data.dir", root):
    listing = transfer.listing(remote)
  # Two addresses may hold the same version with other content.
  digest = hashlib.sha256(str(root).encode()).hexdigest()[:16]
  copies = pathlib.Path(devices.cache_root()) / "tfds" / digest
  folder = copies / remote.relative_to(root)
  record = folder.with_name(f"{folder.name}.json")
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locks.file_lock(
      folder.with_name(f"{folder.name}.lock"), f"copying {remote}"
    ):
      if not _is_of(folder, record, listing):
        record.unlink(missing_ok=True)
        transfer.download(remote, folder)
        storage.write_json(record, listing)
  except (OSError, ValueError) as error:
    size = sum(entry["size"] for entry in listing.values())
    raise errors.DataError(
      f"{remote} cannot be copied to {folder} ({error}): name a folder with "
      f"{size / 1e9:.2f} GB of room with $VAE_JAX_CACHE_DIR"
    ) from error
  return folder


def _is_of(
  folder: pathlib.Path, record: pathlib.Path, listing: transfer.Listing
) -> bool:
  """Whether a copy is of what lies at the address now, and whole."""
  if not record.exists() or json.loads(record.read_text()) != listing:
    return False
  return transfer.local_sizes(folder) == transfer.sizes(listing)
