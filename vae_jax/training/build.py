"""Builds the model of a config and its initial variables."""

import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import linen as nn
from ml_collections import ConfigDict

from vae_jax import models, objectives
from vae_jax.config import ConfigError, registry
from vae_jax.data import datasets
from vae_jax.data.batch import Stream
from vae_jax.models import decoders, encoders, likelihoods, posteriors, priors
from vae_jax.runtime import devices
from vae_jax.training import modules


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
  """Returns height, width and channels of the images.

  They are `config.data.image_shape`, or where that is empty those of the data
  set after cropping and resizing.
  """
  shape = tuple(config.data.image_shape)
  if not shape:
    return datasets.open_splits(config.data).image_shape
  if len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
    raise ConfigError(
      f"config.data.image_shape is {shape}; it must be height, width and "
      "channels, such as (64, 64, 3), or () for the data set's own."
    )
  return shape


def likelihood_class(config: ConfigDict) -> type[nn.Module]:
  """Returns the class of `config.model.likelihood`."""
  node = config.model.likelihood
  return registry.resolve("model.likelihood", node.name, [likelihoods])


def model(
  config: ConfigDict, shape: tuple[int, int, int], *, train: bool
) -> models.Vae:
  """Returns the model of a config.

  Each part is a Linen module, which receives from here, in fields of these
  names and as far as it declares them,

    encoder     dtype, initializer, train, axis_name, remat
    decoder     the same, image_shape, out_channels
    posterior   dtype, initializer, latent_dim
    prior       dtype, initializer, latent_dim, image_shape, image_channels
    likelihood  train, axis_name, image_channels
    auxiliary   all but remat and out_channels

  All its other fields are hyperparameters, `config.model.<part>.args` (of the
  objective's auxiliary network `config.objective.auxiliary.args`). In training
  BatchNorm uses the batch's statistics and dropout drops; parameters are the
  same either way.

  Raises:
    ConfigError: a name or an argument is unknown, or the parts do not fit.
  """
  node = config.model
  numerics = {"dtype": jnp.dtype(node.dtype), "initializer": node.init}
  mode = {"train": train, "axis_name": devices.AXIS if train else None}
  # Without a backward pass nothing is recomputed.
  network = {**numerics, **mode, "remat": train and node.remat}
  latent = {"latent_dim": node.latent_dim}
  image = {"image_shape": shape[:2], "image_channels": shape[2]}

  def part(kind: str, classes: ModuleType, **settings: Any) -> nn.Module:
    field, name = f"model.{kind}", node[kind].name
    cls = registry.resolve(field, name, [classes])
    return modules.make(field, node[kind], name, cls, settings)

  likelihood = part("likelihood", likelihoods, **mode, image_channels=shape[2])
  outputs = modules.num_outputs(node.likelihood.name, likelihood, shape[2])
  decoder = part(
    "decoder", decoders, **network, image_shape=shape[:2], out_channels=outputs
  )
  prior = part("prior", priors, **numerics, **latent, **image)
  encoder = part("encoder", encoders, **network)
  if node.remat and not (
    hasattr(encoder, "remat") or hasattr(decoder, "remat")
  ):
    raise ConfigError(
      f"config.model.remat is True, but neither the encoder "
      f"{node.encoder.name} nor the decoder {node.decoder.name} has a field "
      "remat."
    )
  _check_parts(config, prior, decoder, shape)
  declared = objectives.auxiliary_of(config)
  auxiliary, own = None, config.objective.auxiliary
  if declared is not None:
    auxiliary = modules.make(
      "objective.auxiliary",
      own,
      declared.network.__name__,
      declared.network,
      {**numerics, **mode, **latent, **image},
    )
  elif own.args:
    raise ConfigError(
      f"config.objective.auxiliary.args is {own.args.to_dict()}, but "
      f"{config.objective.name} has no network of its own."
    )
  return models.Vae(
    encoder=encoder,
    posterior=part("posterior", posteriors, **numerics, **latent),
    latent_prior=prior,
    decoder=decoder,
    likelihood=likelihood,
    auxiliary=auxiliary,
    auxiliary_input=declared.reads if declared else "nothing",
    num_labels=_num_labels(config),
    dequantize=config.data.dequantization == "uniform",
  )


def _check_parts(
  config: ConfigDict,
  prior: nn.Module,
  decoder: nn.Module,
  shape: tuple[int, int, int],
) -> None:
  """Raises a ConfigError if parts and preprocessing do not fit."""
  data, node = config.data, config.model
  if data.dequantization != "none":
    if data.binarization != "none":
      raise ConfigError(
        "config.data.dequantization is uniform and config.data.binarization "
        f"is {data.binarization}; one of them must be none."
      )
    if not getattr(likelihood_class(config), "is_density", True):
      raise ConfigError(
        "config.data.dequantization is uniform, but the likelihood "
        f"{node.likelihood.name} is no density and needs no noise."
      )
  # The mean of continuous_bernoulli is no sigmoid of the output.
  if node.output_bias == "data" and not (
    isinstance(decoder, decoders.Mlp)
    and decoder.out_channels == shape[2]
    and node.likelihood.name != "continuous_bernoulli"
  ):
    raise ConfigError(
      "config.model.output_bias is 'data', which needs the decoder mlp and a "
      "likelihood whose mean is the sigmoid of its output, such as bernoulli; "
      f"they are {node.decoder.name} and {node.likelihood.name}."
    )
  if _encodes(prior) and node.condition != "none":
    raise ConfigError(
      f"config.model.condition is {node.condition!r}, but the pseudo-inputs of "
      f"the prior {node.prior.name} have no labels; set condition to none, or "
      "choose another prior."
    )


def _encodes(prior: nn.Module) -> bool:
  """Returns whether a prior encodes pseudo-inputs."""
  return getattr(prior, "encodes", False)


def _num_labels(config: ConfigDict) -> int:
  """Returns the number of labels that the model reads; 0 = none."""
  if config.model.condition == "none":
    return 0
  return config.data.num_labels or num_labels(
    config, datasets.open_splits(config.data)
  )


def num_labels(config: ConfigDict, splits: datasets.Splits) -> int:
  """Returns the number of classes, which is `config.data.num_labels` where that
  is set, or of attributes.

  Classes without names are counted where a model is conditioned on them.

  Raises:
    ConfigError: `config.model.condition` needs labels that are missing, or
      there are not so many attributes.
  """
  shape, wanted = splits.train.label_shape, config.model.condition
  kind = {None: "none", (): "label"}.get(shape, "attributes")
  if wanted not in ("none", kind):
    has = "there are no labels" if kind == "none" else f"its labels are: {kind}"
    raise ConfigError(
      f"config.model.condition is {wanted!r}, but for {splits.name} {has}; see "
      "config.data.label."
    )
  own = shape[0] if shape else len(splits.label_names or ())
  given = config.data.num_labels
  if given and (shape is None or shape and given != own):
    raise ConfigError(
      f"config.data.num_labels is {given}, but {splits.name} has "
      f"{f'{own} attributes' if shape else 'no labels'}."
    )
  if not given and not own and wanted == "label":
    own = 1 + int(datasets.read_labels(splits.train).max())
    logging.info("The labels of %s are 0 to %d.", splits.name, own - 1)
  return given or own


def init_variables(
  config: ConfigDict, shape: tuple[int, int, int], vae: models.Vae | None = None
) -> models.Variables:
  """Returns {"params": ..., "batch_stats": ...}, a function of config.seed.

  `vae` is the model of the config in evaluation mode; None = build it.
  """
  vae = vae or model(config, shape, train=False)
  image = jnp.zeros((1, *shape), jnp.uint8)
  keys = jax.random.split(jax.random.key(0), 1)
  rng = jax.random.fold_in(jax.random.key(config.seed), Stream.INIT)
  variables = dict(jax.jit(vae.init)(rng, image, keys))
  has_batch_norm = "encoder" in variables.get("batch_stats", {})
  if _encodes(vae.latent_prior) and has_batch_norm:
    raise ConfigError(
      f"config.model.prior.name is {config.model.prior.name!r}, whose "
      "pseudo-inputs would enter the batch statistics of the encoder "
      f"{config.model.encoder.name}; choose one without batch norm."
    )
  return variables


def parameter_count(config: ConfigDict) -> int:
  """Returns the number of trainable parameters, without initializing them."""
  shape = image_shape(config)
  variables = jax.eval_shape(lambda: init_variables(config, shape))
  return sum(
    math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(variables["params"])
  )
