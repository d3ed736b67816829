"""Serves the page: application, downloads and address."""

import asyncio
import base64
import binascii
import contextlib
import errno
import importlib.util
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NoReturn

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import photos
from vae_jax.figures import png
from vae_jax.latents import density as density_lib
from vae_jax.latents import trained_model
from vae_jax.modes.explore import editor, markup, vector_file

_PORT = 7860
_PORTS = 100  # Ports tried, from the first one.
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def application(shown: editor.Editor, hosts: list[str]) -> Any:
  """Returns the page of an editor as an ASGI application.

  Args:
    shown: The editor.
    hosts: Host names of this server; "*" = any.
  """
  # Gradio reads it when it is imported.
  os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
  import fastapi
  import gradio as gr

  # Imported now because Gradio would import it at the first event.
  import matplotlib.pyplot  # noqa: F401
  from gradio import processing_utils

  from vae_jax.modes.explore import guard, layout, page

  # Because a request may name an address in place of a file, which Gradio
  # would fetch, whatever its size.
  processing_utils.async_ssrf_protected_get = _fetch_nothing
  api = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

  @api.get("/download/{file}")
  def download(file: str, latent: str, label: str = "") -> fastapi.Response:
    try:
      content, kind = _download(shown, file, latent, label)
    except ConfigError as error:
      return fastapi.Response(f"{error}\n", 400, media_type="text/plain")
    return fastapi.Response(
      content,
      media_type=kind,
      headers={"content-disposition": f'attachment; filename="{file}"'},
    )

  async def mounted() -> Any:
    return gr.mount_gradio_app(
      api,
      page.build(shown),
      path="/",
      allowed_paths=[],
      blocked_paths=[os.path.abspath(shown.model.workdir)],
      max_file_size=photos.MAX_BYTES,
      footer_links=[],
      run_history=False,
      show_error=False,
      ssr_mode=False,
      pwa=False,
      mcp_server=False,
      enable_monitoring=False,
      theme=layout.THEME,
      css=markup.sizes(shown.model.image_shape),
      css_paths=layout.STYLE,
    )

  # In an event loop, because without one Gradio opens loops and leaves them; in
  # a thread, because this one may have a loop already.
  with futures.ThreadPoolExecutor(1) as thread:
    app = thread.submit(asyncio.run, mounted()).result()
  return guard.guard(app, hosts)


async def _fetch_nothing(url: str, *_: Any, **__: Any) -> NoReturn:
  raise ValueError(f"Files of other servers are refused: {url[:200]}")


def _download(
  shown: editor.Editor, file: str, latent: str, label: str
) -> tuple[bytes, str]:
  """Returns the content and the media type of a file that the page links to."""
  try:
    raw = base64.urlsafe_b64decode(latent.encode())
    values = np.frombuffer(raw, "<f4").tolist()
    numbers = [int(v) for v in label.split(",")] if label else None
  except (ValueError, binascii.Error) as error:
    raise ConfigError("The address holds no vector.") from error
  config = shown.model.config
  code, checked = vector_file.checked_code(config, values), None
  if config.model.condition != "none":
    if numbers is None:
      raise ConfigError("The address holds no label.")
    scalar = config.model.condition == "label"
    numbers = numbers[0] if scalar else numbers
    checked = vector_file.checked_label(config, numbers)
  if file == "vector.json":
    content = vector_file.write(code, checked, shown.model.step)
    return content.encode(), "application/json"
  if file not in ("picture.png", "large.png"):
    raise ConfigError(f"There is no {file} to download.")
  picture = shown.decode(code, checked)
  if file == "large.png":
    picture = markup.enlarged(picture)
  return png.encode(picture), "image/png"


def listen(host: str, port: int | None) -> socket.socket:
  """Returns a listening socket at this port, or at a free one after it.

  Args:
    host: Name or address of this machine.
    port: 0 = any free one; None = the first free one from 7860.

  Raises:
    ConfigError: There is no such address, or no port of it is free.
  """
  first = _PORT if port is None else port
  if not 0 <= first <= 65535:
    raise ConfigError(f"--port is {first}; allowed is 0 to 65535.")
  last = min(first + _PORTS, 65536) if first else 1
  for candidate in range(first, last):
    bound = None
    try:
      family, kind, _, _, address = socket.getaddrinfo(
        host, candidate, type=socket.SOCK_STREAM
      )[0]
      bound = socket.socket(family, kind)
      bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      bound.bind(address)
      bound.listen(128)
      return bound
    except OSError as error:
      if bound is not None:
        bound.close()
      if error.errno not in (errno.EADDRINUSE, errno.EACCES):
        raise ConfigError(
          f"--host is {host!r}; allowed is an address of this machine."
        ) from error
  raise ConfigError(
    f"No port from {first} to {last - 1} is free at {host}; choose another "
    "--port."
  )


def url(bound: socket.socket) -> str:
  """Returns the address of a socket for a browser."""
  host, port = bound.getsockname()[:2]
  host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
  return f"http://{host}:{port}"


def allowed_hosts(host: str) -> list[str]:
  """Returns the Host headers that a server at `host` accepts; "*" = any."""
  return ["localhost", "127.0.0.1", "[::1]"] if host in _LOOPBACK else ["*"]


def _server(app: Any) -> Any:
  import uvicorn

  # Open pages hold connections that never end by themselves.
  settings = {"log_level": "error", "timeout_graceful_shutdown": 1}
  return uvicorn.Server(uvicorn.Config(app, access_log=False, **settings))


@contextlib.contextmanager
def _temporary_uploads() -> Iterator[None]:
  """Gives Gradio's uploads a folder that is removed afterwards."""
  before = os.environ.get("GRADIO_TEMP_DIR")
  with tempfile.TemporaryDirectory() as folder:
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
      yield
    finally:
      del os.environ["GRADIO_TEMP_DIR"]
      if before is not None:
        os.environ["GRADIO_TEMP_DIR"] = before


@contextlib.contextmanager
def background(shown: editor.Editor) -> Iterator[str]:
  """Serves a page of this machine from a thread; yields its address."""
  host = _LOOPBACK[1]
  with listen(host, 0) as bound, _temporary_uploads():
    running = _server(application(shown, allowed_hosts(host)))
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    try:
      while thread.is_alive() and not running.started:
        time.sleep(0.01)
      yield url(bound)
    finally:
      running.should_exit = True
      thread.join()


def check_installed() -> None:
  """Checks that Gradio is installed.

  Raises:
    ConfigError: It is missing; the message has the command that installs it.
  """
  if importlib.util.find_spec("gradio") is None:
    raise ConfigError(
      '--mode=explore needs Gradio: pip install -e ".[explore]"'
    )


def serve(
  config: ConfigDict,
  workdir: str,
  host: str,
  port: int | None,
  density: str | None,
) -> None:
  """Serves the page of a run until Ctrl-C; see `explore.run`."""
  # Before the model is opened, which takes longer than to find a wrong port.
  with listen(host, port) as bound, _temporary_uploads():
    model = trained_model.open_run(config, workdir, chunk=1)
    chosen = density_lib.choose(config, density)
    shown = editor.open_editor(model, density=chosen)
    app = application(shown, allowed_hosts(host))
    running = _server(app)
    logging.info("Explore %s at %s; Ctrl-C ends it.", workdir, url(bound))
    # uvicorn raises it again after its shutdown.
    with contextlib.suppress(KeyboardInterrupt):
      running.run(sockets=[bound])
