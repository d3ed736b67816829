"""Features of images: their values, and errors where they are missing."""

import pickle
import sys
import types
import urllib.error

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from ml_collections import ConfigDict
from numpy.testing import assert_allclose, assert_array_equal

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.evaluate import features
from vae_jax.latents import apply
from vae_jax.training import checkpoint, experiment
from vae_jax.training import state as state_lib

SHAPE = (4, 4, 1)
IMAGES = np.random.RandomState(0).randint(0, 256, (5, *SHAPE), np.uint8)
URL = r"https://github.com/toshas/\S+-6726825d\.pth"


class Net(nn.Module):
  width: int
  scale: float = 1.0

  @nn.compact
  def __call__(self, image):
    x = image.reshape(image.shape[0], -1)
    return self.scale * nn.Dense(self.width)(x)


class NoFeatures(nn.Module):
  @nn.compact
  def __call__(self, image):
    return image


def _build(name, shape=SHAPE, **args):
  node = ConfigDict({"name": name, "args": ConfigDict(args)})
  return features.build(node, shape)


def _net(**args):
  return _build(f"{__name__}.Net", **args)


def test_network_receives_images_in_0_1():
  extract = _net(width=3, scale=2.0)
  variables = Net(3).init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
  expected = 2 * Net(3).apply(variables, jnp.asarray(IMAGES) / 255)
  values = extract(IMAGES)
  assert values.dtype == np.float32 and values.shape == (5, 3)
  assert_allclose(values, expected, rtol=1e-5)
  assert "Net" in extract.name and "random weights" in extract.name


def test_network_has_the_weights_of_a_checkpoint(tmp_path):
  variables = Net(3).init(jax.random.key(7), jnp.zeros((1, *SHAPE)))
  folder = tmp_path / "weights"
  with ocp.StandardCheckpointer() as writer:
    writer.save(folder, variables)
  extract = _net(width=3, weights=str(folder))
  expected = Net(3).apply(variables, jnp.asarray(IMAGES) / 255)
  assert_allclose(extract(IMAGES), expected, rtol=1e-5)
  assert str(folder) in extract.name and "random" not in extract.name
  for width, path in ((4, folder), (3, tmp_path / "nothing")):
    with pytest.raises(ConfigError, match="args.weights is .*cannot be read"):
      _net(width=width, weights=str(path))


@pytest.mark.parametrize(
  "name, args, words",
  [
    (f"{__name__}.Net", {}, "args.width is not set"),
    (f"{__name__}.Net", {"width": 3, "depth": 1}, "args.depth is unknown"),
    (f"{__name__}.Net", {"width": 3, "scale": "big"}, "args.scale is 'big'"),
    (f"{__name__}.NoFeatures", {}, "must return features"),
    (f"{__name__}.SHAPE", {}, "not a flax.linen.Module"),
    (f"{__name__}.Missing", {}, "has no Missing"),
    ("inceptoin", {}, "Did you mean inception"),
    ("build", {}, "allowed are encoder, inception"),
    ("inception", {"file": "x"}, "config.eval.features.args.file"),
    ("inception", {"shape": (4, 4, 2)}, "1 or 3 channels; these have 2"),
    ("encoder", {"workdir": ""}, "args.workdir is .*trained run"),
    ("encoder", {"workdir": "/"}, "args.workdir is .*trained run"),
  ],
)
def test_unusable_features_are_refused(name, args, words):
  with pytest.raises(ConfigError, match=words):
    _build(name, **args)


def test_posterior_means_of_another_run(tmp_path):
  c = tiny_config("", data__image_shape=(16, 16, 1))
  (tmp_path / "config.json").write_text(config_lib.to_json(c))
  run = experiment.build(c)
  state = jax.device_get(state_lib.init_state(run))
  writer = checkpoint.Checkpoints(tmp_path)
  writer.save(state, c)
  writer.close()

  folder = str(tmp_path)
  extract = _build("encoder", (16, 16, 1), workdir=folder)
  image = np.tile(IMAGES, (1, 4, 4, 1))
  variables = state_lib.eval_variables(c, state)
  expected = apply.encode(run.vae_eval, variables, image)[0]
  assert_array_equal(extract(image), expected)
  assert folder in extract.name and "step 0" in extract.name
  with pytest.raises(ConfigError, match=r"shape \(16, 16, 1\); these"):
    _build("encoder", SHAPE, workdir=folder)


def test_inception_without_torch_fidelity_or_weights(monkeypatch, tmp_path):
  def refuse(url, path, hash_prefix):
    raise urllib.error.URLError("no route to host")

  torch = types.ModuleType("torch")
  torch.hub = types.SimpleNamespace(
    get_dir=lambda: str(tmp_path), download_url_to_file=refuse
  )
  monkeypatch.setitem(sys.modules, "torch", torch)
  monkeypatch.setitem(sys.modules, "torch_fidelity", None)
  words = r"pip install .*\[fidelity\]"
  with pytest.raises(ConfigError, match=words) as caught:
    _build("inception")
  message = str(caught.value)
  assert "--config.eval.features.args.weights=" in message
  assert features._WEIGHTS_URL in message and "\n" not in message
  fidelity = types.ModuleType("torch_fidelity")
  monkeypatch.setitem(sys.modules, "torch_fidelity", fidelity)
  with pytest.raises(ConfigError, match=f"no route.*{URL}.*args.weights="):
    _build("inception")


def test_inception(monkeypatch, tmp_path):
  torch = pytest.importorskip("torch")
  cls = pytest.importorskip("torch_fidelity").FeatureExtractorInceptionV3
  path = tmp_path / "weights.pth"
  torch.save({}, path)
  with monkeypatch.context() as patched:
    patched.setattr(cls, "load_state_dict", lambda self, state: None)
    torch.manual_seed(0)
    model = cls("random", ["2048"], feature_extractor_weights_path=str(path))
  with pytest.raises(ConfigError, match=f"cannot be read as.*{URL}"):
    _build("inception", weights=str(path))
  torch.save(model.state_dict(), path)

  monkeypatch.setattr(features, "_CHUNK", 2)
  extract = _build("inception", weights=str(path))
  images = IMAGES[:3]
  values = extract(images)
  assert values.shape == (3, 2048) and values.dtype == np.float32
  assert "standard" not in extract.name and "2048" in extract.name
  for image, row in zip(images, values, strict=True):
    color_image = torch.tensor(image).permute(2, 0, 1).expand(1, 3, 4, 4)
    assert_allclose(row, model(color_image)[0][0], rtol=1e-3, atol=1e-5)
  color = _build("inception", (4, 4, 3), weights=str(path))
  repeated = color(np.repeat(images, 3, axis=3))
  assert_allclose(repeated, values, rtol=1e-3, atol=1e-5)

  path.write_bytes(pickle.dumps(print))
  with pytest.raises(ConfigError, match="cannot be read as the weights"):
    _build("inception", weights=str(path))
