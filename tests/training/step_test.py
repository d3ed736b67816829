"""Parts of a train step, one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import tiny
from vae_jax.runtime import devices
from vae_jax.training import batch as batch_lib
from vae_jax.training import state as state_lib
from vae_jax.training import step as step_lib

IMAGES = 8


@pytest.fixture(scope="module")
def run():
  config = tiny.tiny_config(
    "", optim__ema_decay=0.9, optim__optimizer__name="sgd"
  )
  config.data.binarization = "dynamic"
  return tiny.tiny_experiment(config)


@pytest.fixture(scope="module")
def state(run):
  return state_lib.init_state(run)


def _data(count):
  """Returns one step's images in `count` micro-batches."""
  lead = (count, IMAGES // count)
  image = np.random.default_rng(0).integers(0, 256, (*lead, 16, 16, 1))
  index = np.arange(IMAGES, dtype=np.int32).reshape(lead)
  return {"image": image.astype(np.uint8), "index": index}


def _on_one_device(function, *arguments):
  """Applies a function under the axis name, as on one device."""
  leading = jax.tree.map(lambda v: jnp.asarray(v)[None], arguments)
  mapped = jax.vmap(function, axis_name=devices.AXIS)
  return jax.tree.map(lambda v: v[0], mapped(*leading))


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  monkeypatch.setattr(devices, "device_count", lambda: 1)


def test_micro_batches_have_the_keys_of_their_batch(run):
  def keys(data):
    batches = [
      batch_lib.train_batch(
        run.config,
        jax.tree.map(lambda v, i=i: v[i], data),
        jnp.int32(i),
        step=jnp.int32(3),
        seed=jnp.uint32(7),
      )[0]
      for i in range(len(data["index"]))
    ]
    key = jnp.concatenate([jax.random.key_data(b.key) for b in batches])
    return key, jnp.concatenate([b.image for b in batches])

  whole, image = _on_one_device(keys, _data(1))
  assert len(np.unique(whole, axis=0)) == IMAGES
  assert set(np.unique(image)) == {0, 255}
  for count in (2, 4):
    key, images = _on_one_device(keys, _data(count))
    np.testing.assert_array_equal(key, whole)
    np.testing.assert_array_equal(images, image)


def test_update_changes_weights_and_average_only(run, state):
  grads = jax.tree.map(jnp.ones_like, state.params)
  after = step_lib.update(run, state, grads, state.model_state)
  rate = run.config.optim.learning_rate
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
  jax.tree.map(lambda a, b: close(a, b - rate), after.params, state.params)
  jax.tree.map(lambda a, b: close(a, 0.1 * b), after.ema_params, after.params)
  for name in ("step", "skipped", "skipped_in_row"):
    assert getattr(after, name) == getattr(state, name)


def test_dispatch_runs_the_steps_that_control_counts(run, state):
  data = {k: np.stack([v] * 3) for k, v in _data(1).items()}

  def steps(state, data, control):
    return step_lib.train_steps(run, state, data, control, jnp.uint32(0))

  control = np.array([2, 1], np.int32)
  after, history, stop = _on_one_device(steps, state, data, control)
  assert after.step == 2 and bool(stop)
  assert history["loss"].shape == (3,)
  assert history["loss"][0] > 0 < history["loss"][1]
  assert history["loss"][2] == 0
  neg_elbo = history["distortion"] + history["rate"]
  np.testing.assert_allclose(history["neg_elbo"], neg_elbo, rtol=1e-6)
