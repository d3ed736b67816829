"""Serves a web page to explore a trained model, until Ctrl-C."""

from ml_collections import ConfigDict

NEEDS = "run"


def run(
  config: ConfigDict,
  workdir: str,
  *,
  host: str = "127.0.0.1",
  port: int | None = None,
  density: str | None = None,
) -> str:
  """Serves the page of a run until Ctrl-C.

  Args:
    config: The resolved config of the run.
    workdir: Folder of the run.
    host: Address to serve at; the default serves this machine alone.
    port: Port to serve at; 0 = any free one, None = the first free one from
      7860.
    density: That random points are drawn from, see `latents.density.choose`.

  Raises:
    ConfigError: Gradio is missing, or the address cannot be listened on.
  """
  # Imported here because Gradio takes seconds to import and may be missing.
  from vae_jax.modes.explore import server

  server.check_installed()
  server.serve(config, workdir, host, port, density)
  return "The page is closed."
