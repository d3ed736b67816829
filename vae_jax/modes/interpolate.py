"""Draws the paths between pairs of images or samples, to <workdir>/figures/."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.latents import conditions, interpolation, trained_model
from vae_jax.latents import density as density_lib
from vae_jax.latents.trained_model import TrainedModel
from vae_jax.modes import arguments
from vae_jax.runtime import storage

NEEDS = "run"


_DRAWS = 8  # Ends that are drawn.


class _Ends(NamedTuple):
  """Where paths begin and end, in turn."""

  code: Float32[np.ndarray, "n d"]
  image: UInt8[np.ndarray, "n h w c"]
  label: Integer[np.ndarray, "n ..."] | None
  name: tuple[str, ...]


def run(
  config: ConfigDict,
  workdir: str,
  *,
  images: str | None = None,
  steps: int = 9,
  density: str | None = None,
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
    density: see `latents.density`; the paths then go between draws from it, of
      `config.sample`, whose originals are the decoded draws.
  """
  arguments.check_steps(steps)
  if density is not None:
    density_lib.choose(config, density)
    if images is not None:
      raise ConfigError(
        f"--density={density} draws where the paths begin and end, and "
        f"--images={images} names images to begin and end at; give one of them."
      )
  model = trained_model.open_run(config, workdir)
  title = ""
  if density is None:
    chosen = _of_images(model, images)
  else:
    chosen = _of_draws(model, density)
    title = density_lib.title(density, config.sample.temperature)
  t = np.linspace(0, 1, steps)
  a, b = chosen.code[::2], chosen.code[1::2]
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
  # Draws are the ends of their paths.
  beside = 0 if density else 1
  original = ["original"] * beside
  figures.image_strip(
    [
      np.concatenate([pair[:beside], row, pair[2 - beside :]])
      for pair, rows in zip(originals, decoded, strict=True)
      for row in rows
    ],
    [
      f"{first} to {last}, {kind}"
      for first, last in pairs
      for kind in interpolation.KINDS
    ],
    [*original, *(f"{v:.3g}" for v in t), *original],
    path,
    leading=beside,
    trailing=beside,
    groups=[len(interpolation.KINDS)] * len(a),
    title=title,
  )
  return str(path)


def _of_images(model: TrainedModel, images: str | None) -> _Ends:
  chosen = arguments.images(model, images, "data:test:0-7")
  if len(chosen) % 2:
    raise ConfigError(
      "--mode=interpolate goes from the first image to the second, from the "
      f"third to the fourth and so on; --images are {len(chosen)}, and must be "
      "an even number, as in data:test:0-7."
    )
  codes = model.encode(chosen.image, label=chosen.label)
  return _Ends(codes, chosen.image, chosen.label, chosen.name)


def _of_draws(model: TrainedModel, density: str) -> _Ends:
  index, how = np.arange(_DRAWS, dtype=np.int32), model.config.sample
  label = conditions.of_samples(model.experiment, _DRAWS)
  codes = density_lib.applied(model, density).drawn_codes(
    index, label, temperature=how.temperature, seed=how.seed
  )
  names = tuple(f"sample {i}" for i in index)
  return _Ends(codes, model.decode(codes, label), label, names)
