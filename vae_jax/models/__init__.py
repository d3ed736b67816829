"""Encoders, decoders, priors and the `Vae` that joins them."""

from vae_jax.models.vae import Vae, given

__all__ = ["Vae", "given"]
