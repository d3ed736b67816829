"""A mixture of normals with full covariances, fitted to codes.

Fitted after the training, it is a density to draw from where the codes do not
fill the prior, or where there is none.

References:
  Ghosh et al., arXiv 1903.12436, section 5 (ten components, full covariances).
"""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import threadpoolctl
from jaxtyping import Float, Float32
from sklearn import exceptions, mixture

from vae_jax import distributions
from vae_jax.runtime import bars

_MOST = 10  # Components.
_CODES = 2  # Per component and dimension, at least.
# Smallest variance in each direction, as a share of each dimension's: draws
# never fail, and dimensions without variance have a density.
FLOOR = 1e-6
_TOLERANCE = 1e-3  # Nats per code that an iteration must gain.
_MAX_ITERATIONS = 500
_AT_A_TIME = 10  # Iterations between two moves of the progress bar.


def components(count: int, dim: int) -> int:
  """Returns the number of components for so many codes: 10, or fewer so that
  there are two codes for each dimension of each component."""
  return max(1, min(_MOST, count // (_CODES * dim)))


def fit(
  codes: Float32[np.ndarray, "n d"],
  *,
  seed: int,
  components: int,
  bar: str = "",
) -> tuple[dict[str, Float32[np.ndarray, "..."]], dict[str, Any]]:
  """Returns the arrays of `build`, and a report of the fit.

  Expectation maximization of scikit-learn, from the clusters of k-means, on
  codes that are scaled to unit variance: another unit of the codes gives the
  same density in that unit.

  Args:
    codes: n of them, at least 2.
    seed: of the clusters.
    components: number of normals.
    bar: name of the progress bar; "" = no bar.

  Returns:
    The report has `components`, `iterations`, and `log_likelihood`, nats per
    code at the start of each iteration.
  """
  center, scale = _moments(codes)
  model = mixture.GaussianMixture(
    components,
    covariance_type="full",
    tol=_TOLERANCE,
    reg_covar=FLOOR,
    max_iter=_AT_A_TIME,
    random_state=seed,
    warm_start=True,
  )
  standard = (codes - center) / scale
  jacobian = np.log(scale).sum()
  bounds: list[float] = []
  # Because k-means adds the sums of its threads in the order of their ends.
  with (
    bars.Bar(_MAX_ITERATIONS, bar, "steps", shown=bool(bar)) as progress,
    threadpoolctl.threadpool_limits(1, user_api="openmp"),
    warnings.catch_warnings(),
  ):
    # Because each of these short fits ends before it has converged.
    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    while len(bounds) < _MAX_ITERATIONS:
      model.fit(standard)
      bounds += model.lower_bounds_
      note = f"log-likelihood {bounds[-1] - jacobian:.3f}"
      progress.update(len(model.lower_bounds_), note)
      if model.converged_:
        break
  cholesky = np.linalg.cholesky(model.covariances_)
  arrays = {
    "mean": center + scale * model.means_,
    "scale_tril": scale[:, None] * cholesky,
    "logits": np.log(model.weights_),
  }
  return {k: v.astype(np.float32) for k, v in arrays.items()}, {
    "components": components,
    "iterations": len(bounds),
    "converged": bool(model.converged_),
    "log_likelihood": [float(v - jacobian) for v in bounds],
  }


def build(arrays: dict[str, Any]) -> distributions.FullNormalMixture:
  """Returns the density of arrays, as `fit` returns them."""
  return distributions.FullNormalMixture(
    **{name: jnp.asarray(values) for name, values in arrays.items()}
  )


def _moments(
  codes: Float32[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
  """Returns mean and standard deviation of each dimension, 1 where a dimension
  does not vary."""
  codes = codes.astype(np.float64)
  center, scale = codes.mean(axis=0), codes.std(axis=0)
  return center, np.where(scale > 1e-12, scale, 1.0)
