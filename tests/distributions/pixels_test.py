"""Dequantization against quadrature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.special
import scipy.stats

from vae_jax import distributions


def test_dequantized_density_bounds_the_probability_of_the_level():
  count, mean, sigma = 20_000, 0.394, 0.002  # half a level of the mean
  likelihood = distributions.Normal(
    jnp.full((1, count, 1, 1), mean), jnp.float32(math.log(sigma))
  )
  noise = jax.random.uniform(jax.random.key(0), (1, count, 1, 1))
  for level in (100, 101):
    image = jnp.full((1, count, 1, 1), level, jnp.uint8)
    dequantized = distributions.Dequantized(likelihood, noise)
    exact, square = (
      scipy.integrate.quad(
        lambda u, power=power, level=level: (
          scipy.stats.norm.logpdf((level + u) / 256, mean, sigma) ** power
        ),
        0,
        1,
      )[0]
      for power in (1, 2)
    )
    # The sum over pixels is the sum over draws of the noise.
    estimate = float(dequantized.log_prob(image)[0]) / count
    error = 5 * math.sqrt((square - exact**2) / count)
    assert abs(estimate - exact) < error
    inside = np.diff(
      scipy.stats.norm.cdf([level / 256, (level + 1) / 256], mean, sigma)
    )
    assert exact - math.log(256) < math.log(inside[0])
