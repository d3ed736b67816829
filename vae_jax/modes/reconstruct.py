"""Modes that draw what a model makes: an array beside each picture."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.evaluate import summaries
from vae_jax.latents import interpolation, quantiles, trained_model
from vae_jax.modes import image_argument as images_lib
from vae_jax.modes import latent_argument as codes_lib
from vae_jax.modes import options as options_lib
from vae_jax.runtime import storage

_FOLDER = "figures"
_SAMPLES = 100
_STEPS = 9
_MANIFOLD_STEPS = 20
_SCATTER = 10_000  # Codes whose quantiles stand in for a prior.


def reconstruct(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Draws images above their reconstructions; returns how close they are.

  Writes `figures/reconstruct.png`, and originals, reconstructions and codes as
  `figures/reconstruct.npz`.
  """
  model = trained_model.open_run(config, workdir)
  chosen = images_lib.select(model, options.images, "data:test:0-29")
  codes = model.encode(chosen.image, chosen.label)
  decoded = model.decode(codes, chosen.label)
  path = model.workdir / _FOLDER / "reconstruct.png"
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


def sample(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Draws prior samples; returns where to.

  Writes `figures/samples.png` and the same images as `figures/samples.npz`,
  or a PNG each to `figures/samples/`.
  """
  count = _SAMPLES if options.count is None else options.count
  if count < 1:
    raise ConfigError(f"--count is {count}; it must be 1 or more.")
  model = trained_model.open_run(config, workdir)
  source = None
  if config.model.condition == "attributes":
    source = model.experiment.source("validation")
  label = trained_model.sample_labels(config, source, count)
  images = model.sample(np.arange(count, dtype=np.int32), label)
  folder = model.workdir / _FOLDER
  storage.write_arrays(folder / "samples.npz", images=images)
  if options.individual:
    for i, image in enumerate(images):
      figures.write_image(image, folder / "samples" / f"{i:05}.png")
    _remove_others(folder / "samples", count)
    return str(folder / "samples")
  figures.image_grid(images, folder / "samples.png", columns=10)
  return str(folder / "samples.png")


def _remove_others(folder: storage.Path, count: int) -> None:
  """Removes samples that an earlier, longer run has left: whoever reads the
  folder would take them for this one's."""
  for path in folder.glob("*.png"):
    if path.stem.isdecimal() and int(path.stem) >= count:
      path.unlink()


def interpolate(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Draws the way from one image to another, straight and around the origin.

  Of the images the first and the second are a pair, the third and the fourth,
  and so on. Writes `figures/interpolate.png`, and as `.npz` originals
  [pairs 2 h w c], images [pairs 2 steps h w c] and their codes, linear first,
  and t [steps]. What a conditional model decodes is given the label of the
  nearer image of the pair.
  """
  steps = options_lib.steps(options, _STEPS)
  model = trained_model.open_run(config, workdir)
  chosen = images_lib.select(model, options.images, "data:test:0-7")
  if len(chosen) % 2:
    raise ConfigError(
      f"--mode=interpolate goes from the first image to the second, from the "
      f"third to the fourth and so on; --images are {len(chosen)}, and must be "
      "an even number, as in data:test:0-7."
    )
  t = np.linspace(0, 1, steps)
  ends = model.encode(chosen.image, chosen.label)
  ends = ends.reshape(-1, 2, ends.shape[-1])
  codes = np.stack(
    [
      [way(a, b, t) for way in (interpolation.linear, interpolation.spherical)]
      for a, b in ends
    ]
  )
  label = None
  if chosen.label is not None:
    pair = np.arange(len(ends))[:, None, None]
    nearer = np.broadcast_to(2 * pair + (t > 0.5), codes.shape[:-1])
    label = chosen.label[nearer.ravel()]
  flat = model.decode(codes.reshape(-1, codes.shape[-1]), label)
  images = flat.reshape(*codes.shape[:-1], *flat.shape[1:])
  originals = chosen.image.reshape(-1, 2, *flat.shape[1:])
  path = model.workdir / _FOLDER / "interpolate.png"
  storage.write_arrays(
    path.with_suffix(".npz"),
    originals=originals,
    images=images,
    codes=codes,
    t=t,
  )
  names = zip(chosen.name[::2], chosen.name[1::2], strict=True)
  figures.image_strip(
    [
      np.concatenate([ends[:1], row, ends[1:]])
      for ends, rows in zip(originals, images, strict=True)
      for row in rows
    ],
    [
      f"{first} to {second}, {way}"
      for first, second in names
      for way in ("linear", "spherical")
    ],
    ["original", *(f"{v:.3g}" for v in t), "original"],
    path,
    leading=1,
    trailing=1,
    groups=[2] * len(ends),
  )
  return str(path)


def decode(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Draws what codes decode to; returns where to.

  Writes `figures/decode.png`, and images and codes as `figures/decode.npz`.
  """
  _check_unconditional(config, "decode")
  codes = codes_lib.read(options.latent, config.model.latent_dim)
  model = trained_model.open_run(config, workdir)
  images = model.decode(codes)
  path = model.workdir / _FOLDER / "decode.png"
  storage.write_arrays(path.with_suffix(".npz"), images=images, codes=codes)
  # One image is not to fill a screen.
  scale = max(1, 512 // max(model.image_shape)) if len(images) == 1 else None
  figures.image_grid(images, path, columns=10, scale=scale)
  return str(path)


def manifold(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Draws what a grid of two latents decodes to; returns where to.

  Writes `figures/manifold.png`, and images and codes as `figures/manifold.npz`,
  row by row from the top left.
  """
  steps = options_lib.steps(options, _MANIFOLD_STEPS)
  if config.model.latent_dim != 2:
    raise ConfigError(
      f"--mode=manifold draws the plane of two latents; this model has "
      f"config.model.latent_dim={config.model.latent_dim}, for which there is "
      "--mode=traverse."
    )
  _check_unconditional(config, "manifold")
  model = trained_model.open_run(config, workdir)
  codes = None
  if not quantiles.has_standard_prior(config):
    source = model.experiment.source("validation")
    codes, _ = model.first_codes(source, _SCATTER)
  path = model.workdir / _FOLDER / "manifold.png"
  grid, images = summaries.manifold(model, codes, path, rows=steps)
  storage.write_arrays(path.with_suffix(".npz"), images=images, codes=grid)
  return str(path)


def _check_unconditional(config: ConfigDict, mode: str) -> None:
  condition = config.model.condition
  if condition != "none":
    raise ConfigError(
      f"--mode={mode} decodes codes alone; a model with config.model.condition="
      f"{condition} is given a label with each, which only images have: "
      "--mode=reconstruct, interpolate and traverse draw those."
    )
