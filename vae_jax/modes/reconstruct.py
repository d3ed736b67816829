"""Draws images above their reconstructions, to <workdir>/figures/."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.latents import trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"


def run(config: ConfigDict, workdir: str, *, images: str | None = None) -> str:
  """Reconstructs images; returns their mean squared error.

  Writes `figures/reconstruct.png`, and originals, reconstructions and codes to
  `figures/reconstruct.npz`.

  Args:
    images: see `arguments`; None = the first 30 test images.
  """
  model = trained_model.open_run(config, workdir)
  chosen = arguments.images(model, images, "data:test:0-29")
  original = chosen.image
  codes = model.encode(original, chosen.label)
  decoded = model.decode(codes, chosen.label)
  path = model.workdir / "figures" / "reconstruct.png"
  arrays = {"originals": original, "reconstructions": decoded, "codes": codes}
  storage.write_arrays(path.with_suffix(".npz"), **arrays)
  figures.reconstruction_grid(original, decoded, path)
  difference = (decoded.astype(np.float64) - original) / 255
  return (
    f"Mean squared error of {len(chosen)} image{'s' * (len(chosen) > 1)}, "
    f"values in [0, 1]: {np.square(difference).mean():.5f}.\n{path}"
  )
