"""Serves a web page to explore a trained model, on this machine."""

from ml_collections import ConfigDict

NEEDS = "run"


def run(
  config: ConfigDict,
  workdir: str,
  *,
  host: str = "127.0.0.1",
  port: int | None = None,
) -> str:
  """Serves the page until Ctrl-C; see `server.explore`."""
  # Imported here because the server needs more packages than the others.
  from vae_jax.modes.explore import server

  return server.explore(config, workdir, host=host, port=port)
