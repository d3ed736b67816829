"""The model that objectives see: `encode`, `decode`, `prior`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, UInt8

from vae_jax import distributions


class Vae(nn.Module):
  """p(x, z) = p(z) p(x | z) with posterior q(z | x).

  An objective is a plain function of a bound `Vae`: `nn.apply(objective,
  vae)(variables, batch)`. Latents are a tuple of groups, of which this flat
  model has one.

  Attributes:
    encoder: images in [0, 1] [b h w c] -> features [b f].
    posterior: features [b f] -> distribution of z [b d].
    latent_prior: () -> distribution of z.
    decoder: z [b d] -> outputs [b h w o].
    likelihood: outputs [b h w o] -> distribution of the image.

  References:
    Kingma and Welling, arXiv 1312.6114.
  """

  encoder: nn.Module
  posterior: nn.Module
  latent_prior: nn.Module
  decoder: nn.Module
  likelihood: nn.Module

  def encode(self, image: UInt8[Array, "b h w c"]) -> distributions.Groups:
    """Returns q(z | image)."""
    x = image.astype(jnp.float32) * jnp.float32(1 / 255)
    return distributions.Groups((self.posterior(self.encoder(x)),))

  def decode(self, z: tuple[Float[Array, "b d"], ...]) -> Any:
    """Returns p(image | z)."""
    (code,) = z
    return self.likelihood(self.decoder(code))

  def prior(self) -> distributions.Groups:
    """Returns p(z)."""
    return distributions.Groups((self.latent_prior(),))

  def __call__(
    self, image: UInt8[Array, "b h w c"], key: Key[Array, " b"]
  ) -> jax.Array:
    """Returns log p(image | z) of one draw of z; touches every parameter."""
    self.prior()
    return self.decode(self.encode(image).sample(key)).log_prob(image)
