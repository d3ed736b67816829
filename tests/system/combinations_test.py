"""Every loss with every prior, posterior and kind of likelihood works, or is
refused with the reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax import objectives
from vae_jax.data.batch import Batch
from vae_jax.runtime import devices
from vae_jax.training import build, step

SHAPE = (12, 12, 1)
# Losses that are defined for one posterior, or for a closed form, only.
NEEDS_NORMAL = {"beta_tcvae", "dip_vae", "dreg", "free_bits", "rws", "stl"}
NEEDS_CLOSED_FORM = {"free_bits"}
TRAINS_NO_PRIOR = {"wae_gan"}
POINTS = {"autoencoder", "denoising_autoencoder", "sparse_autoencoder", "rae"}
POINTS |= {"swae", "wae_gan", "wae_mmd"}


def _config(objective, **settings):
  c = tiny_config("", objective__name=objective, **settings)
  c.data.image_shape = SHAPE
  c.data.num_labels = 3
  if objective in ("factor_vae", "wae_gan"):
    c.objective.auxiliary.args.hidden = (4,)
  if objective == "vae_gan":
    c.objective.auxiliary.args.channels = (4, 4, 4, 4)
    c.objective.auxiliary.args.hidden = 8
  return c


def _forward(c, variables, index, *, train=False):
  """Returns terms and model state of a batch, on the part of one device."""
  size = len(index)
  image = np.random.default_rng(0).integers(0, 256, (size, *SHAPE))
  batch = Batch(
    image=jnp.asarray(image, jnp.uint8),
    index=index,
    mask=jnp.ones((size,), bool),
    key=jax.random.split(jax.random.key(1), size),
    label=jnp.arange(size, dtype=jnp.int32) % 3,
    step=jnp.int32(3),
  )
  return step.forward(
    objectives.from_config(c),
    build.model(c, SHAPE, train=train),
    variables,
    batch,
    dropout_key=jax.random.key(2) if train else None,
  )


def _loss(objective, **settings):
  """Returns mean loss and its gradient's norm, of a global batch of four."""
  c = _config(objective, **settings)
  variables = build.init_variables(c, SHAPE)

  def loss(params, index):
    terms, _ = _forward(c, {**variables, "params": params}, index)
    return jnp.mean(terms["loss"])

  one = jax.vmap(
    jax.value_and_grad(loss), in_axes=(None, 0), axis_name=devices.AXIS
  )
  index = jnp.arange(4, dtype=jnp.int32)[None]
  # Most of the time goes to the compiler.
  fast = {"xla_backend_optimization_level": 0}
  run = jax.jit(one, compiler_options=fast)
  value, grads = run(variables["params"], index)
  norm = sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads))
  return float(value[0]), norm


@pytest.mark.slow
@pytest.mark.parametrize("objective", objectives.names())
@pytest.mark.parametrize(
  "settings",
  [
    {"model__prior__name": "vamp", "model__prior__args__num_components": 3},
    {"model__prior__name": "gaussian_mixture"},
    {"model__prior__name": "flow"},
    {"model__posterior__name": "iaf"},
    {"model__posterior__name": "deterministic"},
    {
      "model__condition": "label",
      "model__likelihood__name": "discretized_logistic_mixture",
    },
    {"model__likelihood__name": "laplace", "data__dequantization": "uniform"},
  ],
  ids=lambda settings: "-".join(str(v) for v in settings.values()),
)
def test_combination_works_or_is_refused(objective, settings):
  learned_prior = "model__prior__name" in settings
  refused = (
    ("iaf" in settings.values() and objective in NEEDS_NORMAL)
    or ("deterministic" in settings.values() and objective not in POINTS)
    or (learned_prior and objective in NEEDS_CLOSED_FORM)
    or (learned_prior and objective in TRAINS_NO_PRIOR)
  )
  if refused:
    with pytest.raises(config_lib.ConfigError, match=r"config\.|posterior"):
      _loss(objective, **settings)
    return
  value, norm = _loss(objective, **settings)
  assert np.isfinite(value) and np.isfinite(norm) and norm > 0


UPDATES = {"iwae": {}, "dreg": {}, "rws": {"doubly": True}, "vae_gan": {}}
UPDATES["piwae"] = {"num_outer": 2}


@pytest.mark.parametrize("objective, args", UPDATES.items())
def test_running_statistics_are_updated_once_per_step(objective, args):
  c = _config(objective, model__likelihood__name="gaussian_optimal")
  if objective != "vae_gan":
    c.objective.args.num_samples = 2
  c.objective.args.update(args)
  variables = build.init_variables(c, SHAPE)
  state = lambda index: _forward(c, variables, index, train=True)[1]
  mapped = jax.vmap(state, axis_name=devices.AXIS)
  found = jax.jit(mapped)(jnp.arange(2, dtype=jnp.int32)[None])
  weight = found["batch_stats"]["likelihood"]["weight"]
  np.testing.assert_allclose(weight, 0.01, rtol=1e-5)


def test_doubly_reparameterized_losses_refuse_dropout():
  for objective, args in (("dreg", {}), ("rws", {"doubly": True})):
    c = _config(objective, objective__args=args)
    c.model.decoder.name = "conv"
    c.model.decoder.args = {"channels": (4, 4), "dropout": 0.5}
    with pytest.raises(config_lib.ConfigError, match="dropout to 0.0"):
      jax.eval_shape(
        lambda i, c=c: _forward(c, build.init_variables(c, SHAPE), i)[0],
        jnp.zeros((1,), jnp.int32),
      )
