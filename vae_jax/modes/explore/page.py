"""The page: its events."""

import dataclasses
import functools
import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr

from vae_jax.config import ConfigError
from vae_jax.modes.explore import layout, markup, ranges
from vae_jax.modes.explore.editor import Editor, Point
from vae_jax.modes.explore.layout import Session

# While the visitor drags, the newest position is sent as soon as the last
# picture arrives; a queue would delay it.
_LIVE = {
  "show_progress": "hidden",
  "queue": False,
  "trigger_mode": "always_last",
  "api_visibility": "private",
}


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
    edited = self._edited(session, kind, *values)
    return markup.edited(edited) if session.point is point else gr.skip()

  def _edited(self, session: Session, kind: str, *values: float | int) -> Point:
    point, ui = session.point, self._ui
    strengths = {
      name: ranges.strength(self._editor.ranges, kind, name, value)
      for name, value in zip(ui.attributes, values, strict=False)
    }
    offsets = values[len(strengths) :]
    offsets = dict(zip(ui.latents, offsets, strict=True))
    code = self._editor.edit(point, kind, strengths, offsets)
    picture = self._editor.decode(code, point.label)
    return dataclasses.replace(point, code=code, picture=picture)

  def replace(
    self, session: Session, make: Callable[[], Point | None]
  ) -> list[Any]:
    """Replaces the point of a session and returns it with sliders at 0.

    Leaves all unchanged if `make` returns None, and returns a message if it
    raises a ConfigError.
    """
    skipped = [gr.skip()] * len(self._ui.point_outputs)
    try:
      point = make()
    except ConfigError as error:
      return [markup.message(str(error)), *skipped[1:]]
    if point is None:
      return skipped
    # A copy, so that even a reset replaces the point of a running redraw.
    session.point = point = dataclasses.replace(point)
    return [
      markup.message(""),
      markup.reference(point),
      markup.edited(point),
      markup.marker(self._editor.map, point),
      *(
        [self._editor.words(point.label)]
        if self._ui.condition is not None
        else []
      ),
      *[0] * len(self._ui.sliders),
    ]

  def _handler(
    self, make: Callable[..., Point | None], *outputs: None
  ) -> Callable[..., Any]:
    """Returns the handler of an event from a function that makes the point.

    Args:
      make: Function of the session and of the event's inputs.
      *outputs: Values before those of `replace`.
    """

    @functools.wraps(make)  # Because Gradio reads the parameters.
    def handle(session: Session, *values: Any) -> list[Any]:
      return [*outputs, *self.replace(session, lambda: make(session, *values))]

    return handle

  def _pick(self, _: Session, event: gr.EventData) -> Point:
    return self._editor.pick(int(event.index))

  def _pick_number(self, _: Session, number: int | None) -> Point | None:
    # None if it is emptied before another number is typed.
    return None if number is None else self._editor.pick(number)

  def _pick_another(self, _: Session) -> Point:
    return self._editor.pick(secrets.randbelow(len(self._editor.source)))

  def _click_map(self, session: Session, event: gr.EventData) -> Point:
    x, y = float(event.x), float(event.y)
    return self._editor.at(x, y, session.point.label)

  def _draw(
    self, session: Session, temperature: float | int, *, again: bool
  ) -> Point:
    """Draws a point; `again` = with the seed of the present point."""
    seed = session.point.seed if again else None
    if seed is None:
      seed = secrets.randbelow(1_000_000)
    return self._editor.random(seed, temperature, session.point.label)

  def _mix(
    self, _: Session, a: Point | None, b: Point | None, t: float | int
  ) -> Point:
    if a is None or b is None:
      raise ConfigError("Set a picture as A and another as B first.")
    return self._editor.mix(a, b, t)

  def _turn_page(self, first: int, by: int) -> tuple[int, str]:
    count = layout.THUMBNAILS
    last = (len(self._editor.source) - 1) // count * count
    first = min(max(first + by * count, 0), last)
    return first, markup.thumbnails(self._editor, first, count)

  def _read_photo(self, session: Session, content: bytes) -> Point:
    return self._editor.photo(content, session.point.label)

  def _relabel(self, session: Session, words: str | list[str]) -> Point:
    return self._editor.relabel(session.point, words)

  def _read_vector(self, session: Session, content: bytes) -> Point:
    return self._editor.load(content, session.point.label)

  def _connect(self) -> None:
    ui, outputs = self._ui, self._ui.point_outputs
    triggers = [slider.input for slider in ui.sliders]
    if ui.attributes:
      triggers.append(ui.kind.input)
    edit = [ui.session, ui.kind, *ui.sliders]
    gr.on(triggers, self.redraw, edit, ui.edited, **_LIVE)
    if ui.condition is not None:
      relabel = self._handler(self._relabel)
      inputs = [ui.session, ui.condition]
      ui.condition.input(relabel, inputs, outputs, **_LIVE)
    draw = functools.partial(self._draw, again=False)
    draw_again = functools.partial(self._draw, again=True)
    for event, make, values in (
      (ui.reset.click, lambda session: session.point, []),
      (ui.thumbnails.select, self._pick, []),
      (ui.number.input, self._pick_number, [ui.number]),
      (ui.another.click, self._pick_another, []),
      (ui.map.select, self._click_map, []),
      (ui.random.click, draw, [ui.temperature]),
      (ui.temperature.input, draw_again, [ui.temperature]),
      (ui.t.input, self._mix, [ui.a, ui.b, ui.t]),
    ):
      event(self._handler(make), [ui.session, *values], outputs, **_LIVE)
    for file, make in (
      (ui.photo, self._read_photo),
      (ui.vector, self._read_vector),
    ):
      # Emptied, so that the same file can be uploaded again.
      handler = self._handler(make, None)
      file.upload(handler, [ui.session, file], [file, *outputs], **_LIVE)
    for button, state in ((ui.set_a, ui.a), (ui.set_b, ui.b)):
      button.click(self._edited, edit, state, **_LIVE).then(
        markup.pair, [ui.a, ui.b], ui.pair, **_LIVE
      )
    for button, by in ((ui.back, -1), (ui.forth, 1)):
      turn = functools.partial(self._turn_page, by=by)
      button.click(turn, ui.first, [ui.first, ui.thumbnails], **_LIVE)


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
