"""The page in a real browser, as a visitor meets it."""

import base64
import contextlib
import io
import json
import re
import struct
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support.smiling_model import drawn, mouth, smiling_model
from vae_jax.config import ConfigError
from vae_jax.modes.explore import guard, latency, markup, server
from vae_jax.modes.explore import studio as studio_lib

pytest.importorskip("gradio", reason="needs the extra [explore]")
httpx = pytest.importorskip("httpx", reason="needs the extra [explore]")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
pytestmark = [
  pytest.mark.slow,
  # Of the libraries behind the page, about each other.
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SMILE = "range slider for Smiling"


@pytest.fixture(scope="module")
def studio(faces_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp("explore")
  return studio_lib.open_studio(smiling_model(faces_dir, folder))


@pytest.fixture(scope="module")
def url(studio):
  with server.background(studio) as address:
    yield address


@pytest.fixture(scope="module")
def browser():
  try:
    path = latency.chromium()
  except ConfigError as error:
    pytest.skip(str(error))
  with sync_api.sync_playwright() as play:
    browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture
def visit(browser, url):
  """Opens the page; in the end, nothing was asked of anyone else, and nothing
  went wrong in the browser."""
  asked, wrong, contexts = [], [], []

  def open_page(**settings):
    contexts.append(browser.new_context(**settings))
    page = contexts[-1].new_page()
    page.set_default_timeout(15_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
      "console",
      lambda m: wrong.append(m.text) if m.type == "error" else None,
    )
    page.goto(url)
    page.wait_for_selector("#edited img")
    # Until what is seen listens, too.
    page.wait_for_timeout(500)
    return page

  yield open_page
  for context in contexts:
    context.close()
  assert asked and not wrong
  foreign = [a for a in asked if not a.startswith((url + "/", "data:"))]
  assert not foreign


def _source(page):
  return page.locator("#edited img").get_attribute("src")


def _picture(page):
  content = base64.b64decode(_source(page).partition(",")[2])
  return np.asarray(Image.open(io.BytesIO(content))).astype(int)


def _changed(page, act):
  """Does something and waits until the edited picture is another one."""
  before = _source(page)
  act()
  page.wait_for_function(
    "b => document.querySelector('#edited img').src !== b", arg=before
  )


def _pick(page, index):
  _changed(page, page.get_by_label(f"Test picture {index}", exact=True).click)


def _slide(page, label, value):
  _changed(page, lambda: page.get_by_label(label).fill(str(value)))


def test_the_smile_grows_at_the_mouth_and_goes_again(visit, studio):
  page = visit()
  _pick(page, 3)
  start = _source(page)
  assert page.locator("#reference img").nth(1).get_attribute("src") == start
  assert start == markup.data_uri(studio.pick(3).picture)
  # Set by hand; the curves, fitted to it, go astray by a grey level or two.
  page.get_by_role("radio", name="Balanced").check()
  neutral = _picture(page)
  smiles = {0: _smile(studio, neutral)}
  for strength in (-0.5, 0.5, 1):
    _slide(page, SMILE, strength)
    smiles[strength] = _smile(studio, _picture(page))
  assert smiles[-0.5] < smiles[0] < smiles[0.5] < smiles[1]
  assert smiles[1] - smiles[0] > 0.3
  change = np.abs(_picture(page) - neutral).sum(axis=2)
  where = mouth()
  assert where.mean() < 0.15
  assert change[where].sum() > 0.9 * change.sum() > 0
  _changed(page, page.get_by_role("button", name="Reset sliders").click)
  assert _source(page) == start
  assert page.get_by_label(SMILE).input_value() == "0"


def _smile(studio, picture):
  """How far the encoder sees a picture along the direction."""
  code = studio.model.encode(picture.astype(np.uint8)[None])[0]
  step = studio.vectors[0, studio.names.index("Smiling")]
  return code @ step / (step @ step)


def test_kinds_of_directions_and_latents(visit, studio):
  page = visit()
  face = studio.pick(0)
  _slide(page, "range slider for Bald", 1.5)
  for name, kind in (("Mean", "mean"), ("Probe", "probe")):
    _changed(page, page.get_by_role("radio", name=name).check)
    code = studio.edit(face, kind, {"Bald": 1.5}, {})
    assert _source(page) == markup.data_uri(studio.decode(code))
  page.get_by_role("button", name="16 latent dimensions").click()
  page.wait_for_timeout(500)
  dimension = int(studio.latents.order[0])
  _slide(page, re.compile(rf"range slider for z\[{dimension}\]"), -2)
  code = studio.edit(face, "probe", {"Bald": 1.5}, {dimension: -2})
  assert _source(page) == markup.data_uri(studio.decode(code))


def test_random_mixed_and_from_the_map(visit, studio):
  page = visit()
  a = studio.pick(0)
  page.get_by_role("tab", name="Mix").click()
  page.get_by_label("range slider for From A to B").fill("0.3")
  page.get_by_text("Keep a picture as A").wait_for()
  page.get_by_role("button", name="Keep this as A").click()
  page.locator("#kept img").wait_for()
  page.get_by_role("tab", name="Random").click()
  _changed(page, page.get_by_role("button", name="Random face").click)
  name = page.locator("#reference .none").inner_text()
  b = studio.random(int(name.split()[-1]), 1.0)
  assert _source(page) == markup.data_uri(b.picture)
  _slide(page, "range slider for Temperature", 0)
  assert _source(page) == markup.data_uri(studio.random(0, 0).picture)
  _slide(page, "range slider for Temperature", 1)
  page.get_by_role("tab", name="Mix").click()
  page.get_by_role("button", name="Keep this as B").click()
  page.locator("#kept img").nth(1).wait_for()
  _slide(page, "range slider for From A to B", 0.25)
  mixed = markup.data_uri(studio.mix(a, b, 0.25).picture)
  assert _source(page) == mixed
  page.get_by_role("tab", name="Map").click()
  image = page.locator("#map-picture img")
  box = image.bounding_box()
  x, y = studio.map.places[7]
  spot = {"x": x * box["width"], "y": y * box["height"]}
  _changed(page, lambda: image.click(position=spot))
  assert _source(page) == markup.data_uri(studio.pick(7).picture)


def _file(name, content):
  return {"name": name, "mimeType": "image/png", "buffer": content}


def _bomb():
  """A PNG of a few bytes that says it is 30,000 pixels wide and high."""
  head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
  chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000))]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data))
    + kind
    + data
    + struct.pack(">I", zlib.crc32(kind + data))
    for kind, data in [*chunks, (b"IEND", b"")]
  )


def test_photos_of_ones_own(visit, studio):
  page = visit()
  start = _source(page)
  page.get_by_role("tab", name="Upload").click()
  entry = page.locator("#photo input[type=file]")
  for content, said in (
    (b"no picture at all", "is not an image"),
    (_bomb(), "million pixels"),
    (markup.png_bytes(drawn(1.0)[0])[:900], "damaged"),
  ):
    entry.set_input_files(_file("me.png", content))
    page.locator("#message").get_by_text(said).wait_for()
    assert _source(page) == start
  photo = markup.png_bytes(drawn(1.0)[0])
  _changed(page, lambda: entry.set_input_files(_file("me.png", photo)))
  assert _source(page) == markup.data_uri(studio.photo(photo).picture)
  assert page.locator("#message p").count() == 0


def test_what_is_saved_can_be_loaded(visit, studio, tmp_path):
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
  code = studio.edit(studio.pick(0), "curved", {"Smiling": 0.75}, {})
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


def test_two_visitors_have_a_face_each(visit, studio):
  one, two = visit(), visit()
  _pick(one, 5)
  _pick(two, 9)
  _slide(one, SMILE, 1)
  _slide(two, "range slider for Bald", -1)
  for page, index, edit in ((one, 5, {"Smiling": 1}), (two, 9, {"Bald": -1})):
    code = studio.edit(studio.pick(index), "curved", edit, {})
    assert _source(page) == markup.data_uri(studio.decode(code))
    name = page.locator("#reference img").first.get_attribute("alt")
    assert name == f"test picture {index}"


@pytest.mark.parametrize("width, height", [(390, 844), (1366, 768)])
def test_fits_the_screen(visit, width, height):
  page = visit(viewport={"width": width, "height": height})
  page.get_by_role("button", name="16 latent dimensions").click()
  page.wait_for_timeout(300)
  assert page.evaluate("document.documentElement.scrollWidth") <= width
  for part in ("#edited img", "#reference img >> nth=1", ".sliders input"):
    box = page.locator(part).first.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert box["y"] + box["height"] <= height
  # What the sliders beside it unfold does not push the buttons away.
  quick = page.locator("#quick").bounding_box()
  assert quick["y"] + quick["height"] <= height
  side = page.locator("#edited img").bounding_box()["width"]
  assert side % 64 == 0
  # The face stays in view beside the sliders furthest down.
  page.locator("#controls .sliders input[type=range]").last.focus()
  page.mouse.wheel(0, 300)
  page.wait_for_timeout(300)
  box = page.locator("#edited img").bounding_box()
  assert box["y"] >= 0 and box["y"] + box["height"] <= height


def test_the_speed_is_measured(visit):
  waited = latency.measure(visit(), 10)
  assert len(waited) == 10 and (waited > 0).all()


def _status(url, **headers):
  headers = {k.replace("_", "-"): v for k, v in headers.items()}
  request = urllib.request.Request(url, headers=headers)
  try:
    with urllib.request.urlopen(request) as answer:
      return answer.status, answer.headers, answer.read()
  except urllib.error.HTTPError as error:
    with error:
      return error.code, error.headers, error.read()


@pytest.mark.parametrize("route", ["gradio_api/file=", "file=", "file/"])
def test_no_file_of_the_server_is_given_away(url, studio, route):
  folder = studio.model.workdir
  secret = folder / "attributes" / "directions.npz"
  for path in ("/etc/passwd", str(secret), "vae_jax/main.py", "setup.py"):
    status, _, content = _status(f"{url}/{route}{path}")
    assert status in (403, 404) and b"root:" not in content


def test_only_the_page_itself_may_ask(url):
  assert _status(url)[0] == 200
  assert _status(url, Host="evil.example")[0] == 403
  assert _status(url, Origin="http://evil.example")[0] == 403
  assert _status(url, Origin="null")[0] == 403
  assert _status(url, Origin=url)[0] == 200
  status, headers, page = _status(url)
  policy = headers["content-security-policy"]
  assert "http" not in policy and "unsafe-inline" not in policy.split(";")[1]
  assert policy == guard.policy(page)
  assert headers["x-frame-options"] == "DENY"
  assert _status(f"{url}/gradio_api/info")[1]["content-security-policy"]


def test_links_to_nothing_get_a_sentence(url):
  good = base64.urlsafe_b64encode(np.zeros(16, "<f4").tobytes()).decode()
  nan = base64.urlsafe_b64encode(np.full(16, np.nan, "<f4").tobytes()).decode()
  for path, said in (
    (f"nothing.txt?latent={good}", "no nothing.txt"),
    ("picture.png?latent=AAAAAA==", "has 16 numbers"),
    ("picture.png?latent=A", "no vector"),
    (f"picture.png?latent={nan}", "Entry 0"),
  ):
    status, _, content = _status(f"{url}/download/{path}")
    assert status == 400 and said in content.decode()
  assert _status(f"{url}/download/picture.png?latent={good}")[0] == 200


def test_requests_that_no_page_makes_are_refused(url):
  with httpx.Client(base_url=url, trust_env=False) as client:
    for path in ("process_recording", "deep_link", "call/x", "proxy=http://x"):
      assert client.post(f"/gradio_api/{path}").status_code == 404
    large = client.post("/gradio_api/run/predict", content=b"0" * (2 << 20))
    assert large.status_code == 413
    pieces = client.stream(
      "POST",
      "/gradio_api/run/predict",
      content=(b"0" * 2**18 for _ in range(9)),
    )
    with contextlib.suppress(httpx.HTTPError), pieces as answer:
      assert answer.status_code >= 400
    # An address in the place of a file.
    config = client.get("/config").json()
    (upload,) = [
      d["id"]
      for d in config["dependencies"]
      if d["targets"][0][1] == "upload" and len(d["inputs"]) == 1
    ]
    file = {
      "path": "http://example.com/x",
      "meta": {"_type": "gradio.FileData"},
    }
    answer = client.post(
      "/gradio_api/run/predict",
      json={"data": [file], "fn_index": upload, "session_hash": "a"},
    )
    assert answer.status_code >= 400


def test_an_empty_number_box_is_zero(visit, studio):
  page = visit()
  face = studio.pick(0)
  _slide(page, SMILE, 1)
  page.locator(".sliders input[type=number]").first.fill("")
  page.wait_for_timeout(500)
  _slide(page, "range slider for Bald", 1)
  shown = _source(page)
  wanted = [
    markup.data_uri(studio.decode(studio.edit(face, "curved", edit, {})))
    for edit in ({"Bald": 1}, {"Smiling": 1, "Bald": 1})
  ]
  assert shown in wanted
