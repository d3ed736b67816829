"""Decodes a grid over the plane of two latents, to <workdir>/figures/."""

from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.evaluate import summaries
from vae_jax.latents import quantiles, trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"

_FITTED = 10_000  # Codes whose quantiles replace those of an unknown prior.


def run(config: ConfigDict, workdir: str, *, steps: int = 20) -> str:
  """Decodes a grid of steps x steps codes; returns the path of the picture.

  Writes `figures/manifold.png`, and images and codes to `figures/manifold.npz`,
  row by row from the top left.
  """
  arguments.check_steps(steps)
  if config.model.latent_dim != 2:
    raise ConfigError(
      "--mode=manifold draws the plane of two latents; this model has "
      f"config.model.latent_dim={config.model.latent_dim}, for which there is "
      "--mode=traverse."
    )
  arguments.check_unconditional(config, "manifold")
  model = trained_model.open_run(config, workdir)
  codes = None
  if not quantiles.has_standard_prior(config):
    source = model.experiment.source("validation")
    codes, _ = model.first_codes(source, _FITTED)
  path = model.workdir / "figures" / "manifold.png"
  grid, images = summaries.manifold(model, codes, path, rows=steps)
  storage.write_arrays(path.with_suffix(".npz"), images=images, codes=grid)
  return str(path)
