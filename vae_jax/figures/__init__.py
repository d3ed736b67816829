"""Arrays to PNG: the only package that draws.

Every function takes NumPy arrays, returns the picture as `uint8[h w c]` and,
given a path, writes exactly these pixels there, atomically. The same arrays
give the same bytes, from any thread.
"""

from vae_jax.figures.edit_curves import edit_curves
from vae_jax.figures.heat_map import heat_map
from vae_jax.figures.image_grid import image_grid, manifold, reconstruction_grid
from vae_jax.figures.image_panels import Panel, image_panels
from vae_jax.figures.image_strip import image_strip
from vae_jax.figures.latent_diagnostics import latent_diagnostics
from vae_jax.figures.learning_curves import learning_curves, loss_curves
from vae_jax.figures.png import save as write_image
from vae_jax.figures.rate_distortion import rate_distortion
from vae_jax.figures.scatter import Coloring, latent_scatter, scatter

__all__ = [
  "Coloring",
  "Panel",
  "edit_curves",
  "heat_map",
  "image_grid",
  "image_panels",
  "image_strip",
  "latent_diagnostics",
  "latent_scatter",
  "learning_curves",
  "loss_curves",
  "manifold",
  "rate_distortion",
  "reconstruction_grid",
  "scatter",
  "write_image",
]
