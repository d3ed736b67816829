"""Who may speak to the page, and what the page may load.

Both are bounded for Gradio's own files as much as for ours.
"""

import base64
import hashlib
import re
from typing import Any

from vae_jax.data import photos

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
# Ways into Gradio that the page has no use for; some of them decode or keep
# what a stranger sends.
_CLOSED = re.compile(
  r"/(gradio_api/)?(process_recording|deep_link|call/|proxy=|stream/|vibe"
  r"|component_server)"
)
# Bytes of a request at most: a file with its wrapping, or some sliders.
_UPLOAD = photos.MAX_BYTES + (1 << 20)
_SMALL = 1 << 20
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
      await _refuse(send, 403, b"This page answers to itself alone.\n")
      return
    if _CLOSED.match(scope["path"]):
      await _refuse(send, 404, b"There is nothing here.\n")
      return
    most = _UPLOAD if scope["path"].endswith("/upload") else _SMALL
    length = headers.get("content-length", b"0")
    if not length.isdigit() or int(length) > most:
      await _refuse(send, 413, b"That is too large.\n")
      return
    receive = _bounded(receive, most)
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


def _bounded(receive: Any, most: int) -> Any:
  """Receives the body of a request until it is longer than `most` bytes, then
  as if the sender had gone: a length need not be said, nor be true."""
  left = most

  async def receive_some() -> Any:
    nonlocal left
    message = await receive()
    left -= len(message.get("body", b""))
    return message if left >= 0 else {"type": "http.disconnect"}

  return receive_some


async def _refuse(send: Any, status: int, body: bytes) -> None:
  head = [
    (b"content-type", b"text/plain"),
    (b"content-length", b"%d" % len(body)),
  ]
  start = {"type": "http.response.start", "status": status, "headers": head}
  await send(start)
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
