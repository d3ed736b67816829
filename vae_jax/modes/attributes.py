"""Estimates the directions of all attributes, to <workdir>/attributes/."""

from ml_collections import ConfigDict

from vae_jax.latents import attribute_directions, trained_model

NEEDS = "run"


def run(config: ConfigDict, workdir: str) -> str:
  """Estimates the directions of a run, unless they are there; returns a table
  of the attributes."""
  linear, _ = attribute_directions.directions_of(
    trained_model.open_run(config, workdir)
  )
  width = max(len(name) for name in linear.names)
  lines = [f"{'attribute':>{width}}    images  probe's balanced accuracy"]
  for a, name in enumerate(linear.names):
    lines.append(
      f"{name:>{width}}  {linear.positives[a]:8,}  {linear.accuracy[a]:.3f}"
    )
  return "\n".join(
    [*lines, f"{workdir}/{attribute_directions.FOLDER}/directions.npz"]
  )
