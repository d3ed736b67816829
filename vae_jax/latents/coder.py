"""The functions of a trained model, on any number of rows.

Everything is computed in chunks of one size, so that each function is compiled
once and a code decodes to the same bits at every position of an array.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Integer, Shaped, UInt8

from vae_jax import models
from vae_jax.data import datasets
from vae_jax.latents import apply, conditions
from vae_jax.latents.opened import Opened
from vae_jax.runtime import bars

_FETCHED = 512  # Images read from a source at a time.


class Coder(Opened):
  """A run's checkpoint, whose functions take arrays of any length.

  Labels are those of `conditions.labels`.
  """

  def as_input(
    self, image: UInt8[np.ndarray, "n h w c"], index: Int32[np.ndarray, " n"]
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Returns images as the model's input in evaluation: binarized, with the
    keys of their positions in the split, if the model was trained so."""
    return np.asarray(
      apply.as_model_input(
        image, index, self.config.eval.seed, mode=self.config.data.binarization
      )
    )

  def means(
    self, image: UInt8[np.ndarray, "n h w c"], label: Any
  ) -> Float32[np.ndarray, "n d"]:
    """Returns the posterior means of images, as `as_input` returns them."""
    return self.in_chunks(
      lambda *args: apply.encode(self.vae, *args)[0], (image,), label
    )

  def spreads(
    self,
    image: UInt8[np.ndarray, "n h w c"],
    index: Int32[np.ndarray, " n"],
    label: Any,
  ) -> Float32[np.ndarray, "n d"]:
    """Returns the standard deviations of the posteriors of such images at
    their positions; see `apply.deviation`."""
    seed = self.config.eval.seed
    return self.in_chunks(
      lambda *args: apply.encode_deviation(self.vae, *args, seed)[0],
      (image, index),
      label,
    )

  def decoded(
    self, codes: Float32[np.ndarray, "n d"], label: Any
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Returns the means of the likelihood as images."""
    return self.in_chunks(
      lambda variables, code: apply.decode(self.vae, variables, (code,)),
      (codes,),
      label,
      of="codes",
    )

  def draws(
    self,
    index: Int32[np.ndarray, " n"],
    label: Any = None,
    *,
    temperature: float | int | None = None,
    seed: int | None = None,
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Returns decoded draws from the prior, by their numbers.

    Draw i depends on the seed and i alone. Temperature and seed are by default
    those of `config.sample`.
    """
    how = self.config.sample
    temperature = how.temperature if temperature is None else temperature
    seed = how.seed if seed is None else seed
    return self.in_chunks(
      lambda *args: apply.sample(self.vae, *args, seed, temperature),
      (index,),
      label,
      of="samples",
    )

  def drawn_codes(
    self,
    index: Int32[np.ndarray, " n"],
    label: Any = None,
    *,
    temperature: float | int,
    seed: int,
  ) -> Float32[np.ndarray, "n d"]:
    """Returns the codes of `draws`."""
    return self.in_chunks(
      lambda *args: apply.draw_codes(self.vae, *args, seed, temperature)[0],
      (index,),
      label,
      of="samples",
    )

  def in_chunks(
    self,
    function: Callable[..., Any],
    arrays: tuple[np.ndarray, ...],
    label: Any,
    *,
    of: str = "images",
  ) -> np.ndarray:
    """Returns function(variables, *arrays), computed in padded chunks."""
    count = len(arrays[0])
    labels = conditions.labels(self.experiment, label, count, of=of)
    if not count:
      # For the shape of the result.
      one = tuple(np.zeros((1, *v.shape[1:]), v.dtype) for v in arrays)
      if labels is not None:
        labels = np.zeros((1, *labels.shape[1:]), labels.dtype)
      return self.in_chunks(function, one, labels, of=of)[:0]
    parts = []
    for begin in range(0, count, self.chunk):
      rows = slice(begin, begin + self.chunk)
      variables = self.variables
      if labels is not None:
        some = padded(labels[rows], self.chunk)
        variables = {**variables, **models.side_inputs(label=some)}
      chunk = [padded(values[rows], self.chunk) for values in arrays]
      results = np.asarray(function(variables, *chunk))
      parts.append(results[: min(self.chunk, count - begin)])
    return np.concatenate(parts)

  def first_codes(
    self, source: datasets.Source, count: int
  ) -> tuple[Float32[np.ndarray, "n d"], Integer[np.ndarray, "n ..."] | None]:
    """Returns the codes of a split's first images, at most `count`, and their
    labels; None where the split has none."""
    codes, labels = [], []
    for _, image, label in self._inputs(datasets.First(source, count)):
      codes.append(self.means(image, label))
      labels.append(label)
    return np.concatenate(codes), _joined(labels)

  def coded(
    self, source: datasets.Source, bar: str = ""
  ) -> tuple[
    Float32[np.ndarray, "n d"],
    Float32[np.ndarray, "n d"],
    Integer[np.ndarray, "n ..."] | None,
  ]:
    """Returns means and deviations of all images of a source, and their labels.

    Their bits are those of `encode` and `deviations` in Python, on one device.

    Args:
      source: the images.
      bar: name of the progress bar; "" = no bar.
    """
    means, spreads, labels = [], [], []
    with bars.Bar(len(source), bar, "images", shown=bool(bar)) as progress:
      for index, image, label in self._inputs(source):
        means.append(self.means(image, label))
        spreads.append(self.spreads(image, index, label))
        labels.append(label)
        progress.update(len(image))
    return np.concatenate(means), np.concatenate(spreads), _joined(labels)

  def posterior_draws(
    self, source: datasets.Source, *, seed: int, bar: str = ""
  ) -> tuple[Float32[np.ndarray, "n d"], Integer[np.ndarray, "n ..."] | None]:
    """Returns a draw from the posterior of each image of a source, and the
    labels; draw i depends on the seed and i alone, on any number of devices.

    `bar` names the progress bar; "" = no bar.
    """
    codes, labels = [], []
    with bars.Bar(len(source), bar, "images", shown=bool(bar)) as progress:
      for index, image, label in self._inputs(source):
        draws = self.in_chunks(
          lambda *args: apply.encode_draw(self.vae, *args, seed)[0],
          (image, index),
          label,
        )
        codes.append(draws)
        labels.append(label)
        progress.update(len(image))
    return np.concatenate(codes), _joined(labels)

  def _inputs(
    self, source: datasets.Source
  ) -> Iterator[
    tuple[np.ndarray, UInt8[np.ndarray, "n h w c"], np.ndarray | None]
  ]:
    """Yields positions, images as the model's input, and labels of a source."""
    for begin in range(0, len(source), _FETCHED):
      index = np.arange(begin, min(begin + _FETCHED, len(source)))
      index = index.astype(np.int32)
      data = source.fetch(index)
      yield index, self.as_input(data["image"], index), data.get("label")


def _joined(
  labels: list[Integer[np.ndarray, "n ..."] | None],
) -> Integer[np.ndarray, "n ..."] | None:
  return None if labels[0] is None else np.concatenate(labels)


def padded(
  values: Shaped[np.ndarray, "n ..."], count: int
) -> Shaped[np.ndarray, "count ..."]:
  """Returns values, padded to `count` with copies of the first."""
  return np.concatenate([values, np.repeat(values[:1], count - len(values), 0)])
