"""Prepared data sets on disk: found, or prepared once.

Reading needs the files only: neither TensorFlow nor the code that wrote them
nor the network.
"""

import importlib.util
import json
import os
import pathlib
import re

import tensorflow_datasets as tfds
from absl import logging
from ml_collections import config_dict

from vae_jax.config import reason
from vae_jax.data import celeba, errors, idx, remote
from vae_jax.runtime import locks, logs, storage

_NAME = re.compile(
  r"(?P<name>[a-z]\w*)(/(?P<config>[\w+.-]+))?"
  r"(:(?P<version>(\d+|\*)(\.(\d+|\*)){2}))?"
)
_FACES = "synthetic_faces"


def builder(data: config_dict.ConfigDict) -> tfds.core.DatasetBuilder:
  """Opens the data set `data.name`, such as `mnist`, `mnist:3.0.1` or
  `emnist/balanced:3.0.0`, as ArrayRecord files, preparing it first if needed.

  Its root is `data.dir` ("" = $TFDS_DATA_DIR, else ~/tensorflow_datasets), and
  `data.manual_dir` has manually downloaded files ("" = none).

  Raises:
    DataError: the data set is unknown, cannot be prepared here, or is prepared
      in another version or file format.
  """
  if data.name.startswith(("folder:", "arrays:", "python:")):
    raise errors.DataError(
      f"{data.name} has no ground-truth factors; only data sets of "
      "tensorflow-datasets may have them"
    )
  match = _NAME.fullmatch(data.name)
  if not match:
    raise errors.DataError(
      f"--config.data.name={data.name!r} must be NAME, NAME:VERSION, "
      "NAME/CONFIG or NAME/CONFIG:VERSION, such as mnist or mnist:3.0.1, or "
      f"folder:PATH or arrays:FILE.npz{_own(data.name)}"
    )
  name, config, version = match.group("name", "config", "version")
  root = _root(data.dir)
  if storage.is_remote(root):
    with storage.reaching("--config.data.dir", root):
      folder = _find(root, name, config, version)
    if folder is None:
      raise errors.DataError(
        f"{data.name} is not prepared in {root}, where it cannot be prepared: "
        "prepare it in a folder, with any mode and --config.data.dir=FOLDER, "
        f"and copy FOLDER/{name} to {root / name}"
      )
    return _open(remote.local(folder, root))
  folder = _find(root, name, config, version)
  if folder is None:
    try:
      root.mkdir(parents=True, exist_ok=True)
      # Not `.{name}.lock`, which synthetic_faces locks itself.
      lock = root / f".prepare_{name}.lock"
      with locks.file_lock(lock, f"preparing {name}"):
        folder = _find(root, name, config, version)
        if folder is None:
          _prepare(data, root, name, config)
          folder = _find(root, name, config, version)
    except errors.DataError:
      raise
    except OSError as error:
      raise errors.DataError(
        f"{data.name} is not prepared in {root}, which cannot be written "
        f"({error}): name another folder with --config.data.dir"
      ) from error
  if folder is None:
    raise errors.DataError(
      f"{data.name} was prepared but is not in {root}: remove {root / name} "
      "and try again"
    )
  return _open(folder)


def _own(name: str) -> str:
  """Returns the end of a message about a name that is a file or a folder."""
  path = pathlib.Path(name).expanduser()
  if not path.exists():
    return ""
  kind = "folder" if path.is_dir() else "arrays"
  return f"; for what is at that path write {kind}:{name}"


def _root(folder: str) -> storage.Path:
  """Returns the root of the prepared data sets."""
  default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  root = storage.path(folder or default)
  if storage.is_remote(root):
    return root
  root = root.expanduser()
  if folder and not root.is_dir():
    raise errors.DataError(
      f"--config.data.dir={folder} does not exist: correct it, or make it with "
      f"`mkdir -p {folder}`"
    )
  return root


def _versions(folder: storage.Path) -> list[tfds.core.Version]:
  """Returns the versions prepared in `folder`, lowest first."""
  return sorted(
    tfds.core.Version(path.parent.name)
    for path in folder.glob("*/features.json")
    if tfds.core.Version.is_valid(path.parent.name)
    and (path.parent / "dataset_info.json").exists()
  )


def _find(
  root: storage.Path, name: str, config: str | None, version: str | None
) -> storage.Path | None:
  """Returns the folder of the highest matching version, None without one."""
  base = root / name
  folder = base / (config or _default_config(base))
  versions = _versions(folder)
  matching = [v for v in versions if version is None or v.match(version)]
  if versions and not matching:
    raise errors.DataError(
      f"{folder} does not contain version {version} but "
      f"{', '.join(map(str, versions))}: correct --config.data.name"
    )
  return folder / str(matching[-1]) if matching else None


def _default_config(base: storage.Path) -> str:
  """Returns the config of a bare name; "" if the data set has none."""
  metadata = base / ".config" / "metadata.json"
  if metadata.exists():
    return json.loads(metadata.read_text())["default_config_name"]
  configs = sorted(p.name for p in base.glob("*") if _versions(p))
  if len(configs) > 1 and not _versions(base):
    raise errors.DataError(
      f"{base} contains several configs, of which --config.data.name must name "
      f"one: {', '.join(f'{base.name}/{c}' for c in configs)}"
    )
  return "" if _versions(base) or not configs else configs[0]


def _prepare(
  data: config_dict.ConfigDict,
  root: pathlib.Path,
  name: str,
  config: str | None,
) -> None:
  """Writes the data set under `root`, with TensorFlow where it needs that."""
  if name == _FACES:
    # Imported here, because other data sets do not need the drawing code.
    from vae_jax.data.synthetic_faces import dataset

    try:
      dataset.prepare(root, *([config] if config else []))
    except ValueError as error:
      raise errors.DataError(reason(error, limit=300)) from error
    return
  if not logs.is_live():
    tfds.disable_progress_bar()
  by_hand = pathlib.Path(data.manual_dir).expanduser()
  if name == "celeb_a" and data.manual_dir:
    celeba.prepare(by_hand, root)
    return
  writer = _tfds_builder(data.name, root, name, config)
  if name in idx.NAMES and data.manual_dir:
    idx.prepare(name, by_hand, root)
    return
  files = {"celeb_a": celeba.INSTRUCTIONS}
  files |= dict.fromkeys(idx.NAMES, idx.INSTRUCTIONS)
  alternative = f"; or {files[name]}" if name in files else ""
  if importlib.util.find_spec("tensorflow") is None:
    raise errors.DataError(
      f"{data.name} is not prepared in {root}, and preparing it needs "
      'TensorFlow once: `pip install -e ".[prepare]"`, then '
      '`python -c "import tensorflow_datasets as tfds; '
      f"tfds.builder('{data.name}', data_dir='{root}', "
      f"file_format='array_record').download_and_prepare()\"`{alternative}"
    )
  logging.info("preparing %s under %s", data.name, root)
  try:
    writer.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        manual_dir=data.manual_dir or None
      )
    )
  except Exception as error:
    if name == "celeb_a":
      alternative = f"; Google Drive often refuses it: {celeba.INSTRUCTIONS}"
    raise errors.DataError(
      f"{data.name} could not be downloaded and prepared in {root} "
      f"({type(error).__name__}: {reason(error, limit=300)}){alternative}"
    ) from error


def _tfds_builder(
  full_name: str, root: pathlib.Path, name: str, config: str | None
) -> tfds.core.DatasetBuilder:
  """Returns the builder of tensorflow-datasets that writes the data set."""
  setting = f"--config.data.name={full_name!r}"
  try:
    configs = tfds.builder_cls(name).builder_configs
  except tfds.core.DatasetNotFoundError as error:
    prepared = {path.parent.name for path in root.glob("*/*") if path.is_dir()}
    known = tfds.list_builders(with_community_datasets=False)
    known = {*known, *prepared, _FACES}
    raise errors.DataError(
      f"{setting} is neither prepared in {root} nor part of "
      f"tensorflow-datasets{errors.suggest(name, sorted(known))}"
      f"{_own(full_name)}"
    ) from error
  if config and config not in configs:
    raise errors.DataError(
      f"{setting}: {name} has no config {config!r}"
      f"{errors.suggest(config, configs)}"
    )
  try:
    return tfds.builder(
      full_name, data_dir=str(root), file_format="array_record"
    )
  except AssertionError as error:
    # An unknown version; the message ends with the known ones.
    raise errors.DataError(f"{setting}: {reason(error, limit=300)}") from error


def _open(folder: pathlib.Path) -> tfds.core.DatasetBuilder:
  """Returns a builder that reads the ArrayRecord files in `folder`."""
  stored = json.loads((folder / "dataset_info.json").read_text())
  formats = [stored.get("fileFormat", "tfrecord")]
  formats += stored.get("alternativeFileFormats", [])
  if "array_record" not in formats:
    raise errors.DataError(
      f"{folder} is stored as {formats[0]}, which gives no random access: "
      'convert it once with `pip install -e ".[prepare]" apache-beam` and '
      "`python -m tensorflow_datasets.scripts.convert_format "
      f"--dataset_version_dir={folder} --out_file_format=array_record`"
    )
  opened = tfds.builder_from_directory(folder)
  # After a conversion in place, ArrayRecord is not the first of the formats.
  opened.info.set_file_format(
    "array_record", override=True, override_if_initialized=True
  )
  return opened
