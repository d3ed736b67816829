"""From a config to a `Vae` and its initial variables."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from vae_jax import models, objectives, parallel, registry
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.models import decoders, encoders, likelihoods, posteriors, priors

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


def _module(
  field: str, node: ConfigDict, name: str, cls: Any, common: dict
) -> Any:
  """Returns `cls(**args)` of `config.<field>`, and of `common` what it
  declares."""
  if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
    raise ConfigError(
      f"config.{field}.name is {name!r}, which is no flax.linen.Module."
    )
  fields = {f.name: f.default for f in dataclasses.fields(cls) if f.init}
  del fields["parent"], fields["name"]
  own = {k: v for k, v in fields.items() if k not in common}
  args = registry.check_arguments(field, name, node.args, own)
  return cls(**{k: v for k, v in common.items() if k in fields}, **args)


def likelihood_class(config: ConfigDict) -> type[nn.Module]:
  """Returns the class of `config.model.likelihood`."""
  node = config.model.likelihood
  return registry.resolve("model.likelihood", node.name, [likelihoods])


def model(
  config: ConfigDict, shape: tuple[int, int, int], *, train: bool
) -> models.Vae:
  """Returns the model of a config.

  Args:
    config: the resolved config.
    shape: height, width and channels of the images.
    train: whether BatchNorm uses the batch's statistics and dropout drops;
      parameters are the same either way.

  Raises:
    ConfigError: a name or an argument is unknown, or the parts do not fit.
  """
  node = config.model
  common = {
    "train": train,
    "dtype": jnp.dtype(node.dtype),
    "initializer": node.init,
    "axis_name": parallel.AXIS if train else None,
    "latent_dim": node.latent_dim,
    "image_shape": shape[:2],
    "image_channels": shape[2],
  }

  def part(name: str, where: Any) -> Any:
    field = f"model.{name}"
    cls = registry.resolve(field, node[name].name, [where])
    return _module(field, node[name], node[name].name, cls, common)

  likelihood = part("likelihood", likelihoods)
  num_outputs = getattr(likelihood, "num_outputs", lambda channels: channels)
  common["out_channels"] = num_outputs(shape[2])
  _check_dequantization(config)
  declared = objectives.auxiliary_of(config)
  auxiliary = None
  if declared is not None:
    auxiliary = _module(
      "objective.auxiliary",
      config.objective.auxiliary,
      declared.network.__name__,
      declared.network,
      common,
    )
  elif config.objective.auxiliary.args:
    raise ConfigError(
      f"config.objective.auxiliary.args is "
      f"{config.objective.auxiliary.args.to_dict()}, but "
      f"{config.objective.name} has no network of its own."
    )
  return models.Vae(
    encoder=part("encoder", encoders),
    posterior=part("posterior", posteriors),
    latent_prior=part("prior", priors),
    decoder=part("decoder", decoders),
    likelihood=likelihood,
    auxiliary=auxiliary,
    auxiliary_input=declared.reads if declared else "nothing",
    num_labels=_num_labels(config),
    dequantize=config.data.dequantization == "uniform",
  )


def _check_dequantization(config: ConfigDict) -> None:
  if config.data.dequantization == "none":
    return
  if config.data.binarization != "none":
    raise ConfigError(
      "config.data.dequantization is uniform and config.data.binarization is "
      f"{config.data.binarization}; one of them must be none."
    )
  if not likelihood_class(config).is_density:
    raise ConfigError(
      "config.data.dequantization is uniform, but the likelihood "
      f"{config.model.likelihood.name} is no density and needs no noise."
    )


def _num_labels(config: ConfigDict) -> int:
  """Returns the classes or attributes that the model is given; 0 = none."""
  if config.model.condition == "none":
    return 0
  return config.data.num_labels or num_labels(
    config, datasets.open_splits(config.data)
  )


def num_labels(config: ConfigDict, splits: datasets.Splits) -> int:
  """Returns the data set's number of classes, or of attributes.

  Raises:
    ConfigError: the model is to be given labels that are not there.
  """
  shape, wanted = splits.train.label_shape, config.model.condition
  kind = {None: "none", (): "label"}.get(shape, "attributes")
  if wanted not in ("none", kind):
    has = "no labels" if kind == "none" else f"its labels are: {kind}"
    raise ConfigError(
      f"config.model.condition is {wanted!r}, but of {splits.name} {has}; see "
      "config.data.label."
    )
  if shape is None:
    return 0
  return shape[0] if shape else len(splits.label_names or ())


def init_variables(
  config: ConfigDict, shape: tuple[int, int, int]
) -> dict[str, Any]:
  """Returns {"params": ..., "batch_stats": ...}, a function of config.seed."""
  vae = model(config, shape, train=False)
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
