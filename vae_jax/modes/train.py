"""Trains a model, or resumes where the same command stopped."""

from ml_collections import ConfigDict

from vae_jax.train import train

NEEDS = "config"
SHARED = True


def run(config: ConfigDict, workdir: str) -> str:
  """Trains a model; see `vae_jax.train`."""
  train(config, workdir)
  return ""
