"""Schedules and averaged weights as values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from vae_jax import config as config_lib
from vae_jax.training import optim, weight_decay


def _config(**optim):
  """Returns a config whose optim is changed."""
  c = config_lib.default()
  for path, value in optim.items():
    config_lib.update(c, f"optim.{path.replace('__', '.')}", value)
  return c


@pytest.mark.parametrize(
  "settings, steps, rates",
  [
    # Constant after a linear warm-up.
    ({"warmup_steps": 10}, (0, 4, 9, 10, 99), (1e-4, 5e-4, 1e-3, 1e-3, 1e-3)),
    (
      {"schedule__name": "cosine", "schedule__args": {"final": 0.1}},
      (0, 50, 100, 200),
      (1e-3, 5.5e-4, 1e-4, 1e-4),
    ),
    (
      {"schedule__name": "step", "schedule__args": {"at": (0.5, 0.75)}},
      (49, 50, 74, 75),
      (1e-3, 1e-4, 1e-4, 1e-5),
    ),
  ],
  ids=["constant", "cosine", "step"],
)
def test_learning_rates_by_hand(settings, steps, rates):
  rate = optim.learning_rate(_config(**settings), 100)
  np.testing.assert_allclose([rate(s) for s in steps], rates, rtol=1e-6)


def test_stages_are_those_of_the_paper():
  """3^i epochs at 1e-3 10^(-i / 7): 3,280 epochs, here of ten steps."""
  c = _config(schedule__name="stages")
  rate = optim.learning_rate(c, 32_800)
  ends = np.cumsum(10 * 3 ** np.arange(8))
  for i, end in enumerate(ends):
    for step in (end - 10 * 3**i + 2, end - 2):
      expected = 1e-3 * 10 ** (-i / 7)
      assert float(rate(int(step))) == pytest.approx(expected, rel=1e-5)
  c.optim.schedule.args.count = 3
  rate = optim.learning_rate(c, 13)
  expected = 1e-3 * np.sqrt(0.1) ** np.repeat([0, 1, 2], [1, 3, 9])
  np.testing.assert_allclose([rate(i) for i in range(13)], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "sgd"])
def test_optimizers_of_optax_by_name(name):
  ours = optim.optimizer(_config(optimizer__name=name), 10)
  theirs = getattr(optax, name)(1e-3)
  params = {"w": jnp.array([1.0, -2.0])}
  grads = {"w": jnp.array([0.3, 0.1])}
  update, _ = ours.update(grads, ours.init(params), params)
  expected, _ = theirs.update(grads, theirs.init(params), params)
  np.testing.assert_allclose(update["w"], expected["w"], rtol=1e-6)


def test_clipping_is_by_global_norm():
  c = _config(optimizer__name="sgd", learning_rate=1.0, clip_norm=1.0)
  optimizer = optim.optimizer(c, 10)
  grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
  update, _ = optimizer.update(grads, optimizer.init(grads), grads)
  np.testing.assert_allclose(update["a"], [-0.6], rtol=1e-6)
  np.testing.assert_allclose(update["b"], [-0.8], rtol=1e-6)


def test_debiased_average_is_the_weighted_mean():
  values, decay = [1.0, 5.0, -2.0], 0.9
  average = {"w": jnp.zeros(())}
  for v in values:
    average = optim.update_ema(average, {"w": jnp.float32(v)}, decay)
  weights = 0.1 * decay ** np.arange(2, -1, -1)
  expected = (weights * values).sum() / weights.sum()
  debiased = optim.debias_ema(average, decay, 3)
  np.testing.assert_allclose(debiased["w"], expected, rtol=1e-6)


CUSTOM = "cannot be used as it is"
FLOATS = "it must be one of bfloat16"
MASKS = "allowed are kernels, all"


@pytest.mark.parametrize(
  "name, args, message",
  [
    ("adamm", {}, "adamm"),
    ("chain", {}, "muon or an optimizer of optax"),
    ("adam", {"bta": 1}, "bta"),
    # They need more than gradients.
    ("lbfgs", {}, CUSTOM),
    ("rprop", {}, CUSTOM),
    ("adamw", {"mask": "kernel"}, f"args.mask is 'kernel'; {MASKS}"),
    ("adadelta", {"weight_decay_mask": 1}, MASKS),
    ("lars", {"weight_decay_mask": True}, f"is True; {MASKS}"),
    ("adam", {"mask": "kernels"}, "args.mask is unknown to adam"),
    ("adam", {"mu_dtype": "float7"}, f"{FLOATS}, float16, flo"),
    ("adafactor", {"dtype_momentum": 3}, FLOATS),
    ("sgd", {"momentum": "much"}, "momentum is 'much'; it must be a number"),
    ("rmsprop", {"momentum": True}, "momentum is True; it must be a number"),
    ("lbfgs", {"linesearch": "zoom"}, "no config can hold a linesearch"),
  ],
)
def test_impossible_optimizers_are_refused(name, args, message):
  c = _config(optimizer__name=name, optimizer__args=args)
  with pytest.raises(config_lib.ConfigError, match=message):
    optim.optimizer(c, 10)


@pytest.mark.parametrize(
  "name, args, message",
  [
    ("cosin", {}, "cosin"),
    ("constant", {"final": 1.0}, "final"),
    ("cosine", {"final": -1.0}, "final is -1.0; it must be 0 or more"),
    ("step", {"decay": -1.0}, "decay is -1.0; it must be above 0"),
    ("step", {"at": (500.0, 1000.0)}, "a fraction of the run"),
    ("stages", {"count": 0}, "count is 0; it must be at least 1"),
  ],
)
def test_impossible_schedules_are_refused(name, args, message):
  c = _config(schedule__name=name, schedule__args=args)
  for use in (optim.learning_rate, optim.optimizer):
    with pytest.raises(config_lib.ConfigError, match=message):
      use(c, 10)


@pytest.mark.parametrize(
  "name, args",
  [
    ("adam", {"mu_dtype": "bfloat16"}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "accumulator_dtype": "float32"}),
    ("adamw", {"mask": "kernels", "weight_decay": 0.1}),
  ],
)
def test_right_arguments_of_any_type_are_passed_on(name, args):
  c = _config(optimizer__name=name, optimizer__args=args)
  params = {"encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
  state = optim.optimizer(c, 10).init(params)
  dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(state)}
  assert dtypes - {"int32"} <= {args.get("mu_dtype", "float32"), "float32"}
  assert ("bfloat16" in dtypes) == (args.get("mu_dtype") == "bfloat16")


def _decayed(name, **args):
  """Returns which weights move without a gradient, and the line about them."""
  args |= {"weight_decay": 0.1}
  c = _config(optimizer__name=name, optimizer__args=args)
  weight_decay.resolve(c.optim.optimizer)
  kernel, bias = jnp.ones((2, 2)), jnp.ones(2)
  params = {
    "encoder": {"Dense_0": {"kernel": kernel, "bias": bias}},
    "decoder": {"BatchNorm_0": {"scale": bias}, "kernel": bias},
    "latent_prior": {"coupling_0": {"kernel": kernel}, "pseudo": kernel},
    "likelihood": {"log_sigma": jnp.ones(())},
  }
  optimizer = optim.optimizer(c, 10)
  zeros = jax.tree.map(jnp.zeros_like, params)
  update, _ = optimizer.update(zeros, optimizer.init(params), params)
  moved = traverse_util.flatten_dict(update, sep="/")
  names = {name for name, value in moved.items() if (value != 0).any()}
  return names, weight_decay.described(c, params)


def test_kernels_alone_decay_unless_all_are_asked_for():
  names, (line,) = _decayed("adamw")
  assert names == {"encoder/Dense_0/kernel"}
  assert line.endswith("0.1 per step, of 1 of 7 arrays: encoder kernel")
  names, (line,) = _decayed("adamw", mask="all")
  assert len(names) == 7 and "7 of 7 arrays: decoder kernel, decoder sc" in line
  # It takes no mask.
  names, (line,) = _decayed("novograd")
  assert len(names) == 7 and "7 of 7 arrays" in line
  c = config_lib.default()
  assert weight_decay.described(c, {"encoder": {"kernel": jnp.ones(2)}}) == []


def test_runs_of_earlier_releases_keep_their_decay():
  """Their configs have no mask; a new config that says all equals them."""
  old, new = (_config(optimizer__name="adamw") for _ in range(2))
  assert weight_decay.masks("optim.optimizer", old.optim.optimizer) == {}
  new.optim.optimizer.args.mask = "all"
  weight_decay.resolve(new.optim.optimizer)
  assert config_lib.differences(new, old) == []
  weight_decay.resolve(new.optim.optimizer)
  assert new.optim.optimizer.args.mask == "kernels"
