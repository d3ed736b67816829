"""Training of the attribute classifier, once for each data set."""

import dataclasses
import hashlib
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import cache, datasets, ground_truth, pipeline, preparation
from vae_jax.distributions.pixels import Images, Pixels
from vae_jax.evaluate import attribute_classifier
from vae_jax.evaluate.attribute_classifier import AttributeClassifier, Network
from vae_jax.runtime import bars, devices, locks
from vae_jax.training import muon
from vae_jax.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a classifier is trained."""

  images: int = 80_000  # Training images seen, repetitions included, ...
  passes: int = 30  # ... at most so many times each.
  batch_size: int = 128
  learning_rate: float = 2e-2  # Muon's, at first; it follows a cosine to 0.
  channels: tuple[int, ...] = Network.channels
  noise: float = 0.03  # Largest standard deviation, of pixels in [0, 1].

  def seen(self, count: int) -> int:
    """Returns the images seen, repetitions included, of `count` images."""
    return min(self.images, self.passes * count)


RECIPE = Recipe()
# Incremented when the same images would give another classifier.
_VERSION = 2
# The name of earlier versions, so that their classifiers are found.
_FOLDER = "judges"
_BLUR = np.array([1, 4, 6, 4, 1]) / 16


def load_or_train(experiment: Experiment) -> AttributeClassifier:
  """Returns the classifier of a data set: the cached one, or a new one.

  The cache is a file under `devices.cache_root()`, named by a digest of the
  fingerprints of the training and test splits.

  Raises:
    ConfigError: the data set has no attributes and no classes.
  """
  config, splits = experiment.config, experiment.splits
  if splits.train.label_shape is None or splits.label_names is None:
    raise ConfigError(
      f"{splits.name} has no attributes and no classes, which a classifier of "
      "edits needs; see config.data.label."
    )
  path = path_of(experiment)
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock")
    with locks.file_lock(lock, "training the attribute classifier"):
      if not path.exists():
        attribute_classifier.save(_train(config, splits), path)
  return attribute_classifier.load(path)


def path_of(experiment: Experiment) -> pathlib.Path:
  """Returns where the classifier of a data set is cached, if it is."""
  splits = experiment.splits
  key = {
    "version": _VERSION,
    "images": RECIPE.seen(len(splits.train)),
    "train": splits.train.fingerprint,
    "test": splits.test.fingerprint,
  }
  digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
  folder = pathlib.Path(devices.cache_root()) / _FOLDER
  return folder / f"{digest.hexdigest()[:16]}.npz"


def _real_factors(
  config: ConfigDict, splits: datasets.Splits, purpose: str
) -> tuple[tuple[str, ...], Float[np.ndarray, "n f"]]:
  """Returns names and values of the real factors of a split, if any."""
  try:
    builder = preparation.builder(config.data)
    stored = ground_truth.values(builder, splits.split_strings[purpose])
  except ConfigError:
    stored = {}
  # Without the constant ones, which have no scale.
  factors = {
    k: v for k, v in stored.items() if v.dtype.kind == "f" and v.std() > 0
  }
  if not factors:
    return (), np.zeros((len(getattr(splits, purpose)), 0))
  return tuple(factors), np.stack(list(factors.values()), axis=1)


def _blur_matrix(size: int, times: int) -> Float[np.ndarray, "n n"]:
  """Returns the matrix that convolves rows with the kernel, with copies of the
  pixels at the edges beyond them."""
  taps = np.arange(size)[:, None] + np.arange(len(_BLUR)) - len(_BLUR) // 2
  matrix = np.zeros((size, size))
  np.add.at(matrix, (np.arange(size)[:, None], taps.clip(0, size - 1)), _BLUR)
  return np.linalg.matrix_power(matrix, times).astype(np.float32)


def blur(x: Pixels, times: int = 1) -> Pixels:
  """Convolves images `times` times with the binomial kernel (1 4 6 4 1) / 16.

  Products of matrices, since repeated sums of shifted images take five times as
  long on a CPU.
  """
  rows, columns = (_blur_matrix(n, times) for n in x.shape[1:3])
  x = jnp.einsum("ij,bjwc->biwc", rows, x)
  return jnp.einsum("ij,bhjc->bhic", columns, x)


def _noise(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
  """Returns noise of mean 0 and variance 1 with 256 levels, equally likely.

  Four pixels share a random word: normal noise took a tenth of the training.
  """
  count = math.prod(shape)
  words = jax.random.bits(key, (-(-count // 4),), jnp.uint32)
  levels = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:count]
  spread = math.sqrt((256**2 - 1) / 12)
  return (levels.astype(jnp.float32).reshape(shape) - 127.5) / spread


def degrade(image: Images, key: Key[Array, ""]) -> Pixels:
  """Returns images in [0, 1], blurred and noisy by random amounts.

  A VAE's images are smooth: a classifier that relies on single pixels would
  fail on them.
  """
  x = image / jnp.float32(255)
  once, thrice = blur(x), blur(x, 3)
  blur_key, noise_key, amount_key = jax.random.split(key, 3)
  # Squared, so that half of the images stay sharp or nearly so.
  level = 2 * jax.random.uniform(blur_key, (len(x), 1, 1, 1)) ** 2
  low = x + jnp.minimum(level, 1) * (once - x)
  x = low + jnp.maximum(level - 1, 0) * (thrice - once)
  scale = RECIPE.noise * jax.random.uniform(amount_key, (len(x), 1, 1, 1))
  return x + scale * _noise(noise_key, x.shape)


def _train(config: ConfigDict, splits: datasets.Splits) -> AttributeClassifier:
  """Trains a classifier and measures it on the test split."""
  names, classes = splits.label_names, splits.train.label_shape == ()
  source = cache.open_source(splits.train, config.data)
  factor_names, true = _real_factors(config, splits, "train")
  scale = np.stack([true.mean(0), true.std(0)]).astype(np.float32)
  standardized = ((true - scale[0]) / scale[1]).astype(np.float32)
  network = Network(len(names) + len(factor_names), RECIPE.channels)
  batch_size = RECIPE.batch_size
  steps = max(1, RECIPE.seen(len(source)) // batch_size)
  schedule = optax.cosine_decay_schedule(RECIPE.learning_rate, steps)
  optimizer = muon.muon(schedule)
  example = jnp.zeros((1, *splits.image_shape))
  params = jax.jit(network.init)(jax.random.key(0), example)

  def loss(params, image, label, factor, key):
    _, outputs = network.apply(params, degrade(image, key))
    logits, prediction = outputs[:, : len(names)], outputs[:, len(names) :]
    if classes:
      error = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    else:
      error = optax.sigmoid_binary_cross_entropy(logits, label).sum(axis=1)
    return jnp.mean(error + ((prediction - factor) ** 2).sum(axis=1))

  @jax.jit
  def step(state, data, count):
    params, slots = state
    key = jax.random.fold_in(jax.random.key(1), count)
    gradient = jax.grad(loss)(params, *data, key)
    updates, slots = optimizer.update(gradient, slots)
    return optax.apply_updates(params, updates), slots

  def fetch(count: int) -> tuple[np.ndarray, ...]:
    positions = np.arange(count * batch_size, (count + 1) * batch_size)
    index = pipeline.example_order(0, len(source), positions)
    data = source.fetch(index)
    return data["image"], data["label"], standardized[index]

  state = params, optimizer.init(params)
  logging.info("Training an attribute classifier for %s, once.", splits.name)
  total = steps * batch_size
  with bars.Bar(total, "training the classifier", "images") as bar:
    for count, data in enumerate(pipeline.prefetch(fetch, range(steps))):
      state = step(state, data, count)
      jax.block_until_ready(state)
      bar.update(batch_size)
  classifier = AttributeClassifier(
    names=names,
    classes=classes,
    factors=factor_names,
    scale=scale,
    quartiles=np.quantile(true, (0.25, 0.5, 0.75), axis=0).astype(np.float32),
    accuracy={},
    params=jax.tree.map(np.asarray, state[0]),
    channels=RECIPE.channels,
  )
  accuracy = _accuracy(classifier, config, splits)
  logging.info("Accuracy on the test split: %s", json.dumps(accuracy))
  return dataclasses.replace(classifier, accuracy=accuracy)


def _accuracy(
  classifier: AttributeClassifier, config: ConfigDict, splits: datasets.Splits
) -> dict[str, float]:
  """Returns balanced accuracies and R^2 on the test split, by name."""
  source = cache.open_source(splits.test, config.data)
  data = source.fetch(np.arange(len(source)))
  predictions = classifier.predict(data["image"])
  label = data["label"]
  if classifier.classes:
    classes = np.arange(len(classifier.names))
    present = label[:, None] == classes
    predicted = predictions.probability.argmax(axis=1)[:, None] == classes
  else:
    present, predicted = label.astype(bool), predictions.probability > 0.5
  accuracy = {}
  for a, name in enumerate(classifier.names):
    correct, sides = (predicted == present)[:, a], (present, ~present)
    shares = [correct[s[:, a]].mean() for s in sides if s[:, a].any()]
    accuracy[name] = round(float(np.mean(shares)), 4)
  names, true = _real_factors(config, splits, "test")
  for name in sorted(set(names) & set(classifier.factors)):
    value = true[:, names.index(name)]
    estimate = predictions.factor[:, classifier.factors.index(name)]
    error = np.mean((estimate - value) ** 2)
    accuracy[name] = round(float(1 - error / value.var()), 4)
  return accuracy
