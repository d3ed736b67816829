"""Decodes codes to images, to <workdir>/figures/."""

from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.latents import trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"


def run(config: ConfigDict, workdir: str, *, latent: str | None = None) -> str:
  """Decodes the codes of --latent; returns the path of the picture.

  Writes `figures/decode.png`, and images and codes to `figures/decode.npz`.
  """
  arguments.check_unconditional(config, "decode")
  codes = arguments.codes(latent, config.model.latent_dim)
  model = trained_model.open_run(config, workdir)
  images = model.decode(codes)
  path = model.workdir / "figures" / "decode.png"
  storage.write_arrays(path.with_suffix(".npz"), images=images, codes=codes)
  # Without a bound a single image would fill the screen.
  scale = max(1, 512 // max(model.image_shape)) if len(images) == 1 else None
  figures.image_grid(images, path, columns=10, scale=scale)
  return str(path)
