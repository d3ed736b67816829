"""HTML of the page's pictures, which hold their pixels as data addresses."""

import base64
import html
from urllib import parse

import numpy as np
from jaxtyping import UInt8

from vae_jax.figures import png, tiles
from vae_jax.modes.explore import maps
from vae_jax.modes.explore.editor import Editor, Point

# Events of a click on a thumbnail and on the map.
THUMBNAIL_CLICK = (
  "element.addEventListener('click', (e) => {"
  " const b = e.target.closest('[data-index]');"
  " if (b) trigger('select', {index: Number(b.dataset.index)}); });"
)
MAP_CLICK = (
  "element.addEventListener('click', (e) => {"
  " if (e.target.tagName !== 'IMG') return;"
  " const r = e.target.getBoundingClientRect();"
  " trigger('select', {x: (e.clientX - r.left) / r.width,"
  " y: (e.clientY - r.top) / r.height}); });"
)
# Pixels on the screen that a picture's longer side grows towards, in whole
# multiples: the edited one, the reference ones, thumbnails; the first two on a
# phone.
_SIDES = {"big": 320, "small": 136, "thumb": 64, "phone": 192, "tiny": 96}
_LARGE = 1024  # Pixels of the longer side of an enlarged download.


def data_uri(picture: UInt8[np.ndarray, "h w c"]) -> str:
  """Returns an address that holds a picture."""
  # Sent once, so that speed counts more than size.
  content = png.encode(picture, compress_level=1)
  return "data:image/png;base64," + base64.b64encode(content).decode()


def enlarged(picture: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "H W c"]:
  """Returns a picture with each pixel as a square of pixels."""
  scale = max(1, _LARGE // max(picture.shape[:2]))
  return tiles.enlarge(picture[None], scale)[0]


def sizes(shape: tuple[int, int, int]) -> str:
  """Returns a CSS rule whose variables are widths of pictures on the screen."""
  longer, width = max(shape[:2]), shape[1]
  scales = {
    name: side // longer or side / longer for name, side in _SIDES.items()
  }
  # Half multiples, for screens with two pixels or more per CSS pixel.
  tiny = _SIDES["tiny"]
  scales["tiny-fine"] = min(max(1, int(2 * tiny / longer) / 2), tiny / longer)
  rules = [f"--{name}: {width * scale:g}px;" for name, scale in scales.items()]
  return f"#board {{ {' '.join(rules)} --shape: {width} / {shape[0]}; }}"


def _figure(
  picture: UInt8[np.ndarray, "h w c"] | None, caption: str, words: str
) -> str:
  """Returns a picture, or a box with words in its place, over a caption."""
  shown = f'<div class="none">{html.escape(words)}</div>'
  if picture is not None:
    shown = (
      f'<img src="{data_uri(picture)}" alt="{html.escape(words)}" '
      'decoding="sync" draggable="false">'
    )
  return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def reference(point: Point) -> str:
  """Returns the original and its reconstruction, with captions."""
  name = point.name
  if point.original is None:
    start = _figure(point.picture, "Start", name)
    return _figure(None, "No original", name) + start
  return _figure(point.original, "Original", name) + _figure(
    point.picture, "Reconstruction", f"reconstruction of {name}"
  )


def edited(point: Point) -> str:
  """Returns the edited picture, with links to download it."""
  raw = base64.urlsafe_b64encode(point.code.astype("<f4").tobytes()).decode()
  query = {"latent": raw}
  if point.label is not None:
    query["label"] = ",".join(str(v) for v in point.label.ravel().tolist())
  links = " ".join(
    f'<a href="download/{file}?{parse.urlencode(query)}" download="{file}" '
    f'aria-label="Download: {words.lower()}">↓\xa0{words}</a>'
    for file, words in (
      ("picture.png", "Picture"),
      ("large.png", "Large"),
      ("vector.json", "Vector"),
    )
  )
  caption = f'<b>Edited</b><span class="links">{links}</span>'
  return _figure(point.picture, caption, "Edited picture")


def thumbnails(editor: Editor, first: int, count: int) -> str:
  """Returns pictures of the test split as buttons."""
  indices = np.arange(first, min(first + count, len(editor.source)))
  images = editor.source.fetch(indices)["image"]
  return "".join(
    f'<button type="button" data-index="{i}" '
    f'aria-label="Test picture {i}" title="Test picture {i}">'
    f'<img src="{data_uri(image)}" alt="" draggable="false"></button>'
    for i, image in zip(indices, images, strict=True)
  )


def map_picture(plane: maps.Plane | maps.Cloud) -> str:
  """Returns the map with its caption and legend."""
  legend = plane.legend if isinstance(plane, maps.Cloud) else ()
  items = "".join(
    f'<li><i style="background:rgb{color}"></i>{html.escape(words)}</li>'
    for color, words in legend
  )
  return (
    f'<img src="{data_uri(plane.picture)}" alt="Map of the latent space" '
    f'draggable="false"><p>{html.escape(plane.caption)}</p>'
    + (f"<ul>{items}</ul>" if items else "")
  )


def marker(plane: maps.Plane | maps.Cloud, point: Point) -> str:
  """Returns a marker at the place of a point on the map."""
  x, y = plane.place(point.code)
  height, width = plane.picture.shape[:2]
  return (
    f'<div style="aspect-ratio:{width}/{height}">'
    f'<i style="left:{x:.2%};top:{y:.2%}"></i></div>'
  )


def pair(a: Point | None, b: Point | None) -> str:
  """Returns the two pictures to mix."""
  return "".join(
    _figure(
      point and point.picture,
      f"<b>{letter}</b>",
      f"{letter}: {point.name}" if point else "none yet",
    )
    for letter, point in (("A", a), ("B", b))
  )


def message(words: str) -> str:
  """Returns a message for the visitor; "" = none."""
  return f"<p>{html.escape(words)}</p>" if words else ""


def title(editor: Editor) -> str:
  """Returns the heading and the instructions of the page."""
  name = html.escape(editor.model.workdir.name)
  return (
    f"<h1>Latent space of <em>{name}</em></h1><p>Choose a {editor.noun}, then "
    f"drag a slider: the model draws the edited {editor.noun} as you move it."
    "</p>"
  )
