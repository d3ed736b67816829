"""From a decoded picture to an image of the data set: one way for all.

The pictures of a data set, of a folder, of an array and of a user's own file
go through the same `Transform`: levels, transparency, channels, crop, luma,
resize.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from ml_collections import config_dict
from PIL import ImageColor

from vae_jax.data import errors

Range = tuple[float | int, ...]
Size = int | tuple[int, int]  # A side, or height and width, pixels; 0 = none.


@dataclasses.dataclass(frozen=True)
class Transform:
  """The settings of `config.data` that change pixels.

  Attributes:
    crop: size of the center crop; 0 = none.
    resize: size after resizing; 0 = none. Each new pixel is the mean over the
      area it covers, so that shrinking does not alias; a side that grows is
      interpolated linearly.
    grayscale: whether to convert RGB to one channel of luma (ITU-R BT.601).
    range: stored values that become 0 and 255; () = 0 and the largest value of
      the type, which is 1 for bits and real numbers.
    background: color behind transparent pixels, a name or "#rrggbb".
  """

  crop: Size = 0
  resize: Size = 0
  grayscale: bool = False
  range: Range = ()
  background: str = "white"

  def fingerprint(self) -> dict[str, object]:
    """Returns what determines the pixels, as a part of a source's key."""
    plain = dataclasses.asdict(Transform())
    return {
      name: value
      for name, value in dataclasses.asdict(self).items()
      if name in ("crop", "resize", "grayscale") or value != plain[name]
    }

  def shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Returns the shape (h, w, c) of the result for a picture of `shape`.

    Sides that are None are unknown.

    Raises:
      DataError: the crop is larger than the picture.
    """
    height, width, channels = shape
    for side, kept in zip((height, width), pair(self.crop) or (), strict=False):
      if side is not None and kept > side:
        raise errors.DataError(
          f"--config.data.crop={self.crop} is larger than the image, which is "
          f"{height}x{width} pixels"
        )
    height, width = pair(self.resize) or pair(self.crop) or (height, width)
    if channels is not None:
      channels = 1 if self.grayscale else color_channels(channels)
    return height, width, channels

  def __call__(
    self, image: Shaped[np.ndarray, "h w c"], channels: int = 0
  ) -> UInt8[np.ndarray, "h2 w2 c2"]:
    """Returns a picture as an image of the data set.

    Args:
      image: gray, gray and opacity, RGB, or RGB and opacity; bits, integers of
        8 or 16 bits, or real numbers.
      channels: 1 or 3, those of the data set before `grayscale`; 0 = those of
        the picture.
    """
    height, width, own = self.shape(image.shape)
    part = pair(self.crop) or image.shape[:2]
    shape = (height, width, 1 if self.grayscale else channels or own)
    return self._finish(image, part, shape)

  def photo(
    self,
    image: Shaped[np.ndarray, "h w c"],
    shape: tuple[int, int, int],
    stored: tuple[int, int] | None,
  ) -> UInt8[np.ndarray, "h2 w2 c2"]:
    """Returns a picture of any size as an image of `shape`, (h2, w2, c2).

    If all pictures of the data set have the size `stored`, the largest centered
    part with their proportions is prepared as they are: the crop keeps the same
    share of it. If their sizes vary (None), it is prepared as one of them. A
    picture that could be in the data set gives the image that it has there.
    """
    part = pair(self.crop) or stored or image.shape[:2]
    if stored:
      scale = min(a / b for a, b in zip(image.shape, stored, strict=False))
      part = tuple(max(1, round(side * scale)) for side in part)
    else:
      self.shape(image.shape)  # Checks the crop.
    return self._finish(image, part, shape)

  def _finish(
    self,
    image: Shaped[np.ndarray, "h w c"],
    part: tuple[int, int],
    shape: tuple[int, int, int],
  ) -> UInt8[np.ndarray, "h2 w2 c2"]:
    """Cuts the centered part out, and gives it the levels and the shape."""
    top, left = ((a - b) // 2 for a, b in zip(image.shape, part, strict=False))
    image = image[top : top + part[0], left : left + part[1]]
    colors = levels(image, self.range)
    if self.range and image.shape[-1] in (2, 4):
      colors[..., -1] = levels(image[..., -1])  # Opacity has its own range.
    return fit(opaque(colors, self.background), shape)


def of_config(data: config_dict.ConfigDict) -> Transform:
  """Returns the transform of the node `config.data`.

  Raises:
    DataError: the background is no color.
  """
  try:
    ImageColor.getrgb(data.background)
  except ValueError as error:
    raise errors.DataError(
      f"--config.data.background={data.background!r} is no color; it must be a "
      "name, such as white, or #rrggbb"
    ) from error
  fields = dataclasses.fields(Transform)
  return Transform(**{f.name: data[f.name] for f in fields})


def pair(size: Size) -> tuple[int, int] | None:
  """Returns a size as height and width; None for 0."""
  size = (size, size) if isinstance(size, int) else tuple(size)
  return size if any(size) else None


def color_channels(channels: int) -> int:
  """Returns the channels without opacity, 1 or 3.

  Raises:
    DataError: there are more than 4.
  """
  if channels not in (1, 2, 3, 4):
    raise errors.DataError(
      f"images have {channels} channels; they must have 1 (gray), 2 (gray and "
      "opacity), 3 (RGB) or 4 (RGB and opacity)"
    )
  return 1 if channels < 3 else 3


def levels(
  image: Shaped[np.ndarray, "*shape"], range: Range = ()
) -> UInt8[np.ndarray, "*shape"]:
  """Returns stored values as 0 to 255; see `Transform.range`."""
  if image.dtype == np.uint8 and not range:
    return image
  kind = image.dtype.kind
  # Written so that nan is refused.
  if kind == "f" and not range and not (image.min() >= 0 and image.max() <= 1):
    raise errors.DataError(
      f"real values reach from {image.min():g} to {image.max():g}; they must "
      "lie in [0, 1], or --config.data.range=LOW,HIGH must name those that "
      "become 0 and 255"
    )
  low, high = range or (0, np.iinfo(image.dtype).max if kind in "iu" else 1)
  scaled = (image.astype(np.float64) - low) * (255 / (high - low))
  return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def opaque(
  image: UInt8[np.ndarray, "h w c"], background: str
) -> UInt8[np.ndarray, "h w c2"]:
  """Returns an image without its last channel if that is opacity (of 2 or 4):
  composed on the background."""
  if image.shape[-1] not in (2, 4):
    return image
  color = np.array(ImageColor.getrgb(background)[:3], np.uint32)
  if image.shape[-1] == 2:
    color = np.array([ImageColor.getcolor(background, "L")], np.uint32)
  opacity = image[..., -1:].astype(np.uint32)
  mixed = image[..., :-1] * opacity + color * (255 - opacity)
  return ((mixed + 127) // 255).astype(np.uint8)


def fit(
  image: UInt8[np.ndarray, "h w c"], shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "h2 w2 c2"]:
  """Gives an image, gray or RGB, the channels and the size of `shape`."""
  height, width, channels = shape
  if channels == 1 and image.shape[-1] == 3:
    image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
  elif channels == 3 and image.shape[-1] == 1:
    image = np.repeat(image, 3, axis=-1)
  if image.shape[:2] != (height, width):
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
  # Because OpenCV drops a single channel.
  return image.reshape(height, width, channels)


def proportions(transform: Transform, size: tuple[int, int]) -> str:
  """Returns a sentence if the resize changes the proportions of pictures of a
  size by more than 1%, else ""."""
  part, target = pair(transform.crop) or size, pair(transform.resize)
  if not target or math.isclose(
    part[0] * target[1], part[1] * target[0], rel_tol=0.01
  ):
    return ""
  return (
    f"config.data.resize={transform.resize} changes the proportions of images "
    f"of {part[0]}x{part[1]} pixels (height x width); config.data.crop would "
    "keep them"
  )
