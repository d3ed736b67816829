"""The server: its address, its files, and refused requests."""

import base64
import contextlib
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest

from vae_jax.config import ConfigError
from vae_jax.modes.explore import guard, server

pytest.importorskip("gradio", reason="needs the extra [explore]")
httpx = pytest.importorskip("httpx", reason="needs the extra [explore]")
# Raised by the libraries behind the page, about each other.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SLOW = pytest.mark.slow


def test_taken_port_is_followed_by_the_next():
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    with server.listen("127.0.0.1", port) as bound:
      assert port < bound.getsockname()[1] < port + 100
      assert bound.getsockname()[0] == "127.0.0.1"
  for host, port in (("127.0.0.1", 70_000), ("no such host", 0)):
    with pytest.raises(ConfigError, match="--port|--host"):
      server.listen(host, port)


def test_missing_gradio_raises_an_error_with_the_command(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ConfigError, match=r'pip install -e "\.\[explore\]"'):
    server.check_installed()


def test_each_inline_script_is_allowed_by_its_hash():
  page = b'<script src="a.js"></script><script>one</script ><script async>2'
  page += b"</script><script>alert(1)</script>"
  # printf alert(1) | openssl dgst -sha256 -binary | base64
  known = "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
  assert known in guard.policy(page)
  assert guard.policy(b"").count("sha256") == 0


def _status(url, **headers):
  request = urllib.request.Request(url, headers=headers)
  try:
    with urllib.request.urlopen(request) as answer:
      return answer.status, answer.headers, answer.read()
  except urllib.error.HTTPError as error:
    with error:
      return error.code, error.headers, error.read()


@SLOW
@pytest.mark.parametrize("route", ["gradio_api/file=", "file=", "file/"])
def test_server_gives_no_file_away(url, faces, route):
  folder = faces.model.workdir
  secret = folder / "attributes" / "directions.npz"
  for path in ("/etc/passwd", str(secret), "vae_jax/main.py", "setup.py"):
    status, _, content = _status(f"{url}/{route}{path}")
    assert status in (403, 404) and b"root:" not in content


@SLOW
def test_server_answers_only_to_its_own_page(url):
  assert _status(url)[0] == 200
  assert _status(url, Host="evil.example")[0] == 400
  assert _status(url, Origin="http://evil.example")[0] == 403
  assert _status(url, Origin="null")[0] == 403
  assert _status(url, Origin=url)[0] == 200
  status, headers, page = _status(url)
  policy = headers["content-security-policy"]
  assert "http" not in policy and "unsafe-inline" not in policy.split(";")[1]
  assert policy == guard.policy(page)
  assert headers["x-frame-options"] == "DENY"
  assert _status(f"{url}/gradio_api/info")[1]["content-security-policy"]


@SLOW
def test_wrong_links_return_an_error_message(url):
  good, nan = (
    base64.urlsafe_b64encode(np.full(16, value, "<f4").tobytes()).decode()
    for value in (0, np.nan)
  )
  for path, message in (
    (f"nothing.txt?latent={good}", "no nothing.txt"),
    ("picture.png?latent=AAAAAA==", "has 16 numbers"),
    ("picture.png?latent=A", "no vector"),
    (f"picture.png?latent={nan}", "Entry 0"),
  ):
    status, _, content = _status(f"{url}/download/{path}")
    assert status == 400 and message in content.decode()
  assert _status(f"{url}/download/picture.png?latent={good}")[0] == 200


@SLOW
def test_server_refuses_requests_that_no_page_makes(url):
  with httpx.Client(base_url=url, trust_env=False) as client:
    for path in ("process_recording", "deep_link", "call/x", "proxy=http://x"):
      assert client.post(f"/gradio_api/{path}").status_code == 404
    large = client.post("/gradio_api/run/predict", content=b"0" * (2 << 20))
    assert large.status_code == 413
    content = (b"0" * 2**18 for _ in range(9))
    pieces = client.stream("POST", "/gradio_api/run/predict", content=content)
    with contextlib.suppress(httpx.HTTPError), pieces as answer:
      assert answer.status_code >= 400
    # An address in the place of a file.
    config = client.get("/config").json()
    uploads = [
      d["id"] for d in config["dependencies"] if d["targets"][0][1] == "upload"
    ]
    meta = {"_type": "gradio.FileData"}
    data = [None, {"path": "http://example.com/x", "meta": meta}]
    assert len(uploads) == 2
    for upload in uploads:
      content = {"data": data, "fn_index": upload, "session_hash": "a"}
      answer = client.post("/gradio_api/run/predict", json=content)
      assert answer.status_code >= 400
