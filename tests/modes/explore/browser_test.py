"""The page in a real browser, as a visitor uses it."""

import base64
import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support.smiling_model import drawn, mouth
from vae_jax.figures import png
from vae_jax.modes.explore import markup

pytest.importorskip("gradio", reason="needs the extra [explore]")
pytest.importorskip("playwright.sync_api", reason="needs Playwright")
pytestmark = [
  pytest.mark.slow,
  # Raised by the libraries behind the page, about each other.
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SMILE = "range slider for Smiling"


def _source(page):
  return page.locator("#edited img").get_attribute("src")


def _picture(page):
  content = base64.b64decode(_source(page).partition(",")[2])
  return np.asarray(Image.open(io.BytesIO(content))).astype(int)


def _changed(page, act):
  """Acts and waits until the edited picture has changed."""
  before = _source(page)
  act()
  page.wait_for_function(
    "b => document.querySelector('#edited img').src !== b", arg=before
  )


def _pick(page, index):
  _changed(page, page.get_by_label(f"Test picture {index}", exact=True).click)


def _slide(page, label, value):
  _changed(page, lambda: page.get_by_label(label).fill(str(value)))


def test_smile_grows_at_the_mouth_and_resets(visit, smiling_editor):
  page = visit()
  _pick(page, 3)
  start = _source(page)
  assert page.locator("#reference img").nth(1).get_attribute("src") == start
  assert start == markup.data_uri(smiling_editor.pick(3).picture)
  # Not curved, because fitted directions deviate by a gray level or two.
  page.get_by_role("radio", name="Balanced").check()
  neutral = _picture(page)
  smiles = {0: _smile(smiling_editor, neutral)}
  for strength in (-0.5, 0.5, 1):
    _slide(page, SMILE, strength)
    smiles[strength] = _smile(smiling_editor, _picture(page))
  assert smiles[-0.5] < smiles[0] < smiles[0.5] < smiles[1]
  assert smiles[1] - smiles[0] > 0.3
  change = np.abs(_picture(page) - neutral).sum(axis=2)
  where = mouth()
  assert where.mean() < 0.15
  assert change[where].sum() > 0.9 * change.sum() > 0
  _changed(page, page.get_by_role("button", name="Reset sliders").click)
  assert _source(page) == start
  assert page.get_by_label(SMILE).input_value() == "0"


def _smile(smiling_editor, picture):
  """Returns the coordinate of a picture along the direction."""
  code = smiling_editor.model.encode(picture.astype(np.uint8)[None])[0]
  step = smiling_editor.vectors[0, smiling_editor.names.index("Smiling")]
  return code @ step / (step @ step)


def test_directions_and_latents_edit_the_picture(visit, smiling_editor):
  page = visit()
  point = smiling_editor.pick(0)
  _slide(page, "range slider for Bald", 1.5)
  for name, kind in (("Mean", "mean"), ("Probe", "probe")):
    _changed(page, page.get_by_role("radio", name=name).check)
    code = smiling_editor.edit(point, kind, {"Bald": 1.5}, {})
    assert _source(page) == markup.data_uri(smiling_editor.decode(code))
  page.get_by_role("button", name="16 latent dimensions").click()
  page.wait_for_timeout(500)
  dimension = int(smiling_editor.ranking.order[0])
  _slide(page, re.compile(rf"range slider for z\[{dimension}\]"), -2)
  code = smiling_editor.edit(point, "probe", {"Bald": 1.5}, {dimension: -2})
  assert _source(page) == markup.data_uri(smiling_editor.decode(code))


def test_random_mixed_and_map_points_are_drawn(visit, smiling_editor):
  page = visit()
  a = smiling_editor.pick(0)
  page.get_by_role("tab", name="Mix").click()
  page.get_by_label("range slider for From A to B").fill("0.3")
  page.get_by_text("Set a picture as A").wait_for()
  page.get_by_role("button", name="Set as A").click()
  page.locator("#pair img").wait_for()
  page.get_by_role("tab", name="Random").click()
  _changed(page, page.get_by_role("button", name="Random face").click)
  name = page.locator("#reference .none").inner_text()
  b = smiling_editor.random(int(name.split()[-1]), 1.0)
  assert _source(page) == markup.data_uri(b.picture)
  _slide(page, "range slider for Temperature", 0)
  assert _source(page) == markup.data_uri(smiling_editor.random(0, 0).picture)
  _slide(page, "range slider for Temperature", 1)
  page.get_by_role("tab", name="Mix").click()
  page.get_by_role("button", name="Set as B").click()
  page.locator("#pair img").nth(1).wait_for()
  _slide(page, "range slider for From A to B", 0.25)
  mixed = markup.data_uri(smiling_editor.mix(a, b, 0.25).picture)
  assert _source(page) == mixed
  page.get_by_role("tab", name="Map").click()
  image = page.locator("#map-picture img")
  box = image.bounding_box()
  x, y = smiling_editor.map.places[7]
  spot = {"x": x * box["width"], "y": y * box["height"]}
  _changed(page, lambda: image.click(position=spot))
  assert _source(page) == markup.data_uri(smiling_editor.pick(7).picture)


def _file(name, content):
  return {"name": name, "mimeType": "image/png", "buffer": content}


def _bomb():
  """Returns a PNG of a few bytes with a header of 30,000 x 30,000 pixels."""
  head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
  chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000))]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data))
    + kind
    + data
    + struct.pack(">I", zlib.crc32(kind + data))
    for kind, data in [*chunks, (b"IEND", b"")]
  )


def test_uploaded_photos_are_encoded(visit, smiling_editor):
  page = visit()
  start = _source(page)
  page.get_by_role("tab", name="Upload").click()
  entry = page.locator("#photo input[type=file]")
  for content, message in (
    (b"no picture at all", "is not an image"),
    (_bomb(), "million pixels"),
    (png.encode(drawn(1.0)[0])[:900], "damaged"),
  ):
    entry.set_input_files(_file("me.png", content))
    page.locator("#message").get_by_text(message).wait_for()
    assert _source(page) == start
  photo = png.encode(drawn(1.0)[0])
  _changed(page, lambda: entry.set_input_files(_file("me.png", photo)))
  assert _source(page) == markup.data_uri(smiling_editor.photo(photo).picture)
  assert page.locator("#message p").count() == 0


def test_downloads_hold_the_picture_and_load_again(
  visit, smiling_editor, tmp_path
):
  page = visit()
  _slide(page, SMILE, 0.75)
  edited = _source(page)
  files = {}
  for word in ("Picture", "Large", "Vector"):
    with page.expect_download() as download:
      page.locator("#edited a", has_text=word).click()
    files[word] = tmp_path / download.value.suggested_filename
    download.value.save_as(files[word])
  picture = np.asarray(Image.open(files["Picture"]))
  np.testing.assert_array_equal(picture, _picture(page))
  large = np.asarray(Image.open(files["Large"]))
  np.testing.assert_array_equal(large[8::16, 8::16], picture)
  code = smiling_editor.edit(
    smiling_editor.pick(0), "curved", {"Smiling": 0.75}, {}
  )
  saved = json.loads(files["Vector"].read_text())
  assert saved["latent"] == code.tolist()
  _changed(page, page.get_by_role("button", name="Reset sliders").click)
  page.get_by_role("tab", name="Upload").click()
  entry = page.locator("input[type=file]").last
  _changed(page, lambda: entry.set_input_files(files["Vector"]))
  assert _source(page) == edited
  entry.set_input_files(_file("wrong.json", b'{"latent": [1, NaN]}'))
  page.get_by_text("A vector of this model has 16 numbers").wait_for()
  assert _source(page) == edited


def test_two_visitors_edit_points_of_their_own(visit, smiling_editor):
  one, two = visit(), visit()
  _pick(one, 5)
  _pick(two, 9)
  _slide(one, SMILE, 1)
  _slide(two, "range slider for Bald", -1)
  for page, index, edit in ((one, 5, {"Smiling": 1}), (two, 9, {"Bald": -1})):
    code = smiling_editor.edit(smiling_editor.pick(index), "curved", edit, {})
    assert _source(page) == markup.data_uri(smiling_editor.decode(code))
    name = page.locator("#reference img").first.get_attribute("alt")
    assert name == f"test picture {index}"


@pytest.mark.parametrize("width, height", [(390, 844), (1366, 768)])
def test_page_fits_the_screen(visit, width, height):
  page = visit(viewport={"width": width, "height": height})
  page.get_by_role("button", name="16 latent dimensions").click()
  page.wait_for_timeout(300)
  assert page.evaluate("document.documentElement.scrollWidth") <= width
  for label in page.locator("#kind label").all():
    box = label.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
  for part in ("#edited img", "#reference img >> nth=1", ".sliders input"):
    box = page.locator(part).first.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert box["y"] + box["height"] <= height
  # The open sliders do not push the buttons away.
  quick = page.locator("#quick").bounding_box()
  assert quick["y"] + quick["height"] <= height
  side = page.locator("#edited img").bounding_box()["width"]
  assert side % 64 == 0
  # The picture stays in view next to the last sliders.
  page.locator("#controls .sliders input[type=range]").last.focus()
  page.mouse.wheel(0, 300)
  page.wait_for_timeout(300)
  box = page.locator("#edited img").bounding_box()
  assert box["y"] >= 0 and box["y"] + box["height"] <= height


def test_latency_is_measured(visit, measure_latency):
  waited = measure_latency.measure(visit(), 10)
  assert len(waited) == 10 and (waited > 0).all()


def test_empty_number_box_is_zero(visit, smiling_editor):
  page = visit()
  point = smiling_editor.pick(0)
  _slide(page, SMILE, 1)
  page.locator(".sliders input[type=number]").first.fill("")
  page.wait_for_timeout(500)
  _slide(page, "range slider for Bald", 1)
  shown = _source(page)
  wanted = [
    markup.data_uri(
      smiling_editor.decode(smiling_editor.edit(point, "curved", edit, {}))
    )
    for edit in ({"Bald": 1}, {"Smiling": 1, "Bald": 1})
  ]
  assert shown in wanted
