"""The page of a model that can smile, in one browser for all tests."""

import functools

import pytest

from launch import measure_latency
from tests.support.smiling_model import smiling_model
from tests.support.tiny import tiny_config, untrained
from vae_jax.config import ConfigError
from vae_jax.modes.explore import editor as editor_lib
from vae_jax.modes.explore import server


@pytest.fixture(scope="session")
def editor(faces_dir, tmp_path_factory):
  """Returns the editor of a tiny model with three latents."""
  folder = tmp_path_factory.mktemp("editor")
  return editor_lib.open_editor(untrained(tiny_config(faces_dir), folder))


@pytest.fixture(scope="session")
def faces(faces_dir, tmp_path_factory):
  """Returns the editor of a model that can smile."""
  folder = tmp_path_factory.mktemp("explore")
  return editor_lib.open_editor(smiling_model(faces_dir, folder))


@pytest.fixture(scope="session")
def url(faces):
  # Imports a module of anyio now, because pytest rewrites its assertions, which
  # CPython 3.11 cannot do in two threads at once.
  pytest.importorskip("anyio").open_file  # noqa: B018
  with server.background(faces) as address:
    yield address


@pytest.fixture(scope="session")
def browser():
  try:
    path = measure_latency.chromium()
  except ConfigError as error:
    pytest.skip(str(error))
  sync_api = pytest.importorskip("playwright.sync_api")
  with sync_api.sync_playwright() as play:
    browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture
def open_page(browser):
  """Opens the page of an address; afterwards, checks that the browser logged no
  error and that all requests went to the server."""
  requests, errors, contexts, addresses = [], [], [], []

  def open_page(url, **settings):
    addresses.append(url)
    contexts.append(browser.new_context(**settings))
    page = contexts[-1].new_page()
    page.set_default_timeout(15_000)
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: m.type == "error" and errors.append(m.text))
    page.goto(url)
    page.wait_for_selector("#edited img")
    # Until the components listen to events.
    page.wait_for_timeout(500)
    return page

  yield open_page
  for context in contexts:
    context.close()
  assert requests and not errors
  own = (*(f"{address}/" for address in addresses), "data:")
  assert not [request for request in requests if not request.startswith(own)]


@pytest.fixture
def visit(open_page, url):
  """Opens the page of `faces`."""
  return functools.partial(open_page, url)
