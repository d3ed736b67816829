"""The order of examples: a pure function of seed and position."""

import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support import tfds
from vae_jax.data import pipeline


def _source(size):
  """Returns images whose every pixel is the index."""
  index = np.arange(size, dtype=np.int32)
  image = np.broadcast_to(index[:, None, None, None], (size, 2, 2, 1))
  return tfds.ArraySource(image.astype(np.uint8), index)


def _order(seed, start, stop):
  return pipeline.example_order(seed, 10, np.arange(start, stop))


def test_each_epoch_is_another_permutation():
  epochs = _order(0, 0, 50).reshape(5, 10)
  for epoch in epochs:
    assert sorted(epoch) == list(range(10))
  assert len({tuple(e) for e in epochs}) == 5
  assert not np.array_equal(_order(0, 0, 50), _order(1, 0, 50))

  # A change here would reorder every run that is resumed across an upgrade.
  frozen = np.random.RandomState([0, 0]).permutation(10)
  assert_array_equal(_order(0, 0, 10), frozen)


def test_order_does_not_depend_on_the_start():
  order = _order(3, 0, 47)
  assert_array_equal(_order(3, 13, 47), order[13:])
  shuffled = np.random.default_rng(0).permutation(47)
  assert_array_equal(pipeline.example_order(3, 10, shuffled), order[shuffled])


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("count", [2, 3])
def test_devices_hold_the_global_batch_in_order(micro_batches, count):
  sizes = {"batch_size": 16, "micro_batches": micro_batches}
  data = pipeline.train_data(
    _source(200), 5, count, seed=1, steps_per_call=3, **sizes
  )
  local = 16 // micro_batches // 8
  assert data["image"].shape == (8, 3, micro_batches, local, 2, 2, 1)
  assert data["index"].dtype == np.int32
  index = np.moveaxis(data["index"], 0, 2)[:count].reshape(count, 16)
  positions = np.arange(5 * 16, (5 + count) * 16)
  expected = pipeline.example_order(1, 200, positions).reshape(count, 16)
  assert_array_equal(index, expected)
  assert_array_equal(data["label"], data["index"])
  assert_array_equal(data["image"][..., 0, 0, 0], data["index"])


def test_evaluation_sees_each_example_once():
  seen = []
  for start in range(0, 37, 16):
    data = pipeline.eval_data(_source(37), start, 16)
    assert data["image"].shape == (8, 2, 2, 2, 1)
    seen += list(data["index"][data["mask"]])
  assert seen == list(range(37))


def test_prefetch_keeps_order_and_passes_errors_on():
  def slow(i):
    time.sleep(0.01 * (i % 3))
    if i == 20:
      raise ValueError("example 20")
    return i

  assert list(pipeline.prefetch(slow, range(20))) == list(range(20))
  stream = pipeline.prefetch(slow, range(17, 40))
  assert [next(stream) for _ in range(3)] == [17, 18, 19]
  with pytest.raises(ValueError, match="example 20"):
    next(stream)
  # A consumer that stops does not wait for the rest.
  done = []
  stream = pipeline.prefetch(done.append, range(1000))
  next(stream)
  stream.close()
  assert len(done) < 10
