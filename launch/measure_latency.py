"""Measures the latency of a slider of the page of --mode=explore.

    python launch/measure_latency.py --workdir=runs/faces

Serves the page to a headless Chromium, presses the arrow keys on the first
slider and measures in the browser the time from the slider's event until the
new picture is ready to be painted.
"""

import argparse
import os
import shutil
from typing import Any

import numpy as np
from jaxtyping import Float

from vae_jax.config import ConfigError
from vae_jax.latents import trained_model
from vae_jax.modes.explore import editor, server
from vae_jax.runtime import storage

_WARM = 5  # Moves that are not counted.
# From the event, caught before the page's own code, until the new picture is
# decoded.
_WATCH = """([slider, picture]) => {
  window.waited = [];
  let start = 0;
  slider.addEventListener('input', () => { start = performance.now(); }, true);
  new MutationObserver(async () => {
    const image = picture.querySelector('img');
    await image.decode();
    if (start) window.waited.push(performance.now() - start);
    start = 0;
  }).observe(picture, {subtree: true, childList: true, attributes: true});
}"""


def chromium() -> str:
  """Returns the path of an installed Chromium."""
  for name in ("chromium", "chromium-browser", "google-chrome"):
    if path := shutil.which(name):
      return path
  raise ConfigError("Measuring needs Chromium, and there is none on the PATH.")


def measure(page: Any, count: int) -> Float[np.ndarray, " n"]:
  """Moves the first slider of Playwright's page; returns the milliseconds until
  the picture had changed, one for each move."""
  slider = page.locator(".sliders input[type=range]").first
  picture = page.locator("#edited")
  slider.focus()
  page.evaluate(_WATCH, [slider.element_handle(), picture.element_handle()])
  for i in range(_WARM + count):
    # Back and forth, so that the slider reaches no end.
    page.keyboard.press("ArrowRight" if i // 20 % 2 == 0 else "ArrowLeft")
    page.wait_for_function(f"window.waited.length > {i}")
  return np.array(page.evaluate("window.waited"))[_WARM:]


def latency(workdir: str, count: int) -> dict[str, Any]:
  """Measures the page of a run; writes `explore/latency.json`.

  It holds milliseconds, `count` (moves of the slider), and the `cores` that
  server and browser share.
  """
  server.check_installed()
  try:
    from playwright import sync_api
  except ImportError as error:
    raise ConfigError(
      'Measuring needs Playwright: pip install -e ".[test]"'
    ) from error
  path = chromium()
  model = trained_model.load(workdir, chunk=1)
  with (
    server.background(editor.open_editor(model)) as url,
    sync_api.sync_playwright() as play,
  ):
    browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector("#edited img")
    waited = measure(page, count)
    browser.close()
  result = {
    "count": count,
    "median_ms": round(float(np.median(waited)), 1),
    "p95_ms": round(float(np.quantile(waited, 0.95)), 1),
    "max_ms": round(float(waited.max()), 1),
    "cores": os.cpu_count(),
  }
  storage.write_json(storage.path(workdir) / "explore/latency.json", result)
  return result


def main(words: list[str] | None = None) -> None:
  """Runs the program; `words` are its flags, None = of the command line."""
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--workdir", required=True, help="folder of the run")
  parser.add_argument(
    "--count", type=int, default=100, help="moves of the slider (default 100)"
  )
  flags = parser.parse_args(words)
  try:
    result = latency(flags.workdir, flags.count)
  except ConfigError as error:
    parser.error(str(error))
  print(
    f"{result['median_ms']} ms median, {result['p95_ms']} ms 95th percentile "
    f"of {result['count']} moves on {result['cores']} cores"
  )


if __name__ == "__main__":
  main()
