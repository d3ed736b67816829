"""Events and pictures of the page, without a browser."""

import asyncio
import dataclasses

import numpy as np
import pytest

from vae_jax.modes.explore import editor as editor_lib
from vae_jax.modes.explore import markup

gr = pytest.importorskip("gradio", reason="needs the extra [explore]")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class SlowEditor(editor_lib.Editor):
  """An editor that calls the function in `meanwhile` in its next decoding."""

  meanwhile = []

  def decode(self, code, label=None):
    while self.meanwhile:
      self.meanwhile.pop()()
    return super().decode(code, label)


def test_redraw_does_not_overwrite_a_later_point(editor):
  from vae_jax.modes.explore import layout, page

  slow = SlowEditor(**vars(editor))

  async def build():
    with gr.Blocks(analytics_enabled=False):
      return page.Page(slow)

  # In an event loop, because without one Gradio opens loops and leaves them.
  shown = asyncio.run(build())
  sliders = len(editor.names) + len(editor.ranking.order)
  session = layout.Session(editor.pick(0))
  values = ["curved", *[1.0] * sliders]
  assert "<img" in shown.redraw(session, *values)
  drawn = editor.random(7, 1.0)
  slow.meanwhile.append(lambda: shown.replace(session, lambda: drawn))
  assert shown.redraw(session, *values) == gr.skip()
  assert session.point.name == drawn.name
  # A reset replaces the point by an equal one.
  slow.meanwhile.append(lambda: shown.replace(session, lambda: session.point))
  assert shown.redraw(session, *values) == gr.skip()
  assert "<img" in shown.redraw(session, *values)


def test_sliders_in_percent_are_those_of_the_kind_of_direction(editor):
  from vae_jax.modes.explore import layout, page

  spans = {"mean": (1.0, 4.0), "curved": (2.0, 1.5)}
  made = {kind: dict.fromkeys(editor.names, s) for kind, s in spans.items()}
  known = dataclasses.replace(editor, ranges=made)

  async def build():
    with gr.Blocks(analytics_enabled=False):
      return page.Page(known)

  shown = asyncio.run(build())
  ui = shown._ui
  ends = {(s.minimum, s.maximum, s.step) for s in ui.attributes.values()}
  assert ends == {(-100, 100, 1)}
  session = layout.Session(editor.pick(0))
  values = [50, *[0] * (len(ui.sliders) - 1)]
  for kind, strength in (("mean", 2.0), ("curved", 0.75)):
    code = editor.edit(session.point, kind, {editor.names[0]: strength}, {})
    picture = markup.data_uri(editor.decode(code))
    assert picture in shown.redraw(session, kind, *values)


def test_pictures_grow_by_whole_multiples():
  rules = markup.sizes((28, 28, 1))
  assert "--big: 308px" in rules and "--phone: 168px" in rules
  assert "--big: 320px" in markup.sizes((64, 64, 3))
  assert "--big: 256px" in markup.sizes((128, 128, 3))
  picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
  large = markup.enlarged(picture)
  assert large.shape == (1024, 1024, 3)
  np.testing.assert_array_equal(large[::512, ::512], picture)
  np.testing.assert_array_equal(large[511::512, 511::512], picture)
