"""Encoders, decoders, priors and the `Vae` that joins them."""

from vae_jax.models.draw import Draw
from vae_jax.models.vae import Vae, given

__all__ = ["Draw", "Vae", "given"]
