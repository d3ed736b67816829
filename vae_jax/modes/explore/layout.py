"""The components of the page."""

import dataclasses
import pathlib
from typing import Any

import gradio as gr

from vae_jax.evaluate import attribute_edits
from vae_jax.latents import nonlinear_directions
from vae_jax.modes.explore import markup, ranges
from vae_jax.modes.explore.editor import Editor, Point

_VISIBLE = 8  # Attribute sliders outside the accordion,
_ALL = 10  # or all of them if there are at most this many, as for ten digits.
_FEW = 4  # Latent dimensions up to which their accordion is open.
_LATENTS = 128  # Sliders of latent dimensions at most.
THUMBNAILS = 16
_RANGE = 3.0  # Largest standard deviation that a latent's slider adds.
_KINDS = [(kind.capitalize(), kind) for kind in attribute_edits.KINDS]
_KIND = nonlinear_directions.KIND  # At the start.
_CARRIED = {
  "KL": ("KL from the prior", "nats"),
  "KL to q(z)": ("KL from the aggregate posterior", "nats"),
  "std": ("standard deviation of the codes", "std"),
}
# Loads no font from another server.
THEME = gr.themes.Default(
  primary_hue="indigo",
  secondary_hue="indigo",
  neutral_hue="slate",
  font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
  font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
)
STYLE = pathlib.Path(__file__).with_name("page.css")


@dataclasses.dataclass
class Session:
  """The point that a visitor edits.

  Mutable, so that an event that takes long can see that a later one has
  replaced the point.
  """

  point: Point


class Layout:
  """The components of the page, and what they show at the start."""

  def __init__(self, editor: Editor):
    """Builds the components inside a `gr.Blocks`."""
    self._editor = editor
    self._start = editor.pick(0)
    self.session = gr.State(Session(self._start))
    self.a, self.b, self.first = gr.State(None), gr.State(None), gr.State(0)
    _html(markup.title(editor), "title")
    with gr.Column(elem_id="board"):
      with gr.Column(elem_id="left"):
        self._stage()
        self._sources()
      with gr.Column(elem_id="controls"):
        self._controls()

  @property
  def sliders(self) -> list[gr.Slider]:
    """All sliders that edit the point."""
    return [*self.attributes.values(), *self.latents.values()]

  @property
  def point_outputs(self) -> list[Any]:
    """The components that change when another point is edited."""
    parts = [self.message, self.reference, self.edited, self.marker]
    parts += [] if self.condition is None else [self.condition]
    return [*parts, *self.sliders]

  def _stage(self) -> None:
    start, editor = self._start, self._editor
    noun = editor.noun
    with gr.Column(elem_id="stage"):
      with gr.Row(elem_id="pictures"):
        self.edited = _html(markup.edited(start), "edited")
        self.reference = _html(markup.reference(start), "reference")
      self.message = _html("", "message")
      self.condition = None
      if editor.conditions:
        self.condition = gr.Dropdown(
          list(editor.conditions),
          value=editor.words(start.label),
          multiselect=start.label.ndim > 0,
          label="Condition: "
          + ("class" if start.label.ndim == 0 else "attributes"),
          elem_id="condition",
        )
    with gr.Row(elem_id="quick"):
      self.random = gr.Button(f"Random {noun}", size="sm", variant="primary")
      self.another = gr.Button("Another picture", size="sm")
      self.reset = gr.Button("Reset sliders", size="sm")

  def _sources(self) -> None:
    editor = self._editor
    with gr.Tabs(elem_id="sources"):
      with gr.Tab("Test set"):
        images = markup.thumbnails(editor, 0, THUMBNAILS)
        self.thumbnails = _html(images, "thumbnails", markup.THUMBNAIL_CLICK)
        with gr.Row(elem_id="paging"):
          self.back = gr.Button("← Back", size="sm")
          self.forth = gr.Button("More →", size="sm")
          label = f"Go to (0–{len(editor.source) - 1})"
          self.number = gr.Number(0, label=label, precision=0, elem_id="number")
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
        density = editor.density
        source = "the prior" if density == "prior" else f"the {density}"
        info = f"Factor on the standard deviation of {source}."
        self.temperature = _slider("Temperature", 0, 2, 1, 0.05, info)
      with gr.Tab("Mix"):
        with gr.Row():
          self.set_a = gr.Button("Set as A", size="sm")
          self.set_b = gr.Button("Set as B", size="sm")
        self.pair = _html(markup.pair(None, None), "pair")
        self.t = _slider("From A to B", 0, 1, 0.5, 0.01)
      with gr.Tab("Map"), gr.Column(elem_id="map"):
        picture = markup.map_picture(editor.map)
        self.map = _html(picture, "map-picture", markup.MAP_CLICK)
        self.marker = _html(markup.marker(editor.map, self._start), "marker")

  def _controls(self) -> None:
    names = self._editor.names
    seen = _ALL if len(names) <= _ALL else _VISIBLE
    self.attributes, self.latents = {}, {}
    if names:
      _html(f"<p>{ranges.words(self._editor.ranges)}</p>", "ranges")
      self._attribute_sliders(names[:seen])
      with gr.Row(elem_id="kind"):
        self.kind = gr.Radio(
          _KINDS,
          value=_KIND,
          label="Directions",
          info=(
            "Mean: difference of the class means. Balanced: the same at equal "
            "other attributes. Probe: normal of a linear classifier. Curved: "
            "gradient path of a small network's log-odds."
          ),
        )
    else:
      self.kind = gr.State(_KIND)
    if names[seen:]:
      with gr.Accordion(f"{len(names) - seen} more attributes", open=False):
        self._attribute_sliders(names[seen:])
    self._latent_sliders()

  def _attribute_sliders(self, names: tuple[str, ...]) -> None:
    end, step = ranges.STRENGTH, 0.05
    if self._editor.ranges is not None:
      end, step = 100.0, 1.0  # Percent.
    with gr.Column(elem_classes="sliders"):
      for name in names:
        self.attributes[name] = _slider(
          name.replace("_", " "), -end, end, 0, step
        )

  def _latent_sliders(self) -> None:
    ranking = self._editor.ranking
    total = len(ranking.order)
    words = f"{total} latent dimensions"
    if total > _LATENTS:
      words = f"{_LATENTS} of the {words}"
    measure, unit = _CARRIED[ranking.measure]
    scale = "prior" if self._editor.standard_prior else "codes"
    with gr.Accordion(words, open=total <= _FEW or not self._editor.names):
      _html(
        f"<p>Sorted by {measure}. A slider adds standard deviations of the "
        f"{scale}.</p>"
      )
      with gr.Column(elem_classes="sliders"):
        for i in ranking.order[:_LATENTS].tolist():
          label = f"z[{i}] · {ranking.carried[i]:.2f} {unit}"
          self.latents[i] = _slider(label)


def _html(
  content: str, elem_id: str | None = None, script: str | None = None
) -> gr.HTML:
  """Returns a component; the script runs when it is loaded."""
  return gr.HTML(content, elem_id=elem_id, js_on_load=script)


def _slider(
  label: str,
  low: float | int = -_RANGE,
  high: float | int = _RANGE,
  start: float | int = 0,
  step: float = 0.05,
  info: str | None = None,
) -> gr.Slider:
  slider = gr.Slider(low, high, start, step=step, label=label, info=info)
  # The number box may be empty for a moment, or hold a number out of range. Not
  # a subclass, because Gradio writes a file next to the module of a subclass.
  slider.preprocess = lambda value: min(
    max(start if value is None else value, low), high
  )
  return slider
