"""`--mode=compare`: the table, its notes and its pictures."""

import json
import pathlib

import pytest

from tests.support import programs
from vae_jax import config as config_lib
from vae_jax.modes import compare, compare_table
from vae_jax.runtime import storage


def _validation(step, beta=1.0):
  distortion = 70 + 3 * beta + 300 / (1 + step / 50)
  rate = 25 / beta**0.5 - 20 / (1 + step / 50)
  terms = {"distortion": distortion, "rate": rate, "epoch": step / 100}
  terms |= {"neg_elbo": distortion + rate, "loss": distortion + beta * rate}
  return {"step": step, "split": "validation", "num_examples": 50} | terms


def _make(folder, *, beta=1.0, evaluated=True, validated=True, **settings):
  """Writes the traces of a run; returns its folder."""
  c = config_lib.default()
  c.data.name, c.data.image_shape = "digits:1.0.0", (28, 28, 1)
  c.data.validation_split, c.data.test_split = "train[90%:]", "test"
  if beta != 1.0:
    c.objective.name, c.objective.args.beta = "beta_vae", beta
  for path, value in settings.items():
    config_lib.update(c, path.replace("__", "."), value)
  folder.mkdir(parents=True)
  (folder / "config.json").write_text(config_lib.to_json(c))
  rows = []
  for step in range(10, 1001, 10):
    row = _validation(step, beta)
    rows.append({"step": step, "split": "train", "loss": row["loss"] - 2})
    rows += [row] if validated and step % 100 == 0 else []
  lines = [json.dumps(r) + "\n" for r in rows]
  (folder / "metrics.jsonl").write_text("".join(lines))
  if evaluated:
    about = {"data": c.data.name, "seed": 0, "data_split": c.data.test_split}
    bits = {"bits_per_dim": 0.1834, "bits_of": "probability"}
    result = _validation(1000, beta) | {"split": "test", **about, **bits}
    storage.write_json(folder / "eval" / "test.json", result)
  return str(folder)


def _evaluation(workdir, split="test", **values):
  path = pathlib.Path(workdir) / "eval" / f"{split}.json"
  old = json.loads(path.read_text()) if path.exists() else {}
  storage.write_json(path, old | values)


@pytest.fixture
def compared(tmp_path, monkeypatch):
  """Returns a function that compares runs, without pictures; it returns their
  rows and their table."""
  monkeypatch.setattr(compare, "_draw", lambda *args: None)

  def compared(*runs, width=300):
    rows = compare.compare(runs, tmp_path / "out")
    return rows, compare_table.table(rows, width=width)

  return compared


def test_comparison_writes_table_and_pictures(tmp_path):
  runs = [_make(tmp_path / "a"), _make(tmp_path / "b", beta=4.0)]
  folder = tmp_path / "out"
  rows = compare.compare(runs, folder)
  assert sorted(p.name for p in folder.iterdir()) == [
    *("compare.json", "compare.md"),
    *("learning_curves.png", "rate_distortion.png"),
  ]
  assert json.loads((folder / "compare.json").read_text()) == rows
  expected = _validation(1000, 4.0)
  assert rows[1] == {
    "name": "b",
    "workdir": str(tmp_path / "b"),
    "objective": "beta_vae beta=4",
    "split": "test",
    "data_split": "test",
    "evaluated": True,
    "checkpoint": None,
    "features": None,
    "trained_to": 1000,
    "step": 1000,
    "bits_per_dim": 0.1834,
    "settings": {"objective.args.beta": 4.0, "objective.name": "beta_vae"},
    **{k: expected[k] for k in ("neg_elbo", "distortion", "rate", "loss")},
  }
  # A picture of a comparison that had more is not left behind.
  runs = [_make(tmp_path / "c", evaluated=False, validated=False)]
  compare.compare(runs, folder)
  assert len(list(folder.iterdir())) == 2


def test_table_aligns_numbers_below_heads(tmp_path, compared):
  a, b = _make(tmp_path / "a"), _make(tmp_path / "a_longer_name", beta=4.0)
  c = _make(tmp_path / "c", evaluated=False, validated=False)
  _evaluation(a, active_units=12, disentanglement={"mig": 0.25, "how": "x"})
  lines = compared(a, b, c)[1].splitlines()
  assert lines[0].split() == [
    *("name", "objective", "split", "step", "neg_elbo", "distortion", "rate"),
    *("bits_per_dim", "active_units", "mig", "loss"),
  ]
  assert lines[2].split() == [
    *("a", "elbo", "test", "1,000", "111.33", "87.286", "24.048"),
    *("0.1834", "12", "0.2500", "111.33"),
  ]
  assert lines[3].split()[-4:] == ["0.1834", "-", "-", "142.48"]
  assert lines[4].split() == ["c", "elbo", *"-" * 9]
  assert len({len(line) for line in lines[:4]}) == 1
  # Each column stands where its head is.
  for head in ("neg_elbo", "rate", "mig"):
    end = lines[0].index(f" {head} ") + len(head) + 1
    assert all(x[end] == " " and x[end - 1] != " " for x in lines[:5])
  assert "No validation yet: c." in lines
  assert "Not comparable" not in "".join(lines)
  written = (tmp_path / "out" / "compare.md").read_text().splitlines()
  cells = [c.strip() for c in written[2].strip("|").split("|")]
  assert cells == lines[2].split()


def test_narrow_table_continues_in_blocks(tmp_path, compared):
  blocks = compared(_make(tmp_path / "a"), width=40)[1].split("\n\n")[:-1]
  assert len(blocks) > 1
  for block in blocks:
    lines = block.splitlines()
    assert lines[0].startswith("name") and lines[2].startswith("a ")
    assert max(map(len, lines)) <= 40
  heads = [w for block in blocks for w in block.split("\n")[0].split()]
  assert len(set(heads)) == len(heads) - (len(blocks) - 1)


def test_run_without_evaluation_shows_its_validation(tmp_path, compared):
  a, b = _make(tmp_path / "a"), _make(tmp_path / "b", evaluated=False)
  rows, text = compared(a, b)
  assert rows[1]["step"] == 1000 and not rows[1]["evaluated"]
  assert rows[1]["neg_elbo"] == rows[0]["neg_elbo"]
  for words in (
    "validation*",
    "has not been run for b.",
    "Not comparable, for these differ: split (test: a; train[90%:]: b).",
  ):
    assert words in text


def test_split_test_precedes_validation_and_train(tmp_path, compared):
  run = _make(tmp_path / "a", evaluated=False)
  for split, value in (("train", 1.0), ("validation", 2.0), ("test", 3.0)):
    _evaluation(run, split, neg_elbo=value, step=7)
    ((row,), _) = compared(run)
    assert (row["split"], row["neg_elbo"]) == (split, value)
    assert row["evaluated"]


@pytest.mark.parametrize(
  "setting, value",
  [
    ("data__name", "letters:1.0.0"),
    ("data__test_split", "test[:10]"),
    ("data__binarization", "dynamic"),
    ("data__resize", 14),
    ("model__likelihood__name", "gaussian"),
  ],
)
def test_notes_name_settings_that_prevent_comparison(
  tmp_path, compared, setting, value
):
  a, b = _make(tmp_path / "a"), _make(tmp_path / "b", **{setting: value})
  lines = compared(a, b)[1].splitlines()
  (line,) = (x for x in lines if x.startswith("Not comparable"))
  assert f"{value}: b" in line and line.endswith(".")


def test_notes_name_checkpoints_and_features_that_differ(tmp_path, compared):
  a, b = _make(tmp_path / "a"), _make(tmp_path / "b")
  for run, name, features in ((a, "latest", "Inception"), (b, "best", "codes")):
    _evaluation(run, checkpoint=name, fidelity={"features": features})
  _evaluation(a, step=500)
  notes = compared(a, b)[1].splitlines()
  assert "Trained on since the evaluation: a (step 500 of 1000)." in notes
  assert (
    "Not comparable, for these differ: checkpoint (latest: a; best: b), "
    "features (Inception: a; codes: b)." in notes
  )


def test_notes_list_other_settings_but_no_paths(tmp_path, compared):
  a = _make(tmp_path / "a", data__dir="/here", optim__learning_rate=0.01)
  b = _make(tmp_path / "b", data__dir="/there")
  assert compared(a, b)[1].endswith(
    "Other settings that differ: optim.learning_rate (0.01: a; 0.001: b)."
  )


def test_settings_newer_or_older_than_a_run_are_read(tmp_path, compared):
  a, b = _make(tmp_path / "a"), _make(tmp_path / "b")
  path = pathlib.Path(b) / "config.json"
  saved = json.loads(path.read_text())
  del saved["data"]["grayscale"]
  saved["data"]["gone"] = 1
  path.write_text(json.dumps(saved))
  rows, _ = compared(a, b)
  assert [r["settings"] for r in rows] == [{}, {"data.gone": 1}]


def test_equal_names_become_paths_and_folders_count_once(tmp_path, compared):
  a, b = _make(tmp_path / "x" / "run"), _make(tmp_path / "y" / "run")
  rows, _ = compared(a, b, a + "/")
  assert [r["name"] for r in rows] == [a, b]


def test_table_omits_values_that_are_not_finite(tmp_path, compared):
  a, b = _make(tmp_path / "a"), _make(tmp_path / "b")
  _evaluation(a, neg_elbo=None, rate=0.0)
  _evaluation(b, neg_elbo=1e30, rate=-0.0)
  rows, text = compared(a, b)
  assert "neg_elbo" not in rows[0]
  assert "1e+30" in text and "0.0000" in text


@pytest.mark.parametrize(
  "words, message",
  [
    (["--workdirs={a},{a}/nowhere"], "There is no run in"),
    ([], "--workdirs=runs/a,runs/b"),
    (["--workdirs={a}", "--mode=sample"], "--workdirs is for --mode=compare"),
    (["--workdirs={a}", "--workdir={out}"], ""),
  ],
)
def test_command_compares_or_refuses(tmp_path, words, message):
  a = _make(tmp_path / "a")
  words = [w.format(a=a, out=tmp_path / "out") for w in words]
  words = ["-m", "vae_jax.main", "--mode=compare", *words]
  done = programs.python(*words, cwd=tmp_path, code=2 if message else 0)
  assert "Traceback" not in done.stderr
  if message:
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
  else:
    assert "neg_elbo" in done.stdout
    assert (tmp_path / "out" / "rate_distortion.png").exists()
