"""Serves the page: to this machine alone unless told otherwise."""

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
from typing import Any, NoReturn

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import photos
from vae_jax.latents import trained_model
from vae_jax.modes.explore import guard, markup, studio

HOST = "127.0.0.1"
PORT = 7860
_PORTS = 100  # Tried, from the first one on.
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def application(shown: studio.Studio, *, names: frozenset[str]) -> Any:
  """Returns the page as an ASGI application.

  Args:
    shown: what it shows.
    names: that the server is asked for by; empty = any.
  """
  # Read when Gradio is imported.
  os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
  import fastapi
  import gradio as gr

  # Gradio asks it for its backend at the first event, which would be late.
  import matplotlib.pyplot  # noqa: F401
  from gradio import processing_utils

  from vae_jax.modes.explore import page, style

  # A request may name an address in the place of a file, which Gradio would
  # fetch, of any size.
  processing_utils.async_ssrf_protected_get = _fetch_nothing
  app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

  @app.get("/download/{file}")
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

  app = gr.mount_gradio_app(
    app,
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
    theme=style.theme(),
    css=style.css(shown.model.image_shape),
  )
  return guard.Guard(app, names)


async def _fetch_nothing(url: str, *_: Any, **__: Any) -> NoReturn:
  raise ValueError(f"Nothing is fetched from elsewhere: {url[:200]}")


def _download(
  shown: studio.Studio, file: str, latent: str, label: str
) -> tuple[bytes, str]:
  """The content and the kind of a file that the page links to."""
  try:
    raw = base64.urlsafe_b64decode(latent.encode())
    values = np.frombuffer(raw, "<f4").tolist()
    numbers = [int(v) for v in label.split(",")] if label else None
  except (ValueError, binascii.Error) as error:
    raise ConfigError("That address holds no vector.") from error
  code = shown.checked_code(values)
  given = None
  condition = shown.model.config.model.condition
  if condition != "none":
    if numbers is None:
      raise ConfigError("That address holds no label.")
    scalar = condition == "label"
    given = shown.checked_label(numbers[0] if scalar else numbers)
  if file == "vector.json":
    return shown.card(code, given).encode(), "application/json"
  if file not in ("picture.png", "large.png"):
    raise ConfigError(f"There is no {file} to download.")
  picture = shown.decode(code, given)
  if file == "large.png":
    picture = markup.enlarged(picture)
  return markup.png_bytes(picture), "image/png"


def listen(host: str, port: int | None) -> socket.socket:
  """Returns a socket at an address: at this port or a free one after it.

  Args:
    host: name or address of this machine.
    port: 0 = any free one; None = the first free one from 7860 on.

  Raises:
    ConfigError: there is no such address, or no port of it is free.
  """
  first = PORT if port is None else port
  if not 0 <= first <= 65535:
    raise ConfigError(f"--port is {first}; allowed is 0 to 65535.")
  last = min(first + _PORTS, 65536) if first else 1
  for candidate in range(first, last):
    try:
      family, kind, _, _, address = socket.getaddrinfo(
        host, candidate, type=socket.SOCK_STREAM
      )[0]
      bound = socket.socket(family, kind)
    except OSError as error:
      raise ConfigError(
        f"--host is {host!r}, which is no address of this machine."
      ) from error
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      bound.bind(address)
      bound.listen(128)
    except OSError as error:
      bound.close()
      if error.errno in (errno.EADDRINUSE, errno.EACCES):
        continue
      raise ConfigError(
        f"--host is {host!r}, which is no address of this machine."
      ) from error
    return bound
  raise ConfigError(
    f"No port from {first} to {last - 1} is free at {host}; choose another "
    "--port."
  )


def url(bound: socket.socket) -> str:
  """Returns the address that a browser takes."""
  host, port = bound.getsockname()[:2]
  host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
  return f"http://{host}:{port}"


def names_of(host: str) -> frozenset[str]:
  """Returns the names a server at `host` answers to; empty = any."""
  if host in _LOOPBACK:
    return frozenset(_LOOPBACK)
  return frozenset()


def _server(app: Any) -> Any:
  import uvicorn

  return uvicorn.Server(
    uvicorn.Config(
      app,
      log_level="error",
      access_log=False,
      # Open pages hold a connection that never ends by itself.
      timeout_graceful_shutdown=1,
    )
  )


@contextlib.contextmanager
def _uploads() -> Iterator[None]:
  """A folder of its own for what Gradio keeps of uploads, gone afterwards."""
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
def background(shown: studio.Studio) -> Iterator[str]:
  """Serves a page from a thread of its own; yields its address."""
  with listen(HOST, 0) as bound, _uploads():
    running = _server(application(shown, names=names_of(HOST)))
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
  """Stops with one sentence where Gradio is missing.

  Raises:
    ConfigError: it says how to install it.
  """
  if importlib.util.find_spec("gradio") is None:
    raise ConfigError(
      '--mode=explore needs Gradio: pip install -e ".[explore]"'
    )


def explore(
  config: ConfigDict, workdir: str, *, host: str, port: int | None
) -> str:
  """Serves the page of a run until Ctrl-C.

  Args:
    config: of the run.
    workdir: folder of the run.
    host: address to serve at.
    port: port to serve at; 0 = any free one; None = the first free one from
      7860.

  Raises:
    ConfigError: Gradio is missing, or the address cannot be listened on.
  """
  check_installed()
  # Before the model is opened, which takes longer than to see a wrong port.
  with listen(host, port) as bound, _uploads():
    model = trained_model.open_run(config, workdir, chunk=1)
    app = application(studio.open_studio(model), names=names_of(host))
    running = _server(app)
    logging.info("Explore %s at %s; Ctrl-C ends it.", workdir, url(bound))
    # Raised again by uvicorn, once all is shut down.
    with contextlib.suppress(KeyboardInterrupt):
      running.run(sockets=[bound])
  return "The page is closed."
