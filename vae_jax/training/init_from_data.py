"""Initial variables that are taken from training images.

The prior vamp with `initial` data starts at as many different training images,
chosen by config.seed. With `config.model.output_bias` data the bias of the
decoder's last layer is logit(clip(m, 0.001, 0.999)), where m is the mean
training image: a decoder that ignores its latents then predicts m.

References:
  Tomczak and Welling, arXiv 1705.07120 (pseudo-inputs from data); the bias: the
  code of Burda et al., arXiv 1509.00519.
"""

import math

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.config import ConfigError, registry
from vae_jax.data import datasets
from vae_jax.data.batch import Stream
from vae_jax.models import priors


def is_needed(config: ConfigDict) -> bool:
  """Returns whether initial variables depend on the training images."""
  return config.model.output_bias == "data" or _starts_at_images(config)


def _starts_at_images(config: ConfigDict) -> bool:
  prior = config.model.prior
  cls = registry.resolve("model.prior", prior.name, [priors])
  return issubclass(cls, priors.Vamp) and prior.args.get("initial") == "data"


def check(config: ConfigDict, vae: models.Vae, source: datasets.Source) -> None:
  """Raises a ConfigError if there are fewer training images than pseudo-inputs
  that start at them."""
  if not _starts_at_images(config):
    return
  count = vae.latent_prior.num_components
  if count > len(source):
    raise ConfigError(
      f"config.model.prior.args.num_components is {count}, but "
      f"there are only {len(source)} training images to start from."
    )


def apply(
  config: ConfigDict,
  vae: models.Vae,
  variables: models.Variables,
  source: datasets.Source,
  *,
  chunk_bytes: int = 1 << 26,
) -> models.Variables:
  """Returns initial variables with those that come from training images.

  `variables` are those of `build.init_variables`; `chunk_bytes` of images are
  read at a time for their mean, which changes no number.
  """
  check(config, vae, source)
  # An empty collection is part of the state's structure too.
  flat = traverse_util.flatten_dict(variables, keep_empty_nodes=True)
  if _starts_at_images(config):
    (path,) = [k for k in flat if k[1:] == ("latent_prior", "pseudo_inputs")]
    # RandomState's stream is frozen by NumPy's compatibility policy.
    order = np.random.RandomState([config.seed, int(Stream.INIT)])
    chosen = order.permutation(len(source))[: len(flat[path])]
    image = source.fetch(chosen)["image"]
    flat[path] = jnp.asarray(image, jnp.float32) * jnp.float32(1 / 255)
  if config.model.output_bias == "data":
    last = f"Dense_{len(vae.decoder.hidden)}"
    path = ("params", "decoder", last, "bias")
    mean = np.clip(_mean_image(source, chunk_bytes), 0.001, 0.999)
    flat[path] = jnp.asarray(np.log(mean / (1 - mean)).ravel(), jnp.float32)
  return traverse_util.unflatten_dict(flat)


def _mean_image(
  source: datasets.Source, chunk_bytes: int
) -> Float[np.ndarray, "h w c"]:
  """Returns the mean of a split's images, pixels in [0, 1]."""
  # The sum of integers is exact, in chunks of any size.
  total = np.zeros(source.image_shape, np.int64)
  step = max(1, chunk_bytes // math.prod(source.image_shape))
  for first in range(0, len(source), step):
    index = np.arange(first, min(first + step, len(source)))
    total += source.fetch(index)["image"].sum(axis=0, dtype=np.int64)
  return total / (255 * len(source))
