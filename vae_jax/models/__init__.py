"""Encoders, decoders, posteriors, priors, likelihoods, and the `Vae`."""

from vae_jax.models.vae import Params, PyTree, Vae, Variables, side_inputs

__all__ = ["Params", "PyTree", "Vae", "Variables", "side_inputs"]
