"""A wrong part gets one sentence, before anything is compiled."""

import inspect
import re
import types

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import linen as nn

from tests.support import tiny, wrong_losses, wrong_modules
from vae_jax import config as config_lib
from vae_jax import distributions, objectives
from vae_jax.config import ConfigError
from vae_jax.distributions import defaults
from vae_jax.runtime import devices
from vae_jax.training import contracts
from vae_jax.training import state as state_lib
from vae_jax.training import step as train_step

_TERMS = "it must return Terms(loss=..., distortion=..., rate=...)"
_FEATURES = "it must map images [b h w c] in [0, 1] to features [b f]"
_OUTPUTS = "it must map codes [b 3] to outputs [b 8 8 1]"
_PIXELS = "a distribution with mean [b 8 8 1] and log_prob(uint8 image) [b]"
_PRIOR = "a distribution with sample(key) [b 3] and log_prob(z) [b]"
_POSTERIOR = "a distribution with mean [b 3], sample(key) [b 3] and log_prob"

# Part -> {wrong one: what the sentence must say, beside name and place}.
WRONG = {
  "objective": {
    "returns_a_tuple": ("returns a tuple of 2 (float32 [b], float", _TERMS),
    "returns_an_array": ("returns float32 [b]; ", _TERMS),
    "returns_nothing": ("returns None; ", _TERMS),
    "returns_a_dict": ("returns a dict of loss; ", _TERMS),
    "takes_the_mean": ("returns loss = float32 []; ", _TERMS),
    "keeps_the_pixels": ("returns loss = float32 [b 8 8 1]; ", _TERMS),
    "counts": ("returns loss = int32 [b]; ", _TERMS),
    "logs_a_number": ("returns weight = 0.5; ", _TERMS),
    "logs_a_list": ("extras that are a list of 1 (1.0)", _TERMS),
    "takes_one": ("no function of (vae, batch, *, ...) but one of (vae);",),
    "takes_a_step": ("but one of (vae, batch, step); hyper",),
    "has_no_star": ("(vae, batch, beta=1.0); hyperparameters stand after a *",),
    "not_a_function": ("no function of (vae, batch, *, ...) but 3.",),
    "unpacks": ("in training", "cannot unpack", "(q,) = vae.encode(", _TERMS),
    "asks_for_log_variance": ("no attribute 'log_variance'", "q.log_variance"),
    "branches": ("TracerBoolConversionError", "use jnp.where", _TERMS),
    "calls_item": ("ConcretizationTypeError", "x.item() do: keep it an array"),
    "loops_over_steps": ("TracerIntegerConversionError", "only the device"),
    "uses_numpy": ("TracerArrayConversionError", "use jax.numpy"),
    "misspells": ("NameError: name 'bach' is not defined", _TERMS),
    "forgets_distortion": ("missing 1 required", "'distortion'", _TERMS),
    "names_an_axis": ("unbound axis name: nothere", _TERMS),
    "reads_missing_labels": ("'NoneType' object is not subscriptable",),
    "asserts": ("in training", "AssertionError", _TERMS),
  },
  "model.encoder": {
    "Map": ("returns float32 [b 8 8 4]; ", _FEATURES),
    "Pair": ("returns a tuple of 2 (float32 [b 4], float32 [b 4])", _FEATURES),
    "NoReturn": ("returns None; ", _FEATURES),
    "OneVector": ("returns float32 [4]; ", _FEATURES),
    "PairInTraining": ("returns a tuple of 2 (float32 [b 4]", _FEATURES),
    "UnfilledField": ("config.model.encoder.args.width has no value",),
    "RefusesItsField": ("cannot be built", "ValueError: width must be posi"),
    "Plain": ("is no flax.linen.Module",),
    "TakesTrain": ("'train'; train is a field of the class", _FEATURES),
    "FixedBatch": ("while it is initialized", "cannot reshape", _FEATURES),
    "Branches": ("TracerBoolConversionError", "use jnp.where", _FEATURES),
    "NotCompact": ("method wrapped in `@compact`", _FEATURES),
    "WrongSetup": ('has no attribute "nothing"', _FEATURES),
    "AlwaysDrops": ("in evaluation", "make dropout deterministic", _FEATURES),
    "AlwaysBatchNorm": ("in evaluation", "use the field train", _FEATURES),
    "LayerInTraining": ("in training", "ScopeParamNotFoundError", _FEATURES),
    "Memory": ("in training", '"memory" is immutable', _FEATURES),
    "StateChangesShape": (
      "variable batch_stats/encoder/seen is float32 [] at first and float32 "
      "[8 8 1] after a step",
    ),
    "IntegerWeights": ("parameter encoder/w is int32 []",),
  },
  "model.decoder": {
    "FlatImage": ("returns float32 [b 64]; ", _OUTPUTS),
    "ThreeChannels": ("returns float32 [b 8 8 3]; ", _OUTPUTS),
    "ChannelsFirst": ("returns float32 [b 1 8 8]; ", _OUTPUTS),
    "IntegerImage": ("returns int32 [b 8 8 1]; ", _OUTPUTS),
    "DecodesToDistribution": ("returns a Bernoulli; ", _OUTPUTS),
  },
  "model.likelihood": {
    "LogProbPerPixel": ("whose log_prob is float32 [b 8 8 1]; ", _PIXELS),
    "MeanIsMethod": ("whose mean is the function mean, which was no", _PIXELS),
    "OneMetric": ("returns metrics whose mse is float32 []; ", _PIXELS),
    "MetricsList": ("metrics that are a list of 1 (float32 [b])", _PIXELS),
    "LogProbFails": ("in log_prob", "no attribute 'nothing'", _PIXELS),
    "NoDistribution": ("float32 [b 8 8 1] without log_prob; ", _PIXELS),
    "NoMean": ("returns a StandardNormal without mean; ", _PIXELS),
    "OutputsOfNothing": ("whose num_outputs(1) fails", "TypeError"),
    "NoOutputs": ("whose num_outputs(1) is 0; it must be",),
  },
  "model.prior": {
    "SevenLatents": ("whose sample is float32 [b 7]; ", _PRIOR),
    "OneKey": ("in sample", "laplace accepts a single key", _PRIOR),
    "LogProbPerDimension": ("whose log_prob is float32 [b 3]; ", _PRIOR),
    "BranchesOnTemperature": ("in sample", "TracerBoolConversion", _PRIOR),
    "NoSample": ("returns 3.0 without sample, log_prob; ", _PRIOR),
    "TakesNothing": ("takes 1 positional argument but 2 were", _PRIOR),
  },
  "model.posterior": {
    "MeanAndVariance": ("a tuple of 2", "without mean, sample", _POSTERIOR),
    "FiveLatents": ("whose mean is float32 [b 5]; ", _POSTERIOR),
    "OneOfTwo": ("whose sample_and_log_prob is float32 [b 3]", _POSTERIOR),
    "NoKl": ("returns a _NoKl without kl; ", _POSTERIOR),
    "KlPerDimension": ("whose kl is float32 [b 3]; ", _POSTERIOR),
  },
}


@pytest.fixture(autouse=True)
def as_users_run():
  """Turns off the types that tests check: a user's run does not."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


def _module(field):
  return wrong_losses if field == "objective" else wrong_modules


def _config(field, name, **settings):
  c = tiny.tiny_config("", **settings)
  c.model.encoder.args.hidden = c.model.decoder.args.hidden = (4,)
  config_lib.update(c, f"{field}.name", f"{_module(field).__name__}.{name}")
  config_lib.update(c, f"{field}.args", {})
  return c


def _marked(module, name):
  """Returns the marked line of a wrong part, or of the class behind it."""
  lines, first = inspect.getsourcelines(module)
  text = "".join(lines)
  behind = re.search(rf"^{name} = \w+\((?:lambda.*: )?(_\w+)", text, re.M)
  for which in filter(None, (name, behind and behind.group(1))):
    start = re.search(rf"^(?:class|def) {which}\b", text, re.M)
    if start is None:
      continue
    block = text[start.start() :].partition("\n\n\n")[0]
    if "# here" in block:
      before = text[: start.start()] + block[: block.index("# here")]
      return max(first, 1) + before.count("\n")
  return None


@pytest.mark.parametrize(
  "field, name", [(field, name) for field in WRONG for name in WRONG[field]]
)
def test_a_wrong_part_is_named(field, name):
  with pytest.raises(ConfigError) as caught:
    run = tiny.tiny_experiment(_config(field, name), (8, 8, 1))
    contracts.check(run)
  text = str(caught.value)
  assert "\n" not in text and text.endswith(".")
  module = _module(field)
  assert f"{module.__name__}.{name}" in text and f"config.{field}." in text
  for words in WRONG[field][name]:
    assert words in text
  line, file = _marked(module, name), module.__name__.replace(".", "/")
  assert (f"{file}.py, line {line}" in text) == bool(line)


@pytest.mark.parametrize(
  "name, words",
  [
    (
      "has_an_unfilled_critic",
      r"^config.objective.auxiliary.args.width has no value, which _Critic "
      r"\(.*wrong_losses.py, line \d+\) needs",
    ),
    (
      "has_a_failing_critic",
      r"^config.objective.name is '.*failing_critic', whose network is "
      r"_FailingCritic \(.*line \d+\), which fails while it is initialized, at "
      r".*wrong_losses.py, line \d+: AttributeError: .*; it reads latents.",
    ),
  ],
)
def test_a_wrong_critic_is_named(name, words):
  with pytest.raises(ConfigError, match=words):
    run = tiny.tiny_experiment(_config("objective", name), (8, 8, 1))
    contracts.check(run)


@pytest.mark.parametrize("name", ["right_partial", "right_callable"])
def test_whatever_can_be_called_is_a_loss(name):
  c = _config("objective", name)
  contracts.check(tiny.tiny_experiment(c, (8, 8, 1)))
  c.objective.args.beta = 3.0
  contracts.check(tiny.tiny_experiment(c, (8, 8, 1)))


def test_a_critic_is_a_class_of_modules():
  for network in (nn.Dense(3), object, len):
    with pytest.raises(
      ConfigError, match="it must be a class of flax.linen mo"
    ):
      objectives.needs(network, reads="latents")


def test_a_step_without_a_gradient_names_own_parts():
  run = tiny.tiny_experiment(_config("objective", "searches"), (8, 8, 1))
  contracts.check(run)
  step = jax.vmap(
    lambda data: train_step.train_step(
      run, state_lib.init_state(run), data, jnp.uint32(0)
    ),
    axis_name=devices.AXIS,
  )
  data = {
    "image": jnp.zeros((1, 1, 2, 8, 8, 1), jnp.uint8),
    "index": jnp.zeros((1, 1, 2), jnp.int32),
  }
  with pytest.raises(ConfigError) as caught, contracts.gradient(run):
    jax.eval_shape(step, data)
  text = str(caught.value)
  assert text.startswith("A training step has no gradient")
  assert "while_loop" in text and "use jax.lax.scan" in text
  assert f"config.objective.name is '{wrong_losses.__name__}.searches'" in text


def test_an_error_of_the_package_stays_one():
  run = tiny.tiny_experiment(tiny.tiny_config(""), (8, 8, 1))
  with pytest.raises(ZeroDivisionError), contracts.gradient(run):
    raise ZeroDivisionError


def test_optional_methods_have_defaults():
  key = jax.random.split(jax.random.key(0), 4)
  own = wrong_modules._Prior(2)
  completed = defaults.prior(own)
  z = own.sample(key)
  np.testing.assert_array_equal(completed.sample(key, temperature=0.5), z / 2)
  np.testing.assert_array_equal(completed.log_prob(z), own.log_prob(z))
  assert defaults.prior(completed) is completed
  normal = distributions.StandardNormal(2)
  assert defaults.prior(normal) is normal
  # About the mean, where there is one.
  moved = types.SimpleNamespace(
    mean=3.0, sample=lambda key: own.sample(key) + 3
  )
  np.testing.assert_allclose(
    defaults.prior(moved).sample(key, 0.5), z / 2 + 3, rtol=1e-6
  )

  own = wrong_modules._Posterior(mean=z)
  completed = defaults.posterior(own)
  draw, log_q = completed.sample_and_log_prob(key)
  np.testing.assert_array_equal(log_q, own.log_prob(draw))
  assert not completed.has_kl(normal)
  with pytest.raises(ConfigError, match="no closed form of KL._Posterior"):
    completed.kl(normal)
  own = wrong_modules._KlPerDimension(mean=z)
  assert defaults.posterior(own).has_kl(normal)
  point = distributions.Deterministic(z)
  assert defaults.posterior(point) is point

  image = jnp.full((4, 2, 2, 1), 255, jnp.uint8)
  own = wrong_modules._Pixels(jnp.full((4, 2, 2, 1), 0.5))
  metrics = defaults.likelihood(own).metrics(image)
  np.testing.assert_array_equal(metrics["squared_error"], np.ones(4))
