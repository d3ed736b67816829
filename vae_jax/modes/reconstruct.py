"""Draws images above their reconstructions, to <workdir>/figures/."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.latents import trained_model
from vae_jax.modes import image_argument
from vae_jax.runtime import storage

NEEDS = "run"


def run(config: ConfigDict, workdir: str, *, images: str | None = None) -> str:
  """Reconstructs images; returns their mean squared error.

  Writes `figures/reconstruct.png`, and originals, reconstructions and codes to
  `figures/reconstruct.npz`.

  Args:
    images: see `image_argument.select`; None = the first 30 test images.
  """
  model = trained_model.open_run(config, workdir)
  chosen = image_argument.select(model, images, "data:test:0-29")
  codes = model.encode(chosen.image, chosen.label)
  decoded = model.decode(codes, chosen.label)
  path = model.workdir / "figures" / "reconstruct.png"
  storage.write_arrays(
    path.with_suffix(".npz"),
    originals=chosen.image,
    reconstructions=decoded,
    codes=codes,
  )
  figures.reconstruction_grid(chosen.image, decoded, path)
  difference = (decoded.astype(np.float64) - chosen.image) / 255
  count = f"{len(chosen)} image" + "s" * (len(chosen) > 1)
  return (
    f"Mean squared error of {count}, values in [0, 1]: "
    f"{np.square(difference).mean():.5f}.\n{path}"
  )
