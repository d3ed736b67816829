"""Densities fitted to the codes of a trained model, in the place of its prior.

The codes of all images together do not fill p(z), where draws of p(z) decode to
no images; an autoencoder has no p(z) at all. A density of the codes, fitted
when the training is over, is a p(z) to draw from. With it the model stays a
proper one: E_q[log p(x | z) + log p(z) - log q(z | x)] bounds log p(x).

A density is fitted to one draw from the posterior of each training image (of
100,000 of them, evenly spaced, if there are more); of a model that is
conditioned on classes one for each class, p(z | y). Where attributes are the
condition it is one of all codes.

References:
  Ghosh et al., arXiv 1903.12436, section 5.
"""

import dataclasses
import functools
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jaxtyping import Float32, Integer
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data.source import Subset
from vae_jax.latents import conditions, density_file, flow, gaussian_mixture
from vae_jax.latents.coder import Coder
from vae_jax.latents.opened import CHUNK
from vae_jax.models import fitted_prior
from vae_jax.objectives import elbo

PRIOR = "prior"
_KINDS = {"gaussian_mixture": gaussian_mixture, "flow": flow}
NAMES = (PRIOR, *_KINDS)
# Losses in which the prior has no part.
_WITHOUT_PRIOR = (
  *("autoencoder", "denoising_autoencoder", "sparse_autoencoder"),
  "rae",
)
_MOST = 100_000  # Codes.

M = TypeVar("M", bound=Coder)


def choose(config: ConfigDict, name: str | None) -> str:
  """Returns the density of that name, or that of a model by default.

  It is the prior, or the mixture where the loss is an autoencoder's or the
  posterior a point, because N(0, I) then says nothing of the codes.

  Raises:
    ConfigError: there is no such density.
  """
  if name is None:
    points = config.model.posterior.name == "deterministic"
    if not points and config.objective.name not in _WITHOUT_PRIOR:
      return PRIOR
    logging.info(
      "Draws are from a mixture fitted to the codes, because nothing made them "
      "N(0, I); --density=prior draws from that."
    )
    return "gaussian_mixture"
  if name not in NAMES:
    raise ConfigError(
      f"density is {name!r}; it must be one of {', '.join(NAMES)}."
    )
  return name


def title(name: str, temperature: float | int) -> str:
  """Returns what draws are from, for a picture of them."""
  source = "the prior" if name == PRIOR else f"{name} fitted to the codes"
  return f"draws from {source}, temperature {temperature:g}"


def applied(
  model: M, name: str, *, again: bool = False, may_fit: bool = True
) -> M:
  """Returns a model with a density in the place of its prior, and with the
  objective `elbo`, whose rate is log q(z | x) - log p(z) at the draw.

  The density is read from the run's folder `density/`, or fitted to the run's
  training images and kept there.

  Args:
    model: with the prior that it was trained with.
    name: one of `NAMES`; of `PRIOR` the model itself is returned.
    again: whether it is fitted even if it is there.
    may_fit: whether it may be fitted, because the model's data are the run's.

  Raises:
    ConfigError: there is no such density, or it may not be fitted.
  """
  if name == PRIOR:
    return model
  if again or name not in model.with_densities:
    found = None if again else density_file.read(model, name)
    if found is None:
      if not may_fit:
        raise ConfigError(
          f"There is no density {name} of this checkpoint, and the images are "
          "not those of the training; fit it first, by --mode=fit_density "
          f"--density={name}."
        )
      found, report = _fit(model, name)
      density_file.write(model, name, found, report)
    model.with_densities[name] = _with(model, name, found)
  return model.with_densities[name]


def _with(model: M, name: str, arrays: dict[str, Any]) -> M:
  own = model.experiment
  prior = fitted_prior.FittedPrior(
    _KINDS[name].build, own.config.model.condition == "label"
  )
  # The loss of the training was of the trained prior.
  objective = functools.partial(elbo.elbo, kl="sampled")
  if own.config.model.posterior.name == "deterministic":
    objective = own.objective  # Of points, which have no rate.
  experiment = dataclasses.replace(
    own,
    objective=objective,
    vae_eval=own.vae_eval.clone(latent_prior=prior),
    # A data set that is open, or its images in memory.
    open_splits=lambda: own.splits,
  )
  variables = {**model.variables, **fitted_prior.variables(arrays)}
  return dataclasses.replace(model, experiment=experiment, variables=variables)


def _fit(model: Coder, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the arrays of a density, those of classes stacked, and a report."""
  kind, seed = _KINDS[name], model.config.seed
  codes, labels = _draws(model)
  dim = codes.shape[1]
  known, groups, of_all = ("",), [codes], []
  if model.config.model.condition == "label":
    classes = range(model.vae.num_labels)
    named = dict(enumerate(conditions.names(model.experiment)))
    known = tuple(named.get(y, str(y)) for y in classes)
    groups = [codes[labels == y] for y in classes]
    # Too few codes say nothing of a class.
    of_all = [y for y, own in enumerate(groups) if len(own) < 2 * dim]
    for y in of_all:
      logging.warning(
        "The density of class %s is that of all: %d training images are too "
        "few for %d latents.", known[y], len(groups[y]), dim,
      )  # fmt: skip
      groups[y] = codes
  options = {}
  if kind is gaussian_mixture:
    fewest = min(map(len, groups))
    options["components"] = gaussian_mixture.components(fewest, dim)
  fits = {}  # By class; that of all codes once.
  for y, own in enumerate(groups):
    key = "all" if y in of_all else y
    if key not in fits:
      bar = f"{name} {known[y]}".strip()
      fits[key] = kind.fit(own, seed=seed, bar=bar, **options)
  each = [fits["all" if y in of_all else y] for y in range(len(groups))]
  report = {"codes": len(codes), "fits": [own for _, own in each]}
  if model.config.model.condition != "label":
    return each[0][0], report
  arrays = jax.tree.map(lambda *v: np.stack(v), *(own for own, _ in each))
  report |= {"classes": list(known), "of_all": [known[y] for y in of_all]}
  return arrays, report


def _draws(
  model: Coder,
) -> tuple[Float32[np.ndarray, "n d"], Integer[np.ndarray, "n ..."] | None]:
  """Returns draws from the posteriors of training images, and their labels."""
  source = model.experiment.source("train")
  count = min(_MOST, len(source))
  if count < 2:
    raise ConfigError(
      f"There are {count} training images; a density needs at least 2."
    )
  spaced = Subset(source, np.arange(count) * len(source) // count)
  # A page's model decodes one at a time.
  model = dataclasses.replace(model, chunk=CHUNK)
  codes, labels = model.posterior_draws(
    spaced, seed=model.config.seed, bar="encoding"
  )
  if not np.isfinite(codes).all():
    raise ConfigError(
      "The codes of the training images are not all finite, so that they have "
      "no density."
    )
  return codes, labels
