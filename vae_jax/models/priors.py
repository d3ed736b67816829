"""Priors p(z), selected by name.

Class names are what `config.model.prior.name` takes. Each is called with the
way from images in [0, 1] to their posteriors, for priors made of them.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from vae_jax import distributions


class standard_normal(nn.Module):
  """N(0, I), without parameters."""

  latent_dim: int

  def __call__(
    self, encode: Callable[..., Any]
  ) -> distributions.StandardNormal:
    """Returns the prior."""
    del encode
    return distributions.StandardNormal(self.latent_dim)
