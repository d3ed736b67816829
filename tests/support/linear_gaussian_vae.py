"""A linear-Gaussian VAE with known answers, and the checks of all losses."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from flax import linen as nn
from flax import struct

from vae_jax import distributions, models
from vae_jax.data.batch import Batch
from vae_jax.models import critics, posteriors, priors
from vae_jax.runtime import devices as parallel

SIGMA = 0.3
SHAPE = (2, 3, 1)
DIMS = 6

# Compiling takes most of the time of these tests: half of it, to slower code.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


class _Flatten(nn.Module):
  def __call__(self, x):
    return x.reshape(x.shape[0], -1)


class _Linear(nn.Module):
  @nn.compact
  def __call__(self, z):
    return nn.Dense(DIMS)(z).reshape(-1, *SHAPE)


class _LinearNormal(nn.Module):
  def __call__(self, outputs):
    return distributions.Normal(outputs, jnp.float32(math.log(SIGMA)))


VAE = models.Vae(
  encoder=_Flatten(),
  posterior=posteriors.DiagonalNormal(2),
  latent_prior=priors.StandardNormal(2),
  decoder=_Linear(),
  likelihood=_LinearNormal(),
)


def images_of(count, seed=1):
  """Returns random images [count 2 3 1]."""
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE))


def batch_of(images, seed=0, mask=None, label=None):
  """Returns a batch of uint8 images [b 2 3 1], with a key each."""
  count = len(images)
  return Batch(
    image=jnp.asarray(images, jnp.uint8),
    index=jnp.arange(count, dtype=jnp.int32),
    mask=jnp.ones((count,), bool) if mask is None else jnp.asarray(mask),
    key=jax.random.split(jax.random.key(seed), count),
    label=label,
  )


def at_step(batch, step):
  """Returns the batch after so many optimizer steps."""
  return batch.replace(step=jnp.int32(step))


def _leaves_of(batch):
  """Returns the fields of a batch that hold a value for each example."""
  fields = vars(batch).items()
  return {k: v for k, v in fields if v is not None and k != "step"}


def part_of(batch, which):
  """Returns some of a batch's examples."""
  return batch.replace(**{k: v[which] for k, v in _leaves_of(batch).items()})


def run(function, vae, params, batch, **state):
  """Returns function(vae, batch)."""
  inputs = models.side_inputs(label=batch.label, key=batch.key)
  variables = {"params": params, **inputs, **state}
  return nn.apply(function, vae)(variables, batch)


def terms_of(objective, params, batch, vae=VAE, devices=1):
  """Returns an objective's terms, as if over so many devices.

  The axis of devices is a vmap, which has the same collectives as a pmap.
  Outside of a jit `values_of` returns them faster.
  """
  structure = None

  def flat(leaves):
    # `Terms` are checked to be [b] whenever they are put together.
    nonlocal structure
    terms = run(objective, vae, params, batch.replace(**leaves))
    values, structure = jax.tree.flatten(terms)
    return values

  def split(v):
    return v.reshape(devices, len(v) // devices, *v.shape[1:])

  mapped = jax.vmap(flat, axis_name=parallel.AXIS)
  values = mapped(jax.tree.map(split, _leaves_of(batch)))
  return jax.tree.unflatten(structure, [v.reshape(-1) for v in values])


def values_of(objective, params, batch, vae=VAE, devices=1):
  """Returns `terms_of`, compiled."""
  run = functools.partial(terms_of, objective, vae=vae, devices=devices)
  return jit(run)(params, batch)


def terms_and_slopes(objective, params, batch, vae=VAE, devices=1):
  """Returns an objective's terms and the gradient of the mean loss."""
  compiled = _compiled(objective, vae, devices)
  (_, terms), slopes = compiled(params, _leaves_of(batch), batch.step)
  return terms, slopes


# Once for all tests of an objective, if they pass the same object.
@functools.cache
def _compiled(objective, vae, devices):
  def loss(params, leaves, step):
    batch = Batch(**leaves, step=step)
    terms = terms_of(objective, params, batch, vae=vae, devices=devices)
    total = jnp.sum(jnp.where(batch.mask, terms.loss, 0))
    return total / batch.mask.sum(), terms

  return jit(jax.value_and_grad(loss, has_aux=True))


def assert_close(a, b, rtol=2e-4, atol=1e-5):
  """Checks that two trees are equal up to the rounding of float32 sums."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    scale = max(np.abs(y).max(), 1)
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol * scale)


def check_batches(objective, params, batch, vae=VAE, *, per_example):
  """Checks that 8 devices give the same as one, gradient included, and that
  one example among padding gives finite numbers.

  Args:
    objective: the loss.
    params: weights.
    batch: 8 examples.
    vae: the model.
    per_example: whether an example's terms must not depend on the others.
  """
  observe = functools.partial(terms_and_slopes, objective, params, vae=vae)
  one = observe(batch)
  assert_close(observe(batch, devices=8), one)
  first = jnp.arange(len(batch.mask)) == 0
  alone = observe(batch.replace(mask=first), devices=8)
  for leaf in jax.tree.leaves(alone):
    assert np.isfinite(leaf).all()
  if per_example:
    others = jnp.where(first[:, None, None, None], batch.image, 0)
    changed, _ = observe(batch.replace(image=others))
    assert_close(*(jax.tree.map(lambda v: v[:1], t) for t in (changed, one[0])))


def exact_model():
  """x = W z + b + noise with orthogonal columns of W: the posterior is a
  diagonal normal, which the model can represent exactly."""
  rng = np.random.default_rng(0)
  w = np.linalg.qr(rng.normal(size=(DIMS, 2)))[0] * np.array([0.5, 0.2])
  b = rng.uniform(0.3, 0.7, DIMS)
  variance = 1 / (1 + (w**2).sum(0) / SIGMA**2)
  to_mean = w * variance / SIGMA**2
  kernel = np.concatenate([to_mean, np.zeros_like(to_mean)], 1)
  bias = np.concatenate([-b @ to_mean, np.log(variance)])
  params = {
    "posterior": {"Dense_0": {"kernel": kernel, "bias": bias}},
    "decoder": {"Dense_0": {"kernel": w.T, "bias": b}},
  }
  params = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), params)
  covariance = w @ w.T + SIGMA**2 * np.eye(DIMS)
  exact = scipy.stats.multivariate_normal(b, covariance)
  return params, lambda image: exact.logpdf(image.reshape(-1, DIMS) / 255)


def code_of(params, image):
  """Returns mean and log variance [b 2] of the posterior, by hand."""
  head = jax.tree.map(np.asarray, params["posterior"]["Dense_0"])
  x = np.asarray(image).reshape(len(image), -1) / 255
  return np.split(x @ head["kernel"] + head["bias"], 2, axis=1)


def kl_of(params, image):
  """Returns the KL divergence of each dimension [b 2], nats, by hand."""
  mean, log_variance = code_of(params, image)
  return 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)


def distortion_of(params, z, image):
  """Returns -log p(x | z) [b], nats, by hand."""
  dense = jax.tree.map(np.asarray, params["decoder"]["Dense_0"])
  x = np.asarray(image).reshape(len(image), -1) / 255
  mean = z @ dense["kernel"] + dense["bias"]
  return -scipy.stats.norm.logpdf(x, mean, SIGMA).sum(1)


def without_noise(params):
  """Returns parameters for a deterministic posterior with the same mean."""
  head = jax.tree.map(lambda v: v[..., :2], params["posterior"])
  return {**params, "posterior": head}


def standard_codes(params):
  """Returns parameters whose posterior is N(0, I) for every image."""
  head = {"kernel": jnp.zeros((6, 4)), "bias": jnp.zeros((4,))}
  return {**params, "posterior": {"Dense_0": head}}


@struct.dataclass
class _Known(distributions.StandardNormal):
  """A standard normal that draws the same each time."""

  def sample(self, key, temperature=1.0):
    return jnp.tile(jnp.array([[0.7, -1.2]]), (len(key), 1))


class _KnownPrior(nn.Module):
  def __call__(self, encode):
    return _Known(2)


def with_critic(critic, reads):
  """Returns the exact model and a critic; the prior's draws are known."""
  return VAE.clone(
    auxiliary=critic, auxiliary_input=reads, latent_prior=_KnownPrior()
  )


def random_params(module, *args):
  """Returns random parameters of a module, biases too."""
  tree = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda v: jnp.asarray(0.5 * rng.normal(size=v.shape), v.dtype), tree
  )


def params_with(critic, x):
  """Returns the exact model's parameters and random ones of a critic of x."""
  params, _ = exact_model()
  return {**params, "auxiliary": random_params(critic, x)}


CRITIC = critics.LatentCritic(hidden=(5,))
PLAYERS = with_critic(CRITIC, "latents")


def players_params(critic=CRITIC):
  """Returns the parameters of `PLAYERS`, or with another critic of latents."""
  return params_with(critic, jnp.zeros((1, 2)))


def logit_of(params, z):
  """Returns the logit [b] of `CRITIC`, by hand."""
  first, second = (params["auxiliary"][f"Dense_{i}"] for i in range(2))
  x = np.asarray(z) @ np.asarray(first["kernel"]) + np.asarray(first["bias"])
  x = np.where(x > 0, x, 0.2 * x)
  return (x @ np.asarray(second["kernel"]) + np.asarray(second["bias"]))[:, 0]


def draw_of(params, batch, vae=VAE):
  """Returns the draw of each image's code [b 2]."""

  def draw(vae, batch):
    return vae.encode(batch.image).sample(batch.key)[0]

  return np.asarray(run(draw, vae, params, batch))


def check_players(objective, separate, params, batch):
  """Checks that model and critic have the gradients of their own terms.

  Args:
    objective: the loss, of `PLAYERS`.
    separate: a function of (vae, batch): the mean terms of model and critic,
      without any stop of gradients.
    params: weights.
    batch: examples, some of which may be padding.
  """

  def part(params, which):
    return run(separate, PLAYERS, params, batch)[which]

  model, critic = jit(
    lambda p: [jax.value_and_grad(part)(p, i) for i in range(2)]
  )(params)
  terms, gradient = terms_and_slopes(objective, params, batch, PLAYERS)
  np.testing.assert_allclose(
    terms.loss[batch.mask].mean(), model[0] + critic[0], rtol=1e-5
  )
  # Both leaks would show.
  for leak in (model[1]["auxiliary"], critic[1]["posterior"]):
    assert optax.tree.norm(leak) > 1e-2
  own = {**model[1], "auxiliary": critic[1]["auxiliary"]}
  assert_close(gradient, own)


def check_padding(objective, params):
  """Checks that padding has no weight and spoils no number, on two devices."""
  run = jit(functools.partial(terms_of, objective, devices=2))
  mask, other = np.arange(8) < 5, images_of(8, seed=2)
  other[:5] = images_of(8)[:5]
  one = run(params, batch_of(images_of(8), mask=mask))
  two = run(params, batch_of(other, mask=mask))
  np.testing.assert_allclose(one.loss[:5], two.loss[:5], rtol=1e-5)
  single = run(params, batch_of(images_of(8), mask=np.arange(8) == 6))
  for leaf in jax.tree.leaves((one, single)):
    assert np.isfinite(leaf).all()


@functools.partial(jax.jit, static_argnums=0)
def _over_two_devices(distance, batch, z, prior_z):
  def split(v):
    return v.reshape(2, len(v) // 2, *v.shape[1:])

  def part(key, mask, z, prior_z):
    count = len(mask)
    part = part_of(batch, slice(count)).replace(key=key, mask=mask)
    return distance(part, z, prior_z)

  inputs = map(split, (batch.key, batch.mask, z, prior_z))
  return jax.vmap(part, axis_name=parallel.AXIS)(*inputs).reshape(-1)


def distance_of(distance, z, prior_z, mask=None, seed=0):
  """Returns a distance of codes to the prior, of each of two devices."""
  batch = batch_of(np.zeros((len(z), *SHAPE)), mask=mask, seed=seed)
  value = _over_two_devices(
    distance, batch, jnp.float32(z), jnp.float32(prior_z)
  )
  return np.asarray(value)
