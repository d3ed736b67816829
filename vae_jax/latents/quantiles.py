"""Quantiles and grids at which pictures of the latent space are drawn."""

import jax
import numpy as np
from jaxtyping import Float, Float32
from ml_collections import ConfigDict


def grid(
  z1: Float[np.ndarray, " n"], z2: Float[np.ndarray, " m"]
) -> Float32[np.ndarray, "k 2"]:
  """Returns all pairs of two ascending lists, k = n m, row by row as in a
  picture: highest z2 first."""
  first, second = np.meshgrid(z1, z2[::-1])
  return np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)


def prior_quantiles(count: int) -> np.ndarray:
  """Returns `count` quantiles of N(0, 1), ascending.

  Quantiles (i + 1/2) / count, so that every cell of their grid has the same
  prior probability.

  References:
    Kingma and Welling, arXiv 1312.6114, appendix A.
  """
  probability = (np.arange(count) + 0.5) / count
  return np.asarray(jax.scipy.special.ndtri(probability))


def aggregate_quantiles(
  codes: Float[np.ndarray, "n d"], count: int
) -> Float[np.ndarray, "d count"]:
  """Returns `count` quantiles of each dimension of codes, ascending; they
  replace `prior_quantiles` where codes follow no known prior."""
  probability = (np.arange(count) + 0.5) / count
  return np.quantile(codes.astype(np.float64), probability, axis=0).T


def has_standard_prior(config: ConfigDict) -> bool:
  """Whether the codes of data should follow N(0, I)."""
  return (
    config.model.prior.name == "standard_normal"
    and config.model.posterior.name != "deterministic"
  )


def ticks(
  config: ConfigDict, codes: np.ndarray | None, count: int
) -> np.ndarray:
  """Returns the values at which each latent is drawn, ascending, [d count].

  They are quantiles of N(0, 1) where that is the prior, else of the codes
  [n d], which may be None with that prior.
  """
  if has_standard_prior(config):
    return np.tile(prior_quantiles(count), (config.model.latent_dim, 1))
  return aggregate_quantiles(codes, count)
