"""What the page computes, without a page: codes in, pictures out."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.tiny import tiny_config, untrained, with_config
from vae_jax.config import ConfigError
from vae_jax.evaluate import attribute_edits
from vae_jax.latents import directions, nonlinear_directions, quantiles
from vae_jax.modes.explore import maps, markup, survey
from vae_jax.modes.explore import studio as studio_lib


@pytest.fixture(scope="module")
def studio(faces_dir, tmp_path_factory):
  """Returns the studio of a tiny model with three latents."""
  folder = tmp_path_factory.mktemp("studio")
  return _studio(tiny_config(faces_dir), folder)


def _studio(config, folder):
  return studio_lib.open_studio(untrained(config, folder))


def _decoded(studio, code):
  return studio.model.decode(code[None].astype(np.float32))[0]


def test_a_picked_face_is_the_reconstruction_of_a_test_picture(studio):
  data = studio.model.experiment.source("test").fetch(np.array([5]))
  code = studio.model.encode(data["image"])[0]
  face = studio.pick(5)
  np.testing.assert_array_equal(face.original, data["image"][0])
  np.testing.assert_array_equal(face.code, code)
  np.testing.assert_array_equal(face.picture, _decoded(studio, code))


def test_sliders_at_zero_change_no_bit(studio):
  face = studio.pick(3)
  zeros = dict.fromkeys(studio.names, 0.0), dict.fromkeys(range(3), 0)
  for kind in attribute_edits.KINDS:
    code = studio.edit(face, kind, *zeros)
    np.testing.assert_array_equal(code, face.code)
    np.testing.assert_array_equal(studio.decode(code), face.picture)


@pytest.mark.parametrize("k, kind", list(enumerate(directions.KINDS)))
def test_a_slider_at_one_adds_the_direction(studio, k, kind):
  face = studio.pick(3)
  found = directions.load(studio.model.workdir / "attributes/directions.npz")
  step = found.vectors[k, found.names.index("Smiling")]
  assert np.abs(step).max() > 0
  code = studio.edit(face, kind, {"Smiling": 1.0, "Wearing_Hat": 0.0}, {0: 0.0})
  np.testing.assert_array_equal(code, face.code + step)
  picture = studio.decode(code)
  np.testing.assert_array_equal(picture, _decoded(studio, face.code + step))


def test_curves_lead_on_from_the_code(studio):
  face = studio.pick(3)
  found = nonlinear_directions.load(
    studio.model.workdir / "attributes/curves.npz"
  )
  code = studio.edit(face, "curved", {"Smiling": 0.5}, {1: 2})
  walked = found.walk(face.code[None], {"Smiling": 0.5}, np.ones(1))[0, 0]
  assert np.abs(walked - face.code).max() > 0
  offset = 2 * studio.latents.unit[1] * np.eye(3, dtype=np.float32)[1]
  np.testing.assert_allclose(code, walked + offset, rtol=1e-4, atol=1e-5)


def test_no_request_leads_beyond_reach(studio):
  face = studio.pick(0)
  for kind in attribute_edits.KINDS:
    far = studio.edit(face, kind, {"Smiling": 1e9}, {0: -np.inf})
    near = studio.edit(face, kind, {"Smiling": 10.0}, {0: -10.0})
    np.testing.assert_array_equal(far, near)
    same = studio.edit(face, kind, {"Smiling": np.nan}, {})
    np.testing.assert_array_equal(same, face.code)


def test_strengths_and_offsets_add_up(studio):
  face = studio.pick(0)
  smile = studio.vectors[1, studio.names.index("Smiling")]
  code = studio.edit(face, "balanced", {"Smiling": -2.0}, {1: 0.5, 2: -1})
  expected = face.code - 2 * smile + np.array([0, 0.5, -1], np.float32)
  np.testing.assert_allclose(code, expected, rtol=1e-6)


def test_the_smile_comes_first_and_dead_directions_not_at_all(studio):
  assert studio.names[0] == "Smiling"
  assert np.isfinite(studio.vectors).all()
  found = directions.load(studio.model.workdir / "attributes/directions.npz")
  alive = np.isfinite(found.vectors).all(axis=(0, 2))
  assert set(studio.names) == set(np.array(found.names)[alive])
  accuracy = [found.accuracy[found.names.index(n)] for n in studio.names[1:]]
  assert accuracy == sorted(accuracy, reverse=True)


def test_a_random_face_is_a_function_of_seed_and_temperature(studio):
  one, again = studio.random(7, 0.5), studio.random(7, 0.5)
  np.testing.assert_array_equal(one.code, again.code)
  np.testing.assert_array_equal(one.picture, again.picture)
  assert not np.array_equal(studio.random(8, 0.5).code, one.code)
  np.testing.assert_allclose(2 * one.code, studio.random(7, 1.0).code)
  # The first of the run's own samples with that seed.
  config = studio.model.config.copy_and_resolve_references()
  config.sample.seed, config.sample.temperature = 7, 0.5
  model = with_config(studio.model, config)
  drawn = model.sample(np.zeros(1, np.int32))[0]
  np.testing.assert_array_equal(one.picture, drawn)


def test_a_mixture_goes_from_one_to_the_other(studio):
  a, b = studio.pick(0), studio.random(1, 1.0)
  np.testing.assert_array_equal(studio.mix(a, b, 0).picture, a.picture)
  np.testing.assert_array_equal(studio.mix(a, b, 1).picture, b.picture)
  quarter = studio.mix(a, b, 0.25).code
  np.testing.assert_allclose(quarter, 0.75 * a.code + 0.25 * b.code, rtol=1e-6)


def test_what_one_visitor_does_leaves_the_other_as_they_were(studio):
  mine, yours = studio.pick(1), studio.pick(1)
  studio.edit(mine, "mean", {"Smiling": 3.0}, {0: 2.0})
  np.testing.assert_array_equal(mine.code, yours.code)
  with pytest.raises(dataclasses.FrozenInstanceError):
    mine.code = yours.code


def test_a_vector_comes_back_bit_for_bit(studio):
  code = np.array([1 / 3, -1e-7, 12.345678], np.float32)
  face = studio.load(studio.card(code, None).encode())
  assert face.code.dtype == np.float32
  np.testing.assert_array_equal(face.code, code)
  np.testing.assert_array_equal(face.picture, _decoded(studio, code))


@pytest.mark.parametrize(
  "content, said",
  [
    (b"\x80\x04K\x01.", "no JSON"),
    (b"{", "no JSON"),
    (b"[" * 100_000, "no JSON"),
    (b"[1, 2, 3]", 'no "latent"'),
    (b'{"latent": [1, 2]}', "has 3 numbers; that has 2"),
    (b'{"latent": "abc"}', "has 3 numbers; that has no list"),
    (b'{"latent": 1}', "has 3 numbers; that has no list"),
    (b'{"latent": [1, 2, "3"]}', "Entry 2 of the vector is no number"),
    (b'{"latent": [1, true, 3]}', "Entry 1 of the vector is no number"),
    (b'{"latent": [NaN, 2, 3]}', "Entry 0 of the vector is nan"),
    (b'{"latent": [1, 2, -Infinity]}', "Entry 2 of the vector is -inf"),
    (b'{"latent": [1, 1e30, 2]}', "Entry 1 of the vector is 1e"),
    (b'{"latent": [1, 1' + b"0" * 999 + b", 2]}", "Entry 1 of the vector"),
    (b" " * (1 << 20) + b"{}", "at most 1 MiB"),
  ],
)
def test_a_wrong_vector_gets_a_sentence(studio, content, said):
  with pytest.raises(ConfigError, match=said) as error:
    studio.load(content)
  assert len(str(error.value)) < 200


def test_a_photo_is_encoded_and_anything_else_refused(studio):
  grey = np.full((40, 60, 3), 200, np.uint8)
  face = studio.photo(markup.png_bytes(grey))
  assert face.original.shape == (16, 16, 1)
  assert abs(int(face.original.mean()) - 200) <= 1
  code = studio.model.encode(face.original[None])[0]
  np.testing.assert_array_equal(face.code, code)
  with pytest.raises(ConfigError, match="no picture"):
    studio.photo(b"hello")


def test_there_is_no_picture_beyond_the_last(studio):
  for index in (-1, 32, 10**12):
    with pytest.raises(ConfigError, match="numbered 0 to 31"):
      studio.pick(index)


def test_the_dimensions_in_order_of_their_kl(studio):
  found = studio.latents
  source = studio.model.experiment.source("test")
  image = source.fetch(np.arange(32))["image"]
  (posterior,) = studio.model.vae.apply(
    studio.model.variables, jnp.asarray(image), method="encode"
  ).groups
  variance = np.exp(posterior.log_variance)
  kl = 0.5 * (posterior.mean**2 + variance - 1 - np.log(variance)).mean(0)
  assert found.is_kl and found.prior
  np.testing.assert_allclose(found.carried, kl, rtol=1e-4)
  assert found.order.tolist() == np.argsort(-kl).tolist()
  np.testing.assert_array_equal(found.unit, np.ones(3))


def test_the_cloud_is_clicked_on(studio):
  cloud = studio.map
  assert isinstance(cloud, maps.Cloud)
  codes = studio.latents.codes
  for i in (0, 9):
    x, y = cloud.places[i]
    assert 0 < x < 1 and 0 < y < 1
    assert cloud.nearest(float(x), float(y)) == i
    assert studio.at(float(x), float(y), studio.pick(0)).name.endswith(f" {i}")
    np.testing.assert_allclose(cloud.place(codes[i]), (x, y), atol=1e-5)
  # The plane in which the codes differ most: no other spreads them further.
  centred = codes - codes.mean(axis=0)
  spread = np.linalg.svd(centred, compute_uv=False)[:2]
  flat = centred @ (cloud.axes / np.linalg.norm(cloud.axes, axis=0))
  np.testing.assert_allclose(np.linalg.norm(flat, axis=0), spread, rtol=1e-4)
  with pytest.raises(ConfigError, match="not on the map"):
    studio.at(float("nan"), 0.5, studio.pick(0))


@pytest.mark.parametrize("prior", [True, False])
def test_a_point_of_the_plane(studio, prior):
  levels = np.sort(np.random.default_rng(0).normal(size=(2, 20)))
  if prior:
    levels = np.stack([quantiles.prior_quantiles(20)] * 2).astype(float)
  picture = np.zeros((20, 20, 1), np.uint8)
  plane = maps.Plane(picture, levels, "", prior)
  # The picture in column 4 from the left and row 17 from the top.
  code = plane.code(4.5 / 20, 17.5 / 20)
  np.testing.assert_allclose(code, [levels[0, 4], levels[1, 2]], atol=1e-5)
  x, y = plane.place(plane.code(0.33, 0.81))
  np.testing.assert_allclose([x, y], [0.33, 0.81], atol=1e-5)
  assert np.isfinite(plane.code(0, 1)).all()


def test_a_model_with_two_latents_has_a_plane(faces_dir, tmp_path):
  c = tiny_config(faces_dir, model__latent_dim=2)
  studio = _studio(c, tmp_path)
  face = studio.at(0.5 / 20, 0.5 / 20, studio.pick(0))
  np.testing.assert_allclose(face.code, [-1.96, 1.96], atol=1e-3)
  tile = studio.map.picture[:16, :16]
  np.testing.assert_allclose(face.picture.astype(int), tile, atol=1)


@pytest.mark.parametrize("condition", ["label", "attributes"])
def test_a_conditional_model_is_given_the_label(faces_dir, tmp_path, condition):
  c = tiny_config(faces_dir, model__condition=condition)
  if condition == "label":
    c.data.label = "attributes/Smiling"
  studio = _studio(c, tmp_path)
  assert studio.names == () and isinstance(studio.map, maps.Cloud)
  source = studio.model.experiment.source("test")
  label = source.fetch(np.array([4]))["label"]
  face = studio.pick(4)
  np.testing.assert_array_equal(face.label, label[0])
  picture = studio.model.decode(face.code[None], label)[0]
  np.testing.assert_array_equal(face.picture, picture)
  assert not np.array_equal(
    studio.decode(face.code, np.asarray(1 - face.label)), picture
  )
  content = studio.card(face.code, face.label).encode()
  loaded = studio.load(content, studio.pick(0))
  np.testing.assert_array_equal(loaded.picture, picture)
  wrong = json.loads(content) | {"label": 7}
  with pytest.raises(ConfigError, match="label must be"):
    studio.load(json.dumps(wrong).encode())
  with pytest.raises(ConfigError, match="has no label"):
    studio.photo(markup.png_bytes(face.original))


def test_without_a_closed_form_the_variance_orders(faces_dir, tmp_path):
  c = tiny_config(
    faces_dir,
    model__posterior__name="deterministic",
    objective__name="autoencoder",
  )
  found = _studio(c, tmp_path).latents
  assert not found.is_kl and not found.prior
  variance = found.codes.var(axis=0)
  assert found.order.tolist() == np.argsort(-variance).tolist()
  np.testing.assert_allclose(found.unit**2, variance, rtol=1e-4)


def test_no_more_of_a_split_than_asked(studio, monkeypatch):
  monkeypatch.setattr(survey, "_MOST", 5)
  assert len(survey.survey(studio.model, studio.source).codes) == 5


def test_pictures_grow_by_whole_multiples():
  rules = markup.sizes((28, 28, 1))
  assert "--big: 308px" in rules and "--phone: 168px" in rules
  assert "--big: 320px" in markup.sizes((64, 64, 3))
  assert "--big: 256px" in markup.sizes((128, 128, 3))
  picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
  large = markup.enlarged(picture)
  assert large.shape == (1024, 1024, 3)
  np.testing.assert_array_equal(large[::512, ::512], picture)
  np.testing.assert_array_equal(large[511::512, 511::512], picture)
