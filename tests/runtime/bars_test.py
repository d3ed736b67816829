"""Progress in logs and on terminals."""

import io
import sys
import types

import pytest

from vae_jax.runtime import bars


@pytest.fixture
def clock(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  fake = types.SimpleNamespace(monotonic=lambda: clock.now)
  monkeypatch.setattr(bars, "time", fake)
  return clock


def test_log_gets_a_line_now_and_then(clock, caplog, capsys):
  caplog.set_level("INFO", "absl")
  with bars.Bar(5000, "decoding", "images") as bar:
    for _ in range(1250):
      bar.update(4)
      clock.now += 0.05
  # 62.5 seconds, with a line each 30.
  assert [m[:12] for m in caplog.messages] == ["decoding: 2,", "decoding: 4,"]
  assert caplog.messages[0].endswith(" of 5,000 images")
  assert capsys.readouterr().err == ""


def test_short_and_hidden_work_writes_nothing(clock, caplog, capsys):
  caplog.set_level("INFO", "absl")
  for shown in (True, False):
    with bars.Bar(None, "decoding", "images", shown=shown) as bar:
      bar.update(1)
      clock.now += 0 if shown else 100
      bar.update(1)
  assert caplog.messages == [] and capsys.readouterr().err == ""


def test_terminal_has_a_bar(monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, "stderr", terminal)
  with bars.Bar(100, "decoding", "images") as bar:
    bar.update(100)
  assert "decoding: 100%" in terminal.getvalue()
