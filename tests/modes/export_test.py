"""An exported model is the model, wherever it is opened."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.latents import directions, trained_model
from vae_jax.modes import export, options
from vae_jax.training import build, experiment, restore

safetensors = pytest.importorskip("safetensors.numpy")
pytest.importorskip("flatbuffers")


def _model(shape=(16, 16, 1), chunk=3, **settings):
  """Returns an untrained model, all of whose weights and statistics differ."""
  c = tiny_config("/nowhere", data__image_shape=shape, **settings)
  rng = np.random.RandomState(0)
  variables = {
    # Batch statistics stay above 0: among them are variances.
    name: jax.tree.map(
      lambda v, low=low: rng.uniform(low, 0.2, v.shape).astype(np.float32), tree
    )
    for name, tree in jax.eval_shape(
      lambda: build.init_variables(c, shape)
    ).items()
    for low in [-0.2 if name == "params" else 0.01]
  }
  run = experiment.build(c)
  return trained_model.TrainedModel(run, pathlib.Path(), 0, variables, chunk)


def _nets(encoder, decoder, **args):
  c = {"model__encoder__name": encoder, "model__decoder__name": decoder}
  for part in ("encoder", "decoder"):
    c[f"model__{part}__args"] = ConfigDict(args)
  return c


def _open(model):
  return {
    name.partition(".")[0]: jax.jit(jax.export.deserialize(program).call)
    for name, program in export.programs(model).items()
  }


def _assert_same_bits(model, label=()):
  rng = np.random.RandomState(1)
  n = model.chunk
  image = rng.randint(0, 256, (n, *model.image_shape)).astype(np.uint8)
  code = rng.randn(n, model.config.model.latent_dim).astype(np.float32)
  program = _open(model)
  np.testing.assert_array_equal(
    program["encoder"](image, *label), model.encode(image, *label)
  )
  decoded = np.asarray(program["decoder"](code, *label))
  np.testing.assert_array_equal(decoded, model.decode(code, *label))
  assert decoded.std() > 0


_LECTURE = [
  ((28, 28, 1), _nets("lecture_mnist", "lecture_mnist")),
  ((128, 128, 3), _nets("lecture_celeba", "lecture_celeba")),
  ((128, 128, 3), _nets("lecture_celeba", "lecture_celeba_upsample")),
]


@pytest.mark.parametrize(
  "shape, nets",
  [
    ((8, 6, 1), _nets("mlp", "mlp", hidden=(8,))),
    ((8, 6, 3), _nets("resnet", "resnet", channels=(8,))),
    *(pytest.param(*v, marks=pytest.mark.slow) for v in _LECTURE),
  ],
)
def test_all_networks(shape, nets):
  _assert_same_bits(_model(shape, **nets))


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_all_batch_sizes(chunk):
  nets = _nets("conv", "conv", channels=(4, 8))
  _assert_same_bits(_model((8, 8, 1), chunk, **nets))


@pytest.mark.parametrize(
  "shape, settings",
  [
    *_LECTURE,
    ((4, 4, 1), {"model__posterior__name": "iaf"}),
    ((4, 4, 1), {"model__prior__name": "vamp"}),
    ((4, 4, 1), {"model__likelihood__name": "categorical256"}),
    ((4, 4, 3), {"model__likelihood__name": "discretized_logistic_mixture"}),
    ((4, 4, 1), {"model__dtype": "bfloat16"}),
  ],
)
def test_every_part_has_a_program(shape, settings):
  model = _model(shape, **settings)
  latent_dim = model.config.model.latent_dim
  for name, program in export.programs(model).items():
    exported = jax.export.deserialize(bytearray(program))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    ends = (
      ("uint8", ("b", *shape)),
      ("float32", ("b", latent_dim)),
    )
    avals = (exported.in_avals[0], exported.out_avals[0])
    said = tuple(
      (v.dtype, tuple(map(str, v.shape)))
      for v in (avals if name == "encoder.bin" else avals[::-1])
    )
    assert said == tuple((d, tuple(map(str, s))) for d, s in ends)


@pytest.mark.parametrize(
  "kind, label", [("label", [0, 2, 1]), ("attributes", np.eye(3))]
)
def test_a_conditional_model_is_given_labels(kind, label):
  model = _model((4, 4, 1), model__condition=kind, data__num_labels=3)
  label = np.asarray(label, np.int32)
  _assert_same_bits(model, (label,))
  image = np.zeros((3, 4, 4, 1), np.uint8)
  encode = _open(model)["encoder"]
  assert not np.array_equal(encode(image, label), encode(image, label[::-1]))


@pytest.fixture(scope="module")
def run(tmp_path_factory, reference):
  """A run, exported."""
  folder = tmp_path_factory.mktemp("export") / "run"
  shutil.copytree(reference[0], folder)
  config = restore.load_config(folder)
  export.export(config, str(folder), options.Options())
  return trained_model.open_run(config, str(folder), chunk=3)


def test_another_process_edits_a_face_without_this_package(run, tmp_path):
  image = run.experiment.source("test").fetch(np.arange(3))["image"]
  np.save(tmp_path / "image.npy", image)
  folder = tmp_path / "elsewhere"
  shutil.copytree(run.workdir / "export", folder)
  script = f"""
import json, sys
sys.path.insert(0, {str(folder)!r})
from vae_jax.training import experiment
from vae_jax.training import experiment
import numpy as np
from load import encode, decode
card = json.load(open({str(folder / "card.json")!r}))
vector = np.float32(card["directions"]["vectors"]["Smiling"]["balanced"])
image = np.load("image.npy")
np.savez("made.npz", plain=decode(encode(image)), code=encode(image),
  edited=decode(encode(image) + 2 * vector))
assert not {{"vae_jax", "flax", "ml_collections"}} & set(sys.modules)
"""
  environment = {
    k: v for k, v in os.environ.items() if k != "JAX_NUMPY_RANK_PROMOTION"
  }
  subprocess.run(
    [sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True
  )
  made = np.load(tmp_path / "made.npz")
  code = run.encode(image)
  found = directions.load(run.workdir / "attributes" / "directions.npz")
  edited = run.decode(code + 2 * found.vector("Smiling", "balanced"))
  np.testing.assert_array_equal(made["code"], code)
  np.testing.assert_array_equal(made["plain"], run.decode(code))
  np.testing.assert_array_equal(made["edited"], edited)
  assert not np.array_equal(made["plain"], made["edited"])


def test_the_loader_is_as_short_as_promised(run):
  text = (run.workdir / "export" / "load.py").read_text()
  assert len(text.splitlines()) <= 10


def test_weights_are_those_of_the_checkpoint(run):
  weights = safetensors.load_file(run.workdir / "export/weights.safetensors")
  params = restore.load_params(run.workdir)
  np.testing.assert_array_equal(
    weights["decoder/Dense_1/kernel"], params["decoder"]["Dense_1"]["kernel"]
  )
  assert len(weights) == len(jax.tree.leaves(params))


def test_batch_statistics_are_among_the_weights():
  model = _model((8, 8, 1), **_nets("conv", "conv", channels=(4,)))
  weights = safetensors.load(export.weights(model))
  statistics = model.variables["batch_stats"]["encoder"]
  ((name, norm),) = statistics.items()
  ((inner, values),) = norm.items()
  np.testing.assert_array_equal(
    weights[f"batch_stats/encoder/{name}/{inner}/var"], values["var"]
  )
  assert len(weights) == len(jax.tree.leaves(model.variables))


def test_the_card_says_what_was_exported(run):
  card = json.loads((run.workdir / "export" / "card.json").read_text())
  assert card["step"] == 20
  assert not card["averaged_weights"]
  assert card["latent_dim"] == 3
  assert card["preprocessing"]["image_shape"] == [16, 16, 1]
  assert card["preprocessing"]["resize"] == 16
  assert card["encoder.bin"]["output"]["shape"] == ["b", 3]
  # Nothing of where things lie here.
  assert run.config.data.dir not in json.dumps(card)
  again = config_lib.from_json(json.dumps(card["config"]))
  assert not config_lib.differences(run.config, again)
  programs = (run.workdir / "export").glob("*.bin")
  assert not any(b"vae_jax/" in path.read_bytes() for path in programs)


def test_twice_is_the_same(run):
  folder = run.workdir / "export"
  before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
  export.export(run.config, str(run.workdir), options.Options())
  assert {n: (folder / n).read_bytes() for n in before} == before


@pytest.mark.parametrize("module", ["flatbuffers", "safetensors.numpy"])
def test_a_missing_package_is_said_in_a_sentence(module, run, monkeypatch):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(config_lib.ConfigError, match=r"\[export\]"):
    export.export(run.config, "/nowhere", options.Options())
