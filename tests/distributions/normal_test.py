"""Densities and divergences against scipy, sums and closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from vae_jax import distributions

KEYS = jax.random.split(jax.random.key(0), 3)


def _normal(seed: int) -> distributions.DiagonalNormal:
  rng = np.random.default_rng(seed)
  return distributions.DiagonalNormal(
    jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
    jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
  )


def test_normal_log_prob_is_scipys():
  q, z = _normal(0), _normal(1).mean
  scale = np.exp(0.5 * np.asarray(q.log_variance))
  expected = scipy.stats.norm.logpdf(z, q.mean, scale).sum(1)
  np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-5)
  expected = scipy.stats.norm.logpdf(z).sum(1)
  prior = distributions.StandardNormal(4)
  np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-5)


@pytest.mark.parametrize("standard", [True, False])
def test_kl_is_the_integral(standard):
  q = _normal(0)
  p = distributions.StandardNormal(4) if standard else _normal(1)
  expected = np.zeros((3, 4))
  for i, j in itertools.product(range(3), range(4)):
    ours = scipy.stats.norm(q.mean[i, j], np.exp(q.log_variance[i, j] / 2))
    theirs = scipy.stats.norm()
    if not standard:
      theirs = scipy.stats.norm(p.mean[i, j], np.exp(p.log_variance[i, j] / 2))
    low, high = ours.ppf(1e-12), ours.ppf(1 - 1e-12)
    expected[i, j] = scipy.integrate.quad(
      lambda x, a=ours, b=theirs: a.pdf(x) * (a.logpdf(x) - b.logpdf(x)),
      low,
      high,
    )[0]
  np.testing.assert_allclose(q.kl_per_dimension(p), expected, atol=2e-5)
  np.testing.assert_allclose(q.kl(p), expected.sum(1), rtol=1e-5)


def test_kl_by_hand_and_at_the_prior():
  q = distributions.DiagonalNormal(
    jnp.array([[1.0, 0.0]]), jnp.array([[0.0, math.log(4.0)]])
  )
  # 1/2 + 1/2 (4 - 1 - log 4)
  expected = 0.5 + 0.5 * (3 - math.log(4))
  np.testing.assert_allclose(
    q.kl(distributions.StandardNormal(2)), [expected], rtol=1e-6
  )
  zero = distributions.DiagonalNormal(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
  assert zero.kl(distributions.StandardNormal(2)) == 0
  tiny = distributions.DiagonalNormal(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-4))
  # 1/4 log_variance^2 to second order: cancellation would leave noise.
  np.testing.assert_allclose(
    tiny.kl(distributions.StandardNormal(1)), 0.25e-8, rtol=1e-2
  )


def test_sample_has_the_moments_and_the_gradients():
  q = distributions.DiagonalNormal(
    jnp.full((1, 20_000), 2.0), jnp.full((1, 20_000), math.log(9.0))
  )
  z = q.sample(KEYS[:1])
  assert abs(z.mean() - 2) < 5 * 3 / math.sqrt(20_000)
  assert abs(z.std() - 3) < 0.1

  def total(mean, log_variance):
    return distributions.DiagonalNormal(mean, log_variance).sample(KEYS).sum()

  small = _normal(0)
  by_mean, by_variance = jax.grad(total, (0, 1))(small.mean, small.log_variance)
  np.testing.assert_allclose(by_mean, np.ones((3, 4)))
  noise = small.sample(KEYS) - small.mean
  np.testing.assert_allclose(by_variance, 0.5 * noise, rtol=1e-4, atol=1e-6)


def test_a_sample_depends_on_its_own_key_alone():
  q = _normal(0)
  one = distributions.DiagonalNormal(q.mean[1:2], q.log_variance[1:2])
  np.testing.assert_array_equal(q.sample(KEYS)[1:2], one.sample(KEYS[1:2]))


def test_bernoulli_is_scipys_and_sums_to_one():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(3 * rng.normal(size=(1, 2, 2, 1)), jnp.float32)
  likelihood = distributions.Bernoulli(logits)
  total = 0.0
  for bits in itertools.product((0, 255), repeat=4):
    image = jnp.asarray(bits, jnp.uint8).reshape(1, 2, 2, 1)
    value = likelihood.log_prob(image)
    expected = scipy.stats.bernoulli.logpmf(
      np.asarray(image) // 255, scipy.special.expit(logits)
    ).sum()
    np.testing.assert_allclose(value, [expected], rtol=1e-5)
    total += float(jnp.exp(value[0]))
  assert total == pytest.approx(1, abs=1e-5)


def test_bernoulli_stays_finite_at_huge_logits():
  logits = jnp.array([-1e4, 1e4]).reshape(1, 2, 1, 1)
  image = jnp.array([0, 255], jnp.uint8).reshape(1, 2, 1, 1)
  assert distributions.Bernoulli(logits).log_prob(image) == 0
  wrong = distributions.Bernoulli(-logits).log_prob(image)
  np.testing.assert_allclose(wrong, [-2e4])


def test_bernoulli_gradient_is_pixel_minus_probability():
  logits = jnp.array([-40.0, -3.0, 0.0, 0.5, 40.0]).reshape(1, 5, 1, 1)
  image = jnp.array([0, 255, 128, 255, 255], jnp.uint8).reshape(1, 5, 1, 1)
  gradient = jax.grad(
    lambda x: distributions.Bernoulli(x).log_prob(image).sum()
  )(logits)
  expected = np.asarray(image) / 255 - scipy.special.expit(logits)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_normal_likelihood_is_scipys():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(3, 5, 4, 2)), jnp.float32)
  image = rng.integers(0, 256, (3, 5, 4, 2)).astype(np.uint8)
  likelihood = distributions.Normal(mean, jnp.float32(math.log(0.2)))
  expected = scipy.stats.norm.logpdf(image / 255, mean, 0.2).sum((1, 2, 3))
  np.testing.assert_allclose(
    likelihood.log_prob(jnp.asarray(image)), expected, rtol=1e-5
  )
  by_sigma = jax.grad(
    lambda s: distributions.Normal(mean, s).log_prob(jnp.asarray(image)).sum()
  )(jnp.float32(math.log(0.2)))
  squares = np.square(image / 255 - np.asarray(mean)).sum()
  np.testing.assert_allclose(by_sigma, squares / 0.04 - image.size, rtol=1e-4)


def test_sigma_of_root_half_is_the_squared_error():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(2, 3, 3, 1)), jnp.float32)
  image = rng.integers(0, 256, (2, 3, 3, 1)).astype(np.uint8)
  likelihood = distributions.Normal(mean, jnp.float32(0.5 * math.log(0.5)))
  squares = np.square(image / 255 - np.asarray(mean)).sum((1, 2, 3))
  distortion = -likelihood.log_prob(jnp.asarray(image))
  np.testing.assert_allclose(
    distortion, squares + 4.5 * math.log(math.pi), rtol=1e-5
  )
  np.testing.assert_allclose(
    likelihood.metrics(jnp.asarray(image))["squared_error"], squares, rtol=1e-5
  )


def test_calibrated_normal_uses_the_best_variance_in_training_alone():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(4, 3, 3, 1)), jnp.float32)
  image = jnp.asarray(rng.integers(0, 256, (4, 3, 3, 1)), jnp.uint8)
  recorded = []
  train = distributions.CalibratedNormal(
    mean, jnp.float32(0.25), record=recorded.append
  )
  best = float(np.square(np.asarray(image) / 255 - np.asarray(mean)).mean())
  fitted = train.log_prob(image).sum()
  np.testing.assert_allclose(recorded[0], best, rtol=1e-5)
  # At the optimum, -D/2 (1 + log 2 pi sigma^2).
  closed = -0.5 * image.size * (1 + math.log(2 * math.pi * best))
  np.testing.assert_allclose(fitted, closed, rtol=1e-5)
  for other in (0.9 * best, 1.1 * best):
    fixed = distributions.Normal(mean, jnp.float32(0.5 * math.log(other)))
    assert fixed.log_prob(image).sum() < fitted
  evaluate = distributions.CalibratedNormal(mean, jnp.float32(0.25))
  np.testing.assert_allclose(
    evaluate.log_prob(image),
    distributions.Normal(mean, jnp.float32(math.log(0.5))).log_prob(image),
  )


def test_calibrated_normal_is_over_the_global_batch():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(8, 3, 3, 1)), jnp.float32)
  image = jnp.asarray(rng.integers(0, 256, (8, 3, 3, 1)), jnp.uint8)

  def log_prob(mean, image, axis_name):
    return distributions.CalibratedNormal(
      mean, jnp.float32(1), record=lambda v: None, axis_name=axis_name
    ).log_prob(image)

  split = jax.vmap(lambda m, x: log_prob(m, x, "batch"), axis_name="batch")(
    mean.reshape(4, 2, 3, 3, 1), image.reshape(4, 2, 3, 3, 1)
  )
  np.testing.assert_allclose(
    split.reshape(-1), log_prob(mean, image, None), rtol=1e-5
  )


def test_groups_add_up_and_draw_apart():
  a, b = _normal(0), _normal(1)
  both = distributions.Groups((a, b))
  prior = distributions.Groups((distributions.StandardNormal(4),) * 2)
  np.testing.assert_allclose(
    both.kl(prior), a.kl(prior.groups[0]) + b.kl(prior.groups[1])
  )
  z = both.sample(KEYS)
  np.testing.assert_allclose(
    both.log_prob(z), a.log_prob(z[0]) + b.log_prob(z[1])
  )
  same = distributions.Groups((a, a)).sample(KEYS)
  assert np.abs(same[0] - same[1]).min() > 1e-6


def test_images_are_sampled_from_the_likelihood():
  keys = jax.random.split(jax.random.key(1), 4000)
  logits = jnp.full((4000, 1, 1, 1), math.log(0.3 / 0.7))
  white = np.asarray(distributions.Bernoulli(logits).sample(keys))
  assert set(np.unique(white)) == {0, 255}
  assert abs(white.mean() / 255 - 0.3) < 0.04
  mean = jnp.full((4000, 1, 1, 1), 0.5)
  grey = distributions.Normal(mean, jnp.float32(math.log(0.1))).sample(keys)
  assert abs(np.asarray(grey).std() / 255 - 0.1) < 0.01
