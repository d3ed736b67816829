"""Sample quality: each image once, in batches of any size."""

import json

import numpy as np
import pytest

from vae_jax.config import ConfigError
from vae_jax.evaluate import distances, features, fidelity

RANDOM = np.random.RandomState(0)
REFERENCE = RANDOM.randint(0, 256, (60, 2, 2, 1)).astype(np.uint8)
SAMPLES = RANDOM.randint(0, 200, (50, 2, 2, 1)).astype(np.uint8)


def _pixels(image):
  return image.reshape(len(image), -1) / 255


def _evaluate(size, samples=SAMPLES, function=_pixels):
  def batches(images):
    return (images[i : i + size] for i in range(0, len(images), size))

  extract = features.Extractor("pixels", function)
  images = map(batches, (REFERENCE, samples, REFERENCE))
  about = {"seed": 3, "reference_split": "test of toys"}
  return fidelity.evaluate_fidelity(extract, *images, **about)


def test_result_holds_the_distances_and_their_context():
  result = _evaluate(16)
  reference, samples = (np.float32(_pixels(x)) for x in (REFERENCE, SAMPLES))
  p, q = distances.gaussian(reference), distances.gaussian(samples)
  assert result["sample_fid"] == pytest.approx(distances.frechet(p, q))
  kid = distances.kernel_distance(reference, samples, seed=3)
  assert (result["sample_kid"], result["sample_kid_stderr"]) == kid
  shares = distances.precision_recall(reference, samples)
  assert (result["sample_precision"], result["sample_recall"]) == shares
  assert shares[0] > 0.5 and result["sample_fid"] > 0.01
  assert result["reconstruction_fid"] < 1e-12
  assert result["reconstruction_precision"] == 1
  assert result["reconstruction_recall"] == 1
  assert result["features"] == "pixels" and result["num_features"] == 4
  assert result["reference_split"] == "test of toys" and result["seed"] == 3
  counts = {"reference": 60, "sample": 50, "reconstruction": 60}
  assert counts == {name: result[f"num_{name}s"] for name in counts}
  assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_batch_size_changes_nothing():
  sizes = []

  def function(image):
    sizes.append(len(image))
    return _pixels(image)

  assert _evaluate(7, function=function) == _evaluate(64)
  assert max(sizes) == 7 and sum(sizes) == 170


def test_unusable_features_are_refused():
  with pytest.raises(ConfigError, match="19 sample images.* at least 20"):
    _evaluate(16, samples=SAMPLES[:19])
  with pytest.raises(ConfigError, match=r"reference.*not all finite \(pixels"):
    _evaluate(16, function=lambda image: np.full((len(image), 2), np.nan))


def test_fewer_images_than_features_give_a_warning(caplog):
  with caplog.at_level("WARNING"):
    _evaluate(16, function=lambda image: np.tile(_pixels(image), (1, 20)))
  assert "60 reference images for 80 features" in caplog.text
