"""Priors p(z), selected by name.

Class names are what `config.model.prior.name` takes.
"""

from flax import linen as nn

from vae_jax import distributions


class standard_normal(nn.Module):
  """N(0, I), without parameters."""

  latent_dim: int

  def __call__(self) -> distributions.StandardNormal:
    """Returns the prior."""
    return distributions.StandardNormal(self.latent_dim)
