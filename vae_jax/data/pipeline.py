"""The order of examples, and their way to the devices.

Training reads an endless stream in which every epoch is a permutation of the
split. The example at a position of the stream is a pure function of (seed,
position), so that the step number alone says where a resumed run goes on, on
any number of hosts. Batches may cross the border between two epochs.
"""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

import numpy as np

from vae_jax.data import datasets
from vae_jax.runtime import devices as parallel

# Items that are made before they are asked for.
AHEAD = 2

In = TypeVar("In")
Out = TypeVar("Out")


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  # RandomState's stream is frozen by NumPy's compatibility policy, unlike
  # Generator's: an upgrade between two starts of a run must not reorder it.
  return np.random.RandomState([seed, epoch]).permutation(size)


def example_order(seed: int, size: int, positions: np.ndarray) -> np.ndarray:
  """Returns the index of the example at each position of the stream.

  Args:
    seed: of the run.
    size: number of examples in the split.
    positions: places in the endless stream, any order.
  """
  epochs, places = np.divmod(positions, size)
  order = np.empty(positions.shape, np.int64)
  for epoch in np.unique(epochs):
    chosen = epochs == epoch
    permutation = _permutation(seed, int(epoch), size)
    order[chosen] = permutation[places[chosen]]
  return order


def train_data(
  source: datasets.Source,
  start: int,
  count: int,
  *,
  seed: int,
  batch_size: int,
  parts: int,
  steps_per_call: int,
) -> dict[str, np.ndarray]:
  """Returns the examples of `count` steps from `start` for one dispatch.

  Args:
    source: the training split.
    start: first step.
    count: steps to fetch; the rest up to `steps_per_call` is zeros.
    seed: of the run.
    batch_size: images per step over all devices.
    parts: parts a batch is computed in.
    steps_per_call: steps in the returned arrays.

  Returns:
    `image` [devices k a b h w c], `index` [devices k a b] and, where the
    source has one, `label`; of this process's devices, whose examples alone
    are read.
  """
  devices, here = parallel.device_count(), parallel.positions()
  local = batch_size // (parts * devices)
  positions = np.arange(start * batch_size, (start + count) * batch_size)
  positions = positions.reshape(count, parts, devices, local)[:, :, here]
  index = example_order(seed, len(source), positions.ravel())
  fetched = {**source.fetch(index), "index": index.astype(np.int32)}

  def arrange(values: np.ndarray) -> np.ndarray:
    rest = values.shape[1:]
    values = values.reshape(count, parts, len(here), local, *rest)
    if len(here) == 1 and count == steps_per_call:
      return values.reshape(1, count, parts, local, *rest)
    full = np.zeros(
      (len(here), steps_per_call, parts, local, *rest), values.dtype
    )
    full[:, :count] = np.moveaxis(values, 2, 0)
    return full

  return {k: arrange(v) for k, v in fetched.items()}


def eval_data(
  source: datasets.Source, start: int, batch_size: int
) -> dict[str, np.ndarray]:
  """Returns examples `start` to `start + batch_size`, padded at the end.

  `mask` is False for padding, so that each example counts exactly once.
  Leaves are [devices b ...], of this process's devices.
  """
  here = parallel.positions()
  index = np.arange(start, start + batch_size)
  index = index.reshape(parallel.device_count(), -1)[here].ravel()
  mask = index < len(source)
  index = np.minimum(index, len(source) - 1)
  data = {**source.fetch(index), "index": index.astype(np.int32), "mask": mask}
  return {k: v.reshape(len(here), -1, *v.shape[1:]) for k, v in data.items()}


def prefetch(
  function: Callable[[In], Out], items: Iterable[In], *, ahead: int = AHEAD
) -> Iterator[Out]:
  """Yields function(item) in order, computed `ahead` items early in threads.

  An exception of the function is raised where its result would have come.
  """
  with futures.ThreadPoolExecutor(ahead, "prefetch") as pool:
    waiting: collections.deque[futures.Future[Out]] = collections.deque()
    try:
      for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()
