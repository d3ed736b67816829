"""Muon: momentum, of which each matrix is made orthogonal before the step.

What is small in an image, as a mouth, has small gradients beside what is
large, as a background, and Adam, number by number, keeps their proportions.
Muon takes a step of one length in all directions of a matrix.

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

# Of the polynomial x -> a x + b x^3 + c x^5, which leads singular values from
# (0, 1] to about 1 in few iterations.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_BETA = 0.95

Rate = Callable[[jax.Array | int], Float[Array, ""]] | float


def orthogonal(
  matrix: Float[Array, "m n"], *, iterations: int = 5
) -> Float[Array, "m n"]:
  """Returns about U V^T of a matrix U S V^T, by Newton-Schulz iterations.

  X <- a X + b (X X^T) X + c (X X^T)^2 X, from X = matrix / its norm. All of
  them are polynomials of one Gram matrix, which are multiplied first: the long
  side of the matrix is used twice, not twice in each iteration.

  Args:
    matrix: any; of a zero matrix the result is zero.
    iterations: more of them bring singular values nearer to 1, within about
      0.3 of it.
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
  """Returns the direction of Muon: Nesterov momentum, made orthogonal.

  Kernels of convolutions are matrices of (height, width, inputs) x outputs. A
  matrix m x n is scaled by sqrt(max(1, n / m)).
  """

  def init(params: Any) -> optax.TraceState:
    return optax.TraceState(jax.tree.map(jnp.zeros_like, params))

  def update(
    gradients: Any, state: optax.TraceState, params: Any = None
  ) -> tuple[Any, optax.TraceState]:
    del params
    momentum = jax.tree.map(lambda m, g: _BETA * m + g, state.trace, gradients)

    def direction(m: jax.Array, g: jax.Array) -> jax.Array:
      matrix = (_BETA * m + g).reshape(-1, g.shape[-1])
      scale = math.sqrt(max(1, matrix.shape[1] / matrix.shape[0]))
      made = scale * orthogonal(matrix, iterations=iterations)
      return made.reshape(g.shape)

    made = jax.tree.map(direction, momentum, gradients)
    return made, optax.TraceState(momentum)

  return optax.GradientTransformation(init, update)


def muon(
  learning_rate: Rate, *, iterations: int = 5, adam_ratio: float = 0.2
) -> optax.GradientTransformation:
  """Returns Muon for weights named `kernel`, Adam for all others.

  Args:
    learning_rate: of the matrices; a number or a schedule.
    iterations: of Newton and Schulz, see `orthogonal`.
    adam_ratio: learning rate of the other weights, as a share of it.
  """

  def others(step: jax.Array | int) -> jax.Array | float:
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    return adam_ratio * rate

  def owner(params: Any) -> Any:
    # What else is a matrix, as pseudo-inputs, maps nothing to anything.
    def of(path: Any, leaf: jax.Array) -> str:
      kernel = getattr(path[-1], "key", None) == "kernel" and leaf.ndim >= 2
      return "muon" if kernel else "adam"

    return jax.tree_util.tree_map_with_path(of, params)

  matrices = optax.chain(
    scale_by_muon(iterations=iterations),
    optax.scale_by_learning_rate(learning_rate),
  )
  return optax.partition({"muon": matrices, "adam": optax.adam(others)}, owner)
