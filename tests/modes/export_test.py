"""`--mode=export`: programs and weights equal the model."""

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
from numpy.testing import assert_array_equal
from safetensors import numpy as safetensors

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.latents import directions, trained_model
from vae_jax.modes import export
from vae_jax.training import build, experiment, restore

pytest.importorskip("flatbuffers")


def _model(shape=(16, 16, 1), chunk=3, **settings):
  """Returns an untrained model, all of whose weights and statistics differ."""
  c = tiny_config("/nowhere", data__image_shape=shape, **settings)
  rng = np.random.RandomState(0)

  def drawn(path, v):
    # Batch statistics stay above 0: among them are variances.
    low = -0.2 if path[0].key == "params" else 0.01
    return rng.uniform(low, 0.2, v.shape).astype(np.float32)

  shapes = jax.eval_shape(lambda: build.init_variables(c, shape))
  variables = jax.tree.map_with_path(drawn, shapes)
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
  encoded = program["encoder"](image, *label)
  own = label[0] if label else None
  assert_array_equal(encoded, model.encode(image, label=own))
  decoded = np.asarray(program["decoder"](code, *label))
  assert_array_equal(decoded, model.decode(code, *label))
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
def test_programs_return_same_bits_for_all_networks(shape, nets):
  _assert_same_bits(_model(shape, **nets))


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_programs_return_same_bits_for_all_batch_sizes(chunk):
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
def test_programs_exist_for_every_part(shape, settings):
  model = _model(shape, **settings)
  ends = [f"uint8[b,{','.join(map(str, shape))}]", "float32[b,3]"]
  for name, program in export.programs(model).items():
    exported = jax.export.deserialize(bytearray(program))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    avals = [str(v) for v in (*exported.in_avals, *exported.out_avals)]
    assert avals == (ends if name == "encoder.bin" else ends[::-1])


@pytest.mark.parametrize(
  "kind, label", [("label", [0, 2, 1]), ("attributes", np.eye(3))]
)
def test_programs_of_a_conditional_model_take_labels(kind, label):
  model = _model((4, 4, 1), model__condition=kind, data__num_labels=3)
  label = np.asarray(label, np.int32)
  _assert_same_bits(model, (label,))
  image = np.zeros((3, 4, 4, 1), np.uint8)
  encode = _open(model)["encoder"]
  assert not np.array_equal(encode(image, label), encode(image, label[::-1]))


@pytest.fixture(scope="module")
def exported(run):
  """A run, exported and open, and the folder that it is exported to."""
  config, workdir = run
  folder = pathlib.Path(export.run(config, workdir))
  return trained_model.open_run(config, workdir, chunk=3), folder


def test_process_without_this_package_edits_a_face(exported, tmp_path):
  model, folder = exported
  image = model.experiment.source("test").fetch(np.arange(3))["image"]
  np.save(tmp_path / "image.npy", image)
  folder = shutil.copytree(folder, tmp_path / "elsewhere")
  script = f"""
import json, sys
sys.path.insert(0, {str(folder)!r})
import numpy as np
from load import encode, decode
card = json.load(open({str(folder / "card.json")!r}))
vector = np.float32(card["directions"]["vectors"]["Smiling"]["balanced"])
image = np.load("image.npy")
np.savez("arrays.npz", plain=decode(encode(image)), code=encode(image),
  edited=decode(encode(image) + 2 * vector))
assert not {{"vae_jax", "flax", "ml_collections"}} & set(sys.modules)
"""
  env = {k: v for k, v in os.environ.items() if k != "JAX_NUMPY_RANK_PROMOTION"}
  command = [sys.executable, "-c", script]
  subprocess.run(command, cwd=tmp_path, env=env, check=True)
  arrays = np.load(tmp_path / "arrays.npz")
  code = model.encode(image)
  linear = directions.load(model.workdir / "attributes" / "directions.npz")
  edited = model.decode(code + 2 * linear.vector("Smiling", "balanced"))
  assert_array_equal(arrays["code"], code)
  assert_array_equal(arrays["plain"], model.decode(code))
  assert_array_equal(arrays["edited"], edited)
  assert not np.array_equal(arrays["plain"], arrays["edited"])
  assert len((folder / "load.py").read_text().splitlines()) <= 10


def test_weights_equal_the_checkpoint(exported):
  model, folder = exported
  weights = safetensors.load_file(folder / "weights.safetensors")
  params = restore.load_params(model.workdir)
  kernel = params["decoder"]["Dense_1"]["kernel"]
  assert_array_equal(weights["decoder/Dense_1/kernel"], kernel)
  assert len(weights) == len(jax.tree.leaves(params))


def test_weights_include_batch_statistics():
  model = _model((8, 8, 1), **_nets("conv", "conv", channels=(4,)))
  weights = safetensors.load(export.weights(model))
  statistics = model.variables["batch_stats"]["encoder"]
  ((name, norm),) = statistics.items()
  ((inner, values),) = norm.items()
  variance = weights[f"batch_stats/encoder/{name}/{inner}/var"]
  assert_array_equal(variance, values["var"])
  assert len(weights) == len(jax.tree.leaves(model.variables))


def test_card_describes_the_model(exported):
  model, folder = exported
  card = json.loads((folder / "card.json").read_text())
  assert (card["step"], card["latent_dim"]) == (20, 3)
  assert not card["averaged_weights"]
  preprocessing = card["preprocessing"]
  assert preprocessing["image_shape"] == [16, 16, 1]
  assert preprocessing["resize"] == 16
  assert card["encoder.bin"]["output"]["shape"] == ["b", 3]
  # Nothing of where things lie here.
  assert model.config.data.dir not in json.dumps(card)
  again = config_lib.from_json(json.dumps(card["config"]))
  assert not config_lib.differences(model.config, again)
  programs = folder.glob("*.bin")
  assert not any(b"vae_jax/" in path.read_bytes() for path in programs)


def test_second_export_writes_same_bytes(exported):
  model, folder = exported
  before = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
  export.run(model.config, str(model.workdir))
  assert {p: p.read_bytes() for p in before} == before


def test_missing_package_is_refused(exported, monkeypatch):
  monkeypatch.setitem(sys.modules, "flatbuffers", None)
  with pytest.raises(config_lib.ConfigError, match=r"\[export\]"):
    export.run(exported[0].config, "/nowhere")
