"""Arrays to PNG: the only package that draws.

Every function takes NumPy arrays, returns the picture as `uint8[h w c]` and,
given a path, writes exactly those pixels there, whole or not at all. The same
arrays give the same bytes, from any thread.
"""

from vae_jax.figures.comparison import learning_curves, rate_distortion
from vae_jax.figures.diagnostics import latent_diagnostics
from vae_jax.figures.edits import edit_curves
from vae_jax.figures.embeddings import Coloring, embedding
from vae_jax.figures.grids import image_grid, manifold, reconstruction_grid
from vae_jax.figures.matrices import heat_map
from vae_jax.figures.panels import Panel, panels
from vae_jax.figures.plots import latent_scatter, loss_curves
from vae_jax.figures.png import save as write_image
from vae_jax.figures.strips import strip

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
