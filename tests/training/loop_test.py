"""The plan of a loop, and its dispatches."""

import itertools

import pytest

from tests.support.tiny import tiny_config
from vae_jax.training import loop as loop_lib
from vae_jax.training import setup


def _loop(steps_per_call=5):
  return loop_lib.Loop(23, 8, 10.0, steps_per_call, 7, 10)


@pytest.mark.parametrize("start", [0, 4, 7, 22])
def test_dispatches_cover_all_steps_and_end_where_work_is_due(start):
  loop = _loop()
  dispatches = list(loop_lib.Dispatches(loop, start))
  steps = [first + i for first, count in dispatches for i in range(count)]
  assert steps == list(range(start, loop.num_steps))
  assert all(1 <= count <= 5 for _, count in dispatches)
  ends = {first + count for first, count in dispatches}
  for step in range(start + 1, loop.num_steps + 1):
    if loop.validation_due(step) or loop.checkpoint_due(step):
      assert step in ends


def test_limit_of_dispatches_takes_effect_at_once():
  dispatches = loop_lib.Dispatches(_loop(), 0)
  iterator = iter(dispatches)
  assert next(iterator) == (0, 5)
  dispatches.limit = 1
  assert list(itertools.islice(iterator, 3)) == [(5, 1), (6, 1), (7, 1)]


def test_dispatch_takes_about_two_seconds_at_most():
  loop = _loop(steps_per_call=50)
  assert loop.fitting(0.001) == 50
  assert loop.fitting(0.1) == 20
  assert loop.fitting(30.0) == 1
  assert loop.fitting(0.0) == 50


def test_plan_follows_config_and_data(faces_dir):
  run = setup.prepare(tiny_config(faces_dir, train__validate_every_steps=0))
  loop = loop_lib.plan(run)
  assert loop.steps_per_epoch == len(run.splits.train) / 16
  assert loop.validate_every == round(loop.steps_per_epoch)
  assert (loop.num_steps, loop.steps_per_call) == (20, 5)
  assert loop.epoch(8) == 8 / loop.steps_per_epoch


def test_large_images_shorten_a_dispatch():
  c = tiny_config("", data__image_shape=(1024, 1024, 3))
  assert loop_lib.steps_per_call(c) == (1 << 28) // (16 * 1024 * 1024 * 3)
