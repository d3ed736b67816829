"""The page in a real browser, as a visitor uses it."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from launch import measure_latency
from tests.data.photos_test import png_of_size
from tests.support.smiling_model import drawn, mouth
from tests.support.tiny import tiny_config, untrained
from vae_jax.figures import png
from vae_jax.modes.explore import editor as editor_lib
from vae_jax.modes.explore import markup, server

pytest.importorskip("gradio", reason="needs the extra [explore]")
pytest.importorskip("playwright.sync_api", reason="needs Playwright")
pytestmark = [
  pytest.mark.slow,
  # Raised by the libraries behind the page, about each other.
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SMILE = "range slider for Smiling"
# Whether an element hides one of 20 x 20 points of the edited picture.
COVERED = """() => {
  const image = document.querySelector('#edited img');
  const {left, top, width, height} = image.getBoundingClientRect();
  return [...Array(400).keys()].some((i) => image !== document.elementFromPoint(
    left + (i % 20 + 0.5) * width / 20,
    top + (Math.floor(i / 20) + 0.5) * height / 20));
}"""


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


def _edited(editor, index, strengths, offsets=None, kind="curved"):
  """Returns the source of an edited picture of the test split."""
  code = editor.edit(editor.pick(index), kind, strengths, offsets or {})
  return markup.data_uri(editor.decode(code))


def test_smile_grows_at_the_mouth_and_resets(visit, faces):
  page = visit()
  _pick(page, 3)
  start = _source(page)
  assert page.locator("#reference img").nth(1).get_attribute("src") == start
  assert start == markup.data_uri(faces.pick(3).picture)
  # Not curved, because fitted directions deviate by a gray level or two.
  page.get_by_role("radio", name="Balanced").check()
  neutral = _picture(page)
  smiles = {0: _smile(faces, neutral)}
  for strength in (-0.5, 0.5, 1):
    _slide(page, SMILE, strength)
    smiles[strength] = _smile(faces, _picture(page))
  assert smiles[-0.5] < smiles[0] < smiles[0.5] < smiles[1]
  assert smiles[1] - smiles[0] > 0.3
  change = np.abs(_picture(page) - neutral).sum(axis=2)
  where = mouth()
  assert where.mean() < 0.15
  assert change[where].sum() > 0.9 * change.sum() > 0
  _changed(page, page.get_by_role("button", name="Reset sliders").click)
  assert _source(page) == start
  assert page.get_by_label(SMILE).input_value() == "0"


def _smile(faces, picture):
  """Returns the coordinate of a picture along the direction."""
  code = faces.model.encode(picture.astype(np.uint8)[None])[0]
  step = faces.vectors[0, faces.names.index("Smiling")]
  return code @ step / (step @ step)


def test_directions_and_latents_edit_the_picture(visit, faces):
  page = visit()
  _slide(page, "range slider for Bald", 1.5)
  for name, kind in (("Mean", "mean"), ("Probe", "probe")):
    _changed(page, page.get_by_role("radio", name=name).check)
    assert _source(page) == _edited(faces, 0, {"Bald": 1.5}, kind=kind)
  page.get_by_role("button", name="16 latent dimensions").click()
  page.wait_for_timeout(500)
  dimension = int(faces.ranking.order[0])
  _slide(page, re.compile(rf"range slider for z\[{dimension}\]"), -2)
  wanted = _edited(faces, 0, {"Bald": 1.5}, {dimension: -2}, "probe")
  assert _source(page) == wanted


def test_random_mixed_and_map_points_are_drawn(visit, faces):
  page = visit()
  a = faces.pick(0)
  page.get_by_role("tab", name="Mix").click()
  page.get_by_label("range slider for From A to B").fill("0.3")
  page.get_by_text("Set a picture as A").wait_for()
  page.get_by_role("button", name="Set as A").click()
  page.locator("#pair img").wait_for()
  page.get_by_role("tab", name="Random").click()
  _changed(page, page.get_by_role("button", name="Random face").click)
  name = page.locator("#reference .none").inner_text()
  b = faces.random(int(name.split()[-1]), 1.0)
  assert _source(page) == markup.data_uri(b.picture)
  _slide(page, "range slider for Temperature", 0)
  assert _source(page) == markup.data_uri(faces.random(0, 0).picture)
  _slide(page, "range slider for Temperature", 1)
  page.get_by_role("tab", name="Mix").click()
  page.get_by_role("button", name="Set as B").click()
  page.locator("#pair img").nth(1).wait_for()
  _slide(page, "range slider for From A to B", 0.25)
  assert _source(page) == markup.data_uri(faces.mix(a, b, 0.25).picture)
  page.get_by_role("tab", name="Map").click()
  image = page.locator("#map-picture img")
  box = image.bounding_box()
  x, y = faces.map.places[7]
  spot = {"x": x * box["width"], "y": y * box["height"]}
  _changed(page, lambda: image.click(position=spot))
  assert _source(page) == markup.data_uri(faces.pick(7).picture)


def _file(name, content):
  return {"name": name, "mimeType": "image/png", "buffer": content}


def test_uploaded_photos_are_encoded(visit, faces):
  page = visit()
  start = _source(page)
  page.get_by_role("tab", name="Upload").click()
  entry = page.locator("#photo input[type=file]")
  for content, message in (
    (b"no picture at all", "is not an image"),
    (png_of_size(30_000, 30_000), "million pixels"),
    (png.encode(drawn(1.0)[0])[:900], "damaged"),
  ):
    entry.set_input_files(_file("me.png", content))
    page.locator("#message").get_by_text(message).wait_for()
    assert _source(page) == start
  photo = png.encode(drawn(1.0)[0])
  _changed(page, lambda: entry.set_input_files(_file("me.png", photo)))
  assert _source(page) == markup.data_uri(faces.photo(photo).picture)
  assert page.locator("#message p").count() == 0


def test_downloads_hold_the_picture_and_load_again(visit, faces, tmp_path):
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
  code = faces.edit(faces.pick(0), "curved", {"Smiling": 0.75}, {})
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


def test_two_visitors_edit_points_of_their_own(visit, faces):
  one, two = visit(), visit()
  _pick(one, 5)
  _pick(two, 9)
  _slide(one, SMILE, 1)
  _slide(two, "range slider for Bald", -1)
  for page, index, edit in ((one, 5, {"Smiling": 1}), (two, 9, {"Bald": -1})):
    assert _source(page) == _edited(faces, index, edit)
    name = page.locator("#reference img").first.get_attribute("alt")
    assert name == f"test picture {index}"


@pytest.mark.parametrize("width, height", [(390, 844), (960, 700), (1366, 768)])
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
  if width > 900:  # Two columns side by side.
    image = page.locator("#reference img").last.bounding_box()
    controls = page.locator("#controls").bounding_box()
    assert image["x"] + image["width"] <= controls["x"]
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
  assert not page.evaluate(COVERED)


def test_latency_is_measured(visit):
  waited = measure_latency.measure(visit(), 10)
  assert len(waited) == 10 and (waited > 0).all()


def test_empty_number_box_is_zero_and_far_numbers_are_clamped(visit, faces):
  page = visit()
  _slide(page, SMILE, 1)
  box = page.locator(".sliders input[type=number]").first
  box.fill("")
  page.wait_for_timeout(500)
  _slide(page, "range slider for Bald", 1)
  edits = {"Bald": 1}, {"Smiling": 1, "Bald": 1}
  assert _source(page) in [_edited(faces, 0, edit) for edit in edits]
  _changed(page, lambda: box.fill("9"))
  assert _source(page) == _edited(faces, 0, {"Smiling": 3, "Bald": 1})
  box.blur()
  assert box.input_value() == "3"


def test_condition_is_chosen_from_a_menu(open_page, faces_dir, tmp_path):
  settings = {"model__condition": "label", "data__label": "attributes/Smiling"}
  model = untrained(tiny_config(faces_dir, **settings), tmp_path)
  editor = editor_lib.open_editor(model)
  first, second = editor.conditions
  with server.background(editor) as address:
    page = open_page(address)
    menu = page.get_by_label("Condition: class")
    start = editor.pick(0)
    assert menu.input_value() == editor.words(start.label)
    other = second if menu.input_value() == first else first
    menu.click()
    option = page.get_by_role("option", name=other, exact=True)
    _changed(page, option.click)
    wanted = editor.relabel(start, other)
    assert _source(page) == markup.data_uri(wanted.picture)
    # It stays for random pictures; one of the test set has its own.
    page.get_by_role("tab", name="Random").click()
    _changed(page, page.get_by_role("button", name="Random face").click)
    assert menu.input_value() == other
    seed = int(page.locator("#reference .none").inner_text().split()[-1])
    drawn_face = editor.random(seed, 1.0, wanted.label)
    assert _source(page) == markup.data_uri(drawn_face.picture)
    page.get_by_role("tab", name="Test set").click()
    _pick(page, 3)
    assert menu.input_value() == editor.words(editor.pick(3).label)
