"""The page: its events."""

import dataclasses
import functools
import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr
import numpy as np

from vae_jax.config import ConfigError
from vae_jax.modes.explore import layout, markup
from vae_jax.modes.explore.editor import Editor, Point
from vae_jax.modes.explore.layout import Session


class Page:
  """Handlers of the page's events.

  It holds no data of a visitor: handlers receive the `Session`, which Gradio
  keeps for each of them.
  """

  def __init__(self, editor: Editor):
    """Builds the page inside a `gr.Blocks`."""
    self._editor = editor
    self._ui = layout.Layout(editor)
    self._connect()

  def redraw(self, session: Session, kind: str, *values: float | int) -> Any:
    """Returns the edited picture after a slider was moved.

    Returns nothing if another event has replaced the point in the meantime,
    because the result would overwrite the new picture.
    """
    point = session.point
    code = self._code(point, kind, values)
    picture = self._editor.decode(code, point.label)
    if session.point is not point:
      return gr.skip()
    return markup.edited(picture, code, point.label)

  def _code(
    self, point: Point, kind: str, values: tuple[float | int, ...]
  ) -> np.ndarray:
    count = len(self._ui.attributes)
    return self._editor.edit(
      point,
      kind,
      dict(zip(self._ui.attributes, values[:count], strict=True)),
      dict(zip(self._ui.latents, values[count:], strict=True)),
    )

  def replace(self, session: Session, make: Callable[[], Point]) -> list[Any]:
    """Replaces the point of a session and returns it with sliders at 0.

    Returns a message and leaves all else unchanged if `make` raises a
    ConfigError.
    """
    try:
      point = make()
    except ConfigError as error:
      skipped = [gr.skip()] * (len(self._ui.point_outputs) - 1)
      return [markup.message(str(error)), *skipped]
    # A copy, so that even a reset replaces the point of a running redraw.
    session.point = point = dataclasses.replace(point)
    return [
      markup.message(""),
      markup.reference(point),
      markup.edited(point.picture, point.code, point.label),
      markup.marker(self._editor.map, point),
      *[0] * len(self._ui.sliders),
    ]

  def _reset(self, session: Session) -> list[Any]:
    return self.replace(session, lambda: session.point)

  def _pick(self, session: Session, event: gr.EventData) -> list[Any]:
    return self.replace(session, lambda: self._editor.pick(int(event.index)))

  def _pick_number(self, session: Session, number: int | None) -> list[Any]:
    if number is None:  # Emptied before another number is typed.
      return [gr.skip()] * len(self._ui.point_outputs)
    return self.replace(session, lambda: self._editor.pick(number))

  def _pick_another(self, session: Session) -> list[Any]:
    index = secrets.randbelow(len(self._editor.source))
    return self.replace(session, lambda: self._editor.pick(index))

  def _click_map(self, session: Session, event: gr.EventData) -> list[Any]:
    x, y, label = float(event.x), float(event.y), session.point.label
    return self.replace(session, lambda: self._editor.at(x, y, label))

  def _draw(
    self, session: Session, temperature: float | int, *, again: bool
  ) -> list[Any]:
    """Draws from the prior; `again` = with the seed of the present point."""
    seed = session.point.seed if again else None
    if seed is None:
      seed = secrets.randbelow(1_000_000)
    label = session.point.label
    return self.replace(
      session, lambda: self._editor.random(seed, temperature, label)
    )

  def _read_photo(self, session: Session, content: bytes) -> list[Any]:
    answer = self.replace(session, lambda: self._editor.photo(content))
    # Emptied, so that the same file can be uploaded again.
    return [None, *answer]

  def _read_vector(self, session: Session, content: bytes) -> list[Any]:
    label = session.point.label
    answer = self.replace(session, lambda: self._editor.load(content, label))
    return [None, *answer]

  def _edited_point(
    self, session: Session, kind: str, *values: float | int
  ) -> Point:
    point = session.point
    code = self._code(point, kind, values)
    picture = self._editor.decode(code, point.label)
    return dataclasses.replace(point, code=code, picture=picture)

  def _mix(
    self, session: Session, a: Point | None, b: Point | None, t: float | int
  ) -> list[Any]:
    def make() -> Point:
      if a is None or b is None:
        raise ConfigError("Set a picture as A and another as B first.")
      return self._editor.mix(a, b, t)

    return self.replace(session, make)

  def _turn_page(self, first: int, by: int) -> tuple[int, str]:
    last = (
      (len(self._editor.source) - 1) // layout.THUMBNAILS * layout.THUMBNAILS
    )
    first = min(max(first + by * layout.THUMBNAILS, 0), last)
    return first, markup.thumbnails(self._editor, first, layout.THUMBNAILS)

  def _connect(self) -> None:
    # While the visitor drags, the newest position is sent as soon as the last
    # picture arrives; a queue would delay it.
    live = {
      "show_progress": "hidden",
      "queue": False,
      "trigger_mode": "always_last",
      "api_visibility": "private",
    }
    ui = self._ui
    session, outputs = ui.session, ui.point_outputs
    triggers = [slider.input for slider in ui.sliders]
    if ui.attributes:
      triggers.append(ui.kind.input)
    inputs = [session, ui.kind, *ui.sliders]
    gr.on(triggers, self.redraw, inputs, ui.edited, **live)
    draw = functools.partial(self._draw, again=False)
    draw_again = functools.partial(self._draw, again=True)
    for event, handler, values in (
      (ui.reset.click, self._reset, []),
      (ui.thumbnails.select, self._pick, []),
      (ui.number.input, self._pick_number, [ui.number]),
      (ui.another.click, self._pick_another, []),
      (ui.map.select, self._click_map, []),
      (ui.random.click, draw, [ui.temperature]),
      (ui.temperature.input, draw_again, [ui.temperature]),
      (ui.t.input, self._mix, [ui.a, ui.b, ui.t]),
    ):
      event(handler, [session, *values], outputs, **live)
    for component, handler in (
      (ui.photo, self._read_photo),
      (ui.vector, self._read_vector),
    ):
      component.upload(
        handler, [session, component], [component, *outputs], **live
      )
    for button, state in ((ui.set_a, ui.a), (ui.set_b, ui.b)):
      button.click(self._edited_point, inputs, state, **live).then(
        markup.pair, [ui.a, ui.b], ui.pair, **live
      )
    for button, by in ((ui.back, -1), (ui.forth, 1)):
      button.click(
        functools.partial(self._turn_page, by=by),
        ui.first,
        [ui.first, ui.thumbnails],
        **live,
      )


def build(editor: Editor) -> gr.Blocks:
  """Returns the page of an editor, which all visitors share."""
  with gr.Blocks(
    title=f"Explore {editor.model.workdir.name}",
    analytics_enabled=False,
    fill_width=True,
    # Uploads are read into memory at once; files left on the disk are deleted
    # within minutes.
    delete_cache=(60, 300),
  ) as blocks:
    Page(editor)
  return blocks
