"""Draws the paths between pairs of images, to <workdir>/figures/."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.latents import interpolation, trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"


def run(
  config: ConfigDict, workdir: str, *, images: str | None = None, steps: int = 9
) -> str:
  """Decodes paths between pairs of images; returns the path of the picture.

  The first and second image are a pair, the third and fourth, and so on. A
  conditional model receives the label of the nearer image of the pair.

  Writes `figures/interpolate.png`, and to `figures/interpolate.npz` originals
  [pairs 2 h w c], images [pairs 2 steps h w c] and their codes, linear first,
  and t [steps].

  Args:
    images: see `arguments`; None = the first 8 test images.
    steps: images along each path.
  """
  arguments.check_steps(steps)
  model = trained_model.open_run(config, workdir)
  chosen = arguments.images(model, images, "data:test:0-7")
  if len(chosen) % 2:
    raise ConfigError(
      "--mode=interpolate goes from the first image to the second, from the "
      f"third to the fourth and so on; --images are {len(chosen)}, and must be "
      "an even number, as in data:test:0-7."
    )
  t = np.linspace(0, 1, steps)
  ends = model.encode(chosen.image, label=chosen.label)
  a, b = ends[::2], ends[1::2]
  kinds = interpolation.KINDS
  codes = np.stack([interpolation.between(a, b, t, k) for k in kinds], axis=1)
  label = None
  if chosen.label is not None:
    label = interpolation.nearer(chosen.label[::2], chosen.label[1::2], t)
    label = np.stack([label] * len(kinds), axis=1)
    label = label.reshape(-1, *chosen.label.shape[1:])
  flat = model.decode(codes.reshape(-1, codes.shape[-1]), label)
  decoded = flat.reshape(*codes.shape[:-1], *flat.shape[1:])
  originals = chosen.image.reshape(-1, 2, *flat.shape[1:])
  path = model.workdir / "figures" / "interpolate.png"
  arrays = {"originals": originals, "images": decoded, "codes": codes, "t": t}
  storage.write_arrays(path.with_suffix(".npz"), **arrays)
  pairs = zip(chosen.name[::2], chosen.name[1::2], strict=True)
  figures.image_strip(
    [
      np.concatenate([pair[:1], row, pair[1:]])
      for pair, rows in zip(originals, decoded, strict=True)
      for row in rows
    ],
    [
      f"{first} to {last}, {kind}"
      for first, last in pairs
      for kind in interpolation.KINDS
    ],
    ["original", *(f"{v:.3g}" for v in t), "original"],
    path,
    leading=1,
    trailing=1,
    groups=[len(interpolation.KINDS)] * len(a),
  )
  return str(path)
