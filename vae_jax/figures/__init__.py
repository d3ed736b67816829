"""Arrays to PNG: the only package that draws.

Every function takes NumPy arrays, returns the picture as `uint8[h w c]` and,
given a path, writes exactly those pixels there, whole or not at all. The same
arrays give the same bytes, from any thread.
"""

from vae_jax.figures.grids import image_grid, manifold, reconstruction_grid
from vae_jax.figures.matrices import heat_map
from vae_jax.figures.plots import latent_scatter, loss_curves

__all__ = [
  "heat_map",
  "image_grid",
  "latent_scatter",
  "loss_curves",
  "manifold",
  "reconstruction_grid",
]
