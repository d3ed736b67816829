"""What devices send one another in a step, read from the compiled program.

The text of a compiled program names each collective operation with the types
of its results. A loop whose number of rounds the compiler knows counts so
often; any other, as the loop over the steps of a dispatch, counts once.
"""

import collections
import math
import re
from collections.abc import Callable

_Bytes = collections.Counter[str]
_KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
# `%name (arguments) -> type {` or `ENTRY %name (arguments) -> type {`.
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
# Of an operation in two halves, the second gives the result.
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(_KINDS)})(?:-done)?\(")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(
  r"\b(?:(?:true|false)_computation=%?([\w.\-]+)|"
  r"branch_computations=\{([^}]*)\})"
)
_ROUNDS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def bytes_per_step(text: str) -> dict[str, int]:
  """Returns bytes by kind of collective, of one step on one device.

  The bytes are those of the results: of an all-reduce as many as each device
  puts in, of an all-gather those from all devices.

  Args:
    text: `compiled.as_text()` of a program with one loop over steps.
  """
  computations, entry = _computations(text)
  counted: dict[str, _Bytes] = {}

  def count(name: str) -> _Bytes:
    if name not in counted:
      counted[name] = collections.Counter()
      for line in computations.get(name, ()):
        counted[name].update(_of_line(line, count))
    return counted[name]

  return dict(count(entry))


def describe(exchanged: dict[str, int]) -> str:
  """Returns the bytes by kind in words, as "all-reduce 1.2 kB per step"."""
  words = [f"{k} {v:,} bytes" for k, v in exchanged.items()]
  return f"{', '.join(words) or 'nothing'} per step and device"


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Returns the lines of each computation, and which of them is the program."""
  computations: dict[str, list[str]] = {}
  lines: list[str] = []
  entry = ""
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head:
      lines = computations.setdefault(head.group(2), [])
      entry = head.group(2) if head.group(1) else entry
    else:
      lines.append(line)
  return computations, entry


def _of_line(line: str, count: Callable[[str], _Bytes]) -> _Bytes:
  found = _COLLECTIVE.search(line)
  if found:
    return collections.Counter({found.group(2): _bytes(found.group(1))})
  total: _Bytes = collections.Counter()
  # Of alternatives all devices take the same one: the largest.
  for names in _BRANCHES.findall(line):
    for name in ",".join(names).split(","):
      total |= count(name.strip(" %"))
  rounds = _ROUNDS.search(line)
  for name in _CALLED.findall(line):
    for kind, size in count(name).items():
      total[kind] += size * (int(rounds.group(1)) if rounds else 1)
  return total


def _bytes(types: str) -> int:
  """Bytes of `f32[3,4]{1,0}` or of a tuple of such types."""
  total = 0
  for letters, bits, shape in _ARRAY.findall(types):
    size = 1 if letters == "pred" else int(bits or 0) // 8
    total += size * math.prod(int(n) for n in shape.split(",") if n)
  return total
