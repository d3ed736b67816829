"""The data set `synthetic_faces` of TFDS: drawn faces with CelebA's attributes.

It needs neither network nor TensorFlow. Example `index` of a split is
`drawing.draw(sample_factors(split, index))`, stored at position `index`, so
that each stored face can be drawn again and each edit can be measured.
"""

import contextlib
import io
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from vae_jax.data.synthetic_faces import drawing
from vae_jax.data.synthetic_faces.factors import (
  ATTRIBUTES,
  FACTORS,
  SPLITS,
  Discrete,
  attributes,
  sample_factors,
)
from vae_jax.runtime import bars, locks

# The description and the number of examples of each split, by config.
_CONFIGS = {
  "full": ("The data set.", (20_000, 2_000, 2_000)),
  "tiny": ("Its first examples, for tests.", (64, 32, 32)),
}

# Fewer faces are drawn sooner than other processes start.
MIN_PARALLEL = 500
# The process that stores faces is about four times as fast as one that draws.
_MAX_WORKERS = 4
WORKER = (
  "import sys; from vae_jax.data.synthetic_faces import drawing; "
  "drawing.stream(sys.argv[1], *map(int, sys.argv[2:]))"
)


class SyntheticFaces(tfds.core.GeneratorBasedBuilder):
  """Drawn faces, 64x64 RGB, with attributes and ground-truth factors."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name=name, description=text)
    for name, (text, _) in _CONFIGS.items()
  ]

  # Updated by each example, because TFDS has one bar per stage instead.
  progress: bars.Bar | None = None

  def _info(self) -> tfds.core.DatasetInfo:
    factors = {
      name: tfds.features.ClassLabel(names=factor.names, doc=factor.doc)
      if isinstance(factor, Discrete)
      else tfds.features.Scalar(np.float32, doc=factor.doc)
      for name, factor in FACTORS.items()
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(
            shape=(64, 64, 3), encoding_format="png"
          ),
          "attributes": {name: np.bool_ for name in ATTRIBUTES},
          "factors": factors,
        }
      ),
      # Because an example is identified by its position.
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    sizes = _CONFIGS[self.builder_config.name][1]
    return {
      split: self._generate_examples(split, size)
      for split, size in zip(SPLITS, sizes, strict=True)
    }

  def _generate_examples(self, split: str, size: int):
    for index, png in enumerate(_pngs(split, size)):
      factors = sample_factors(split, index)
      yield (
        index,
        {
          # Encoded, because TFDS needs TensorFlow to encode an array.
          "image": io.BytesIO(png),
          "attributes": attributes(factors),
          "factors": factors,
        },
      )
      if self.progress is not None:
        self.progress.update(1)


def prepare(
  data_dir: str | os.PathLike, config: str = "full"
) -> SyntheticFaces:
  """Draws and stores the data set, unless it exists.

  Several processes may call this at once: one draws, the others wait. Files of
  a call that was killed are removed by the next one.

  Raises:
    ValueError: the config is unknown or the directory remote.
  """
  if config not in _CONFIGS:
    raise ValueError(
      f"config is {config!r}; it must be one of {list(_CONFIGS)}."
    )
  if "://" in os.fspath(data_dir):
    raise ValueError(
      f"data_dir is {os.fspath(data_dir)!r}; synthetic_faces can be drawn "
      "only to a disk: draw it there and copy it."
    )
  root = pathlib.Path(data_dir).expanduser().resolve()
  root.mkdir(parents=True, exist_ok=True)
  lock = root / ".synthetic_faces.lock"
  with locks.file_lock(lock, "drawing synthetic_faces"), _quiet():
    builder = SyntheticFaces(data_dir=root, config=config)
    target = pathlib.Path(builder.data_dir)
    # TFDS writes to such a directory and renames it when it is complete.
    for stale in target.parent.glob(f"incomplete.*_{target.name}"):
      shutil.rmtree(stale)
    if not target.exists():
      count = sum(_CONFIGS[config][1])
      with bars.Bar(count, "drawing synthetic_faces", "faces") as bar:
        builder.progress = bar
        builder.download_and_prepare(file_format="array_record")
      builder.progress = None
  return builder


def _pngs(split: str, size: int) -> Iterator[bytes]:
  """Yields the encoded images of a split in order, drawn on all cores."""
  workers = min(os.cpu_count() or 1, _MAX_WORKERS)
  if size < MIN_PARALLEL or workers == 1:
    for index in range(size):
      yield drawing.png(sample_factors(split, index))
    return
  # Subprocesses, because a fork is unsafe with JAX's threads, and spawn of
  # multiprocessing runs the caller's main module again in each worker.
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", WORKER, split, *map(str, (first, size, workers))],
      stdout=subprocess.PIPE,
      env=environment,
    )
    for first in range(workers)
  ]
  try:
    for index in range(size):
      # A worker that is ahead waits, because its pipe is full.
      yield pickle.load(processes[index % workers].stdout)
  except EOFError as error:
    raise RuntimeError(
      "A process that draws faces has stopped; see its message above."
    ) from error
  finally:
    for process in processes:
      process.terminate()
      process.stdout.close()
      process.wait()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Suppresses the bars, prints and log lines of TFDS."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
    logging.set_verbosity(verbosity)
