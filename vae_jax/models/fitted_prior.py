"""A density that was fitted to codes, in the place of a model's prior."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Integer

from vae_jax import distributions

# The collection of its arrays, none of which is trained.
_COLLECTION = "density"


class FittedPrior(nn.Module):
  """A density of codes, or one for each class, whose arrays are given.

  `variables` returns them as a collection of the model's variables.

  Attributes:
    build: function from arrays to a density.
    reads_label: whether there is one for each class.
  """

  build: Callable[[Any], Any]
  reads_label: bool = False

  def __call__(
    self, encode: Callable[..., Any], label: Integer[Array, " b"] | None = None
  ) -> Any:
    """Returns the density."""
    del encode
    arrays = self.get_variable(_COLLECTION, "arrays")
    if self.reads_label:
      return distributions.PerClass(arrays, label, self.build)
    return self.build(arrays)


def variables(arrays: Any) -> dict[str, Any]:
  """Returns a model's collection of the arrays of its `FittedPrior`.

  Args:
    arrays: of a density, or of one for each class, stacked.
  """
  return {_COLLECTION: {"latent_prior": {"arrays": arrays}}}
