"""Training of the judge of edits, once for each data set.

It sees images of the training split, blurred and noisy by random amounts.
"""

import dataclasses
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from absl import logging
from jaxtyping import Array, Float, Key, UInt8
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import cache, datasets, ground_truth, pipeline, preparation
from vae_jax.evaluate import attribute_classifier as judge_lib
from vae_jax.runtime import devices, locks
from vae_jax.training.experiment import Experiment

# Raised when the same images would give another judge.
_VERSION = 1
_BATCH = 128
_IMAGES = 160_000  # Seen in training.
_LEARNING_RATE = 1e-3
# A model's pictures are smoother than images: what tells an attribute from
# noise of single pixels would tell nothing there.
_BLUR = np.array([1, 4, 6, 4, 1], np.float32) / 16
_NOISE = 0.03


def judge_of(experiment: Experiment) -> judge_lib.Judge:
  """Returns the judge of a data set: the one on disk, or a new one.

  It lies in `judges/` under `parallel.cache_root()`, under a name that says
  what it was trained on.

  Args:
    experiment: of a run.

  Raises:
    ConfigError: the data set has no attributes and no classes.
  """
  config, splits = experiment.config, experiment.splits
  if splits.train.label_shape is None or splits.label_names is None:
    raise ConfigError(
      f"{splits.name} has no attributes and no classes that a judge could "
      "read; see config.data.label."
    )
  said = {
    "version": _VERSION,
    "images": _IMAGES,
    "train": splits.train.identity,
    "test": splits.test.identity,
  }
  digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
  folder = pathlib.Path(devices.cache_root()) / "judges"
  path = folder / f"{digest.hexdigest()[:16]}.npz"
  if path.exists():
    return judge_lib.load(path)
  folder.mkdir(parents=True, exist_ok=True)
  with locks.file_lock(path.with_suffix(".lock"), "training the judge"):
    if not path.exists():
      judge_lib.save(_train(config, splits), path)
  return judge_lib.load(path)


def _real_factors(
  config: ConfigDict, splits: datasets.Splits, purpose: str
) -> tuple[tuple[str, ...], Float[np.ndarray, "n f"]]:
  """Names and values of the real factors of a split, if it has any."""
  builder = preparation.builder(config.data)
  try:
    stored = ground_truth.values(builder, splits.split_strings[purpose])
  except ConfigError:
    stored = {}
  # A factor that never varies has no scale.
  names = tuple(
    k for k, v in stored.items() if v.dtype.kind == "f" and v.std() > 0
  )
  count = len(getattr(splits, purpose))
  return names, np.stack([stored[k] for k in names], 1) if names else np.zeros(
    (count, 0)
  )


def _blurred(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  _, h, w, _ = x.shape
  y = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
  y = sum(_BLUR[i] * y[:, i : i + h] for i in range(5))
  return sum(_BLUR[i] * y[:, :, i : i + w] for i in range(5))


def _worsened(
  image: UInt8[Array, "b h w c"], key: Key[Array, ""]
) -> Float[Array, "b h w c"]:
  """Returns images in [0, 1], each blurred by an amount of its own and noisy:
  what a VAE's picture is beside the image."""
  x = image / jnp.float32(255)
  steps = [x, _blurred(x)]
  steps.append(_blurred(_blurred(steps[1])))
  blur, noise, amount = jax.random.split(key, 3)
  # Half of the images stay sharp or nearly so.
  level = 2 * jax.random.uniform(blur, (len(x), 1, 1, 1)) ** 2
  low = steps[0] + jnp.minimum(level, 1) * (steps[1] - steps[0])
  x = low + jnp.maximum(level - 1, 0) * (steps[2] - steps[1])
  scale = _NOISE * jax.random.uniform(amount, (len(x), 1, 1, 1))
  return x + scale * jax.random.normal(noise, x.shape)


def _train(config: ConfigDict, splits: datasets.Splits) -> judge_lib.Judge:
  """Trains a judge and measures it on the test split."""
  names, classes = splits.label_names, splits.train.label_shape == ()
  source = cache.open_source(splits.train, config.data)
  factor_names, true = _real_factors(config, splits, "train")
  scale = np.stack([true.mean(0), true.std(0)]).astype(np.float32)
  standard = (true - scale[0]) / scale[1]
  network = judge_lib.Network(len(names) + len(factor_names))
  steps = max(1, _IMAGES // _BATCH)
  optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))
  example = jnp.zeros((1, *splits.image_shape))
  params = jax.jit(network.init)(jax.random.key(0), example)

  def loss(params, image, label, factor, key):
    _, made = network.apply(params, _worsened(image, key))
    logits, read = made[:, : len(names)], made[:, len(names) :]
    if classes:
      wrong = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    else:
      wrong = optax.sigmoid_binary_cross_entropy(logits, label).sum(axis=1)
    return jnp.mean(wrong + ((read - factor) ** 2).sum(axis=1))

  @jax.jit
  def step(state, data, count):
    params, slots = state
    key = jax.random.fold_in(jax.random.key(1), count)
    gradient = jax.grad(loss)(params, *data, key)
    updates, slots = optimizer.update(gradient, slots)
    return optax.apply_updates(params, updates), slots

  def data_of(count: int) -> tuple[np.ndarray, ...]:
    positions = np.arange(count * _BATCH, (count + 1) * _BATCH)
    index = pipeline.example_order(0, len(source), positions)
    data = source.fetch(index)
    return data["image"], data["label"], standard[index].astype(np.float32)

  state = params, optimizer.init(params)
  logging.info("Training a judge of edits for %s, once.", splits.name)
  with tqdm.tqdm(total=steps * _BATCH, unit="img", desc="judge") as bar:
    for count, data in enumerate(pipeline.prefetch(data_of, range(steps))):
      state = step(state, data, count)
      jax.block_until_ready(state)
      bar.update(_BATCH)
  judge = judge_lib.Judge(
    names=names,
    classes=classes,
    factors=factor_names,
    scale=scale,
    quartiles=np.quantile(true, (0.25, 0.5, 0.75), axis=0).astype(np.float32),
    accuracy={},
    params=jax.tree.map(np.asarray, state[0]),
  )
  accuracy = _measure(judge, config, splits)
  logging.info("What it reads on the test split: %s", json.dumps(accuracy))
  return dataclasses.replace(judge, accuracy=accuracy)


def _measure(
  judge: judge_lib.Judge, config: ConfigDict, splits: datasets.Splits
) -> dict[str, float]:
  source = cache.open_source(splits.test, config.data)
  data = source.fetch(np.arange(len(source)))
  reading = judge.read(data["image"])
  label = data["label"]
  if judge.classes:
    present = label[:, None] == np.arange(len(judge.names))
    told = reading.probability.argmax(axis=1)[:, None] == np.arange(
      len(judge.names)
    )
  else:
    present, told = label.astype(bool), reading.probability > 0.5
  accuracy = {}
  for a, name in enumerate(judge.names):
    hit, right = present[:, a], told[:, a] == present[:, a]
    sides = [right[side].mean() for side in (hit, ~hit) if side.any()]
    accuracy[name] = round(float(np.mean(sides)), 4)
  names, true = _real_factors(config, splits, "test")
  for name in sorted(set(names) & set(judge.factors)):
    value = true[:, names.index(name)]
    read = reading.factor[:, judge.factors.index(name)]
    error = np.mean((read - value) ** 2)
    accuracy[name] = round(float(1 - error / value.var()), 4)
  return accuracy
