"""Variational autoencoders in JAX: readable, exact and fast."""
