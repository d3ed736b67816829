"""`--mode=traverse`: one latent after another, from end to end."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.evaluate import diagnostics
from vae_jax.latents import quantiles, trained_model
from vae_jax.modes import image_argument as images_lib
from vae_jax.modes import options as options_lib
from vae_jax.runtime import devices, storage

_FOLDER = "figures"
_STEPS = 9
_MOST = 2000  # Images of the test split that say what each latent carries.
_DRAWN = 32  # Latents in a picture.


@dataclasses.dataclass(frozen=True)
class _Latents:
  """What the latents carry: `kind` names the number `carried` [d] of each;
  `codes` [n d] are what they were measured on."""

  kind: str
  carried: np.ndarray
  codes: np.ndarray


def _latents(model: trained_model.TrainedModel) -> _Latents:
  """Measures the latents on the test split's first images."""
  first = datasets.First(model.experiment.source("test"), _MOST)
  variables = devices.replicate(model.variables)
  try:
    rows = diagnostics.posteriors(model.experiment, variables, first)
  except ConfigError:
    # No diagonal normal, so that no latent has a KL of its own.
    codes, _ = model.first_codes(first.source, _MOST)
    return _Latents("std", codes.std(axis=0, dtype=np.float64), codes)
  if rows.kl is not None:
    return _Latents("KL", rows.kl.mean(axis=0, dtype=np.float64), rows.mean)
  carried = diagnostics.kl_to_aggregate(rows.mean, rows.log_variance)
  return _Latents("KL to q(z)", carried, rows.mean)


def traverse(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Draws each image with one latent at a time taken from end to end.

  The latents that carry most are the first: by their mean KL over the test
  split, by that to the aggregate posterior's normal where the prior has no
  closed form, or by the spread of codes that are not normal. Writes
  `figures/traverse.png`, or `figures/traverse_0.png` and so on of several
  images, and as `figures/traverse.npz` images [n d steps h w c] of all latents
  in their own order, the values [d steps] that each took, codes [n d], the
  order that they are drawn in, and what each carries.
  """
  steps = options_lib.steps(options, _STEPS)
  model = trained_model.open_run(config, workdir)
  chosen = images_lib.select(model, options.images, "data:test:0")
  found = _latents(model)
  values = quantiles.ticks(config, found.codes, steps)
  order = np.argsort(-found.carried, kind="stable")
  codes = model.encode(chosen.image, chosen.label)
  own = model.decode(codes, chosen.label)
  images = _decoded(model, codes, values, chosen.label)
  folder = model.workdir / _FOLDER
  storage.write_arrays(
    folder / "traverse.npz",
    images=images,
    values=values,
    codes=codes,
    order=order,
    carried=found.carried,
  )
  drawn = order[:_DRAWN]
  if quantiles.has_standard_prior(config):
    heads = [f"{v:z.2f}" for v in values[0]]
  else:
    heads = [f"{100 * (i + 0.5) / steps:.3g}%" for i in range(steps)]
  paths = []
  for i in range(len(chosen)):
    name = "traverse.png" if len(chosen) == 1 else f"traverse_{i}.png"
    ends = np.stack([chosen.image[i], own[i]])
    figures.image_strip(
      [np.concatenate([ends, images[i, j]]) for j in drawn],
      [f"z[{j}]  {found.kind} {found.carried[j]:.2f}" for j in drawn],
      ["original", "reconstruction", *heads],
      folder / name,
      leading=2,
    )
    paths.append(str(folder / name))
  # Those of other images would not be what the arrays hold.
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
  """Returns images [n d steps h w c] of codes [n d] with latent j at each of
  values [d steps]."""
  dim, steps = values.shape
  varied = np.tile(codes[:, None, None], (1, dim, steps, 1))
  for j in range(dim):
    varied[:, j, :, j] = values[j]
  flat = varied.reshape(-1, dim)
  if label is not None:
    label = np.repeat(label, dim * steps, axis=0)
  images = model.decode(flat, label)
  return images.reshape(*varied.shape[:-1], *images.shape[1:])
