"""Checks of what the parts of a run return while they are traced."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from vae_jax import distributions, models, objectives
from vae_jax.config import ConfigError
from vae_jax.distributions import defaults
from vae_jax.runtime import devices
from vae_jax.training.experiment import Experiment
from vae_jax.training.parts import Part, described

_DRAWS = 3  # Draws of a prior.


class Checks:
  """Checks what each part returns; a method is named after its part.

  Sizes are compared with those of the part's argument, because an objective
  may encode or decode several images or draws at once.
  """

  def __init__(
    self, experiment: Experiment, parts: dict[str, Part], doing: str
  ):
    """Holds the use, as "in training", for messages."""
    self._vae, self._parts = experiment.vae_eval, parts
    self._image_shape = experiment.image_shape
    self._dim = experiment.config.model.latent_dim
    self._doing = doing
    self._posterior: Any = None

  def encoder(self, features: Any, image: Any) -> None:
    """Checks features [b f]."""
    _need(self._parts["encoder"], "", features, (image.shape[0], None))

  def decoder(self, outputs: Any, code: Any) -> None:
    """Checks outputs [b h w o]."""
    h, w, c = self._image_shape
    shape = (
      code.shape[0],
      h,
      w,
      models.decoder_outputs(self._vae.likelihood, c),
    )
    _need(self._parts["decoder"], "", outputs, shape)

  def posterior(self, own: Any, features: Any) -> None:
    """Checks mean, sample, log_prob and sample_and_log_prob."""
    part, count = self._parts["posterior"], features.shape[0]
    self._has(part, own, count, "mean", "sample", "log_prob")
    if hasattr(own, "has_kl"):
      self._has(part, own, count, "kl")
    q = self._posterior = defaults.posterior(own)
    shape, key = (count, self._dim), _keys(count)
    self._get(part, q, "mean", shape)
    z = self._call(part, q, "sample", (key,), shape)
    if isinstance(q, distributions.Deterministic):
      return
    self._call(part, q, "log_prob", (z,), shape[:1])
    with part.used(self._doing):
      pair = q.sample_and_log_prob(key)
    words = "a distribution whose sample_and_log_prob is "
    if not isinstance(pair, tuple) or len(pair) != 2:
      raise part.refuse(f"{words}{described(pair, count)}")
    for value, size in zip(pair, (shape, shape[:1]), strict=True):
      _need(part, words, value, size)

  def latent_prior(self, own: Any, encode: Any) -> None:
    """Checks sample at a temperature, log_prob, and the posterior's kl."""
    del encode
    part, posterior = self._parts["latent_prior"], self._parts["posterior"]
    self._has(part, own, _DRAWS, "sample", "log_prob")
    p, shape = defaults.prior(own), (_DRAWS, self._dim)
    arguments = (_keys(_DRAWS), jnp.float32(0.5))
    z = self._call(part, p, "sample", arguments, shape)
    self._call(part, p, "log_prob", (z,), shape[:1])
    q = self._posterior
    if q is None:
      return
    with posterior.used(f"{self._doing}, in has_kl"):
      is_closed = bool(q.has_kl(p))
    if is_closed:
      self._call(posterior, q, "kl", (p,), q.mean.shape[:1])

  def likelihood(self, own: Any, outputs: Any) -> None:
    """Checks mean, log_prob, metrics, and log_density where it is needed."""
    part, count = self._parts["likelihood"], outputs.shape[0]
    self._has(part, own, count, "mean", "log_prob")
    p, shape = defaults.likelihood(own), (count, *self._image_shape)
    self._get(part, p, "mean", shape)
    image = jnp.zeros(shape, jnp.uint8)
    self._call(part, p, "log_prob", (image,), shape[:1])
    if self._vae.dequantize:
      self._has(part, own, count, "log_density")
      x = image.astype(jnp.float32)
      self._call(part, p, "log_density", (x,), shape[:1])
    with part.used(f"{self._doing}, in metrics"):
      values = p.metrics(image)
    if not isinstance(values, dict):
      what = described(values, count)
      raise part.refuse(f"metrics that are {what}, not a dict of [b]")
    for name, value in values.items():
      _need(part, f"metrics whose {name} is ", value, shape[:1])

  def auxiliary(self, *_: Any) -> None:
    """Checks nothing: the objective alone reads it."""

  def _has(self, part: Part, value: Any, count: int, *names: str) -> None:
    with part.used(self._doing):
      missing = [name for name in names if not hasattr(value, name)]
    if missing:
      what = described(value, count)
      raise part.refuse(f"{what} without {', '.join(missing)}")

  def _get(
    self, part: Part, value: Any, name: str, shape: tuple[int, ...]
  ) -> None:
    with part.used(f"{self._doing}, in {name}"):
      result = getattr(value, name)
    _need(part, f"a distribution whose {name} is ", result, shape)

  def _call(
    self,
    part: Part,
    value: Any,
    name: str,
    arguments: tuple[Any, ...],
    shape: tuple[int, ...],
  ) -> Any:
    with part.used(f"{self._doing}, in {name}"):
      result = getattr(value, name)(*arguments)
    _need(part, f"a distribution whose {name} is ", result, shape)
    return result


def _need(
  part: Part, what: str, value: Any, shape: tuple[int | None, ...]
) -> None:
  """Checks that a value is a float array of a shape; None = any size."""
  good = hasattr(value, "shape") and hasattr(value, "dtype")
  good = good and len(value.shape) == len(shape)
  good = good and all(
    n in (None, m) for n, m in zip(shape, value.shape, strict=True)
  )
  if not good or not jnp.issubdtype(value.dtype, jnp.floating):
    raise part.refuse(f"{what}{described(value, shape[0])}")


def _keys(count: int) -> jax.Array:
  return jax.random.split(jax.random.key(0), count)


def terms(part: Part, value: Any, count: int) -> None:
  """Checks what an objective returns for `count` images."""
  if not isinstance(value, objectives.Terms):
    raise part.refuse(described(value, count))
  extras = value.extras
  if not isinstance(extras, dict) or any(type(k) is not str for k in extras):
    what = described(extras, count)
    raise part.refuse(f"extras that are {what}, not a dict of names")
  values = {"loss": value.loss, "distortion": value.distortion}
  if value.rate is not None:
    values["rate"] = value.rate
  for name, v in [*values.items(), *extras.items()]:
    _need(part, f"{name} = ", v, (count,))


def variables(parts: dict[str, Part], values: Any) -> None:
  """Checks that weights are floating; warns of statistics of one device."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(values["params"]):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      raise ConfigError(
        f"{parts[path[0].key]}, whose parameter {_name(path)} is "
        f"{described(leaf, None)}; parameters must be floating, other arrays "
        "are variables of a collection of their own."
      )
  for name in values.get("batch_stats", {}):
    fields = {f.name for f in dataclasses.fields(parts[name].value)}
    if devices.device_count() > 1 and "axis_name" not in fields:
      logging.warning(
        "%s has statistics of the batch but no field axis_name: each of the "
        "%d devices has its own, and results depend on their number.",
        parts[name],
        devices.device_count(),
      )


def state(parts: dict[str, Part], before: Any, after: Any) -> None:
  """Checks that training changes no shape or type of the model's state."""
  old, new = (
    {
      _name(path): (path, described(leaf, None))
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for tree in (before, after)
  )
  for name, (path, words) in new.items():
    first = old.get(name, (path, "nothing"))[1]
    if first != words:
      raise ConfigError(
        f"{parts[path[1].key]}, whose variable {name} is {first} at first and "
        f"{words} after a step; it must keep its shape and type."
      )


def _name(path: tuple[Any, ...]) -> str:
  return "/".join(str(key.key) for key in path)
