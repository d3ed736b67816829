"""The package as a registry: names, files, hyperparameters, users' losses."""

import functools
import importlib
import inspect
import re
import typing

import numpy as np
import pytest

from tests.support.linear_gaussian_vae import (
  SHAPE,
  VAE,
  batch_of,
  exact_model,
  images_of,
  jit,
  part_of,
  terms_of,
  values_of,
)
from vae_jax import config as config_lib
from vae_jax import objectives
from vae_jax.objectives import beta_vae, constraints, elbo

# Losses with a statistic of the global batch, or a network of their own, whose
# own tests check them over batches.
COUPLED = {
  "beta_tcvae",
  "capacity_vae",
  "dip_vae",
  "factor_vae",
  "free_bits",
  "geco",
  "info_vae",
  "sparse_autoencoder",
  "swae",
  "vae_gan",
  "wae_gan",
  "wae_mmd",
}
# The similarity of images of six pixels has no whole window.
LARGER = {"ssim_vae"}
OTHERS = {
  "autoencoder",
  "beta_vae",
  "ciwae",
  "denoising_autoencoder",
  "dreg",
  "elbo",
  "iwae",
  "miwae",
  "piwae",
  "rae",
  "rws",
  "stl",
}


def _config(name, args=None):
  c = config_lib.default()
  c.objective.name = name
  c.objective.args.update(args or {})
  return c


def _function(name):
  function = objectives.from_config(_config(name)).func
  assert function.__name__ == name
  return function


def test_names_are_the_functions_of_the_package():
  assert objectives.names() == sorted(COUPLED | LARGER | OTHERS)


@pytest.mark.parametrize("name", objectives.names())
def test_a_loss_stands_in_a_file_of_its_name_or_whose_first_line_lists_it(name):
  module = importlib.import_module(_function(name).__module__)
  title = module.__doc__.splitlines()[0]
  own = module.__name__.rpartition(".")[2] == name
  assert own or re.search(rf"\b{name}\b", title)


def test_examples_do_not_depend_on_one_another():
  batch, (params, _) = batch_of(images_of(4)), exact_model()
  losses = {name: objectives.from_config(_config(name)) for name in OTHERS}

  @jit
  def run(batch):
    return {k: terms_of(v, params, batch).loss for k, v in losses.items()}

  together, alone = run(batch), run(part_of(batch, slice(2, 3)))
  for name, loss in together.items():
    assert loss.shape == (4,)
    np.testing.assert_allclose(loss[2:3], alone[name], rtol=1e-5, err_msg=name)


def test_a_loss_may_stand_in_a_users_own_file(tmp_path, monkeypatch):
  (tmp_path / "my_losses.py").write_text(
    "from __future__ import annotations\n"
    "from typing import Annotated\n"
    "from vae_jax.objectives import at_least, elbo\n"
    "def my_loss(\n"
    "  vae, batch, *, scale: Annotated[float, at_least(0)] = 1.0\n"
    "):\n"
    "  terms = elbo.elbo(vae, batch)\n"
    "  return terms.replace(loss=scale * terms.loss)\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  params, _ = exact_model()
  batch = batch_of(np.zeros((2, *SHAPE)))
  ours = objectives.from_config(_config("my_losses.my_loss", {"scale": 3.0}))
  plain = values_of(elbo.elbo, params, batch).loss
  np.testing.assert_allclose(
    values_of(ours, params, batch).loss, 3 * plain, rtol=1e-6
  )
  c = _config("my_losses.my_loss", {"scale": -3.0})
  with pytest.raises(config_lib.ConfigError, match="scale is -3.0; it must be"):
    objectives.from_config(c)


def loss_with_step(vae, batch, *, step):
  return elbo.elbo(vae, batch)


def loss_with_positions(vae, batch, scale=1.0):
  return elbo.elbo(vae, batch)


@pytest.mark.parametrize(
  "name, args, message",
  [
    (f"{__name__}.loss_with_step", {}, "argument step; remove it and use bat"),
    (f"{__name__}.loss_with_positions", {}, "no function of .vae, batch, "),
    ("elbow", {}, "Did you mean elbo"),
    ("elbo", {"beta": 2.0}, "config.objective.args.beta is unknown to elbo"),
    ("beta_vae", {"beta": "2"}, "float"),
    ("nowhere.loss", {}, "nowhere cannot be imported"),
    ("math.sqrt", {}, "no function of"),
    ("math.nothing", {}, "math has no nothing"),
    ("kl_weight", {}, "allowed are autoencoder, beta_tcvae, beta_vae"),
    ("one_draw", {}, "allowed are autoencoder, beta_tcvae, beta_vae"),
  ],
)
def test_a_wrong_objective_is_refused(name, args, message):
  with pytest.raises(config_lib.ConfigError, match=message):
    objectives.from_config(_config(name, args))


KINDS = "allowed are auto, closed, sampled"
TOO_MANY = {"schedule": "steps", "warmup_steps": 10**5, "cycles": 10**5}


@pytest.mark.parametrize(
  "name, args, message",
  [
    ("beta_vae", {"beta": -1.0}, "beta is -1.0"),
    ("beta_vae", {"schedule": "linera"}, "constant, linear, cyclical, steps"),
    ("beta_vae", {"schedule": "linear"}, "warmup_steps is 0"),
    (
      "beta_vae",
      {"warmup_steps": 9},
      "warmup_steps is 9; it must be 0 with schedule con",
    ),
    ("beta_vae", TOO_MANY, "cycles is 100000"),
    (
      "beta_vae",
      {"schedule": "cyclical", "warmup_steps": 5, "cycles": 0},
      "cycles is 0",
    ),
    ("elbo", {"kl": "exact"}, KINDS),
    ("capacity_vae", {"capacity": -1.0}, "capacity is -1.0"),
    ("capacity_vae", {"gamma": -1.0}, "gamma is -1.0"),
    ("capacity_vae", {"warmup_steps": -1}, "warmup_steps is -1"),
    ("capacity_vae", {"per": "image"}, "allowed are batch, example"),
    ("capacity_vae", {"kl": "exact"}, KINDS),
    ("free_bits", {"free_nats": -1.0}, "free_nats is -1.0"),
    ("free_bits", {"per": "pixel"}, "allowed are dimension, group"),
    ("free_bits", {"beta": -1.0}, "beta is -1.0"),
    ("geco", {"kappa": -1.0}, "kappa is -1.0"),
    ("geco", {"kl": "exact"}, KINDS),
    ("iwae", {"num_samples": 0}, "num_samples is 0"),
    ("miwae", {"num_outer": 0}, "num_outer is 0"),
    ("piwae", {"num_outer": -1}, "num_outer is -1"),
    ("ciwae", {"beta": 1.5}, "beta is 1.5; it must be from 0 to 1"),
    ("stl", {"num_samples": 0}, "num_samples is 0"),
    ("dreg", {"num_samples": 0}, "num_samples is 0"),
    ("rws", {"num_samples": 1}, "it must be at least 2"),
    (
      "beta_tcvae",
      {"estimator": "mss"},
      "estimator is 'mss'; allowed are stratified, weighted",
    ),
    ("beta_tcvae", {"dataset_size": -1}, "dataset_size is -1"),
    ("dip_vae", {"kind": "iii"}, "allowed are i, ii"),
    ("dip_vae", {"lambda_d": -1.0}, "lambda_d is -1.0; it must be 0 or more"),
    ("factor_vae", {"gamma": -1.0}, "gamma is -1.0; it must"),
    ("wae_gan", {"weight": -1.0}, "weight is -1.0; it must"),
    ("wae_mmd", {"kernel": "gauss"}, "kernel is 'gauss'; allowed are imq, rbf"),
    ("wae_mmd", {"weight": -1.0}, "weight is -1.0"),
    ("swae", {"projections": 0}, "at least 1"),
    (
      "info_vae",
      {"lambda_mmd": 0.5},
      "lambda_mmd is 0.5; it must be at least 1.0",
    ),
    ("info_vae", {"alpha": 1.5}, "alpha is 1.5; it must be at most 1"),
    ("ssim_vae", {"weight": -1.0}, "weight is -1.0"),
    ("vae_gan", {"gamma": -1.0}, "gamma is -1.0; it must"),
    ("denoising_autoencoder", {"corruption": "rain"}, "masking"),
    ("denoising_autoencoder", {"amount": 1.5}, "amount is 1.5"),
    ("denoising_autoencoder", {"amount": -0.5}, "amount is -0.5"),
    ("sparse_autoencoder", {"penalty": "l2"}, "allowed are kl, l1"),
    ("sparse_autoencoder", {"rho": 1.0}, "between 0 and 1"),
    ("sparse_autoencoder", {"weight": -1.0}, "weight is -1.0"),
    ("rae", {"kind": "gp"}, "allowed are l2, gradient_penalty"),
    ("rae", {"beta": -1.0}, "beta is -1.0"),
    ("rae", {"weight": -1.0}, "weight is -1.0"),
    ("rae", {"weight": float("nan")}, "weight is nan"),
  ],
)
def test_a_wrong_hyperparameter_is_refused(name, args, message):
  """By the config of a run, and in a call from Python."""
  params, _ = exact_model()
  batch = batch_of(images_of(2))
  with pytest.raises(config_lib.ConfigError, match=message):
    terms_of(objectives.from_config(_config(name, args)), params, batch)
  called = functools.partial(_function(name), **args)
  with pytest.raises(config_lib.ConfigError, match=message):
    terms_of(called, params, batch, vae=VAE)


# `info_vae` compares lambda_mmd with 1 - alpha.
FREE = {("info_vae", "lambda_mmd"), ("rws", "doubly")}


@pytest.mark.parametrize("name", objectives.names())
def test_every_hyperparameter_declares_its_range(name):
  parameters = inspect.signature(_function(name)).parameters
  hints = typing.get_type_hints(_function(name), include_extras=True)
  for parameter in list(parameters)[2:]:
    metadata = getattr(hints[parameter], "__metadata__", ())
    declared = any(isinstance(v, constraints.Constraint) for v in metadata)
    assert declared != ((name, parameter) in FREE)


def test_a_wrong_argument_of_a_shared_function_is_refused():
  for args in (
    {"beta": -1.0, "schedule": "constant"},
    {"beta": 1.0, "schedule": "linera"},
  ):
    with pytest.raises(config_lib.ConfigError, match="is -1.0|is 'linera'"):
      beta_vae.kl_weight(0, warmup_steps=0, cycles=1, **args)
