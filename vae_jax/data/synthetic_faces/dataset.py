"""The embedded data set: drawn faces with CelebA's attributes, as TFDS.

It needs neither network nor TensorFlow. Example `index` of a split is
`face_drawing.draw(sample_factors(split, index))`, and is stored at position
`index`, so every stored face can be drawn again and every edit measured.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from absl import logging

from vae_jax.data.synthetic_faces import drawing
from vae_jax.data.synthetic_faces import factors as face_factors
from vae_jax.runtime import locks

FACTORS = face_factors.FACTORS
ATTRIBUTES = face_factors.ATTRIBUTES
THRESHOLDS = face_factors.THRESHOLDS
sample_factors = face_factors.sample_factors
attributes = face_factors.attributes

# Below this many, starting other processes takes longer than drawing.
_MIN_PARALLEL = 500
# One process stores faces about four times as fast as another draws them.
_MAX_WORKERS = 4
_WORKER = (
  "import sys; from vae_jax.data.synthetic_faces import drawing; "
  "drawing.stream(sys.argv[1], *map(int, sys.argv[2:]))"
)


@dataclasses.dataclass(kw_only=True)
class FacesConfig(tfds.core.BuilderConfig):
  """How many faces to draw.

  Attributes:
    sizes: number of examples of each split.
  """

  sizes: Mapping[str, int]


class SyntheticFaces(tfds.core.GeneratorBasedBuilder):
  """Drawn faces, 64x64 RGB, with attributes and ground-truth factors."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [
    FacesConfig(
      name="full",
      description="The data set.",
      sizes={"train": 20_000, "validation": 2_000, "test": 2_000},
    ),
    FacesConfig(
      name="tiny",
      description="Its first examples, for tests.",
      sizes={"train": 64, "validation": 32, "test": 32},
    ),
  ]

  # Where `prepare` counts the examples; TFDS's own bars are one per stage.
  progress: tqdm.tqdm | None = None

  def _info(self) -> tfds.core.DatasetInfo:
    factors = {
      name: tfds.features.ClassLabel(names=factor.names, doc=factor.doc)
      if isinstance(factor, face_factors.Discrete)
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
      # The position of an example says which one it is.
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(split, size)
      for split, size in self.builder_config.sizes.items()
    }

  def _generate_examples(self, split: str, size: int):
    for index, png in enumerate(_pngs(split, size)):
      factors = sample_factors(split, index)
      yield (
        index,
        {
          # TFDS can encode an array only with TensorFlow.
          "image": io.BytesIO(png),
          "attributes": attributes(factors),
          "factors": factors,
        },
      )
      if self.progress is not None:
        self.progress.update()


def prepare(
  data_dir: str | os.PathLike, config: str = "full"
) -> SyntheticFaces:
  """Draws and stores the data set, unless it is there already.

  Any number of processes may call this at once: one draws, the others wait
  for it. What a killed call has left behind, the next one removes.

  Args:
    data_dir: TFDS data directory, on a disk; made if missing.
    config: "full" (20,000 / 2,000 / 2,000 examples) or "tiny" (64 / 32 / 32).

  Returns:
    The builder, ready for `as_data_source`.

  Raises:
    ValueError: if the configuration is unknown or the directory remote.
  """
  sizes = {c.name: c.sizes for c in SyntheticFaces.BUILDER_CONFIGS}
  if config not in sizes:
    raise ValueError(f"config is {config!r}; it must be one of {list(sizes)}.")
  if "://" in os.fspath(data_dir):
    raise ValueError(
      f"data_dir is {os.fspath(data_dir)!r}; synthetic_faces can be drawn "
      "only to a disk: prepare it there and copy it."
    )
  root = pathlib.Path(data_dir).expanduser().resolve()
  root.mkdir(parents=True, exist_ok=True)
  lock = root / ".synthetic_faces.lock"
  with locks.file_lock(lock, "drawing synthetic_faces"), _quiet():
    builder = SyntheticFaces(data_dir=root, config=config)
    target = pathlib.Path(builder.data_dir)
    # TFDS writes to a directory of another name and renames it when complete.
    for stale in target.parent.glob(f"incomplete.*_{target.name}"):
      shutil.rmtree(stale)
    if not target.exists():
      total = sum(sizes[config].values())
      with tqdm.tqdm(
        total=total, desc="Drawing synthetic_faces", unit=" faces"
      ) as builder.progress:
        builder.download_and_prepare(file_format="array_record")
      builder.progress = None
  return builder


def _pngs(split: str, size: int) -> Iterator[bytes]:
  """Yields the encoded images of a split in order, drawn by all cores."""
  workers = min(os.cpu_count() or 1, _MAX_WORKERS)
  if size < _MIN_PARALLEL or workers == 1:
    for index in range(size):
      yield drawing.png(sample_factors(split, index))
    return
  # Neither a fork, unsafe beside JAX's threads, nor multiprocessing's spawn,
  # which would run the caller's main module again in every worker.
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", _WORKER, split, *map(str, (first, size, workers))],
      stdout=subprocess.PIPE,
      env=environment,
    )
    for first in range(workers)
  ]
  try:
    for index in range(size):
      # Full pipes stop the workers, so that none runs far ahead.
      yield pickle.load(processes[index % workers].stdout)
  except EOFError as error:
    raise RuntimeError(
      "A process that draws faces has stopped; its message is above."
    ) from error
  finally:
    for process in processes:
      process.terminate()
      process.stdout.close()
      process.wait()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences TFDS's bars, prints and log lines."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
    logging.set_verbosity(verbosity)
