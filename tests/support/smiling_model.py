"""A linear model of faces whose weights are set by hand, and a classifier that
is trained in a second.

The first latent of the model is the smile, so that its direction has a known
effect on known pixels.
"""

import numpy as np

from tests.support.tiny import tiny_config, untrained
from vae_jax.data.synthetic_faces import drawing
from vae_jax.data.synthetic_faces import factors as face_factors
from vae_jax.evaluate import train_classifier
from vae_jax.latents import (
  attribute_directions,
  directions,
  nonlinear_directions,
)
from vae_jax.runtime import storage

_LATENTS = 16


def quick_classifier(monkeypatch, images=64):
  """Makes attribute classifiers small and their training short."""
  recipe = train_classifier.Recipe(images, batch_size=32, channels=(8, 16))
  monkeypatch.setattr(train_classifier, "RECIPE", recipe)


def drawn(smile):
  """Returns 24 frontal faces with a smile from -1 to 1."""
  faces = []
  for i in range(24):
    factors = face_factors.sample_factors("validation", i)
    factors |= {"smile": smile, "head_turn": 0.0, "head_tilt": 0.0}
    factors |= {"mouth_open": 0.0, "beard": 0, "moustache": 0}
    faces.append(drawing.draw(factors))
  return np.stack(faces)


def mouth():
  """Returns the mask [64 64] of pixels that a smile changes in a drawing."""
  change = np.abs(drawn(1.0).astype(float) - drawn(-1.0)).max(axis=(0, 3))
  return change > 8


def directions_of(names, vectors, positives, total):
  """Returns directions [kinds 2 d] of two attributes."""
  pixels, correlation = np.zeros((2, 1, 1, 1)), np.eye(2)
  about = np.array(positives), total, correlation, np.array([0.9, 0.8])
  return directions.Directions(names, vectors, pixels, *about, "train", 0)


def smiling_model(data_dir, folder):
  """Returns the model and writes its directions to `folder`."""
  config = tiny_config(
    data_dir,
    data__resize=0,
    data__grayscale=False,
    model__latent_dim=_LATENTS,
    model__likelihood__name="gaussian",
  )
  config.model.encoder.args.hidden = ()
  config.model.decoder.args.hidden = ()
  model = untrained(config, folder)
  sad, glad = (_logits(drawn(smile)) for smile in (-1.0, 1.0))
  middle = (sad + glad).mean(axis=0) / 2
  smile = (glad - sad).mean(axis=0)
  first = smile / np.linalg.norm(smile)
  rest = (sad + glad) / 2 - middle
  rest -= np.outer(rest @ first, first)
  others = np.linalg.svd(rest, full_matrices=False)[2][: _LATENTS - 1]
  basis = np.concatenate([first[None], others])
  # Codes of about unit size.
  scale = np.abs(rest @ others.T).mean()
  decoder = model.variables["params"]["decoder"]["Dense_0"]
  decoder["kernel"] = np.float32(scale * basis)
  decoder["bias"] = np.float32(middle)
  # A pixel's logit is about 4 (pixel - 1/2).
  encoder = model.variables["params"]["posterior"]["Dense_0"]
  inverse = np.concatenate([basis.T / scale, 0 * basis.T], axis=1)
  encoder["kernel"] = np.float32(4 * inverse)
  encoder["bias"] = np.float32((-2 - middle) @ inverse)
  encoder["bias"][_LATENTS:] = -np.arange(_LATENTS) / 8
  step = np.zeros((3, 2, _LATENTS), np.float32)
  step[:, 0, 0] = np.linalg.norm(smile) / scale
  step[:, 1, 1] = 1, 2, 3
  names, attributes = ("Bald", "Smiling"), folder / "attributes"
  linear = directions_of(names, step[:, ::-1].copy(), [3, 30], 64)
  directions.save(linear, attributes / "directions.npz")
  codes = np.random.RandomState(0).randn(4000, _LATENTS).astype(np.float32)
  labels = (codes[:, 1::-1] > 0.5).astype(np.int32)
  deviation = np.full(_LATENTS, 0.1, np.float32)
  curves = nonlinear_directions.fit(codes, deviation, labels, names, step=0)
  nonlinear_directions.save(curves, attributes / "curves.npz")
  made_from = {"made_from": attribute_directions.fingerprint(model)}
  storage.write_json(attributes / "made_from.json", made_from)
  return model


def _logits(images):
  pixel = np.clip(images.reshape(len(images), -1) / 255.0, 0.05, 0.95)
  return np.log(pixel / (1 - pixel))
