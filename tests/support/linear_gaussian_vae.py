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

from tests.support.networks import random_variables
from vae_jax import config as config_lib
from vae_jax import distributions, models, objectives
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
# The code of an image is a point.
POINT = VAE.clone(posterior=posteriors.Deterministic(2))


def images_of(count, seed=1):
  """Returns random images [count 2 3 1]."""
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE))


def batch_of(images, seed=0, mask=None, step=0):
  """Returns a batch of so many images, or of these [b 2 3 1], a key each."""
  images = images_of(images) if isinstance(images, int) else images
  count = len(images)
  return Batch(
    image=jnp.asarray(images, jnp.uint8),
    index=jnp.arange(count, dtype=jnp.int32),
    mask=jnp.ones((count,), bool) if mask is None else jnp.asarray(mask),
    key=jax.random.split(jax.random.key(seed), count),
    step=jnp.int32(step),
  )


def _leaves_of(batch):
  """Returns the fields of a batch that hold a value for each example."""
  fields = vars(batch).items()
  return {k: v for k, v in fields if v is not None and k != "step"}


def _over_devices(function, devices, *inputs):
  """Returns the values [b] of a function of parts of the inputs [b ...].

  The axis of devices is a vmap, which has the same collectives as a pmap.
  """
  parts = jax.tree.map(lambda v: v.reshape(devices, -1, *v.shape[1:]), inputs)
  values = jax.vmap(function, axis_name=parallel.AXIS)(*parts)
  return jax.tree.map(lambda v: v.reshape(-1), values)


def loss_of(name, **args):
  """Returns a loss by its name, from which a space parts that of a variant."""
  c = config_lib.default()
  c.objective.name = name.split()[0]
  c.objective.args.update(args)
  return objectives.from_config(c)


def run(function, vae, params, batch, **state):
  """Returns function(vae, batch)."""
  inputs = models.side_inputs(label=batch.label, key=batch.key)
  variables = {"params": params, **inputs, **state}
  return nn.apply(function, vae)(variables, batch)


def terms_of(objective, params, batch, vae=VAE, devices=1):
  """Returns an objective's terms, as if over so many devices.

  Outside of a jit `values_of` returns them faster.
  """
  structure = None

  def flat(leaves):
    # `Terms` are checked to be [b] whenever they are put together.
    nonlocal structure
    terms = run(objective, vae, params, batch.replace(**leaves))
    values, structure = jax.tree.flatten(terms)
    return values

  values = _over_devices(flat, devices, _leaves_of(batch))
  return jax.tree.unflatten(structure, values)


def terms_of_each(losses, params, batch, **settings):
  """Returns {name: terms} of losses; one compilation for all is fast."""
  terms = functools.partial(terms_of, params=params, batch=batch, **settings)
  return {name: terms(loss) for name, loss in losses.items()}


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
    scale = np.clip(np.abs(y).max(), 1, 2)
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol * scale)


def assert_finite(tree):
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


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
  """Returns parameters of `POINT` with the same mean."""
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


class _PixelCritic(nn.Module):
  """Returns a logit and features, as `ImageCritic`, and compiles faster."""

  @nn.compact
  def __call__(self, x):
    features = nn.Dense(5)(x.reshape(x.shape[0], -1))
    return nn.Dense(1)(jnp.tanh(features))[:, 0], features


CRITIC = critics.LatentCritic(hidden=(5,))
PIXEL_CRITIC = _PixelCritic()
_KNOWN = VAE.clone(latent_prior=_KnownPrior())
PLAYERS = _KNOWN.clone(auxiliary=CRITIC, auxiliary_input="latents")
PIXEL_PLAYERS = _KNOWN.clone(auxiliary=PIXEL_CRITIC, auxiliary_input="images")


def players_params(critic=CRITIC, shape=(2,)):
  """Returns the exact model's parameters and random ones of a critic."""
  own = random_variables(critic, jnp.zeros((1, *shape)), scale=0.5)
  return {**exact_model()[0], "auxiliary": own["params"]}


def logit_of(params, z):
  """Returns the logit [b] of `CRITIC`, by hand."""
  first, second = (params["auxiliary"][f"Dense_{i}"] for i in range(2))
  x = np.asarray(z) @ np.asarray(first["kernel"]) + np.asarray(first["bias"])
  x = np.where(x > 0, x, 0.2 * x)
  return (x @ np.asarray(second["kernel"]) + np.asarray(second["bias"]))[:, 0]


def draw_of(params, batch):
  """Returns the draw of each image's code [b 2]."""
  draw = lambda vae, batch: vae.encode(batch.image).sample(batch.key)[0]
  return np.asarray(run(draw, VAE, params, batch))


def check_players(objective, separate, params, batch):
  """Checks that model and critic of `PLAYERS` have the gradients of their own
  terms: `separate(vae, batch)` is the means of these, without any stop of
  gradients."""

  def part(params, which):
    return run(separate, PLAYERS, params, batch)[which]

  both = jit(lambda p: [jax.value_and_grad(part)(p, i) for i in range(2)])
  model, critic = both(params)
  terms, gradient = terms_and_slopes(objective, params, batch, PLAYERS)
  loss = terms.loss[batch.mask].mean()
  np.testing.assert_allclose(loss, model[0] + critic[0], rtol=1e-5)
  # Both leaks would show.
  for leak in (model[1]["auxiliary"], critic[1]["posterior"]):
    assert optax.tree.norm(leak) > 1e-2
  own = {**model[1], "auxiliary": critic[1]["auxiliary"]}
  assert_close(gradient, own)


def distance_of(distance, z, prior_z, mask=None, seed=0):
  """Returns a distance of codes to the prior, of each of two devices."""
  batch = batch_of(len(z), mask=mask, seed=seed)
  part = lambda leaves, *z: distance(batch.replace(**leaves), *z)
  run = jit(functools.partial(_over_devices, part, 2))
  return np.asarray(run(_leaves_of(batch), *map(jnp.float32, (z, prior_z))))
