"""Decodes a grid over the plane of two latents, to <workdir>/figures/."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.evaluate import summaries
from vae_jax.latents import quantiles, trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"

_FITTED = 10_000  # Codes whose quantiles replace those of an unknown prior.


def run(
  config: ConfigDict,
  workdir: str,
  *,
  steps: int = 20,
  label: str | None = None,
  attribute: str | None = None,
) -> str:
  """Decodes a grid of steps x steps codes; returns the path of the picture.

  Writes `figures/manifold.png`, and images and codes to `figures/manifold.npz`,
  row by row from the top left. Of a conditional model without --label there is
  one such grid below the other for each class, images [k n h w c] and labels
  [k].
  """
  arguments.check_steps(steps)
  chosen = arguments.condition(config, label, attribute)
  if config.model.latent_dim != 2:
    raise ConfigError(
      "--mode=manifold draws the plane of two latents; this model has "
      f"config.model.latent_dim={config.model.latent_dim}, for which there is "
      "--mode=traverse."
    )
  model = trained_model.open_run(config, workdir)
  classes = arguments.each_class(model, chosen, "manifold")
  codes = None
  if not quantiles.has_standard_prior(config):
    source = model.experiment.source("validation")
    codes, _ = model.first_codes(source, _FITTED)
  path = model.workdir / "figures" / "manifold.png"
  if classes is None or chosen is not None:
    own = None if classes is None else np.asarray(classes[0][0])
    arrays = {} if own is None else {"labels": own[None]}
    grid, images = summaries.manifold(model, codes, path, rows=steps, label=own)
  else:
    labels, names = classes
    arrays = {"labels": labels}
    grid = quantiles.grid(*quantiles.ticks(config, codes, steps))
    images = np.stack([model.decode(grid, label=own) for own in labels])
    panels = [
      [figures.Panel(name, rows, steps)]
      for name, rows in zip(names, images, strict=True)
    ]
    figures.image_panels(panels, path)
  arrays |= {"images": images, "codes": grid}
  storage.write_arrays(path.with_suffix(".npz"), **arrays)
  return str(path)
