"""Draws images above their reconstructions, to <workdir>/figures/."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.latents import trained_model
from vae_jax.modes import arguments, code_table
from vae_jax.runtime import storage

NEEDS = "run"


def run(
  config: ConfigDict,
  workdir: str,
  *,
  images: str | None = None,
  label: str | None = None,
  attribute: str | None = None,
) -> str:
  """Reconstructs images; returns their mean squared error.

  Writes `figures/reconstruct.png`, and originals, reconstructions, the
  posteriors' means ("codes") and deviations, names and labels to
  `figures/reconstruct.npz`, all but images also to `figures/reconstruct.csv`.

  A conditional model reads --label, or else the images' own labels. Files have
  none: they are reconstructed as each class, one row of the picture each, with
  a first axis of classes in the arrays and no table.

  Args:
    images: see `arguments`; None = the first 30 test images.
    label: see `arguments.condition`, as attribute.
  """
  condition = arguments.condition(config, label, attribute)
  model = trained_model.open_run(config, workdir)
  chosen = arguments.images(
    model,
    images,
    "data:test:0-29",
    chosen=condition,
    unlabelled=config.model.condition == "label",
  )
  path = model.workdir / "figures" / "reconstruct.png"
  original = chosen.image
  arrays = {"originals": original, "names": np.array(chosen.name)}
  if config.model.condition == "label" and chosen.label is None:
    classes, titles = arguments.each_class(model, None, "reconstruct")
    one = [
      _arrays(model, original, np.repeat(c, len(original))) for c in classes
    ]
    arrays |= {name: np.stack([a[name] for a in one]) for name in one[0]}
    arrays["labels"] = classes
    rows = [original, *arrays["reconstructions"]]
    figures.image_strip(rows, ["data", *titles], path=path)
  else:
    arrays |= _arrays(model, original, chosen.label)
    if chosen.label is not None:
      arrays["labels"] = chosen.label
    figures.reconstruction_grid(original, arrays["reconstructions"], path)
    code_table.write(path.with_suffix(".csv"), model, arrays)
  storage.write_arrays(path.with_suffix(".npz"), **arrays)
  decoded = arrays["reconstructions"]
  difference = (decoded.astype(np.float64) - original) / 255
  return (
    f"Mean squared error of {len(chosen)} image{'s' * (len(chosen) > 1)}, "
    f"values in [0, 1]: {np.square(difference).mean():.5f}.\n{path}"
  )


def _arrays(
  model: trained_model.TrainedModel, image: np.ndarray, label: np.ndarray | None
) -> dict[str, np.ndarray]:
  codes = model.encode(image, label=label)
  return {
    "reconstructions": model.decode(codes, label),
    "codes": codes,
    "deviations": model.deviations(image, label),
  }
