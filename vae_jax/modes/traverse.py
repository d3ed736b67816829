"""Varies one latent at a time, to <workdir>/figures/."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.data import datasets
from vae_jax.evaluate import diagnostics
from vae_jax.latents import quantiles, trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"

_RANKED = 2000  # Images of the test split that the latents are ranked on.
_DRAWN = 32  # Latents in a picture.


def run(
  config: ConfigDict, workdir: str, *, images: str | None = None, steps: int = 9
) -> str:
  """Varies each latent of the code of each image; returns the pictures' paths.

  Latents are drawn in the order of `diagnostics.rank`. Writes
  `figures/traverse.png`, or `figures/traverse_0.png` and so on for several
  images, and to `figures/traverse.npz`, all latents in their own order: images
  [n d steps h w c], values [d steps] of each latent, codes [n d], the order of
  the picture and the measure that it is by.

  Args:
    images: see `arguments`; None = the first test image.
    steps: values of each latent.
  """
  arguments.check_steps(steps)
  model = trained_model.open_run(config, workdir)
  chosen = arguments.images(model, images, "data:test:0")
  first = datasets.First(model.experiment.source("test"), _RANKED)
  ranking = diagnostics.rank(model, first)
  order, carried = ranking.order, ranking.carried
  values = quantiles.ticks(config, ranking.codes, steps)
  codes = model.encode(chosen.image, label=chosen.label)
  rebuilt = model.decode(codes, chosen.label)
  decoded = _decoded(model, codes, values, chosen.label)
  folder = model.workdir / "figures"
  arrays = {"images": decoded, "values": values, "codes": codes}
  storage.write_arrays(
    folder / "traverse.npz", **arrays, order=order, carried=carried
  )
  if quantiles.has_standard_prior(config):
    heads = [f"{v:z.2f}" for v in values[0]]
  else:
    heads = [f"{100 * (i + 0.5) / steps:.3g}%" for i in range(steps)]
  paths = []
  for i in range(len(chosen)):
    name = "traverse.png" if len(chosen) == 1 else f"traverse_{i}.png"
    leading = np.stack([chosen.image[i], rebuilt[i]])
    figures.image_strip(
      [np.concatenate([leading, decoded[i, j]]) for j in order[:_DRAWN]],
      [f"z[{j}]  {ranking.measure} {carried[j]:.2f}" for j in order[:_DRAWN]],
      ["original", "reconstruction", *heads],
      folder / name,
      leading=2,
    )
    paths.append(str(folder / name))
  # Pictures of an earlier run would not show what the arrays hold.
  for path in folder.glob("traverse*.png"):
    if str(path) not in paths:
      path.unlink()
  return "\n".join(paths)


def _decoded(
  model: trained_model.TrainedModel,
  codes: np.ndarray,
  values: np.ndarray,
  label: np.ndarray | None,
) -> np.ndarray:
  """Decodes codes [n d] with latent j at each of values [d steps], to images
  [n d steps h w c]."""
  dim, steps = values.shape
  varied = np.tile(codes[:, None, None], (1, dim, steps, 1))
  for j in range(dim):
    varied[:, j, :, j] = values[j]
  if label is not None:
    label = np.repeat(label, dim * steps, axis=0)
  images = model.decode(varied.reshape(-1, dim), label)
  return images.reshape(*varied.shape[:-1], *images.shape[1:])
