"""The editor behind the page: codes in, pictures out."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.support.tiny import tiny_config, untrained, with_config
from vae_jax.config import ConfigError
from vae_jax.evaluate import attribute_edits
from vae_jax.figures import png
from vae_jax.latents import density, directions, nonlinear_directions, quantiles
from vae_jax.modes.explore import editor as editor_lib
from vae_jax.modes.explore import maps, vector_file


def _editor(data_dir, folder, **settings):
  model = untrained(tiny_config(data_dir, **settings), folder)
  return editor_lib.open_editor(model)


def _decoded(editor, code):
  return editor.model.decode(code[None].astype(np.float32))[0]


def test_picked_point_is_the_reconstruction_of_a_test_picture(editor):
  data = editor.model.experiment.source("test").fetch(np.array([5]))
  code = editor.model.encode(data["image"])[0]
  point = editor.pick(5)
  assert_array_equal(point.original, data["image"][0])
  assert_array_equal(point.code, code)
  assert_array_equal(point.picture, _decoded(editor, code))
  for index in (-1, 32, 10**12):
    with pytest.raises(ConfigError, match="numbered 0 to 31"):
      editor.pick(index)


def test_sliders_at_zero_change_no_bit_and_far_ones_are_clipped(editor):
  point = editor.pick(3)
  zeros = dict.fromkeys(editor.names, 0.0), dict.fromkeys(range(3), 0)
  for kind in attribute_edits.KINDS:
    code = editor.edit(point, kind, *zeros)
    assert_array_equal(code, point.code)
    assert_array_equal(editor.decode(code), point.picture)
    far = editor.edit(point, kind, {"Smiling": 1e9}, {0: -np.inf})
    near = editor.edit(point, kind, {"Smiling": 10.0}, {0: -10.0})
    assert_array_equal(far, near)
    same = editor.edit(point, kind, {"Smiling": np.nan}, {})
    assert_array_equal(same, point.code)


@pytest.mark.parametrize("k, kind", list(enumerate(directions.KINDS)))
def test_slider_at_one_adds_the_direction(editor, k, kind):
  point = editor.pick(3)
  linear = directions.load(editor.model.workdir / "attributes/directions.npz")
  step = linear.vectors[k, linear.names.index("Smiling")]
  assert np.abs(step).max() > 0
  strengths = {"Smiling": 1.0, "Wearing_Hat": 0.0}
  code = editor.edit(point, kind, strengths, {0: 0.0})
  assert_array_equal(code, point.code + step)
  picture = editor.decode(code)
  assert_array_equal(picture, _decoded(editor, point.code + step))


def test_nonlinear_direction_starts_at_the_code(editor):
  point = editor.pick(3)
  path = editor.model.workdir / "attributes/curves.npz"
  nonlinear = nonlinear_directions.load(path)
  code = editor.edit(point, "curved", {"Smiling": 0.5}, {1: 2})
  walked = nonlinear.walk(point.code[None], {"Smiling": 0.5}, np.ones(1))[0, 0]
  assert np.abs(walked - point.code).max() > 0
  offset = 2 * editor.scale[1] * np.eye(3, dtype=np.float32)[1]
  assert_allclose(code, walked + offset, rtol=1e-4, atol=1e-5)


def test_strengths_and_offsets_add_up_and_alter_no_point(editor):
  point, same = editor.pick(0), editor.pick(0)
  smile = editor.vectors[1, editor.names.index("Smiling")]
  code = editor.edit(point, "balanced", {"Smiling": -2.0}, {1: 0.5, 2: -1})
  expected = point.code - 2 * smile + np.array([0, 0.5, -1], np.float32)
  assert_allclose(code, expected, rtol=1e-6)
  assert_array_equal(point.code, same.code)
  with pytest.raises(dataclasses.FrozenInstanceError):
    point.code = code


def test_smile_comes_first_and_undefined_directions_are_left_out(editor):
  assert editor.names[0] == "Smiling"
  assert np.isfinite(editor.vectors).all()
  linear = directions.load(editor.model.workdir / "attributes/directions.npz")
  alive = np.isfinite(linear.vectors).all(axis=(0, 2))
  assert set(editor.names) == set(np.array(linear.names)[alive])
  accuracy = [linear.accuracy[linear.names.index(n)] for n in editor.names[1:]]
  assert accuracy == sorted(accuracy, reverse=True)


def test_random_point_is_a_function_of_seed_and_temperature(editor):
  one, again = editor.random(7, 0.5), editor.random(7, 0.5)
  assert_array_equal(one.code, again.code)
  assert_array_equal(one.picture, again.picture)
  assert not np.array_equal(editor.random(8, 0.5).code, one.code)
  assert_allclose(2 * one.code, editor.random(7, 1.0).code)
  # The first of the run's own samples with that seed.
  config = editor.model.config.copy_and_resolve_references()
  config.sample.seed, config.sample.temperature = 7, 0.5
  model = with_config(editor.model, config)
  assert_array_equal(one.picture, model.draws(np.zeros(1, np.int32))[0])


def test_random_point_is_drawn_from_the_density(editor):
  name = "gaussian_mixture"
  shown = dataclasses.replace(editor, density=name)
  point = shown.random(7, 1.0)
  assert_array_equal(point.picture, editor.decode(point.code))
  drawn = editor.model.sample(1, seed=7, density=name)
  assert_allclose(point.picture.astype(int), drawn[0], atol=1)
  # Without deviation it is the mean of a component.
  fitted = density.applied(editor.model, name).variables["density"]
  means = fitted["latent_prior"]["arrays"]["mean"]
  distance = np.abs(means - shown.random(7, 0.0).code)
  assert distance.max(-1).min() < 1e-5


def test_mixture_goes_from_one_point_to_the_other(editor):
  a, b = editor.pick(0), editor.random(1, 1.0)
  assert_array_equal(editor.mix(a, b, 0).picture, a.picture)
  assert_array_equal(editor.mix(a, b, 1).picture, b.picture)
  quarter = editor.mix(a, b, 0.25).code
  assert_allclose(quarter, 0.75 * a.code + 0.25 * b.code, rtol=1e-6)


def test_saved_vector_loads_bit_for_bit(editor):
  code = np.array([1 / 3, -1e-7, 12.345678], np.float32)
  point = editor.load(vector_file.write(code, None, 0).encode())
  assert point.code.dtype == np.float32
  assert_array_equal(point.code, code)
  assert_array_equal(point.picture, _decoded(editor, code))


@pytest.mark.parametrize(
  "content, message",
  [
    (b"\x80\x04K\x01.", "no JSON file"),
    (b"{", "no JSON file"),
    (b"[" * 100_000, "no JSON file"),
    (b"[1, 2, 3]", 'no "latent"'),
    (b'{"latent": [1, 2]}', "has 3 numbers; this one has 2"),
    (b'{"latent": "abc"}', "has 3 numbers; this one has no list"),
    (b'{"latent": 1}', "has 3 numbers; this one has no list"),
    (b'{"latent": [1, 2, "3"]}', "Entry 2 of the vector is no number"),
    (b'{"latent": [1, true, 3]}', "Entry 1 of the vector is no number"),
    (b'{"latent": [NaN, 2, 3]}', "Entry 0 of the vector is nan"),
    (b'{"latent": [1, 2, -Infinity]}', "Entry 2 of the vector is -inf"),
    (b'{"latent": [1, 1e30, 2]}', "Entry 1 of the vector is 1e"),
    (b'{"latent": [1, 1' + b"0" * 999 + b", 2]}", "Entry 1 of the vector"),
    (b" " * (1 << 20) + b"{}", "at most 1 MiB"),
  ],
)
def test_wrong_vector_raises_a_short_error(editor, content, message):
  with pytest.raises(ConfigError, match=message) as error:
    editor.load(content)
  assert len(str(error.value)) < 200


def test_photo_is_encoded_and_other_files_are_refused(editor):
  gray = np.full((40, 60, 3), 200, np.uint8)
  point = editor.photo(png.encode(gray))
  assert point.original.shape == (16, 16, 1)
  assert abs(int(point.original.mean()) - 200) <= 1
  code = editor.model.encode(point.original[None])[0]
  assert_array_equal(point.code, code)
  with pytest.raises(ConfigError, match="not an image"):
    editor.photo(b"hello")


def test_dimensions_are_in_order_of_their_kl(editor):
  source = editor.model.experiment.source("test")
  image = source.fetch(np.arange(32))["image"]
  (posterior,) = editor.model.vae.apply(
    editor.model.variables, jnp.asarray(image), method="encode"
  ).groups
  variance = np.exp(posterior.log_variance)
  kl = 0.5 * (posterior.mean**2 + variance - 1 - np.log(variance)).mean(0)
  assert editor.ranking.measure == "KL" and editor.standard_prior
  assert_allclose(editor.ranking.carried, kl, rtol=1e-4)
  assert editor.ranking.order.tolist() == np.argsort(-kl).tolist()
  assert_array_equal(editor.scale, np.ones(3))
  shorter = editor_lib.open_editor(editor.model, ranked=5)
  assert len(shorter.ranking.codes) == 5


def test_click_on_the_cloud_picks_the_nearest_code(editor):
  cloud = editor.map
  assert isinstance(cloud, maps.Cloud)
  codes = editor.ranking.codes
  for i in (0, 9):
    x, y = cloud.places[i]
    assert 0 < x < 1 and 0 < y < 1
    assert cloud.nearest(float(x), float(y)) == i
    assert editor.at(float(x), float(y), None).name.endswith(f" {i}")
    assert_allclose(cloud.place(codes[i]), (x, y), atol=1e-5)
  # The plane in which the codes differ most: no other spreads them further.
  centred = codes - codes.mean(axis=0)
  spread = np.linalg.svd(centred, compute_uv=False)[:2]
  flat = centred @ (cloud.axes / np.linalg.norm(cloud.axes, axis=0))
  assert_allclose(np.linalg.norm(flat, axis=0), spread, rtol=1e-4)
  with pytest.raises(ConfigError, match="not on the map"):
    editor.at(float("nan"), 0.5, None)


@pytest.mark.parametrize("prior", [True, False])
def test_plane_maps_places_to_codes_and_back(editor, prior):
  levels = np.sort(np.random.default_rng(0).normal(size=(2, 20)))
  if prior:
    levels = np.stack([quantiles.prior_quantiles(20)] * 2).astype(float)
  picture = np.zeros((20, 20, 1), np.uint8)
  plane = maps.Plane(picture, levels, "", prior)
  # The picture in column 4 from the left and row 17 from the top.
  code = plane.code(4.5 / 20, 17.5 / 20)
  assert_allclose(code, [levels[0, 4], levels[1, 2]], atol=1e-5)
  x, y = plane.place(plane.code(0.33, 0.81))
  assert_allclose([x, y], [0.33, 0.81], atol=1e-5)
  assert np.isfinite(plane.code(0, 1)).all()


def test_model_with_two_latents_has_a_plane(faces_dir, tmp_path):
  editor = _editor(faces_dir, tmp_path, model__latent_dim=2)
  point = editor.at(0.5 / 20, 0.5 / 20, None)
  assert_allclose(point.code, [-1.96, 1.96], atol=1e-3)
  tile = editor.map.picture[:16, :16]
  assert_allclose(point.picture.astype(int), tile, atol=1)


@pytest.mark.parametrize("condition", ["label", "attributes"])
def test_conditional_model_reads_the_label(faces_dir, tmp_path, condition):
  label = {"data__label": "attributes/Smiling"} if condition == "label" else {}
  editor = _editor(faces_dir, tmp_path, model__condition=condition, **label)
  assert editor.names == () and isinstance(editor.map, maps.Cloud)
  source = editor.model.experiment.source("test")
  label = source.fetch(np.array([4]))["label"]
  point = editor.pick(4)
  assert_array_equal(point.label, label[0])
  picture = editor.model.decode(point.code[None], label)[0]
  assert_array_equal(point.picture, picture)
  other = editor.decode(point.code, np.asarray(1 - point.label))
  assert not np.array_equal(other, picture)
  content = vector_file.write(point.code, point.label, 0).encode()
  loaded = editor.load(content, editor.pick(0).label)
  assert_array_equal(loaded.picture, picture)
  wrong = json.loads(content) | {"label": 7}
  with pytest.raises(ConfigError, match="label must be"):
    editor.load(json.dumps(wrong).encode())
  photo = png.encode(point.original)
  with pytest.raises(ConfigError, match="the images need a label each"):
    editor.photo(photo)
  assert_array_equal(editor.photo(photo, point.label).picture, picture)
  # A label in words and back; another one changes the picture alone.
  again = editor.relabel(point, editor.words(point.label))
  assert_array_equal(again.picture, picture)
  words = {
    "label": editor.conditions[int(1 - point.label)]
    if condition == "label"
    else None
  }
  changed = editor.relabel(point, words["label"] or ["Smiling"])
  assert_array_equal(changed.code, point.code)
  assert not np.array_equal(changed.picture, picture)


def test_dimensions_without_a_kl_are_sorted_by_spread(faces_dir, tmp_path):
  settings = {"model__posterior__name": "deterministic"}
  settings["objective__name"] = "autoencoder"
  editor = _editor(faces_dir, tmp_path, **settings)
  assert editor.ranking.measure == "std" and not editor.standard_prior
  variance = editor.ranking.codes.var(axis=0)
  assert editor.ranking.order.tolist() == np.argsort(-variance).tolist()
  assert_allclose(editor.scale**2, variance, rtol=1e-4)
