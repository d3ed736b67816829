"""Local copies of prepared data sets at a remote URL.

They are needed because ArrayRecord reads local files only.
"""

import hashlib
import json
import pathlib

from vae_jax.data import errors
from vae_jax.runtime import devices, locks, storage, transfer


def local(remote: storage.Path, root: storage.Path) -> pathlib.Path:
  """Returns the local copy of a prepared version, copying it if necessary.

  Copies are in `tfds/` under `devices.cache_root()`. A copy is replaced when
  the remote files, below the URL `data.dir`, have changed.

  Raises:
    ConfigError: the URL cannot be read.
    DataError: the copy cannot be written.
    storage.Unreachable: the store fails (possibly transient).
  """
  with storage.reaching("--config.data.dir", root):
    listing = transfer.listing(remote)
  # A folder per URL, because the same version may differ between two URLs.
  digest = hashlib.sha256(str(root).encode()).hexdigest()[:16]
  copies = pathlib.Path(devices.cache_root()) / "tfds" / digest
  folder = copies / remote.relative_to(root)
  listing_file = folder.with_name(f"{folder.name}.json")
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock")
    with locks.file_lock(lock, f"copying {remote}"):
      if not (
        listing_file.exists()
        and json.loads(listing_file.read_text()) == listing
        and transfer.local_sizes(folder) == transfer.sizes(listing)
      ):
        listing_file.unlink(missing_ok=True)
        transfer.download(remote, folder)
        storage.write_json(listing_file, listing)
  except (OSError, ValueError) as error:
    size = sum(entry["size"] for entry in listing.values())
    raise errors.DataError(
      f"{remote} cannot be copied to {folder} ({error}): set "
      f"$VAE_JAX_CACHE_DIR to a folder with {size / 1e9:.2f} GB of free space"
    ) from error
  return folder
