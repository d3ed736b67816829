"""The lines of a notebook in a kernel: training, Ctrl-C, a trained model."""

import re
import signal
import threading

import pytest

from tests.support import programs

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")
nbformat = pytest.importorskip("nbformat")

DATA = """
import numpy as np
images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
"""
TRAIN = """
import vae_jax
from vae_jax import config
c = config.default()
c.train.num_steps, c.train.batch_size, c.model.latent_dim = 40, 8, 2
vae_jax.train(c, "run", data=images)
"""
USE = """
model = vae_jax.load("run")
codes = model.encode(images)
decoded, drawn = model.decode(codes), model.sample(4)
terms = model.score(images)
print(codes.shape, decoded.shape, drawn.shape, len(terms["loss"]))
"""
LONG = TRAIN.replace("= 40,", "= 1_000_000,").replace('"run"', '"long"')


class Notebook:
  """A notebook whose kernel runs in a folder."""

  def __init__(self, folder):
    cells = [
      nbformat.v4.new_code_cell(text) for text in (DATA, TRAIN, USE, LONG)
    ]
    self.cells = cells
    self.client = nbclient.NotebookClient(
      nbformat.v4.new_notebook(cells=cells),
      timeout=280,
      resources={"metadata": {"path": str(folder)}},
    )

  def run(self, number):
    """Returns what a cell shows: text, and kinds of displays."""
    cell = self.client.execute_cell(self.cells[number], number)
    texts = [o.get("text", "") for o in cell.outputs]
    results = [o for o in cell.outputs if o.output_type == "execute_result"]
    texts += [o.data["text/plain"] for o in results]
    shown = {kind for o in cell.outputs for kind in o.get("data", {})}
    return "".join(texts), shown


@pytest.mark.slow
def test_a_notebook_trains_is_interrupted_and_uses_the_model(
  tmp_path, monkeypatch
):
  monkeypatch.setenv("PYTHONPATH", str(programs.ROOT))
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
  monkeypatch.setenv("XLA_FLAGS", "")
  notebook = Notebook(tmp_path)
  with notebook.client.setup_kernel():
    assert notebook.run(0)[0] == ""
    text, shown = notebook.run(1)
    for line in (
      "memory ",
      "40 steps of 8 images",
      "Step 40, validation: loss",
    ):
      assert line in text, text
    assert not re.search("(?i)warning|orbax|absl", text), text
    assert "TrainState(step=40, 777,925 parameters)" in text
    # The bar of tqdm.auto, as a widget where ipywidgets is installed.
    assert (
      "application/vnd.jupyter.widget-view+json" in shown or "img/s" in text
    )
    assert notebook.run(2)[0] == "(60, 2) (60, 8, 8, 1) (4, 8, 8, 1) 60\n"
    # As Ctrl-C, or the kernel's stop button.
    process = notebook.client.km.provisioner.process
    threading.Timer(30, process.send_signal, [signal.SIGINT]).start()
    with pytest.raises(nbclient.exceptions.CellExecutionError) as raised:
      notebook.run(3)
    assert re.search(
      r"Stopped at step \d+ of 1000000 and saved", str(raised.value)
    )
    assert list((tmp_path / "long" / "checkpoints").glob("[0-9]*"))
