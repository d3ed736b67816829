"""The order of examples, and batches for the devices.

Training reads an endless stream in which each epoch is a permutation of the
split. The example at a position of the stream is a pure function of (seed,
position), so that a resumed run needs only its step number, on any number of
hosts. A batch may contain examples of two epochs.
"""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

import numpy as np

from vae_jax.data import datasets
from vae_jax.runtime import devices as parallel

# Items computed in advance.
AHEAD = 2

In = TypeVar("In")
Out = TypeVar("Out")


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  # RandomState, because its stream is frozen by NumPy's compatibility policy:
  # an upgrade of NumPy may not reorder a run that is resumed.
  return np.random.RandomState([seed, epoch]).permutation(size)


def example_order(seed: int, size: int, positions: np.ndarray) -> np.ndarray:
  """Returns the index of the example, of `size`, at each position of the
  endless stream; positions may have any order."""
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
  micro_batches: int,
  steps_per_call: int,
) -> dict[str, np.ndarray]:
  """Returns the examples of `count` steps from `start`, for one dispatch.

  Args:
    source: the training split.
    start: first step.
    count: steps to fetch; the arrays are padded with zeros to
      `steps_per_call`.
    seed: of the run.
    batch_size: over all devices.
    micro_batches: parts of a batch that a device computes in turn.
    steps_per_call: k.

  Returns:
    `image` [devices k a b h w c], `index` [devices k a b] and, if the source
    has labels, `label`, for the devices of this process only.
  """
  devices, here = parallel.device_count(), parallel.positions()
  local = batch_size // (micro_batches * devices)
  positions = np.arange(start * batch_size, (start + count) * batch_size)
  positions = positions.reshape(count, micro_batches, devices, local)[
    :, :, here
  ]
  index = example_order(seed, len(source), positions.ravel())
  fetched = {**source.fetch(index), "index": index.astype(np.int32)}

  def arrange(values: np.ndarray) -> np.ndarray:
    shape = (micro_batches, local, *values.shape[1:])
    if len(here) == 1 and count == steps_per_call:
      return values.reshape(1, count, *shape)
    full = np.zeros((len(here), steps_per_call, *shape), values.dtype)
    values = values.reshape(count, micro_batches, len(here), *shape[1:])
    full[:, :count] = np.moveaxis(values, 2, 0)
    return full

  return {k: arrange(v) for k, v in fetched.items()}


def eval_data(
  source: datasets.Source, start: int, batch_size: int
) -> dict[str, np.ndarray]:
  """Returns examples `start` to `start + batch_size`, padded at the end.

  `mask` is False for padding, so that each example counts exactly once. Arrays
  are [devices b ...], for the devices of this process only.
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

  An exception of the function is raised in place of its result.
  """
  with futures.ThreadPoolExecutor(ahead, "prefetch") as pool:
    pending: collections.deque[futures.Future[Out]] = collections.deque()
    try:
      for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
          yield pending.popleft().result()
      while pending:
        yield pending.popleft().result()
    finally:
      for future in pending:
        future.cancel()
