"""Distances of samples and reconstructions to real images."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import logging

from vae_jax.config import ConfigError
from vae_jax.evaluate import distances
from vae_jax.evaluate.features import Extractor
from vae_jax.latents import apply
from vae_jax.runtime import bars


def evaluate_fidelity(
  features: Extractor,
  reference_images: Iterable[apply.Images],
  sample_images: Iterable[apply.Images],
  reconstruction_images: Iterable[apply.Images],
  *,
  seed: int,
  reference_split: str,
  num_images: int | None = None,
  progress: bool = False,
) -> dict[str, Any]:
  """Returns distances of samples and of reconstructions to real images.

  All images come in batches uint8 [b h w c]; only features stay in memory.

  Args:
    reference_images: of the data set.
    sample_images: decoded draws from the prior.
    reconstruction_images: preferably of the reference in its order.
    seed: of the subsets of the kernel distance.
    reference_split: description of the reference images for the report.
    num_images: of all three sets, for the progress bar; None = unknown.

  Returns:
    The context of the numbers, and with the prefixes "sample_" and
    "reconstruction_":
      fid: `distances.frechet`
      kid, kid_stderr: `distances.kernel_distance`
      precision, recall: `distances.precision_recall`
    The names FID and KID strictly mean Inception's features.

  Raises:
    ConfigError: there are too few images, or features are not finite.
  """
  sets = {
    "reference": reference_images,
    "sample": sample_images,
    "reconstruction": reconstruction_images,
  }
  with bars.Bar(num_images, "fidelity", "images", shown=progress) as bar:
    rows = {k: _extract(features, k, v, bar) for k, v in sets.items()}
  result: dict[str, Any] = {
    "features": features.name,
    "num_features": rows["reference"].shape[1],
    "reference_split": reference_split,
    **{f"num_{name}s": len(values) for name, values in rows.items()},
    "seed": seed,
  }
  reference = rows.pop("reference")
  gaussian = distances.gaussian(reference)
  for name, values in rows.items():
    kid, error = distances.kernel_distance(reference, values, seed=seed)
    precision, recall = distances.precision_recall(reference, values)
    result |= {
      f"{name}_fid": distances.frechet(gaussian, distances.gaussian(values)),
      f"{name}_kid": kid,
      f"{name}_kid_stderr": error,
      f"{name}_precision": precision,
      f"{name}_recall": recall,
    }
  return result


def _extract(
  features: Extractor, name: str, images: Iterable[apply.Images], bar: bars.Bar
) -> np.ndarray:
  batches = []
  for batch in images:
    batches.append(features(batch))
    bar.update(len(batch))
  count = sum(map(len, batches))
  if count < distances.MIN_IMAGES:
    raise ConfigError(
      f"There are {count} {name} images; sample quality needs at least "
      f"{distances.MIN_IMAGES} (config.eval.num_samples, config.eval.split)."
    )
  rows = np.concatenate(batches)
  if not np.isfinite(rows).all():
    raise ConfigError(
      f"The features of the {name} images are not all finite ({features.name})."
    )
  if count <= rows.shape[1]:
    logging.warning(
      "%d %s images for %d features: the FID is far above that of many images.",
      count,
      name,
      rows.shape[1],
    )
  return rows
