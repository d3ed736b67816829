"""Labels of folders: columns of `metadata.csv`."""

import unicodedata

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support.pictures import contents, fails, numbered, opened, write

pytestmark = pytest.mark.usefixtures("own_index")


def table(root, text, folder=""):
  (root / folder / "metadata.csv").write_text(text)


ROWS = [
  f"{i:03d}.png,{('dog', 'cat')[i % 2]},{i},{i % 3 == 0},{2 * (i % 5 == 0) - 1}"
  for i in range(20)
]
TABLE = "file_name,kind,age,Smiling,Young\n" + "\n".join(ROWS) + "\n"


@pytest.mark.parametrize(
  "label, names, values, dtype",
  [
    ("", ("Smiling", "Young"), lambda i: [i % 3 == 0, i % 5 == 0], np.uint8),
    (
      "attributes",
      ("Smiling", "Young"),
      lambda i: [i % 3 == 0, i % 5 == 0],
      np.uint8,
    ),
    ("kind", ("cat", "dog"), lambda i: i % 2 == 0, np.int32),
    ("age", None, lambda i: i, np.int32),
    ("Smiling", ("not Smiling", "Smiling"), lambda i: i % 3 == 0, np.int32),
    (
      "attributes/Young",
      ("not Young", "Young"),
      lambda i: i % 5 == 0,
      np.int32,
    ),
  ],
)
def test_columns_of_metadata_are_labels(tmp_path, label, names, values, dtype):
  write(tmp_path, numbered(20))
  table(tmp_path, TABLE)
  splits = opened(tmp_path, label=label)
  assert splits.label_names == names
  for batch in contents(splits).values():
    i = batch["image"][:, 0, 0, 0].astype(int)
    assert_array_equal(batch["label"], np.array(values(i)).T)
    assert batch["label"].dtype == dtype


@pytest.mark.parametrize(
  "text, label, messages",
  [
    (TABLE, "Smilin", ["'Smilin' is no column", "did you mean 'Smiling'?"]),
    (TABLE.replace("file_name", "file"), "", ["has no column file_name"]),
    (TABLE + "000.png,cat,1,1,1\n", "", ["two rows for 000.png"]),
    (TABLE.replace("003.png", "x.png"), "", ["1 pictures", "003.png first"]),
    (TABLE + "a.png,1\n", "", ["metadata.csv, line 22", "5 values"]),
    (TABLE.replace(",7,", ",99999999999,"), "age", ["row [7] is 99999999999"]),
  ],
)
def test_wrong_metadata_are_refused(tmp_path, text, label, messages):
  write(tmp_path, numbered(20))
  table(tmp_path, text)
  fails(tmp_path, *messages, label=label)


def test_metadata_may_lie_in_the_folders_of_splits(tmp_path):
  parts = {"train": range(6), "validation": range(6, 8), "test": range(8, 10)}
  for name, rows in parts.items():
    write(tmp_path / name, numbered(10)[list(rows)])
    lines = [f"{i:03d}.png,{row % 4}" for i, row in enumerate(rows)]
    table(tmp_path, "\n".join(["file_name,label", *lines]), name)
  for batch in contents(opened(tmp_path)).values():
    assert_array_equal(batch["label"], batch["image"][:, 0, 0, 0] % 4)
  (tmp_path / "train" / "metadata.csv").unlink()
  fails(tmp_path, "6 pictures", "have no row in metadata.csv")
  fails(tmp_path / "train", "'age', but", "has no metadata.csv", label="age")


def test_accents_are_the_same_in_any_spelling_and_other_encodings_refused(
  tmp_path,
):
  names = [f"{letter}.png" for letter in "áéíóú"]
  write(tmp_path, numbered(5), [unicodedata.normalize("NFD", n) for n in names])
  text = "\n".join(
    ["file_name,label", *(f"{n},{i}" for i, n in enumerate(names))]
  )
  table(tmp_path, text)
  for batch in contents(opened(tmp_path)).values():
    assert_array_equal(batch["label"], batch["image"][:, 0, 0, 0])
  (tmp_path / "metadata.csv").write_bytes(text.encode("latin-1"))
  fails(tmp_path, "metadata.csv cannot be read as UTF-8 text")


def test_rows_without_a_picture_are_counted_and_named(tmp_path):
  names = write(tmp_path, numbered(6))
  lines = [f"{name},{i % 2}" for i, name in enumerate(names)]
  table(tmp_path, "\n".join(["file_name,label", *lines]))
  known = opened(tmp_path).lines
  gone = [f"gone{i:02d}.png,1" for i in range(12)]
  table(tmp_path, "\n".join(["file_name,label", *gone, *lines]))
  splits = opened(tmp_path)
  (line,) = set(splits.lines) - set(known)
  named = "; ".join(f"gone{i:02d}.png" for i in range(10))
  assert line == f"12 rows of metadata.csv name no picture: {named}; ..."
  assert splits.train.label_shape == ()
  # Both sides of a misspelt name.
  table(tmp_path, "\n".join(["file_name,label", *lines[1:], "00O.png,1"]))
  fails(tmp_path, "1 pictures in", "000.png first; 1 rows of", "00O.png")


@pytest.mark.parametrize(
  "place",
  [
    lambda root, name: str(root / "in" / name),
    lambda root, name: f"in\\{name}",
    lambda root, name: f" ./in//{name} ",
    lambda root, name: f'"in/{name}"',
  ],
  ids=["absolute", "windows", "spaces", "quotes"],
)
def test_paths_are_written_in_many_ways(place, tmp_path):
  names = write(tmp_path / "in", numbered(6))
  lines = [f"{place(tmp_path, name)}, {i}" for i, name in enumerate(names)]
  # As Excel saves it.
  text = "\ufeff" + "\r\n".join([" file_name , label", *lines, ""])
  (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
  splits = opened(tmp_path)
  for batch in contents(splits).values():
    assert_array_equal(batch["label"], batch["image"][:, 0, 0, 0])
  assert not any("name no picture" in line for line in splits.lines)


@pytest.mark.parametrize(
  "text, parts",
  [
    ("file_name;label\n000.png;1\n", ("no column file_name", "by ';'")),
    ("file_name,label,label\n000.png,1,2\n", ("two columns 'label'",)),
    ("file_name,label\n,1\n000.png,1\n", ("line 2", "its file_name is empty")),
    (
      "file_name,label\n000.png,1\n./000.png,1\n",
      ("line 3", "two rows for 000.png"),
    ),
    ("", ("no column file_name",)),
  ],
)
def test_a_wrong_table_is_named_with_its_line(text, parts, tmp_path):
  write(tmp_path, numbered(6))
  table(tmp_path, text)
  fails(tmp_path, f"{tmp_path}/metadata.csv", *parts)
