"""Parts of a model, each wrong in one way; `# here` marks a line that a message
must name."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from vae_jax import distributions


def _flat(x):
  return x.reshape(len(x), -1)


class Map(nn.Module):  # here
  @nn.compact
  def __call__(self, x):
    return nn.Conv(4, (3, 3))(x)


class Pair(nn.Module):  # here
  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(_flat(x))
    return x, x


class NoReturn(nn.Module):  # here
  @nn.compact
  def __call__(self, x):
    nn.Dense(4)(_flat(x))


class OneVector(nn.Module):  # here
  @nn.compact
  def __call__(self, x):
    return nn.Dense(4)(x.reshape(-1))


class PairInTraining(nn.Module):  # here
  train: bool = False

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(_flat(x))
    return (x, x) if self.train else x


class UnfilledField(nn.Module):  # here
  width: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.width)(_flat(x))


class RefusesItsField(nn.Module):
  width: int = 0

  def __post_init__(self):
    super().__post_init__()
    if self.width < 1:
      raise ValueError("width must be positive")  # here

  def __call__(self, x):
    return _flat(x)


class Plain:  # here
  def __call__(self, x):
    return _flat(x)


class TakesTrain(nn.Module):  # here
  def __call__(self, x, train):
    return _flat(x)


class FixedBatch(nn.Module):
  def __call__(self, x):
    return x.reshape(128, -1)  # here


class Branches(nn.Module):
  def __call__(self, x):
    if x.mean() > 0.5:  # here
      x = 1 - x
    return _flat(x)


class NotCompact(nn.Module):
  def __call__(self, x):
    return nn.Dense(4)(_flat(x))  # here


class WrongSetup(nn.Module):
  def setup(self):
    self.layer = nn.Dense(self.nothing)  # here

  def __call__(self, x):
    return self.layer(_flat(x))


class AlwaysDrops(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dropout(0.5, deterministic=False)(_flat(x))  # here


class AlwaysBatchNorm(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.BatchNorm(use_running_average=False)(_flat(x))  # here


class LayerInTraining(nn.Module):
  train: bool = False

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(_flat(x))
    return nn.Dense(4)(x) if self.train else x  # here


class Memory(nn.Module):
  @nn.compact
  def __call__(self, x):
    seen = self.variable("memory", "seen", lambda: jnp.zeros(()))
    seen.value = x.mean()  # here
    return _flat(x)


class StateChangesShape(nn.Module):  # here
  train: bool = False

  @nn.compact
  def __call__(self, x):
    seen = self.variable("batch_stats", "seen", lambda: jnp.zeros(()))
    if self.train:
      seen.value = x.mean(axis=0)
    return _flat(x)


class IntegerWeights(nn.Module):  # here
  @nn.compact
  def __call__(self, x):
    return self.param("w", lambda key: jnp.ones((), jnp.int32)) * _flat(x)


class FlatImage(nn.Module):  # here
  @nn.compact
  def __call__(self, z):
    return nn.Dense(64)(z)


class ThreeChannels(nn.Module):  # here
  @nn.compact
  def __call__(self, z):
    return nn.Dense(192)(z).reshape(len(z), 8, 8, 3)


class ChannelsFirst(nn.Module):  # here
  @nn.compact
  def __call__(self, z):
    return nn.Dense(64)(z).reshape(len(z), 1, 8, 8)


class IntegerImage(nn.Module):  # here
  @nn.compact
  def __call__(self, z):
    x = nn.Dense(64)(z).reshape(len(z), 8, 8, 1)
    return jnp.round(x).astype(jnp.int32)


class DecodesToDistribution(nn.Module):  # here
  @nn.compact
  def __call__(self, z):
    x = nn.Dense(64)(z).reshape(len(z), 8, 8, 1)
    return distributions.Bernoulli(x)


@struct.dataclass
class _Pixels:
  mean: jax.Array

  def log_prob(self, image):
    return -jnp.square(image / 255 - self.mean).sum(axis=(1, 2, 3))


class _PerPixel(_Pixels):
  def log_prob(self, image):
    return -jnp.square(image / 255 - self.mean)


class _MeanIsMethod(_Pixels):
  def mean(self):
    return 0.5

  def __init__(self, outputs):
    pass


class _OneMetric(_Pixels):
  def metrics(self, image):
    return {"mse": jnp.square(image / 255 - self.mean).mean()}


class _MetricsList(_Pixels):
  def metrics(self, image):
    return [self.log_prob(image)]


class _LogProbFails(_Pixels):
  def log_prob(self, image):
    return image @ self.nothing  # here


def _likelihood(distribution):
  class Likelihood(nn.Module):
    def __call__(self, outputs):
      return distribution(outputs)

  return Likelihood


LogProbPerPixel = _likelihood(_PerPixel)
MeanIsMethod = _likelihood(_MeanIsMethod)
OneMetric = _likelihood(_OneMetric)
MetricsList = _likelihood(_MetricsList)
LogProbFails = _likelihood(_LogProbFails)
NoDistribution = _likelihood(lambda outputs: outputs)
NoMean = _likelihood(lambda outputs: distributions.StandardNormal(3))


class OutputsOfNothing(nn.Module):
  def num_outputs(self):  # here
    return 2

  def __call__(self, outputs):
    return _Pixels(outputs)


class NoOutputs(OutputsOfNothing):
  def num_outputs(self, channels):
    return 0


@struct.dataclass
class _Prior:
  dim: int = struct.field(pytree_node=False, default=3)

  def sample(self, key):
    return jax.vmap(lambda key: jax.random.laplace(key, (self.dim,)))(key)

  def log_prob(self, z):
    return -jnp.abs(z).sum(axis=-1)


class _OneKey(_Prior):
  def sample(self, key):
    return jax.random.laplace(key, (self.dim,))  # here


class _PerDimension(_Prior):
  def log_prob(self, z):
    return -jnp.abs(z)


class _BranchesOnTemperature(_Prior):
  def sample(self, key, temperature):
    if temperature > 1:  # here
      return None
    return super().sample(key)


def _prior(make):
  class Prior(nn.Module):
    def __call__(self, encode):
      return make()

  return Prior


SevenLatents = _prior(lambda: _Prior(7))
OneKey = _prior(_OneKey)
LogProbPerDimension = _prior(_PerDimension)
BranchesOnTemperature = _prior(_BranchesOnTemperature)
NoSample = _prior(lambda: 3.0)


class TakesNothing(nn.Module):  # here
  def __call__(self):
    return _Prior()


@struct.dataclass
class _Posterior(_Prior):
  mean: jax.Array = None

  def sample(self, key):
    return self.mean


class _OneOfTwo(_Posterior):
  def sample_and_log_prob(self, key):
    return self.mean


class _NoKl(_Posterior):
  def has_kl(self, prior):
    return True


class _KlPerDimension(_NoKl):
  def kl(self, prior):
    return jnp.square(self.mean)


def _posterior(make):
  class Posterior(nn.Module):
    @nn.compact
    def __call__(self, features):
      return make(nn.Dense(3)(features))

  return Posterior


MeanAndVariance = _posterior(lambda mean: (mean, mean))
FiveLatents = _posterior(lambda mean: _Posterior(mean=mean[:, [0, 1, 2, 0, 1]]))
OneOfTwo = _posterior(lambda mean: _OneOfTwo(mean=mean))
NoKl = _posterior(lambda mean: _NoKl(mean=mean))
KlPerDimension = _posterior(lambda mean: _KlPerDimension(mean=mean))
