"""Fits a density to the codes of the training images, to <workdir>/density/."""

from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.latents import density as density_lib
from vae_jax.latents import density_file, trained_model

NEEDS = "run"


def run(
  config: ConfigDict, workdir: str, *, density: str = "gaussian_mixture"
) -> str:
  """Fits a density, whether or not there is one; returns the path of its file.

  Writes `density/<name>.safetensors`, the density's arrays, and
  `density/<name>.json`, what they were fitted to and how. The modes that draw
  do the same when a density is first asked for.

  Args:
    density: see `latents.density`; the prior cannot be fitted.
  """
  if density_lib.choose(config, density) == density_lib.PRIOR:
    raise ConfigError(
      "--density is 'prior', which is trained with the model; it must be one "
      f"of {', '.join(density_lib.NAMES[1:])}."
    )
  model = trained_model.open_run(config, workdir)
  density_lib.applied(model, density, again=True)
  return str(density_file.path(model, density))
