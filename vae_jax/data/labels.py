"""Labels of one's own data: classes, integers or attributes, checked."""

import csv
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer, Shaped

from vae_jax.data import errors

METADATA = "metadata.csv"
_FILE = "file_name"
_BITS = {"0": 0, "1": 1, "-1": 0, "false": 0, "true": 1, "no": 0, "yes": 1}
_SHOWN = 10  # Classes, or rows, that a line names.


@dataclasses.dataclass(frozen=True)
class Column:
  """The label of each example.

  Attributes:
    values: int32 [n] of class ids, or uint8 [n k] of attributes.
    names: of the classes or attributes; None for plain integers.
  """

  values: Integer[np.ndarray, "n ..."]
  names: tuple[str, ...] | None

  def describe(self) -> str:
    """Returns a line with the number of examples of each class."""
    if self.values.ndim == 2:
      names = self.names or map(str, range(self.values.shape[1]))
      counts = dict(zip(names, self.values.sum(0), strict=True))
      kind = "attributes"
    else:
      ids, numbers = np.unique(self.values, return_counts=True)
      names = [self.names[i] if self.names else str(i) for i in ids]
      counts, kind = dict(zip(names, numbers, strict=True)), "classes"
    shown = [f"{name} {int(n):,}" for name, n in counts.items()][:_SHOWN]
    more = ", ..." if len(counts) > _SHOWN else ""
    return f"{len(counts)} {kind}: {', '.join(shown)}{more}"


def classes(words: Sequence[str]) -> Column:
  """Returns words as class ids, in the order of the sorted words."""
  names, ids = np.unique(np.array(words), return_inverse=True)
  return Column(ids.astype(np.int32), tuple(map(str, names)))


def integers(
  values: Shaped[np.ndarray, "n ..."], where: str
) -> Integer[np.ndarray, "n ..."]:
  """Returns integers as int32.

  Raises:
    DataError: they are no integers, or do not fit; the message starts with
      `where` and names the position.
  """
  if values.dtype.kind not in "iub":
    raise errors.DataError(
      f"{where} is of type {values.dtype}; labels must be integers or bits"
    )
  limits = np.iinfo(np.int32)
  wrong = np.argwhere((values < limits.min) | (values > limits.max))
  if len(wrong):
    at = tuple(map(int, wrong[0]))
    raise errors.DataError(
      f"{where}{list(at)} is {values[at]}; labels must lie below 2**31"
    )
  return values.astype(np.int32)


def select(
  table: Mapping[str, Sequence[str]], wanted: str, where: str
) -> Column | None:
  """Chooses the label among the columns of a table.

  Args:
    table: the words of each column.
    wanted: the name of a column, also as `attributes/NAME`; `attributes` = all
      columns of bits; "" = the column `label`, else all columns of bits.
    where: of the table, for messages.

  Raises:
    DataError: there is no such column.
  """
  bits = {
    name: [_BITS[word.strip().lower()] for word in words]
    for name, words in table.items()
    if {word.strip().lower() for word in words} <= _BITS.keys()
  }
  name = wanted.removeprefix("attributes/")
  if wanted in ("", "attributes"):
    if wanted == "" and "label" in table:
      name = "label"
    elif bits:
      values = np.array(list(bits.values()), np.uint8).T
      return Column(np.ascontiguousarray(values), tuple(bits))
    elif wanted == "":
      return None
  if name not in table:
    raise errors.DataError(
      f"--config.data.label={wanted!r} is no column of {where}"
      f"{errors.suggest(name, table)}"
    )
  if name in bits and name != "label":
    names = (f"not {name}", name)
    return Column(np.array(bits[name], np.int32), names)
  try:
    numbers = np.array([int(word) for word in table[name]])
  except ValueError:
    return classes([word.strip() for word in table[name]])
  return Column(integers(numbers, f"column {name} of {where}, row "), None)


def read_metadata(
  root: pathlib.Path, paths: list[str]
) -> tuple[dict[str, list[str]] | None, list[str]]:
  """Returns the columns of all `metadata.csv`, in the order of the pictures,
  None without such a file; and a line about rows without a picture.

  Raises:
    DataError: a file is damaged, or a picture has no row.
  """
  rows: dict[str, dict[str, str]] = {}
  tables = sorted(root.rglob(METADATA))
  for table in tables:
    try:
      _read_rows(table, root, rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
      raise errors.DataError(
        f"{table} cannot be read as UTF-8 text with commas ({error})"
      ) from error
  if not tables:
    return None, []
  # Systems differ in how they write an accent.
  keys = [unicodedata.normalize("NFC", path) for path in paths]
  spare = rows.keys() - keys
  # Pictures that cannot be read, and other files, have lines elsewhere.
  spare = sorted(path for path in spare if not (root / path).exists())
  line = f"{len(spare)} rows of {METADATA} name no picture: " + "; ".join(
    [*spare[:_SHOWN], *(["..."] if len(spare) > _SHOWN else [])]
  )
  lines = [line] if spare else []
  absent = [path for path in keys if path not in rows]
  if absent:
    raise errors.DataError(
      f"{len(absent)} pictures in {root} have no row in {METADATA}, "
      f"{absent[0]} first{''.join(f'; {line}' for line in lines)}"
    )
  names = list(rows[keys[0]])
  for key in keys:
    if list(rows[key]) != names:
      raise errors.DataError(f"the {METADATA} of {key} has other columns")
  columns = {name: [rows[key][name] for key in keys] for name in names}
  return columns, lines


def _read_rows(
  table: pathlib.Path, root: pathlib.Path, rows: dict[str, dict[str, str]]
) -> None:
  """Adds the rows of a table, by the path of the picture below the root."""
  with table.open(newline="", encoding="utf-8-sig") as file:
    reader = csv.DictReader(file)
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    _check_header(table, names)
    for row in reader:
      where = f"{table}, line {reader.line_num}"
      if None in row or None in row.values():
        raise errors.DataError(
          f"{where}: it does not have {len(names)} values, one for each column"
        )
      path = _place(table, row.pop(_FILE), root, where)
      if path in rows:
        raise errors.DataError(f"{where}: there are two rows for {path}")
      rows[path] = row


def _check_header(table: pathlib.Path, names: list[str]) -> None:
  if _FILE not in names:
    other = next((c for c in ";\t|" if c in "".join(names)), None)
    hint = f"; its columns are separated by {other!r}" if other else ""
    raise errors.DataError(
      f"{table} has no column {_FILE}: its first line must name columns, "
      "separated by commas, of which file_name is the path of a picture below "
      f"that folder{hint}"
    )
  double = [name for name in names if names.count(name) > 1]
  if double:
    raise errors.DataError(f"{table} has two columns {double[0]!r}")


def _place(
  table: pathlib.Path, name: str, root: pathlib.Path, where: str
) -> str:
  """Returns the path of a picture below the root, from a row's file_name."""
  if not name.strip():
    raise errors.DataError(f"{where}: its {_FILE} is empty")
  # As Windows writes paths, unless that is the name of a file here.
  if "\\" in name and not (table.parent / name).exists():
    name = name.replace("\\", "/")
  if not (table.parent / name).exists():
    name = name.strip()
  path = os.path.relpath(table.parent / name, root)
  return unicodedata.normalize("NFC", path)
