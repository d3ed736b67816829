"""Losses whose numbers depend on the batch, found in their traces."""

import jax
import numpy as np
import pytest

from tests.support.pictures import noise
from tests.support.tiny import tiny_config, tiny_experiment
from vae_jax.latents import given
from vae_jax.training import batch_statistics, build

COUPLED = ("beta_tcvae", "dip_vae", "factor_vae", "free_bits", "wae_mmd")
SINGLE = ("elbo", "geco", "iwae", "vae_gan")


@pytest.mark.parametrize("name", COUPLED + SINGLE)
def test_statistics_of_the_batch_are_found(name):
  run = tiny_experiment(tiny_config("", objective__name=name))
  shapes = jax.eval_shape(
    lambda: build.init_variables(run.config, run.image_shape, run.vae_eval)
  )
  source = given.InMemory(noise(3, 16, 16, 1), np.zeros(3, np.int32))
  assert batch_statistics.has(run, shapes, source) == (name in COUPLED)
