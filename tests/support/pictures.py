"""Folders of small pictures, as anyone might have them."""

import io

import numpy as np
from PIL import Image

from tests.support import tfds
from vae_jax.data.source import PURPOSES


def noise(*shape, seed=0):
  """Returns random pixels."""
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def stored(image, format="png", **options):
  """Returns the bytes of a file."""
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  buffer = io.BytesIO()
  image.save(buffer, format, **options)
  return buffer.getvalue()


def numbered(count, shape=(8, 6, 3), seed=0):
  """Returns random images whose first byte is their position."""
  images = noise(count, *shape, seed=seed)
  images[:, 0, 0, 0] = np.arange(count)
  return images


def write(root, images, names=None, format="png", **options):
  """Writes a file for each image, and returns their paths below the root."""
  names = names or [f"{i:03d}.png" for i in range(len(images))]
  for name, image in zip(names, images, strict=True):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(stored(image, format, **options))
  return names


def opened(root, **changes):
  return tfds.opened("", f"folder:{root}", **changes)


def fails(root, *parts, **changes):
  message = tfds.fails("", f"folder:{root}", **changes)
  assert all(part in message for part in parts), message


def contents(splits):
  """Returns the examples of each split."""
  return {name: tfds.content(getattr(splits, name)) for name in PURPOSES}


def places(splits):
  """Returns the first byte of each image, by split."""
  return {
    k: v["image"][:, 0, 0, 0].tolist() for k, v in contents(splits).items()
  }
