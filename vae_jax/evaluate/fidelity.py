"""Sample quality: how near samples and reconstructions come to real images."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tqdm
from absl import logging

from vae_jax.config import ConfigError
from vae_jax.evaluate import distances
from vae_jax.evaluate.features import Extractor


def evaluate_fidelity(
  features: Extractor,
  reference_images: Iterable[Any],
  sample_images: Iterable[Any],
  reconstruction_images: Iterable[Any],
  *,
  seed: int,
  reference_split: str,
  num_images: int | None = None,
  progress: bool = False,
) -> dict[str, Any]:
  """Returns distances of samples and of reconstructions to real images.

  All images are batches uint8 [b h w c], each read once and let go; what is
  kept is their features.

  Args:
    features: of `features.build`.
    reference_images: batches of real images.
    sample_images: batches of decoded draws from the prior.
    reconstruction_images: batches of reconstructions, best of the reference
      in its order.
    seed: of the subsets of the kernel distance.
    reference_split: what the reference images are, in words for the report.
    num_images: of all three together, for the bar; None = not known.
    progress: whether to show a bar.

  Returns:
    What the numbers depend on, and for "sample" and "reconstruction" their
      fid: `distances.frechet`
      kid, kid_stderr: `distances.kernel_distance`
      precision, recall: `distances.precision_recall`
    as sample_fid and so on. FID and KID in the strict sense are those with
    Inception's features.

  Raises:
    ConfigError: there are too few images, or features that are not finite.
  """
  bar = tqdm.tqdm(
    total=num_images, unit="img", desc="fidelity", disable=not progress
  )
  with bar:
    found = {
      name: _extract(features, name, images, bar)
      for name, images in (
        ("reference", reference_images),
        ("sample", sample_images),
        ("reconstruction", reconstruction_images),
      )
    }
  result: dict[str, Any] = {
    "features": features.name,
    "num_features": found["reference"].shape[1],
    "reference_split": reference_split,
    **{f"num_{name}s": len(rows) for name, rows in found.items()},
    "seed": seed,
  }
  reference = found.pop("reference")
  gaussian = distances.gaussian(reference)
  for name, rows in found.items():
    fid = distances.frechet(gaussian, distances.gaussian(rows))
    kid, error = distances.kernel_distance(reference, rows, seed=seed)
    precision, recall = distances.precision_recall(reference, rows)
    values = (fid, kid, error, precision, recall)
    words = ("fid", "kid", "kid_stderr", "precision", "recall")
    for word, value in zip(words, values, strict=True):
      result[f"{name}_{word}"] = value
  return result


def _extract(
  features: Extractor, name: str, images: Iterable[Any], bar: tqdm.tqdm
) -> np.ndarray:
  parts = []
  for batch in images:
    parts.append(features(batch))
    bar.update(len(batch))
  count = sum(len(part) for part in parts)
  if count < distances.FEWEST:
    raise ConfigError(
      f"There are {count} {name} images; sample quality needs at least "
      f"{distances.FEWEST} (config.eval.num_samples, config.eval.split)."
    )
  rows = np.concatenate(parts)
  if not np.isfinite(rows).all():
    raise ConfigError(
      f"The features of the {name} images are not all finite ({features.name})."
    )
  if count <= rows.shape[1]:
    logging.warning(
      "%d %s images for %d features: fid is far above that of many images.",
      count,
      name,
      rows.shape[1],
    )
  return rows
