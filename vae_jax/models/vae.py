"""The model that objectives call: `encode`, `decode`, `prior`, `draw`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Integer, Key, UInt8

from vae_jax import distributions
from vae_jax.data.batch import Stream
from vae_jax.distributions import defaults
from vae_jax.models.draw import Draw, rates

PyTree = Any
# {module: {parameter: array}}, nested as the modules are.
Params = Mapping[str, Any]
# {"params": Params, "batch_stats": ..., ...}, the collections of a model.
Variables = Mapping[str, Any]

# The collection of per-batch inputs.
_SIDE_INPUTS = "side_inputs"
# An integer, or a symbolic size (`jax.export`).
_Size = Any


def side_inputs(
  *,
  label: Integer[Array, "b ..."] | Integer[np.ndarray, "b ..."] | None = None,
  key: Key[Array, " b"] | None = None,
) -> dict[str, dict[str, Any]]:
  """Returns the per-batch inputs of a model as a collection of variables.

  Args:
    label: class ids [b] or attributes [b a] of the images, which conditional
      models read.
    key: one key per image for dequantization; without it a dequantized
      likelihood has a mean and samples, but no log_prob.
  """
  values = {"label": label, "key": key}
  return {_SIDE_INPUTS: {k: v for k, v in values.items() if v is not None}}


class Vae(nn.Module):
  """p(x, z) = p(z) p(x | z) with posterior q(z | x).

  An objective is a plain function of a bound `Vae`: `nn.apply(objective,
  vae)(variables, batch)`. Latents are a tuple of groups, of which this flat
  model has one. A conditional model, p(z) p(x | z, y) with q(z | x, y), reads
  the label y of each image from `side_inputs` and has the same methods: y is
  appended to the channels of the encoder's image and to the decoder's latents.
  Several draws per image are decoded at once as [k b] stacked to [k * b].

  Attributes:
    encoder: images in [0, 1] [b h w c] -> features [b f].
    posterior: features [b f] -> distribution of z [b d].
    latent_prior: function from images to posteriors -> distribution of z.
    decoder: z [b d] -> outputs [b h w o].
    likelihood: outputs [b h w o] -> distribution of the image.
    auxiliary: the network that an objective declares, if any.
    auxiliary_input: "images" in [0, 1], "latents" or "nothing".
    num_labels: number of classes, or attributes; 0 = not conditional.
    dequantize: whether uniform noise fills the gaps between gray levels.

  References:
    Kingma and Welling, arXiv 1312.6114; conditional: Sohn, Lee and Yan,
    NeurIPS 2015, with the prior independent of y.
  """

  encoder: nn.Module
  posterior: nn.Module
  latent_prior: nn.Module
  decoder: nn.Module
  likelihood: nn.Module
  auxiliary: nn.Module | None = None
  auxiliary_input: str = "nothing"
  num_labels: int = 0
  dequantize: bool = False

  def encode(self, image: UInt8[Array, "b h w c"]) -> distributions.Groups:
    """Returns q(z | image)."""
    x = distributions.unit_pixels(image)
    if self.num_labels:
      label = self._label(x.shape[0])[:, None, None, :]
      planes = jnp.broadcast_to(label, (*x.shape[:3], self.num_labels))
      x = jnp.concatenate([x, planes], axis=-1)
    return distributions.Groups((self._posterior(x),))

  def decode(self, z: distributions.Latents) -> Any:
    """Returns p(image | z)."""
    (code,) = z
    count = code.shape[0]
    if self.num_labels:
      code = jnp.concatenate([code, self._label(count)], axis=-1)
    # Densities are float32, whatever a decoder's own arithmetic is.
    outputs = jnp.asarray(self.decoder(code), jnp.float32)
    likelihood = defaults.likelihood(self.likelihood(outputs))
    if not self.dequantize or self.is_initializing():
      return likelihood
    noise = self._noise(count, likelihood.mean.shape[1:])
    return distributions.Dequantized(likelihood, noise)

  def prior(self) -> distributions.Groups:
    """Returns p(z), or p(z | y) of a prior with `reads_label = True`, which is
    called with the labels too."""
    label = {}
    if getattr(self.latent_prior, "reads_label", False):
      label["label"] = self.get_variable(_SIDE_INPUTS, "label")
    prior = defaults.prior(self.latent_prior(self._posterior, **label))
    return distributions.Groups((prior,))

  def draw(
    self,
    image: UInt8[Array, "b h w c"],
    key: Key[Array, " b"],
    *,
    kl: str = "auto",
  ) -> Draw:
    """Returns one draw of the latents of each image, from one pass.

    A model with a hierarchy of groups overrides it by its top-down pass. For
    `kl` see `draw.rates`.
    """
    posterior = self.encode(image)
    z, log_q = posterior.draw(key)
    likelihood = self.decode(z)
    distortion = -likelihood.log_prob(image)
    prior = self.prior()
    return Draw(
      posterior=posterior,
      prior=prior,
      z=z,
      log_q_per_group=log_q,
      rate_per_group=rates(posterior, prior, z, log_q, kl=kl),
      likelihood=likelihood,
      distortion=distortion,
      extras=likelihood.metrics(image),
    )

  def _posterior(self, x: Float[Array, "b h w c"]) -> Any:
    return defaults.posterior(self.posterior(self.encoder(x)))

  def _label(self, count: _Size) -> Float[Array, "k n"]:
    if self.is_initializing():
      return jnp.zeros((count, self.num_labels))
    label = self.get_variable(_SIDE_INPUTS, "label")
    if label.ndim == 1:
      label = jax.nn.one_hot(label, self.num_labels)
    return _draw_by_draw(label.astype(jnp.float32), count)

  def _noise(
    self, count: _Size, shape: tuple[int, ...]
  ) -> Float[Array, "k h w c"] | None:
    if not self.has_variable(_SIDE_INPUTS, "key"):
      return None
    fold = jax.vmap(lambda k: jax.random.fold_in(k, Stream.DEQUANTIZE))
    key = fold(self.get_variable(_SIDE_INPUTS, "key"))
    noise = jax.vmap(lambda k: jax.random.uniform(k, shape))(key)
    return _draw_by_draw(noise, count)

  def __call__(
    self, image: UInt8[Array, "b h w c"], key: Key[Array, " b"]
  ) -> jax.Array:
    """Returns log p(image | z) of one draw of z, using every parameter."""
    z = self.encode(image).sample(key)
    if self.auxiliary is not None:
      inputs = {
        "images": (image / jnp.float32(255),),
        "latents": (jnp.concatenate(z, axis=-1),),
        "nothing": (),
      }
      self.auxiliary(*inputs[self.auxiliary_input])
    # `log_prob` uses the parameters of the prior.
    self.prior().log_prob(z)
    return self.decode(z).log_prob(image)


def decoder_outputs(likelihood: nn.Module, channels: int) -> int:
  """Returns the numbers per pixel that a likelihood reads from the decoder."""
  count = getattr(likelihood, "num_outputs", None)
  return channels if count is None else count(channels)


def _draw_by_draw(
  values: Float[Array, "b ..."], count: _Size
) -> Float[Array, "k ..."]:
  """Repeats values per image for each of count / b draws per image."""
  repeats = (count // values.shape[0],) + (1,) * (values.ndim - 1)
  return jnp.tile(values, repeats)
