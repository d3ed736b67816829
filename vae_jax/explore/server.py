"""Serves the page: to this machine alone unless told otherwise.

What the page may load and who may talk to it is bounded here, for Gradio's own
files as much as for ours.
"""

import base64
import binascii
import errno
import hashlib
import importlib.util
import os
import re
import socket
import tempfile
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import photos
from vae_jax.explore import markup, studio
from vae_jax.modes import options as options_lib

HOST = "127.0.0.1"
PORT = 7860
_PORTS = 100  # Tried, from the first one on.
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HEADERS = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
# Gradio's HTML component makes functions of its templates: no 'unsafe-eval', no
# page. All of these are written here.
_POLICY = (
  "default-src 'none'; script-src 'self' 'unsafe-eval'{hashes}; "
  "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
  "font-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
  "worker-src 'self' blob:; base-uri 'self'; form-action 'self'; "
  "frame-ancestors 'none'"
)
_INLINE = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.S)


def policy(page: bytes = b"") -> str:
  """Returns a Content-Security-Policy that lets a page run its own scripts.

  Args:
    page: HTML; each script in it is allowed by its hash, no other is.
  """
  hashes = "".join(
    f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
    for script in _INLINE.findall(page)
  )
  return _POLICY.format(hashes=hashes)


class Guard:
  """Middleware: who may ask, and what an answer's page may load.

  A page of another site that a visitor has open may not speak to this one,
  even if it bends its own name to this address: the name asked for must be one
  of this server, and a request from a page must come from its own.
  """

  def __init__(self, app: Any, names: frozenset[str]):
    """Guards `app`; `names` are those of this server, empty = any."""
    self._app = app
    self._names = names

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    """Serves one request."""
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    headers = {k.decode("latin-1"): v for k, v in scope["headers"]}
    if not self._allowed(headers):
      await _refuse(send)
      return
    if scope["path"] == "/":
      # The scripts in a compressed page could not be told apart.
      scope = {
        **scope,
        "headers": [
          (k, v) for k, v in scope["headers"] if k != b"accept-encoding"
        ],
      }
    await self._app(scope, receive, _Answer(send))

  def _allowed(self, headers: dict[str, bytes]) -> bool:
    host = headers.get("host", b"").decode("latin-1")
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if self._names and name.strip("[]") not in self._names:
      return False
    origin = headers.get("origin", b"").decode("latin-1")
    return not origin or origin.partition("://")[2] == host


async def _refuse(send: Any) -> None:
  body = b"This page answers to itself alone.\n"
  head = [
    (b"content-type", b"text/plain"),
    (b"content-length", b"%d" % len(body)),
  ]
  await send({"type": "http.response.start", "status": 403, "headers": head})
  await send({"type": "http.response.body", "body": body})


class _Answer:
  """Passes an answer on with headers; a page as a whole, a stream as it comes."""

  def __init__(self, send: Any):
    self._send = send
    self._start: dict[str, Any] | None = None
    self._page = b""

  async def __call__(self, message: Any) -> None:
    if message["type"] == "http.response.start":
      kind = dict(message["headers"]).get(b"content-type", b"")
      if kind.startswith(b"text/html"):
        self._start = message
        return
      await self._send(_with_headers(message, policy()))
    elif self._start is not None and message["type"] == "http.response.body":
      self._page += message.get("body", b"")
      if not message.get("more_body"):
        await self._send(_with_headers(self._start, policy(self._page)))
        await self._send({**message, "body": self._page})
    else:
      await self._send(message)


def _with_headers(message: Any, policy: str) -> Any:
  ours = {**_HEADERS, "content-security-policy": policy}
  kept = [
    (k, v) for k, v in message["headers"] if k.decode("latin-1") not in ours
  ]
  added = [(k.encode(), v.encode()) for k, v in ours.items()]
  return {**message, "headers": kept + added}


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

  from vae_jax.explore import page, style

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
  return Guard(app, names)


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


def server(app: Any) -> Any:
  """Returns a uvicorn server that says nothing unless something is wrong."""
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


def explore(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Serves the page of a run until Ctrl-C.

  Raises:
    ConfigError: Gradio is missing, or the address cannot be listened on.
  """
  if importlib.util.find_spec("gradio") is None:
    raise ConfigError(
      '--mode=explore needs Gradio: pip install -e ".[explore]"'
    )
  host = HOST if options.host is None else options.host
  with (
    listen(host, options.port) as bound,
    tempfile.TemporaryDirectory() as folder,
  ):
    # Where Gradio puts uploads until they are read.
    os.environ["GRADIO_TEMP_DIR"] = folder
    shown = studio.open_studio(config, workdir)
    app = application(shown, names=names_of(host))
    running = server(app)
    logging.info("Explore %s at %s; Ctrl-C ends it.", workdir, url(bound))
    try:
      running.run(sockets=[bound])
    except KeyboardInterrupt:
      pass
  return "The page is closed."
