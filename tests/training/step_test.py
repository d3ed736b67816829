"""Parts of a train step, one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.support import tiny
from vae_jax.runtime import devices
from vae_jax.training import batch as batch_lib
from vae_jax.training import state as state_lib
from vae_jax.training import step as step_lib

IMAGES = 8


def test_micro_batches_have_the_keys_of_their_batch(monkeypatch):
  monkeypatch.setattr(devices, "device_count", lambda: 1)
  config = tiny.tiny_config("", data__binarization="dynamic")
  images = np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 1))
  index = np.arange(IMAGES, dtype=np.int32)

  def one(place, data):
    scalars = {"step": jnp.int32(3), "seed": jnp.uint32(7)}
    batch, _ = batch_lib.train_batch(config, data, place, **scalars)
    return jax.random.key_data(batch.key), batch.image

  def keys(count):
    """Returns keys and images of all micro-batches, on one device."""
    data = {"image": images.astype(np.uint8), "index": index}
    data = {k: v.reshape(1, count, -1, *v.shape[1:]) for k, v in data.items()}
    mapped = jax.vmap(jax.vmap(one), axis_name=devices.AXIS)
    result = mapped(jnp.arange(count, dtype=jnp.int32)[None], data)
    return [v.reshape(IMAGES, *v.shape[3:]) for v in result]

  whole, image = keys(1)
  assert len(np.unique(whole, axis=0)) == IMAGES
  assert set(np.unique(image)) == {0, 255}
  for count in (2, 4):
    for ours, theirs in zip(keys(count), (whole, image), strict=True):
      np.testing.assert_array_equal(ours, theirs)


def test_update_changes_weights_and_average_only():
  config = tiny.tiny_config("", optim__ema_decay=0.9)
  config.optim.optimizer.name = "sgd"
  run = tiny.tiny_experiment(config)
  state = state_lib.init_state(run)
  grads = jax.tree.map(jnp.ones_like, state.params)
  after = step_lib.update(run, state, grads, state.model_state)
  rate = run.config.optim.learning_rate
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
  jax.tree.map(lambda a, b: close(a, b - rate), after.params, state.params)
  jax.tree.map(lambda a, b: close(a, 0.1 * b), after.ema_params, after.params)
  for name in ("step", "skipped", "skipped_in_row"):
    assert getattr(after, name) == getattr(state, name)
