"""What stands before the page: its address, and who may ask."""

import socket

import pytest

from vae_jax.config import ConfigError
from vae_jax.modes.explore import guard, server


def test_each_inline_script_is_allowed_by_its_hash():
  page = b'<script src="a.js"></script><script>one</script ><script async>2'
  page += b"</script><script>alert(1)</script>"
  # printf alert(1) | openssl dgst -sha256 -binary | base64
  known = "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
  assert known in guard.policy(page)
  assert guard.policy(b"").count("sha256") == 0


def test_a_taken_port_makes_way_to_the_next():
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


def test_without_gradio_one_sentence(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ConfigError, match=r'pip install -e "\.\[explore\]"'):
    server.check_installed()
