"""Ends with the exit code that $EXITS names.

$EXITS has a word for each start, with a code for each process, as "75,76 0,0".
Instead of a code, "k" is SIGKILL, "s" waits for SIGTERM, and "f" never ends.
"""

import os
import pathlib
import signal
import sys
import time

index = int(sys.argv[-1].rpartition("=")[2])
folder = pathlib.Path(os.environ["EXITS_FOLDER"])
counter = folder / f"starts-{index}"
start = len(counter.read_bytes()) if counter.exists() else 0
counter.write_bytes(b"." * (start + 1))
(folder / f"words-{index}").write_text("\n".join(sys.argv[1:]))
code = os.environ["EXITS"].split()[start].split(",")[index]
print(f"start {start} of process {index} on {os.environ.get('XLA_FLAGS')}")
if code == "k":
  os.kill(os.getpid(), signal.SIGKILL)
if code == "s":
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
  (folder / f"waits-{index}").touch()
  time.sleep(60)
if code == "f":
  time.sleep(3600)
sys.exit(int(code))
