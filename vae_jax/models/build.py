"""From a config to a `Vae` and its initial variables."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from vae_jax import parallel, registry
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.models import decoders, encoders, likelihoods, posteriors, priors
from vae_jax.models.vae import Vae

# Apart from the keys of training and evaluation.
_INIT = 0x1417


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
  """Returns height, width and channels: `config.data.image_shape` if given,
  else the data set's own after cropping and resizing.

  Raises:
    ConfigError: the setting is no three positive numbers.
  """
  shape = tuple(config.data.image_shape)
  if not shape:
    return datasets.open_splits(config.data).image_shape
  if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
    raise ConfigError(
      f"config.data.image_shape is {shape}; it must be height, width and "
      "channels, such as (64, 64, 3), or () for the data set's own."
    )
  return shape


def _module(field: str, node: ConfigDict, where: list, common: dict) -> Any:
  """Returns the module of `config.<field>`, given what it declares."""
  cls = registry.resolve(field, node.name, where)
  if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
    raise ConfigError(
      f"config.{field}.name is {node.name!r}, which is no flax.linen.Module."
    )
  fields = {f.name: f.default for f in dataclasses.fields(cls) if f.init}
  del fields["parent"], fields["name"]
  own = {k: v for k, v in fields.items() if k not in common}
  args = registry.check_arguments(field, node.name, node.args, own)
  return cls(**{k: v for k, v in common.items() if k in fields}, **args)


def likelihood_class(config: ConfigDict) -> type[nn.Module]:
  """Returns the class of `config.model.likelihood`."""
  node = config.model.likelihood
  return registry.resolve("model.likelihood", node.name, [likelihoods])


def build(
  config: ConfigDict, shape: tuple[int, int, int], *, train: bool
) -> Vae:
  """Returns the model of a config.

  Args:
    config: the resolved config.
    shape: height, width and channels of the images.
    train: whether BatchNorm uses the batch's statistics and dropout drops;
      parameters are the same either way.
  """
  model = config.model
  common = {
    "train": train,
    "dtype": jnp.dtype(model.dtype),
    "initializer": model.init,
    "axis_name": parallel.AXIS if train else None,
    "latent_dim": model.latent_dim,
    "image_shape": shape[:2],
  }
  likelihood = _module(
    "model.likelihood", model.likelihood, [likelihoods], common
  )
  common["out_channels"] = shape[2] * likelihood.outputs_per_channel
  return Vae(
    encoder=_module("model.encoder", model.encoder, [encoders], common),
    posterior=_module("model.posterior", model.posterior, [posteriors], common),
    latent_prior=_module("model.prior", model.prior, [priors], common),
    decoder=_module("model.decoder", model.decoder, [decoders], common),
    likelihood=likelihood,
  )


def init_variables(
  config: ConfigDict, shape: tuple[int, int, int]
) -> dict[str, Any]:
  """Returns {"params": ..., "batch_stats": ...}, a function of config.seed."""
  vae = build(config, shape, train=False)
  image = jnp.zeros((1, *shape), jnp.uint8)
  keys = jax.random.split(jax.random.key(0), 1)
  rng = jax.random.fold_in(jax.random.key(config.seed), _INIT)
  return dict(jax.jit(vae.init)(rng, image, keys))


def parameter_count(config: ConfigDict) -> int:
  """Returns the number of learned numbers, without computing any of them."""
  shape = image_shape(config)
  variables = jax.eval_shape(lambda: init_variables(config, shape))
  return sum(
    math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(variables["params"])
  )
