"""Bytes against counts by hand, and runs that do not fit."""

import re

import jax
import numpy as np
import pytest
from jax import lax

from tests.support import tiny
from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax import train
from vae_jax.runtime import devices
from vae_jax.training import collectives, memory, setup
from vae_jax.training import step as train_step

# Of 16 x 16 images and 3 latents: layers 256-16-6 and 3-16-256.
WEIGHTS = (256 + 1) * 16 + (16 + 1) * 6 + (3 + 1) * 16 + (16 + 1) * 256
GB = 10**9


def _of(config):
  arguments = tiny.step_arguments(tiny.tiny_experiment(config))
  return memory.of_state(*arguments[:2], dispatches=4)


def test_state_and_data_by_hand():
  plain = _of(tiny_config(""))
  assert plain.parameters == 4 * WEIGHTS
  # Two moments, and Adam's and the schedule's counts.
  assert 0 < plain.optimizer - 2 * 4 * WEIGHTS <= 16
  assert (plain.average, plain.model_state) == (0, 0)
  # 4 dispatches of 5 steps of 2 images with a byte a pixel and 4 an index.
  assert plain.data == 4 * 5 * 2 * (256 + 4)
  averaged = _of(tiny_config("", optim__ema_decay=0.9))
  assert averaged.parameters + averaged.average == 2 * plain.parameters
  sgd = _of(tiny_config("", optim__optimizer__name="sgd"))
  assert sgd.optimizer <= 16
  conv = {"name": "conv", "args": {"channels": (5,)}}
  normalised = _of(tiny_config("", model__encoder=conv))
  assert normalised.model_state == 2 * 4 * 5
  assert plain.total == sum(plain.parts().values())


@pytest.fixture(scope="module")
def in_parts():
  """Returns {parts: compiled step} with batch norm, of large batches."""
  return {
    parts: tiny.compiled_step(
      (4, 4, 1),
      model__encoder={"name": "conv", "args": {"channels": (2,)}},
      train__batch_size=4096,
      train__accumulate=parts,
      train__steps_per_call=2,
    )
    for parts in (1, 4)
  }


def test_activations_fall_with_the_parts_of_a_batch(in_parts):
  found = {}
  for parts, (step, arguments) in in_parts.items():
    known = memory.of_state(*arguments[:2], dispatches=1)
    assert known.activations is None
    found[parts] = memory.with_activations(known, step)
    assert found[parts].total == known.total + found[parts].activations
    # An image's hidden units and its outputs, at the least.
    assert found[parts].activations > 4096 // 8 // parts * 4 * (16 + 16)
  assert found[4].activations < 0.4 * found[1].activations


def test_exchanged_bytes_of_a_step(in_parts):
  found = {}
  for parts, (step, arguments) in in_parts.items():
    exchanged = collectives.bytes_per_step(step.as_text())
    assert list(exchanged) == ["all-reduce"]
    found[parts] = exchanged["all-reduce"]
    weights = memory.of_state(*arguments[:2], dispatches=1).parameters
    # Two channels' two moments, forward and backward, in each part; a few
    # scalars: what is logged, and whether to stop.
    rest = found[parts] - weights - parts * 2 * 2 * 2 * 4
    assert 8 <= rest <= 24 and rest % 4 == 0
  assert found[4] - found[1] == 3 * 2 * 2 * 2 * 4


def test_what_is_gathered():
  gather = devices.pmap(
    lambda x: (devices.all_gather(x), lax.psum(x, devices.AXIS))
  )
  x = devices.replicate(np.ones((2, 3), np.float32))
  text = gather.lower(x).compile().as_text()
  assert collectives.bytes_per_step(text) == {
    "all-gather": 8 * 2 * 3 * 4,
    "all-reduce": 2 * 3 * 4,
  }


PROGRAM = """HloModule jit_f, entry_computation_layout={()->f32[4]{0}}

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%inner (p: (s32[], bf16[10])) -> (s32[], bf16[10]) {
  %g = bf16[10]{0} all-reduce(%x), to_apply=%sum
  ROOT %t = (s32[], bf16[10]{0}) tuple(%i, %g)
}

%big (p: f32[4]) -> f32[4] {
  ROOT %r = f32[4]{0} reduce-scatter(%p), to_apply=%sum
}

%small (p: f32[4]) -> f32[4] {
  ROOT %r = f32[2]{0} reduce-scatter(%p), to_apply=%sum
}

%step (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %w = (s32[], bf16[10]{0}) while(%t), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %s = (f32[4]{0}, f32[], /*index=2*/pred[6]{0}) all-reduce-start(%a, %b, %c), to_apply=%sum
  %d = (f32[4]{0}, f32[], /*index=2*/pred[6]{0}) all-reduce-done(%s)
  %h = (f32[1]{0}, f32[8]{0}) all-gather-start(%a), dimensions={0}
  %e = f32[8]{0} all-gather-done(%h)
  %k = f32[4]{0} conditional(%i, %p, %p), branch_computations={%small, %big}
  ROOT %u = (s32[], f32[4]{0}) tuple(%i, %k)
}

ENTRY %main () -> f32[4] {
  %v = (s32[], f32[4]{0}) while(%t), condition=%c, body=%step
  ROOT %o = f32[4]{0} get-tuple-element(%v), index=1
}
"""  # noqa: E501


def test_halves_loops_tuples_and_alternatives():
  assert collectives.bytes_per_step(PROGRAM) == {
    "all-reduce": 3 * 10 * 2 + 4 * 4 + 4 + 6,
    "all-gather": 8 * 4,
    "reduce-scatter": 4 * 4,
  }


def _small(**changes):
  sizes = dict(
    parameters=1 * GB,
    optimizer=2 * GB,
    average=0,
    model_state=0,
    data=3,
    activations=2 * GB,
    limit=5 * GB + 3,
  )
  return memory.Memory(**sizes | changes)


def test_what_does_not_fit_is_said_with_its_sums():
  c = tiny_config("", train__accumulate=2, train__batch_size=2048)
  memory.check(c, _small())
  with pytest.raises(config_lib.ConfigError) as error:
    memory.check(c, _small(limit=5 * GB + 2))
  assert str(error.value) == (
    "This run does not fit: each device would hold 5.0 GB (parameters 1.0 GB, "
    "optimiser 2.0 GB, data 3 bytes, activations 2.0 GB) and has 5.0 GB; "
    "config.model.remat=True, config.train.accumulate=4, a "
    "config.train.batch_size below 2,048 or config.model.dtype=bfloat16 would "
    "need less."
  )
  c.model.remat, c.model.dtype = True, "bfloat16"
  with pytest.raises(config_lib.ConfigError) as error:
    memory.check(c, _small(limit=1))
  assert "has 1 bytes; config.train.accumulate=4 or a" in str(error.value)
  assert "remat" not in str(error.value) and "dtype" not in str(error.value)


def test_the_compilers_refusal_gets_the_same_words():
  c = tiny_config("")
  with pytest.raises(config_lib.ConfigError, match="remat=True") as error:
    with memory.explain_oom(c, _small(activations=None)):
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GiB.\nmore")
  for said in ("beside parameters 1.0 GB", "(RESOURCE_EXHAUSTED: 9 GiB);"):
    assert said in str(error.value)
  assert "more" not in str(error.value)
  for other in (jax.errors.JaxRuntimeError("INTERNAL: no"), OSError("x")):
    with pytest.raises(type(other)), memory.explain_oom(c):
      raise other


def test_a_run_on_one_device_is_described(faces_dir, tmp_path, monkeypatch):
  one = jax.devices()[:1]
  monkeypatch.setattr(devices, "devices", lambda: one)
  lines = []
  keep = lambda words, *values, **_: lines.extend(map(str, values))
  monkeypatch.setattr(setup.logging, "info", keep)
  train.train(
    tiny_config(faces_dir, train__num_steps=2, data__cache="host"),
    str(tmp_path),
  )
  said = "\n".join(lines)
  assert "exchange    nothing per step and device" in said
  assert f"  parameters    {4 * WEIGHTS / 1000:>11,.1f} kB" in said
  assert "of images, mapped from the disk" in said


def test_a_run_that_does_not_fit_never_starts(faces_dir, tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "limit", lambda: 100_000)
  with pytest.raises(config_lib.ConfigError, match="has 100.0 kB"):
    train.train(tiny_config(faces_dir), str(tmp_path))
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
def test_a_cgroup_limits_what_there_is(line, file, tmp_path):
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


def test_the_table_adds_up():
  lines = memory.table(_small(average=1500), images=2_500_000)
  assert "5.0 GB" in lines[0]
  rows = {line.split("  ")[1].strip(): line for line in lines[1:]}
  assert list(rows) == [
    "parameters",
    "optimiser",
    "average",
    "data",
    "activations",
    "all",
    "host",
  ]
  assert re.search(r" 1\.5 kB$", rows["average"])
  assert re.search(r" 5\.0 GB$", rows["all"])
  assert "2.5 MB of images" in rows["host"]


def test_costs_are_of_one_image():
  c = tiny_config("")
  run = tiny.tiny_experiment(c)
  arguments = tiny.step_arguments(run)
  _, costs = setup.compile_step(c, train_step.make_train_steps(run), arguments)
  layers = [(256, 16), (16, 6), (3, 16), (16, 256)]
  products = sum(3 * 2 * i * o for i, o in layers) - 2 * 256 * 16
  assert costs.flops_per_image == products
  assert costs.memory.data == 4 * 5 * 2 * (256 + 4)
  assert 0 < costs.exchanged["all-reduce"] - 4 * WEIGHTS <= 24
