"""Losses, each wrong in one way; `# here` marks a line that a message must
name. Two losses at the end are right."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vae_jax import objectives
from vae_jax.objectives import Terms, one_draw


def _terms(vae, batch, **changes):
  draw = one_draw(vae, batch)
  parts = {"loss": draw.distortion + draw.rate}
  parts |= {"distortion": draw.distortion, "rate": draw.rate}
  return Terms(**parts | changes)


def returns_a_tuple(vae, batch):  # here
  terms = _terms(vae, batch)
  return terms.distortion, terms.rate


def returns_an_array(vae, batch):  # here
  return _terms(vae, batch).loss


def returns_nothing(vae, batch):  # here
  _terms(vae, batch)


def returns_a_dict(vae, batch):  # here
  return {"loss": _terms(vae, batch).loss}


def takes_the_mean(vae, batch):  # here
  return _terms(vae, batch, loss=one_draw(vae, batch).distortion.mean())


def keeps_the_pixels(vae, batch):  # here
  error = batch.image / 255 - one_draw(vae, batch).likelihood.mean
  return _terms(vae, batch, loss=error**2)


def counts(vae, batch):  # here
  return _terms(vae, batch, loss=_terms(vae, batch).loss.astype(jnp.int32))


def logs_a_number(vae, batch):  # here
  return _terms(vae, batch, extras={"weight": 0.5})


def logs_a_list(vae, batch):  # here
  return _terms(vae, batch, extras=[1.0])


def takes_one(vae):  # here
  return None


def takes_a_step(vae, batch, step):  # here
  return None


def has_no_star(vae, batch, beta=1.0):  # here
  return None


not_a_function = 3


def unpacks(vae, batch):
  mu, logvar = vae.encode(batch.image)  # here
  return _terms(vae, batch, loss=mu + logvar)


def asks_for_log_variance(vae, batch):
  q = vae.encode(batch.image)
  return _terms(vae, batch, loss=q.log_variance.sum(-1))  # here


def branches(vae, batch):
  terms = _terms(vae, batch)
  if batch.step < 100:  # here
    return terms
  return terms


def calls_item(vae, batch):
  terms = _terms(vae, batch)
  return terms.replace(loss=terms.loss * terms.rate.mean().item())  # here


def loops_over_steps(vae, batch):
  for _ in range(batch.step):  # here
    pass


def uses_numpy(vae, batch):
  return np.asarray(one_draw(vae, batch).distortion)  # here


def misspells(vae, batch):
  return one_draw(vae, bach)  # noqa: F821  # here


def forgets_distortion(vae, batch):
  return Terms(loss=one_draw(vae, batch).distortion)  # here


def names_an_axis(vae, batch):
  terms = _terms(vae, batch)
  return terms.replace(loss=jax.lax.pmean(terms.loss, "nothere"))  # here


def reads_missing_labels(vae, batch):
  return batch.label[:, None]  # here


def asserts(vae, batch):
  assert batch.image.ndim == 3  # here


def searches(vae, batch):
  """Has no gradient."""
  terms = _terms(vae, batch)
  return terms.replace(
    loss=jax.lax.while_loop(lambda v: v.sum() < 3, lambda v: 2 * v, terms.loss)
  )


class _Critic(nn.Module):  # here
  width: int

  @nn.compact
  def __call__(self, z):
    return nn.Dense(self.width)(z)[..., 0]


class _FailingCritic(nn.Module):
  @nn.compact
  def __call__(self, z):
    return z @ self.nothing  # here


def _adversarial(vae, batch):
  terms = _terms(vae, batch)
  return terms.replace(
    loss=terms.loss + vae.auxiliary(one_draw(vae, batch).z[0])
  )


@objectives.needs(_Critic, reads="latents")
def has_an_unfilled_critic(vae, batch):
  return _adversarial(vae, batch)


@objectives.needs(_FailingCritic, reads="latents")
def has_a_failing_critic(vae, batch):
  return _adversarial(vae, batch)


def _weighted(vae, batch, *, beta=1.0):
  terms = _terms(vae, batch)
  return terms.replace(loss=terms.distortion + beta * terms.rate)


class _Callable:
  def __call__(self, vae, batch, *, beta=1.0):
    return _weighted(vae, batch, beta=beta)


right_partial = functools.partial(_weighted, beta=2.0)
right_callable = _Callable()
