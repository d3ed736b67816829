"""The order of examples is a pure function of seed and position."""

import time

import numpy as np
import pytest

from vae_jax.data import pipeline


class _Source:
  """Images whose every pixel is the index."""

  image_shape = (2, 2, 1)

  def __init__(self, size):
    self._size = size

  def __len__(self):
    return self._size

  def fetch(self, indices):
    image = np.broadcast_to(
      indices.astype(np.uint8)[:, None, None, None], (len(indices), 2, 2, 1)
    )
    return {"image": image, "label": indices.astype(np.int32)}


def _order(seed, start, stop):
  return pipeline.example_order(seed, 10, np.arange(start, stop))


def test_every_epoch_is_another_permutation():
  epochs = _order(0, 0, 50).reshape(5, 10)
  for epoch in epochs:
    assert sorted(epoch) == list(range(10))
  assert len({tuple(e) for e in epochs}) == 5
  assert not np.array_equal(_order(0, 0, 50), _order(1, 0, 50))


def test_order_does_not_depend_on_where_one_starts():
  whole = _order(3, 0, 47)
  np.testing.assert_array_equal(_order(3, 13, 47), whole[13:])
  shuffled = np.random.default_rng(0).permutation(47)
  np.testing.assert_array_equal(
    pipeline.example_order(3, 10, shuffled), whole[shuffled]
  )


def test_order_is_frozen():
  # A change here would reorder every run that is resumed across an upgrade.
  np.testing.assert_array_equal(
    _order(0, 0, 10), np.random.RandomState([0, 0]).permutation(10)
  )


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("count", [2, 3])
def test_devices_hold_the_global_batch_in_order(parts, count):
  data = pipeline.train_data(
    _Source(200),
    5,
    count,
    seed=1,
    batch_size=16,
    parts=parts,
    steps_per_call=3,
  )
  assert data["image"].shape == (8, 3, parts, 16 // parts // 8, 2, 2, 1)
  assert data["index"].dtype == np.int32
  index = np.moveaxis(data["index"], 0, 2)[:count].reshape(count, 16)
  positions = np.arange(5 * 16, (5 + count) * 16)
  expected = pipeline.example_order(1, 200, positions).reshape(count, 16)
  np.testing.assert_array_equal(index, expected)
  np.testing.assert_array_equal(data["label"], data["index"])
  np.testing.assert_array_equal(data["image"][..., 0, 0, 0], data["index"])


def test_evaluation_sees_each_example_once():
  seen = []
  for start in range(0, 37, 16):
    data = pipeline.eval_data(_Source(37), start, 16)
    assert data["image"].shape == (8, 2, 2, 2, 1)
    seen += list(data["index"][data["mask"]])
  assert seen == list(range(37))


def test_prefetch_keeps_order_and_passes_errors_on():
  def slow(i):
    time.sleep(0.01 * (i % 3))
    return i

  assert list(pipeline.prefetch(slow, range(20))) == list(range(20))

  def broken(i):
    if i == 3:
      raise ValueError("example 3")
    return i

  stream = pipeline.prefetch(broken, range(20))
  assert [next(stream) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(ValueError, match="example 3"):
    next(stream)


def test_prefetch_stops_early_without_waiting_for_the_rest():
  done = []
  stream = pipeline.prefetch(done.append, range(1000))
  next(stream)
  stream.close()
  assert len(done) < 10
