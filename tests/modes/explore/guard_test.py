"""Content-Security-Policy: scripts are allowed by their hashes."""

import pytest

guard = pytest.importorskip("vae_jax.modes.explore.guard")


def test_each_inline_script_is_allowed_by_its_hash():
  page = b'<script src="a.js"></script><script>one</script ><script async>2'
  page += b"</script><script>alert(1)</script>"
  # printf alert(1) | openssl dgst -sha256 -binary | base64
  known = "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
  assert known in guard.policy(page)
  assert guard.policy(b"").count("sha256") == 0
