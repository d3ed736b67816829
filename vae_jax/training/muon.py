"""Muon: momentum whose matrices are orthogonalized before each step.

Adam scales each number by its own gradients, so that small structures in an
image, such as a mouth, learn slowly next to large ones, such as a background.
Muon takes a step of one length in all directions of a matrix.

`optax.contrib.muon` multiplies the long side of a matrix twice per iteration,
which makes a step of configs/faces.py 1.8 times as long on a CPU.

References:
  Jordan et al. 2024, kellerjordan.github.io/posts/muon; the scale: Bernstein
  and Newhouse, arXiv 2409.20325, section 3.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

# Coefficients of x -> a x + b x^3 + c x^5, which maps singular values in (0, 1]
# to about 1 in few iterations.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_BETA = 0.95

Rate = Callable[[jax.Array | int], Float[Array, ""]] | float


def orthogonal(
  matrix: Float[Array, "m n"], *, iterations: int = 5
) -> Float[Array, "m n"]:
  """Returns about U V^T of a matrix U S V^T, by Newton-Schulz iterations.

  X <- a X + b (X X^T) X + c (X X^T)^2 X, from X = matrix / its norm. All
  iterations are polynomials of one Gram matrix and are multiplied first, so
  that the long side of the matrix enters two products in all. Five bring
  singular values to within about 0.3 of 1; the result of zeros is zeros.
  """
  if matrix.shape[0] > matrix.shape[1]:
    return orthogonal(matrix.T, iterations=iterations).T
  matrix = matrix / (jnp.linalg.norm(matrix) + 1e-8)
  # The Gram matrix holds squares: less than float32 would lose small ones.
  dot = lambda x, y: jnp.matmul(x, y, precision="highest")  # noqa: E731
  gram, product = dot(matrix, matrix.T), jnp.eye(len(matrix))
  for i in range(iterations):
    factor = _B * gram + _C * dot(gram, gram) + _A * jnp.eye(len(gram))
    product = dot(factor, product)
    if i + 1 < iterations:
      gram = dot(factor, dot(gram, factor))
  return dot(product, matrix)


def scale_by_muon(*, iterations: int = 5) -> optax.GradientTransformation:
  """Returns Muon's direction: Nesterov momentum, orthogonalized.

  Kernels of convolutions are matrices of (height, width, inputs) x outputs. A
  matrix m x n is scaled by sqrt(max(1, n / m)).
  """
  momentum = optax.trace(_BETA, nesterov=True)

  def direction(gradient: jax.Array) -> jax.Array:
    matrix = gradient.reshape(-1, gradient.shape[-1])
    scale = math.sqrt(max(1, matrix.shape[1] / matrix.shape[0]))
    result = scale * orthogonal(matrix, iterations=iterations)
    return result.reshape(gradient.shape)

  def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    updates, state = momentum.update(gradients, state, params)
    return jax.tree.map(direction, updates), state

  return optax.GradientTransformation(momentum.init, update)


def muon(
  learning_rate: Rate, *, iterations: int = 5, adam_ratio: float = 0.2
) -> optax.GradientTransformation:
  """Returns Muon for weights named `kernel`, Adam for all others, at
  `adam_ratio` times the matrices' rate."""

  def adam_rate(step: jax.Array | int) -> jax.Array | float:
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    return adam_ratio * rate

  def label(path: tuple[Any, ...], leaf: jax.Array) -> str:
    # Other matrices, such as pseudo-inputs, are no linear maps.
    kernel = getattr(path[-1], "key", None) == "kernel" and leaf.ndim >= 2
    return "muon" if kernel else "adam"

  matrices = optax.chain(
    scale_by_muon(iterations=iterations),
    optax.scale_by_learning_rate(learning_rate),
  )
  return optax.partition(
    {"muon": matrices, "adam": optax.adam(adam_rate)},
    lambda params: jax.tree_util.tree_map_with_path(label, params),
  )
