"""What tests on stand-ins for object stores have in common."""

import pytest

MARKS = [
  pytest.mark.usefixtures("quick_owners"),
  pytest.mark.filterwarnings(
    # Of the clients' own sessions, which they close when they are collected.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
  ),
]


def require():
  """Skips a module where the client and its stand-in are not installed."""
  pytest.importorskip("s3fs")
  pytest.importorskip("moto.server")
