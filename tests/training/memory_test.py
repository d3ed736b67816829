"""Bytes of a run against counts by hand, and runs that do not fit."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import tiny
from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.train import train
from vae_jax.training import memory, setup
from vae_jax.training import step as train_step

# Of 16 x 16 images and 3 latents: layers 256-16-6 and 3-16-256.
WEIGHTS = (256 + 1) * 16 + (16 + 1) * 6 + (3 + 1) * 16 + (16 + 1) * 256
# 5 steps of 2 images with a byte a pixel and 4 an index.
DATA = 5 * 2 * (256 + 4)
GB = 10**9


def _required(dispatches=0, **settings):
  run = tiny.tiny_experiment(tiny_config("", **settings))
  return memory.required(*tiny.step_arguments(run)[:2], dispatches=dispatches)


def test_state_and_data_are_counted_as_by_hand():
  sgd = _required(optim__optimizer__name="sgd")
  # The state's three counters, and those of the optimizer and its schedule.
  assert 0 < sgd - 4 * WEIGHTS <= 3 * 4 + 16
  plain = _required()
  # Two moments, and Adam's and the schedule's counts.
  assert 0 < plain - 3 * 4 * WEIGHTS <= 3 * 4 + 16
  assert _required(dispatches=4) == plain + 4 * DATA
  assert _required(optim__ema_decay=0.9) == plain + 4 * WEIGHTS


def test_batch_statistics_are_counted():
  conv = {"name": "conv", "args": {"channels": (5,)}}
  run = tiny.tiny_experiment(tiny_config("", model__encoder=conv))
  state, data, *_ = tiny.step_arguments(run)
  with_statistics, without = (
    memory.required(s, data, dispatches=0)
    for s in (state, state.replace(model_state={}))
  )
  assert with_statistics - without == 2 * 4 * 5


def test_activations_fall_with_the_number_of_micro_batches():
  activations = {}
  for count in (1, 4):
    step, arguments = tiny.compiled_step(
      (4, 4, 1),
      model__encoder={"name": "conv", "args": {"channels": (2,)}},
      train__batch_size=4096,
      train__accumulate=count,
      train__steps_per_call=2,
    )
    held = memory.required(*arguments[:2], dispatches=1)
    total = memory.required(*arguments[:2], dispatches=1, compiled=step)
    activations[count] = total - held
    # An image's hidden units and its outputs, at the least.
    assert activations[count] > 4096 // 8 // count * 4 * (16 + 16)
  assert activations[4] < 0.4 * activations[1]


def test_run_that_does_not_fit_is_refused_with_advice(monkeypatch):
  monkeypatch.setattr(memory, "limit", lambda: 5 * GB)
  c = tiny_config("", train__accumulate=2, train__batch_size=2048)
  memory.check(c, 5 * GB)
  sentence = (
    "This run does not fit: each device would hold 7.0 GB and has 5.0 GB; "
    "config.model.remat=True, config.train.accumulate=4, a "
    "config.train.batch_size below 2,048 or config.model.dtype=bfloat16 would "
    "need less."
  )
  with pytest.raises(config_lib.ConfigError, match=f"^{re.escape(sentence)}$"):
    memory.check(c, 7 * GB)
  c.model.remat, c.model.dtype = True, "bfloat16"
  sentence = (
    "has 5.0 GB; config.train.accumulate=4 or a config.train.batch_size below "
    "2,048 would need less."
  )
  with pytest.raises(config_lib.ConfigError, match=f"{re.escape(sentence)}$"):
    memory.check(c, 7 * GB)
  monkeypatch.setattr(memory, "limit", lambda: None)
  memory.check(c, 7 * GB)


def test_refusal_of_the_compiler_gets_the_same_advice():
  c = tiny_config("")
  with pytest.raises(config_lib.ConfigError, match="remat=True") as error:
    with memory.explain_oom(c, GB):
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GiB.\nmore")
  for words in ("with 1.0 GB for state", "(RESOURCE_EXHAUSTED: 9 GiB);"):
    assert words in str(error.value)
  assert "more" not in str(error.value)
  for other in (jax.errors.JaxRuntimeError("INTERNAL: no"), OSError("x")):
    with pytest.raises(type(other)), memory.explain_oom(c):
      raise other


def test_run_on_one_device_is_described(
  faces_dir, tmp_path, caplog, use_devices
):
  use_devices(1)
  caplog.set_level("INFO", "absl")
  costs = setup.Costs()
  train(tiny_config(faces_dir, train__num_steps=2), str(tmp_path), costs=costs)
  for words in (
    "devices     1 x cpu (cpu)",
    f"{WEIGHTS:>14,} parameters",
    f"memory      {memory.size(costs.memory_bytes)} in training, "
    f"{memory.size(costs.validation_bytes)} in validation, of ",
  ):
    assert words in caplog.text
  assert costs.memory_bytes > 3 * 4 * WEIGHTS
  # State, the data of 2 dispatches of 5 steps, the weights to evaluate, and 2
  # batches of 16 images with index, mask and 26 attributes.
  held = 3 * 4 * WEIGHTS + 2 * 5 * 16 * (256 + 4 + 26)
  held += 4 * WEIGHTS + 2 * 16 * (256 + 4 + 1 + 26)
  # Activations: the outputs of the layers, at least, and the program.
  assert 16 * 4 * 256 < costs.validation_bytes - held < 10**6


def _fits(monkeypatch, least):
  """Lets a device have memory for batches below 64 images."""
  real = memory.held

  def held(tree):
    large = [v for v in jax.tree.leaves(tree) if v.shape[1:2] == (least,)]
    return real(tree) + (10**15 if large else 0)

  monkeypatch.setattr(memory, "held", held)
  monkeypatch.setattr(memory, "limit", lambda: 10**12)


def test_validation_that_does_not_fit_has_half_its_batch(
  reference, faces_dir, tmp_path, monkeypatch, caplog
):
  # 8 images on each of 8 devices.
  _fits(monkeypatch, 8)
  c = tiny_config(faces_dir, eval__batch_size=64)
  train(c, str(tmp_path))
  assert "64 images at a time (config.eval.batch_size): going on with 32" in (
    caplog.text
  )
  for split in ("train", "validation"):
    expected = tiny.curve(reference[0], split)
    np.testing.assert_allclose(tiny.curve(tmp_path, split), expected, rtol=1e-5)
  c.objective.name = "beta_tcvae"
  with pytest.raises(
    config_lib.ConfigError,
    match="in a validation and has .* a config.eval.batch_size below 64",
  ):
    train(c, str(tmp_path / "coupled"))


def test_run_that_does_not_fit_never_starts(faces_dir, tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "limit", lambda: 100_000)
  with pytest.raises(config_lib.ConfigError, match="has 100.0 kB"):
    train(tiny_config(faces_dir), str(tmp_path))
  assert not (tmp_path / "metrics.jsonl").exists()
  assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


@pytest.mark.parametrize(
  "line, file",
  [
    ("0::/job/task", "job/memory.max"),
    ("0::/elsewhere", "memory.max"),
    ("4:cpu,memory:/job/task", "memory/job/task/memory.limit_in_bytes"),
  ],
)
def test_cgroup_limits_the_memory_of_the_machine(line, file, tmp_path):
  groups, membership = tmp_path / "groups", tmp_path / "cgroup"
  membership.write_text(f"3:cpuset:/x\n{line}\n")
  machine = memory.host_limit(groups, membership)
  assert 10**8 < machine < 10**14
  (groups / file).parent.mkdir(parents=True)
  (groups / file).write_text("max\n")
  assert memory.host_limit(groups, membership) == machine
  (groups / file).write_text("12345678\n")
  assert memory.host_limit(groups, membership) == 12345678


def test_simulated_devices_share_the_machine():
  assert memory.limit() == memory.host_limit() // 8


def test_sizes_have_decimal_units():
  counts = 3, 1500, 2_500_000, 5 * GB + 3, None
  texts = "3 bytes", "1.5 kB", "2.5 MB", "5.0 GB", "an unknown size"
  assert tuple(map(memory.size, counts)) == texts


def test_costs_are_per_image():
  run, costs = tiny.tiny_experiment(tiny_config("")), setup.Costs()
  arguments = tiny.step_arguments(run)
  step = train_step.make_train_steps(run)
  setup.compile_step(run.config, step, arguments, costs)
  layers = [(256, 16), (16, 6), (3, 16), (16, 256)]
  products = sum(3 * 2 * i * o for i, o in layers) - 2 * 256 * 16
  assert costs.flops_per_image == products
  assert costs.memory_bytes > memory.required(*arguments[:2], dispatches=4)
  assert math.isfinite(costs.compile_seconds) and costs.compile_seconds > 0


def test_impossible_sizes_are_refused_before_anything_is_held():
  c = tiny_config("", data__image_shape=(16, 16, 1))
  params = {"encoder": jnp.zeros(3), "decoder": jnp.zeros((2, 5))}
  memory.check_sizes(c, params)
  wide = {**params, "posterior": jax.ShapeDtypeStruct((2**40, 4), jnp.float32)}
  with pytest.raises(
    config_lib.ConfigError, match="posterior has 35,184.4 GB, .* is 3,"
  ):
    memory.check_sizes(c, wide)
  for field in ("train", "eval"):
    wrong = c.copy_and_resolve_references()
    wrong[field].batch_size = 2**31 - 1
    with pytest.raises(
      config_lib.ConfigError,
      match=rf"config.{field}.batch_size is 2,147,.* 1,099.5 GB",
    ):
      memory.check_sizes(wrong, params)
