"""The page: what stands where, and what happens when it is touched."""

import dataclasses
import functools
import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr

from vae_jax.config import ConfigError
from vae_jax.evaluate import attribute_edits
from vae_jax.latents import nonlinear_directions
from vae_jax.modes.explore import markup
from vae_jax.modes.explore.studio import Face, Studio

_VISIBLE = 8  # Sliders of attributes that are seen without a click,
_ALL = 10  # unless there are so few that all are: the ten digits.
_FEW = 4  # Dimensions whose sliders are seen without a click.
_LATENTS = 128  # Sliders of dimensions at most.
_THUMBNAILS = 16
_RANGE = 3.0  # Of sliders, to both sides.
_KINDS = [(kind.capitalize(), kind) for kind in attribute_edits.KINDS]
_KIND = nonlinear_directions.KIND  # At the start.


class _Page:
  """The parts of the page and the functions between them.

  Nothing of a visitor is kept here: what one of them sees is in the `State` of
  their own session and goes through the functions as an argument.
  """

  def __init__(self, studio: Studio):
    self._studio = studio
    self._start = studio.pick(0)
    self.face = gr.State(self._start)
    self.a = gr.State(None)
    self.b = gr.State(None)
    self.first = gr.State(0)
    gr.HTML(markup.title(studio), elem_id="title")
    with gr.Column(elem_id="board"):
      with gr.Column(elem_id="left"):
        self._stage()
        self._sources()
      with gr.Column(elem_id="controls"):
        self._controls()
    self._connect()

  def _stage(self) -> None:
    start = self._start
    noun = self._studio.noun
    with gr.Column(elem_id="stage"):
      with gr.Row(elem_id="pictures"):
        self.edited = gr.HTML(
          markup.edited(start.picture, start.code, start.label),
          elem_id="edited",
          js_on_load=None,
        )
        self.reference = gr.HTML(
          markup.reference(start), elem_id="reference", js_on_load=None
        )
      self.message = gr.HTML("", elem_id="message", js_on_load=None)
    with gr.Row(elem_id="quick"):
      self.random = gr.Button(f"Random {noun}", size="sm", variant="primary")
      self.another = gr.Button("Another picture", size="sm")
      self.reset = gr.Button("Reset sliders", size="sm")

  def _sources(self) -> None:
    studio = self._studio
    count = len(studio.source)
    with gr.Tabs(elem_id="sources"):
      with gr.Tab("Test set"):
        self.thumbnails = gr.HTML(
          markup.thumbnails(studio, 0, _THUMBNAILS),
          elem_id="thumbnails",
          js_on_load=markup.PICKED,
        )
        with gr.Row(elem_id="paging"):
          self.back = gr.Button("← Back", size="sm")
          self.forth = gr.Button("More →", size="sm")
          self.number = gr.Number(
            0, label=f"Go to (0–{count - 1})", precision=0, elem_id="number"
          )
      with gr.Tab("Upload"):
        self.photo = gr.File(
          label="Drop a photo here", type="binary", elem_id="photo", height=130
        )
        self.vector = gr.UploadButton(
          "Load a saved vector (JSON)",
          type="binary",
          size="sm",
          elem_id="vector",
        )
      with gr.Tab("Random"):
        self.temperature = gr.Slider(
          0,
          2,
          1,
          step=0.05,
          label="Temperature",
          info="0: the most typical; 1: as the prior says; more: bolder.",
          elem_id="temperature",
        )
      with gr.Tab("Mix"):
        with gr.Row():
          self.keep_a = gr.Button("Keep this as A", size="sm")
          self.keep_b = gr.Button("Keep this as B", size="sm")
        self.kept = gr.HTML(
          markup.kept(None, None), elem_id="kept", js_on_load=None
        )
        self.t = gr.Slider(
          0, 1, 0.5, step=0.01, label="From A to B", elem_id="t"
        )
      with gr.Tab("Map"):
        with gr.Column(elem_id="map"):
          self.map = gr.HTML(
            markup.map_picture(studio.map),
            elem_id="map-picture",
            js_on_load=markup.CLICKED,
          )
          self.marker = gr.HTML(
            markup.marker(studio.map, self._start),
            elem_id="marker",
            js_on_load=None,
          )

  def _controls(self) -> None:
    studio = self._studio
    seen = _ALL if len(studio.names) <= _ALL else _VISIBLE
    shown, more = studio.names[:seen], studio.names[seen:]
    self.attributes, self.latents = {}, {}
    if studio.names:
      with gr.Column(elem_classes="sliders"):
        for name in shown:
          self.attributes[name] = _slider(name.replace("_", " "))
      with gr.Row(elem_id="kind"):
        self.kind = gr.Radio(
          _KINDS,
          value=_KIND,
          label="Directions",
          info=(
            "Mean: the average difference. Balanced: the same, other attributes "
            "held equal. Probe: what a linear classifier looks at. Curved: "
            "what a small network looks at, anew at every step."
          ),
        )
      if more:
        with gr.Accordion(f"{len(more)} more attributes", open=False):
          with gr.Column(elem_classes="sliders"):
            for name in more:
              self.attributes[name] = _slider(name.replace("_", " "))
    else:
      self.kind = gr.State(_KIND)
    dimensions = studio.latents.order[:_LATENTS].tolist()
    total = len(studio.latents.order)
    words = f"{total} latent dimensions"
    if total > _LATENTS:
      words = f"{_LATENTS} of the {total} latent dimensions"
    with gr.Accordion(words, open=total <= _FEW or not studio.names):
      unit = "nats" if studio.latents.is_kl else "standard deviation"
      gr.HTML(
        "<p>Those that carry most first; offsets in standard deviations of "
        f"the {'prior' if studio.latents.prior else 'codes'}.</p>",
        js_on_load=None,
      )
      with gr.Column(elem_classes="sliders"):
        for i in dimensions:
          carried = f"{studio.latents.carried[i]:.2f} {unit}"
          self.latents[i] = _slider(f"z[{i}] · {carried}")

  @property
  def _sliders(self) -> list[gr.Slider]:
    return [*self.attributes.values(), *self.latents.values()]

  def _redraw(self, face: Face, kind: str, *values: float | int) -> str:
    """The edited picture, after a slider was moved."""
    code = self._code(face, kind, values)
    picture = self._studio.decode(code, face.label)
    return markup.edited(picture, code, face.label)

  def _code(
    self, face: Face, kind: str, values: tuple[float | int, ...]
  ) -> Any:
    count = len(self.attributes)
    return self._studio.edit(
      face,
      kind,
      dict(zip(self.attributes, values[:count], strict=True)),
      dict(zip(self.latents, values[count:], strict=True)),
    )

  def _shown(self) -> list[Any]:
    """What changes with the face; `_answer` gives values for these."""
    return [
      self.message,
      self.face,
      self.reference,
      self.edited,
      self.marker,
      *self._sliders,
    ]

  def _answer(self, make: Callable[[], Face]) -> list[Any]:
    """A new face with its sliders at 0, or a sentence and all as it was."""
    try:
      face = make()
    except ConfigError as error:
      sentence = markup.message(f"{error}")
      return [sentence, *[gr.skip()] * (len(self._shown()) - 1)]
    return [
      markup.message(""),
      face,
      markup.reference(face),
      markup.edited(face.picture, face.code, face.label),
      markup.marker(self._studio.map, face),
      *[0] * len(self._sliders),
    ]

  def _pick(self, event: gr.EventData) -> list[Any]:
    return self._answer(lambda: self._studio.pick(int(event.index)))

  def _pick_number(self, number: int | None) -> list[Any]:
    if number is None:  # Emptied, to type another one.
      return [gr.skip()] * len(self._shown())
    return self._answer(lambda: self._studio.pick(number))

  def _pick_another(self) -> list[Any]:
    count = len(self._studio.source)
    return self._answer(lambda: self._studio.pick(secrets.randbelow(count)))

  def _click_map(self, face: Face, event: gr.EventData) -> list[Any]:
    x, y = float(event.x), float(event.y)
    return self._answer(lambda: self._studio.at(x, y, face))

  def _draw(self, face: Face, temperature: float | int) -> list[Any]:
    seed = secrets.randbelow(1_000_000)
    return self._answer(lambda: self._studio.random(seed, temperature, face))

  def _warm(self, face: Face, temperature: float | int) -> list[Any]:
    """The same draw at another temperature."""
    seed = secrets.randbelow(1_000_000) if face.seed is None else face.seed
    return self._answer(lambda: self._studio.random(seed, temperature, face))

  def _read_photo(self, content: bytes) -> list[Any]:
    # Emptied, so that the same file can be dropped again.
    return [None, *self._answer(lambda: self._studio.photo(content))]

  def _read_vector(self, content: bytes, face: Face) -> list[Any]:
    return [None, *self._answer(lambda: self._studio.load(content, face))]

  def _keep(self, face: Face, kind: str, *values: float | int) -> Face:
    """What is seen now, with its edits."""
    code = self._code(face, kind, values)
    picture = self._studio.decode(code, face.label)
    return dataclasses.replace(face, code=code, picture=picture)

  def _mix(self, a: Face | None, b: Face | None, t: float | int) -> list[Any]:
    def make() -> Face:
      if a is None or b is None:
        raise ConfigError("Keep a picture as A and another as B first.")
      return self._studio.mix(a, b, t)

    return self._answer(make)

  def _turn(self, first: int, by: int) -> tuple[int, str]:
    last = (len(self._studio.source) - 1) // _THUMBNAILS * _THUMBNAILS
    first = min(max(first + by * _THUMBNAILS, 0), last)
    return first, markup.thumbnails(self._studio, first, _THUMBNAILS)

  def _connect(self) -> None:
    shown, face, sliders = self._shown(), self.face, self._sliders
    # A drag sends its newest position as soon as the last picture is there,
    # past the queue: what waits in between comes late.
    live = {
      "show_progress": "hidden",
      "queue": False,
      "trigger_mode": "always_last",
      "api_visibility": "private",
    }
    triggers = [slider.input for slider in sliders]
    if self.attributes:
      triggers.append(self.kind.input)
    inputs = [face, self.kind, *sliders]
    gr.on(triggers, self._redraw, inputs, self.edited, **live)
    self.reset.click(
      lambda face: self._answer(lambda: face), face, shown, **live
    )
    self.thumbnails.select(self._pick, None, shown, **live)
    self.number.input(self._pick_number, self.number, shown, **live)
    self.another.click(self._pick_another, None, shown, **live)
    self.map.select(self._click_map, face, shown, **live)
    self.random.click(self._draw, [face, self.temperature], shown, **live)
    self.temperature.input(self._warm, [face, self.temperature], shown, **live)
    self.photo.upload(
      self._read_photo, self.photo, [self.photo, *shown], **live
    )
    self.vector.upload(
      self._read_vector, [self.vector, face], [self.vector, *shown], **live
    )
    mixed = [self.a, self.b, self.t]
    self.t.input(self._mix, mixed, shown, **live)
    for button, kept in ((self.keep_a, self.a), (self.keep_b, self.b)):
      button.click(self._keep, inputs, kept, **live).then(
        markup.kept, [self.a, self.b], self.kept, **live
      )
    for button, by in ((self.back, -1), (self.forth, 1)):
      button.click(
        functools.partial(self._turn, by=by),
        self.first,
        [self.first, self.thumbnails],
        **live,
      )


def _slider(label: str) -> gr.Slider:
  slider = gr.Slider(-_RANGE, _RANGE, 0, step=0.05, label=label)
  read = slider.preprocess
  # Its number box may be empty for a moment. Gradio would write a file beside
  # the module of a subclass.
  slider.preprocess = lambda value: read(0 if value is None else value)
  return slider


def build(studio: Studio) -> gr.Blocks:
  """Returns the page of a studio.

  Args:
    studio: shared by all visitors.
  """
  with gr.Blocks(
    title=f"Explore {studio.model.workdir.name}",
    analytics_enabled=False,
    fill_width=True,
    # Uploads are read into memory at once; what is left of them on the disk
    # goes within minutes.
    delete_cache=(60, 300),
  ) as blocks:
    _Page(studio)
  return blocks
