"""The page's pictures as HTML, without a file on the server's disk."""

import base64
import html
import io
from collections.abc import Sequence
from urllib import parse

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from vae_jax.figures import png
from vae_jax.modes.explore import maps
from vae_jax.modes.explore.studio import Face, Studio

# What a click on a small picture, and on the map, sends.
PICKED = (
  "element.addEventListener('click', (e) => {"
  " const b = e.target.closest('[data-index]');"
  " if (b) trigger('select', {index: Number(b.dataset.index)}); });"
)
CLICKED = (
  "element.addEventListener('click', (e) => {"
  " if (e.target.tagName !== 'IMG') return;"
  " const r = e.target.getBoundingClientRect();"
  " trigger('select', {x: (e.clientX - r.left) / r.width,"
  " y: (e.clientY - r.top) / r.height}); });"
)
# Pixels on the screen that a picture's longer side grows towards, in whole
# multiples: the edited one, the other two, those to choose from; the first two
# on a telephone.
_SIDES = {"big": 320, "small": 136, "thumb": 64, "phone": 192, "tiny": 96}
_LARGE = 1024  # Pixels of a picture to keep, enlarged.


def png_bytes(picture: UInt8[np.ndarray, "h w c"]) -> bytes:
  """Returns a picture as a PNG file, quickly rather than small."""
  file = io.BytesIO()
  png.to_image(picture).save(file, "png", compress_level=1)
  return file.getvalue()


def data_uri(picture: UInt8[np.ndarray, "h w c"]) -> str:
  """Returns a picture as an address that holds it."""
  return (
    "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode()
  )


def enlarged(picture: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "H W c"]:
  """Returns a picture of which each pixel is a square of pixels."""
  scale = max(1, _LARGE // max(picture.shape[:2]))
  return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def sizes(shape: tuple[int, int, int]) -> str:
  """Returns the widths of pictures on the screen as CSS variables."""
  longer, width = max(shape[:2]), shape[1]
  rules = []
  for name, side in _SIDES.items():
    scale = side // longer or side / longer
    rules.append(f"--{name}: {width * scale:g}px;")
  # Between two whole multiples where the screen's own pixels are finer.
  tiny = longer * max(1, int(2 * _SIDES["tiny"] / longer) / 2)
  rules.append(f"--tiny-fine: {width * min(tiny, 96) / longer:g}px;")
  rules.append(f"--shape: {width} / {shape[0]};")
  return " ".join(rules)


def _figure(
  picture: np.ndarray | None, caption: str, words: str, kind: str
) -> str:
  shown = f'<div class="none">{html.escape(words)}</div>'
  if picture is not None:
    shown = (
      f'<img src="{data_uri(picture)}" alt="{html.escape(words)}" '
      'decoding="sync" draggable="false">'
    )
  return (
    f'<figure class="{kind}">{shown}<figcaption>{caption}</figcaption></figure>'
  )


def reference(face: Face) -> str:
  """Returns the original and its reconstruction, with captions."""
  name = html.escape(face.name)
  if face.original is None:
    first = _figure(None, "No original", face.name, "original")
    second = _figure(face.picture, "Start", face.name, "reconstruction")
    return first + second
  return _figure(face.original, "Original", name, "original") + _figure(
    face.picture,
    "Reconstruction",
    f"{name}, as the model reconstructs it",
    "reconstruction",
  )


def edited(
  picture: UInt8[np.ndarray, "h w c"],
  code: Float32[np.ndarray, " d"],
  label: Integer[np.ndarray, "..."] | None,
) -> str:
  """Returns the edited picture, with what to keep it by."""
  query = parse.urlencode(address(code, label))
  links = " ".join(
    f'<a href="download/{file}?{query}" download="{file}" '
    f'aria-label="Download: {words.lower()}">↓\xa0{words}</a>'
    for file, words in (
      ("picture.png", "Picture"),
      ("large.png", "Large"),
      ("vector.json", "Vector"),
    )
  )
  caption = f'<b>Edited</b><span class="links">{links}</span>'
  return _figure(picture, caption, "Edited picture", "edited")


def address(
  code: Float32[np.ndarray, " d"], label: Integer[np.ndarray, "..."] | None
) -> dict[str, str]:
  """Returns a code as the query of an address."""
  raw = base64.urlsafe_b64encode(code.astype("<f4").tobytes()).decode()
  query = {"latent": raw}
  if label is not None:
    query["label"] = ",".join(str(v) for v in label.ravel().tolist())
  return query


def thumbnails(studio: Studio, first: int, count: int) -> str:
  """Returns pictures of the test split as buttons."""
  indices = np.arange(first, min(first + count, len(studio.source)))
  images = studio.source.fetch(indices)["image"]
  return "".join(
    f'<button type="button" data-index="{i}" '
    f'aria-label="Test picture {i}" title="Test picture {i}">'
    f'<img src="{data_uri(image)}" alt="" draggable="false"></button>'
    for i, image in zip(indices, images, strict=True)
  )


def map_picture(plane: maps.Plane | maps.Cloud) -> str:
  """Returns the map, with what it shows."""
  legend = ""
  if isinstance(plane, maps.Cloud):
    legend = _legend(plane.legend)
  if isinstance(plane, maps.Cloud):
    source = _transparent(plane.picture)
  else:
    source = data_uri(plane.picture)
  return (
    f'<img src="{source}" alt="Map of the latent space" '
    f'draggable="false"><p>{html.escape(plane.caption)}</p>{legend}'
  )


def _transparent(picture: np.ndarray) -> str:
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(picture).save(file, "png")
  return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _legend(entries: Sequence[tuple[tuple[int, int, int], str]]) -> str:
  items = "".join(
    f'<li><i style="background:rgb{colour}"></i>{html.escape(words)}</li>'
    for colour, words in entries
  )
  return f"<ul>{items}</ul>" if items else ""


def marker(plane: maps.Plane | maps.Cloud, face: Face) -> str:
  """Returns where a face lies on the map."""
  x, y = plane.place(face.code)
  height, width = plane.picture.shape[:2]
  return (
    f'<div style="aspect-ratio:{width}/{height}">'
    f'<i style="left:{x:.2%};top:{y:.2%}"></i></div>'
  )


def kept(a: Face | None, b: Face | None) -> str:
  """Returns the two faces to mix."""
  return "".join(
    _figure(
      face and face.picture,
      f"<b>{letter}</b>",
      f"{letter}: {face.name}" if face else "none yet",
      "kept",
    )
    for letter, face in (("A", a), ("B", b))
  )


def message(words: str) -> str:
  """Returns a sentence for the person; "" = none."""
  return f"<p>{html.escape(words)}</p>" if words else ""


def title(studio: Studio) -> str:
  """Returns the page's head: what this is and what to do."""
  model = studio.model
  noun = studio.noun
  return (
    f"<h1>Latent space of <em>{html.escape(model.workdir.name)}</em></h1>"
    f"<p>Choose a {noun}, then drag a slider: the model draws the edited {noun} "
    "as you move it.</p>"
  )
