"""Decodes codes to images, to <workdir>/figures/."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.latents import trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"


def run(
  config: ConfigDict,
  workdir: str,
  *,
  latent: str | None = None,
  label: str | None = None,
  attribute: str | None = None,
) -> str:
  """Decodes the codes of --latent; returns the path of the picture.

  Writes `figures/decode.png`, and images and codes to `figures/decode.npz`. Of
  a conditional model without --label each row of the picture is a class, with
  images [k n h w c] and labels [k].
  """
  chosen = arguments.condition(config, label, attribute)
  codes = arguments.codes(latent, config.model.latent_dim)
  model = trained_model.open_run(config, workdir)
  classes = arguments.each_class(model, chosen, "decode")
  path = model.workdir / "figures" / "decode.png"
  arrays = {"codes": codes}
  if classes is None:
    arrays["images"] = model.decode(codes)
  else:
    labels, names = classes
    rows = np.stack([model.decode(codes, label=own) for own in labels])
    arrays["labels"] = labels
    arrays["images"] = rows if chosen is None else rows[0]
  storage.write_arrays(path.with_suffix(".npz"), **arrays)
  images = arrays["images"]
  if classes is not None and chosen is None:
    figures.image_strip(list(images), names, path=path)
    return str(path)
  # Without a bound a single image would fill the screen.
  scale = max(1, 512 // max(model.image_shape)) if len(images) == 1 else None
  figures.image_grid(images, path, columns=10, scale=scale)
  return str(path)
