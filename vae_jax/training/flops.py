"""Floating-point operations of a traced function, counted in its jaxpr.

XLA's own count takes the body of each inner loop once, and convolutions are
loops on a CPU. Only matrix products and convolutions count, two operations
per multiply-add, as is usual for model FLOPs utilization.
"""

import math

import jax
from jax.extend import core


def count(jaxpr: core.Jaxpr) -> int:
  """Returns the operations of one run of a jaxpr on one device.

  A `scan` counts all its iterations, a `while` one, because their number is
  unknown, and a `cond` its cheapest branch.
  """
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    inner = [
      count(getattr(value, "jaxpr", value))
      for value in jax.tree.leaves(params)
      if isinstance(value, core.ClosedJaxpr | core.Jaxpr)
    ]
    if name == "dot_general":
      (contracted, _), _ = params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      depth = math.prod(shape[i] for i in contracted)
      total += 2 * depth * math.prod(equation.outvars[0].aval.shape)
    elif name == "conv_general_dilated":
      kernel = equation.invars[1].aval.shape
      outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
      taps = math.prod(kernel) // outputs
      total += 2 * taps * math.prod(equation.outvars[0].aval.shape)
    elif name == "cond":
      total += min(inner)
    elif name == "scan":
      total += params["length"] * sum(inner)
    else:
      total += sum(inner)
  return total
