"""Middleware of the page: allowed requests, and its Content-Security-Policy.

Both also hold for Gradio's own routes and files.
"""

import base64
import hashlib
import re
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import body_limit, trustedhost
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vae_jax.data import photos

_HEADERS = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
# 'unsafe-eval' because Gradio's HTML component compiles its templates, all of
# which are in this package.
_POLICY = (
  "default-src 'none'; script-src 'self' 'unsafe-eval'{hashes}; "
  "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
  "font-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
  "worker-src 'self' blob:; base-uri 'self'; form-action 'self'; "
  "frame-ancestors 'none'"
)
# Routes of Gradio that the page does not use; some of them decode or store
# files of any sender.
_CLOSED = re.compile(
  r"/(gradio_api/)?(process_recording|deep_link|call/|proxy=|stream/|vibe"
  r"|component_server)"
)
_SMALL = 1 << 20  # Bytes of a request at most, unless it uploads a file.
_INLINE = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.S)


def policy(page: bytes = b"") -> str:
  """Returns a Content-Security-Policy that allows a page's own scripts.

  Args:
    page: HTML; each inline script in it is allowed by its hash, no other is.
  """
  hashes = "".join(
    f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
    for script in _INLINE.findall(page)
  )
  return _POLICY.format(hashes=hashes)


def guard(app: ASGIApp, hosts: list[str]) -> ASGIApp:
  """Returns an application that answers only to its own page.

  Other sites must not reach it through a visitor's browser, even if they
  resolve their own name to this address (DNS rebinding): the Host header must
  be one of `hosts`, and the Origin header, if there is one, must equal it.

  Args:
    app: The application.
    hosts: Host names of this server; "*" = any.
  """
  return trustedhost.TrustedHostMiddleware(_Guard(app), hosts, False)


class _Guard:
  def __init__(self, app: ASGIApp):
    limit = body_limit.RequestBodyLimitMiddleware
    self._app = app
    self._upload = limit(app, photos.MAX_BYTES + _SMALL)
    self._small = limit(app, _SMALL)

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    headers, path = Headers(scope=scope), scope["path"]
    origin = headers.get("origin", "")
    app = self._upload if path.endswith("/upload") else self._small
    if origin and origin.partition("://")[2] != headers.get("host"):
      app = PlainTextResponse("Requests of other sites are refused.\n", 403)
    elif _CLOSED.match(path):
      app = PlainTextResponse("There is no such page.\n", 404)
    if path == "/":
      # The scripts of a compressed page could not be hashed.
      raw = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
      scope = {**scope, "headers": raw}
    await app(scope, receive, _with_policy(send))


def _with_policy(send: Send) -> Send:
  """Adds headers to a response; HTML is sent in one piece, after its hashes."""
  start: Message | None = None
  page = b""

  async def send_with_policy(message: Any) -> None:
    nonlocal start, page
    if message["type"] == "http.response.start":
      headers = MutableHeaders(scope=message)
      headers.update(_HEADERS)
      headers["content-security-policy"] = policy()
      if headers.get("content-type", "").startswith("text/html"):
        start = message
        return
    elif start is not None and message["type"] == "http.response.body":
      page += message.get("body", b"")
      if message.get("more_body"):
        return
      MutableHeaders(scope=start)["content-security-policy"] = policy(page)
      await send(start)
      message = {"type": "http.response.body", "body": page}
    await send(message)

  return send_with_policy
