"""The package as a registry: names, files, hyperparameters, users' losses."""

import functools
import importlib
import inspect
import re
import typing

import numpy as np
import pytest

from tests.support.linear_gaussian_vae import loss_of, terms_of, values_of
from vae_jax import objectives
from vae_jax.config import ConfigError
from vae_jax.objectives import beta_vae, constraints, elbo


def _function(name):
  function = loss_of(name).func
  assert function.__name__ == name
  return function


@pytest.mark.parametrize("name", objectives.names())
def test_a_loss_stands_in_a_file_of_its_name_or_whose_first_line_lists_it(name):
  module = importlib.import_module(_function(name).__module__)
  title = module.__doc__.splitlines()[0]
  own = module.__name__.rpartition(".")[2] == name
  assert own or re.search(rf"\b{name}\b", title)


def test_a_loss_may_stand_in_a_users_own_file(exact, tmp_path, monkeypatch):
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
  ours = values_of(loss_of("my_losses.my_loss", scale=3.0), *exact).loss
  plain = values_of(elbo.elbo, *exact).loss
  np.testing.assert_allclose(ours, 3 * plain, rtol=1e-6)
  with pytest.raises(ConfigError, match="scale is -3.0; it must be"):
    loss_of("my_losses.my_loss", scale=-3.0)


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
  with pytest.raises(ConfigError, match=message):
    loss_of(name, **args)


KINDS = "allowed are auto, closed, sampled"
ESTIMATORS = "allowed are stratified, weighted"
TOO_MANY = {"schedule": "steps", "warmup_steps": 10**5, "cycles": 10**5}


@pytest.mark.parametrize(
  "name, args, message",
  [
    ("beta_vae", {"beta": -1.0}, "beta is -1.0"),
    ("beta_vae", {"schedule": "linera"}, "constant, linear, cyclical, steps"),
    ("beta_vae", {"schedule": "linear"}, "warmup_steps is 0"),
    ("beta_vae", {"warmup_steps": 9}, "is 9; it must be 0 with schedule con"),
    ("beta_vae", TOO_MANY, "cycles is 100000"),
    ("beta_vae", {**TOO_MANY, "cycles": 0}, "cycles is 0"),
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
    ("beta_tcvae", {"estimator": "mss"}, f"is 'mss'; {ESTIMATORS}"),
    ("beta_tcvae", {"dataset_size": -1}, "dataset_size is -1"),
    ("dip_vae", {"kind": "iii"}, "allowed are i, ii"),
    ("dip_vae", {"lambda_d": -1.0}, "lambda_d is -1.0; it must be 0 or more"),
    ("factor_vae", {"gamma": -1.0}, "gamma is -1.0; it must"),
    ("wae_gan", {"weight": -1.0}, "weight is -1.0; it must"),
    ("wae_mmd", {"kernel": "gauss"}, "kernel is 'gauss'; allowed are imq, rbf"),
    ("wae_mmd", {"weight": -1.0}, "weight is -1.0"),
    ("swae", {"projections": 0}, "at least 1"),
    ("info_vae", {"lambda_mmd": 0.5}, "mmd is 0.5; it must be at least 1.0"),
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
def test_a_wrong_hyperparameter_is_refused(exact, name, args, message):
  """By the config of a run, and in a call from Python."""
  with pytest.raises(ConfigError, match=message):
    terms_of(loss_of(name, **args), *exact)
  with pytest.raises(ConfigError, match=message):
    terms_of(functools.partial(_function(name), **args), *exact)


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
  for args, message in (
    ((-1.0, "constant"), "is -1.0"),
    ((1.0, "linera"), "is 'linera'"),
  ):
    with pytest.raises(ConfigError, match=message):
      beta_vae.kl_weight(0, *args, warmup_steps=0, cycles=1)
