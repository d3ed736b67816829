"""A trained model opened for use: images to codes and back.

  model = vae_jax.load("runs/faces")
  z = model.encode(images)          # posterior means, float32 [n d]
  model.decode(z)                   # uint8 [n h w c]
  model.sample(16, temperature=0.7)
  model.log_prob(images, samples=100)

Images are uint8, or real numbers from 0 to 1; one image [h w c] gives one
result, many [n h w c] give many. Everything is computed in chunks of one size,
so that each function is compiled once and a code decodes to the same bits at
every position of an array. The bits are those of the modes.
"""

import os
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.latents import (
  apply,
  attribute_directions,
  conditions,
  given,
  interpolation,
  likelihood,
  scores,
)
from vae_jax.latents import density as density_lib
from vae_jax.latents.coder import Coder
from vae_jax.latents.opened import CHUNK
from vae_jax.runtime import storage
from vae_jax.training import (
  contracts,
  experiment,
  parts,
  restore,
  running_statistics,
)
from vae_jax.training import state as state_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState


class TrainedModel(Coder):
  """A run's checkpoint, ready to encode and decode.

  Where a method takes `label`, a conditional model needs it: one for all
  images or one for each, see `conditions`; other models do not read it. Each
  method raises a ConfigError, one sentence, for what it cannot take.
  """

  def encode(
    self, images: Any, sample: bool = False, seed: int = 0, label: Any = None
  ) -> Float32[np.ndarray, "*n d"]:
    """Returns the codes of images: the means of their posteriors.

    Where the model was trained on binarized images, these are binarized first,
    with the keys of their positions in the array, as files are for a mode;
    images of 0 and 255 stay as they are.

    Args:
      images: see the module.
      sample: whether to draw from the posteriors instead; draw i depends on
        the seed and i alone.
      seed: of the draws.
      label: see the class.
    """
    image, single = self._input(images)
    index, seed = np.arange(len(image), dtype=np.int32), given.seed(seed)
    if sample:
      codes = self.in_chunks(
        lambda *args: apply.encode_draw(self.vae, *args, seed)[0],
        (image, index),
        label,
      )
    else:
      codes = self.means(image, label)
    return codes[0] if single else codes

  def deviations(
    self, images: Any, label: Any = None
  ) -> Float32[np.ndarray, "*n d"]:
    """Returns the standard deviations of the posteriors whose means `encode`
    returns; see `apply.deviation`."""
    image, single = self._input(images)
    index = np.arange(len(image), dtype=np.int32)
    values = self.spreads(image, index, label)
    return values[0] if single else values

  def decode(self, z: Any, label: Any = None) -> UInt8[np.ndarray, "*n h w c"]:
    """Returns the means of the likelihood of codes [d] or [n d], as images."""
    codes, single = given.codes(z, self.config.model.latent_dim)
    images = self.decoded(codes, label)
    return images[0] if single else images

  def reconstruct(
    self, images: Any, label: Any = None
  ) -> UInt8[np.ndarray, "*n h w c"]:
    """Returns decode(encode(images))."""
    image, single = self._input(images)
    decoded = self.decoded(self.encode(image, label=label), label)
    return decoded[0] if single else decoded

  def sample(
    self,
    n: Any,
    temperature: Any = 1.0,
    seed: int = 0,
    label: Any = None,
    density: str | None = None,
  ) -> UInt8[np.ndarray, "*n h w c"]:
    """Returns n decoded draws from the prior, or from a fitted density.

    Draw i depends on the seed and i alone.

    Args:
      n: number of draws.
      temperature: factor on the standard deviation of the prior, or of the
        density's components.
      seed: of the draws.
      label: see the class; None = the classes in turn, or the attributes of
        the first validation images.
      density: prior, gaussian_mixture or flow; see `latents.density`, which
        fits it when it is first asked for. None = prior, or gaussian_mixture
        for an autoencoder.
    """
    count = given.count("n", n)
    index = np.arange(count, dtype=np.int32)
    name = density_lib.choose(self.config, density)
    labels = conditions.of_samples(self.experiment, count, label)
    return density_lib.applied(self, name).draws(
      index,
      labels,
      temperature=given.temperature(temperature),
      seed=given.seed(seed),
    )

  def log_prob(
    self,
    images: Any,
    samples: int = 100,
    seed: int | None = None,
    label: Any = None,
  ) -> Float[np.ndarray, " *n"]:
    """Returns estimates of log p(x), nats, which are too small on average.

    They are those of `likelihood.nll_per_image`, whose mean over a split
    `--mode=evaluate` prints.

    Args:
      images: see the module.
      samples: draws from the posterior of each image.
      seed: of the draws; None = `config.eval.seed`.
      label: see the class.
    """
    source, single = self._source(images, label)
    values = -likelihood.nll_per_image(
      self.experiment,
      self.replicated,
      source,
      num_samples=given.count("samples", samples, 1),
      seed=None if seed is None else given.seed(seed),
    )
    return np.asarray(values[0]) if single else values

  def score(
    self,
    images: Any,
    samples: int = 0,
    seed: int | None = None,
    label: Any = None,
  ) -> dict[str, Float[np.ndarray, " *n"]]:
    """Returns the terms of the loss of each image by name; with `samples` > 0
    also `nll`, -log p(x). See `scores.of_images`, and `log_prob`."""
    source, single = self._source(images, label)
    count = given.count("samples", samples)
    seed = None if seed is None else given.seed(seed)
    terms = scores.of_images(self, source, samples=count, seed=seed)
    return {k: np.asarray(v[0]) for k, v in terms.items()} if single else terms

  def interpolate(
    self,
    a: Any,
    b: Any,
    steps: int = 9,
    kind: str = "linear",
    label: Any = None,
  ) -> UInt8[np.ndarray, "*n steps h w c"]:
    """Returns the decoded codes between images a and b, ends included.

    Args:
      a: one image or many, where the paths begin.
      b: as many images, where they end.
      steps: images along a path, at least 2.
      kind: "linear" or "spherical"; see `interpolation`.
      label: of all, or a pair of those of a and b, of which the nearer image's
        is used.

    Returns:
      [steps h w c] for one pair of images, [n steps h w c] for n.
    """
    kind = given.choice("kind", kind, interpolation.KINDS)
    count = given.count("steps", steps, 2)
    first, last, single = given.pair(a, b, self.image_shape)
    own = label if isinstance(label, tuple) and len(label) == 2 else [label] * 2
    labels = [conditions.labels(self.experiment, v, len(first)) for v in own]
    ends = [
      self.encode(image, label=v)
      for image, v in zip((first, last), labels, strict=True)
    ]
    t = np.linspace(0, 1, count)
    codes = interpolation.between(*ends, t, kind)
    nearer = None
    if labels[0] is not None:
      nearer = interpolation.nearer(*labels, t)
      nearer = nearer.reshape(-1, *labels[0].shape[1:])
    decoded = self.decoded(codes.reshape(-1, codes.shape[-1]), nearer)
    decoded = decoded.reshape(*codes.shape[:2], *self.image_shape)
    return decoded[0] if single else decoded

  def direction(
    self, name: Any, kind: str = "balanced"
  ) -> Float[np.ndarray, " d"]:
    """Returns the vector that adds an attribute to a code: z + 2 * direction.

    It is read from the run's folder, or estimated from the training images
    and kept there.

    Args:
      name: of the attribute or class; classes without names have numbers.
      kind: mean, balanced or probe; see `directions`.
    """
    linear, _ = attribute_directions.directions_of(self)
    return linear.vector(str(name), kind)

  def _input(self, images: Any) -> tuple[UInt8[np.ndarray, "n h w c"], bool]:
    """Returns images as the model's input, and whether one was given."""
    image, single = given.images(images, self.image_shape)
    if self.config.data.binarization == "none":
      return image, single
    index = np.arange(len(image), dtype=np.int32)
    return self.as_input(image, index), single

  def _source(self, images: Any, label: Any) -> tuple[given.InMemory, bool]:
    """Returns images and their labels as a split."""
    image, single = given.images(images, self.image_shape)
    if not len(image):
      raise ConfigError("There are no images; give at least one.")
    label = conditions.labels(self.experiment, label, len(image))
    return given.InMemory(image, label), single


def load(
  workdir: Any,
  checkpoint: str = "latest",
  *,
  chunk: int = CHUNK,
  data: Any = None,
) -> TrainedModel:
  """Opens the latest checkpoint of a run, or that with the best validation.

  Args:
    workdir: folder or address of the run.
    checkpoint: "latest" or "best".
    chunk: images encoded or decoded at a time.
    data: images and labels that `vae_jax.train` was given, which `direction`
      reads; None = the data set that the run's config names.

  Raises:
    ConfigError: there is no run, no checkpoint that can be read, or the data
      are none.
  """
  if not isinstance(workdir, str | os.PathLike):
    raise ConfigError(f"workdir is {workdir!r}; it must be a path.")
  checkpoint = given.choice("checkpoint", checkpoint, ("latest", "best"))
  chunk = given.count("chunk", chunk, 1)
  config = restore.load_config(workdir)
  config.eval.checkpoint = checkpoint
  splits = None if data is None else datasets.open_splits(config.data, data)
  return open_run(config, workdir, chunk=chunk, splits=splits)


def open_run(
  config: ConfigDict,
  workdir: str | os.PathLike[str],
  *,
  chunk: int = CHUNK,
  splits: datasets.Splits | None = None,
) -> TrainedModel:
  """Opens the checkpoint of a run that `config.eval.checkpoint` names.

  Args:
    config: the resolved config.
    workdir: folder or address of the run.
    chunk: see `TrainedModel`.
    splits: the data set; None = opened when it is first asked for.

  Raises:
    ConfigError: there is no run, or no checkpoint that can be read.
  """
  opened = experiment.build(config, splits)
  # They may have changed since the training.
  if any(part.is_own for part in parts.of(opened).values()):
    contracts.check_model(opened)
  best = config.eval.checkpoint == "best"
  state = restore.load_state(
    workdir, best=best, experiment=opened, weights=True
  )
  state = running_statistics.complete(opened, state)
  return of_state(opened, workdir, state, chunk=chunk)


def of_state(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  state: TrainState,
  *,
  chunk: int = CHUNK,
) -> TrainedModel:
  """Returns the model of a state on the host, with averaged weights if it has
  them."""
  return TrainedModel(
    experiment=experiment,
    workdir=storage.path(workdir),
    step=int(state.step),
    variables=state_lib.eval_variables(experiment.config, state),
    chunk=chunk,
  )
