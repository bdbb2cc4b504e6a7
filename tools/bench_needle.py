"""How long the map of depth and length takes: one cached prefix for nine questions, against nine prefills.

Both read the same haystacks and give the same answers, in one run on one core, so the ratio belongs to the code and not
to the machine. Times are CPU seconds; the memory is the peak of the whole process with one prefix each.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: one core

from kvlib.lab.depth import DEPTHS, MAP_LENGTHS, heatmap
from kvlib.lab.tinylm import TinyLM, load, load_weights
from kvlib.lab.trials import Record
from kvlib.units import size


def cpu_seconds(run: Callable[[], list[Record]]) -> tuple[float, list[Record]]:
    """CPU seconds of this process for `run()`, and what it returned."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def peak_bytes() -> int:
    """The most memory that this process has held so far (resident set)."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss may be that of the program which started this one
        held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if held:
            return 1024 * int(held[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def main() -> None:
    """Print one line for each way, the ratio, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=10, help="haystacks per length (default: 10)")
    parser.add_argument("--weights", type=Path, help="an .npz of train_needle.py (default: the model of the lesson)")
    given = parser.parse_args()
    if given.repetitions < 1:
        parser.error(f"--repetitions must be 1 or more; got {given.repetitions}")
    model = TinyLM(load_weights(given.weights)) if given.weights else load("nope")
    heatmap(model, [256], repetitions=1)  # what the first call sets up is nobody's time

    forked, cells = cpu_seconds(lambda: heatmap(model, repetitions=given.repetitions, progress=False))
    memory = peak_bytes()
    separate, again = cpu_seconds(lambda: heatmap(model, repetitions=given.repetitions, fork=False, progress=False))
    changed = sum(one["right"] != other["right"] for one, other in zip(cells, again, strict=True))

    questions = given.repetitions * len(DEPTHS) * len(MAP_LENGTHS)
    print(f"Map of {len(DEPTHS)} depths x {len(MAP_LENGTHS)} lengths, {given.repetitions} haystacks each:", end=" ")
    print(f"{questions:,} questions (CPU seconds)")
    print(f"  one prefix for nine questions {forked:>8.2f}   peak memory {size(memory)}")
    print(f"  a prefill for every question  {separate:>8.2f}")
    print(f"  forking is {separate / forked:.1f} times as fast; cells with other answers: {changed}")


if __name__ == "__main__":
    main()
