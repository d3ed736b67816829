"""Arrays to PNG: the only package that draws.

Every function takes NumPy arrays, returns the picture as `uint8[h w c]` and,
given a path, writes exactly those pixels there, whole or not at all. The same
arrays give the same bytes, from any thread.
"""

from vae_jax.figures.edit_curves import edit_curves
from vae_jax.figures.heat_map import heat_map
from vae_jax.figures.image_grid import image_grid, manifold, reconstruction_grid
from vae_jax.figures.image_panels import Panel, panels
from vae_jax.figures.image_strip import strip
from vae_jax.figures.latent_diagnostics import latent_diagnostics
from vae_jax.figures.learning_curves import latent_scatter, loss_curves
from vae_jax.figures.png import save as write_image
from vae_jax.figures.rate_distortion import learning_curves, rate_distortion
from vae_jax.figures.scatter import Coloring, embedding

__all__ = [
  "Coloring",
  "Panel",
  "edit_curves",
  "embedding",
  "heat_map",
  "image_grid",
  "latent_diagnostics",
  "latent_scatter",
  "learning_curves",
  "loss_curves",
  "manifold",
  "panels",
  "rate_distortion",
  "reconstruction_grid",
  "strip",
  "write_image",
]
