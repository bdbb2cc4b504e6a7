"""What this machine really does: bytes per second from memory, FLOP per second in a matrix product.

The two numbers of a roofline, measured in a few seconds with numpy, on one core: several cores wait for each other, and
where other programs use them too, that wait drowns everything else. The rates are this machine's at this moment, so
each comes with its spread.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from kvlib.units import GB, MiB, whole

Clock = Callable[[], float]


@dataclass(frozen=True)
class Rate:
    """A measured rate per second: the `median` of `runs` runs, the slowest and the fastest."""

    what: str
    unit: str
    median: float
    slowest: float
    fastest: float
    runs: int

    @property
    def spread(self) -> float:
        """(fastest - slowest) / median: 0.1 is a quiet machine, 1 a busy one."""
        return (self.fastest - self.slowest) / self.median

    def __repr__(self) -> str:
        low, mid, high = (rate / GB for rate in (self.slowest, self.median, self.fastest))
        return f"{self.what}: {mid:,.1f} G{self.unit}/s ({low:,.1f} to {high:,.1f} in {self.runs} runs)"


@dataclass(frozen=True)
class Machine:
    """Rates of this machine: `copy` and `matvec` in bytes/s of memory, `matmul` in FLOP/s of float32."""

    copy: Rate
    matvec: Rate
    matmul: Rate

    @property
    def ridge(self) -> float:
        """FLOPs per byte at which reading and computing take equally long: `matmul` over `matvec`."""
        return self.matmul.median / self.matvec.median


class Probe(NamedTuple):
    """Something to time: `amount` bytes or FLOP in every `run()`."""

    what: str
    unit: str
    amount: int
    run: Callable[[], object]

    def rate(self, seconds: list[float]) -> Rate:
        """The rates that these times mean."""
        middle, least, most = (self.amount / second for second in (median(seconds), max(seconds), min(seconds)))
        return Rate(self.what, self.unit, middle, least, most, len(seconds))


def measure(*, nbytes: int = 96 * MiB, width: int = 1024, runs: int = 15, clock: Clock = time.perf_counter) -> Machine:
    """Measure this machine: copies and vector-matrix products of `nbytes`, matrix products `width` wide.

    A copy reads and writes, so it moves twice `nbytes`. The matrix must be far larger than the processor's caches, or
    their speed is measured instead of the memory's. With the defaults all takes a second or two.

    Args:
        nbytes: bytes of the array that is copied, and of the matrix.
        width: rows and columns of the matrices that are multiplied.
        runs: how often each is timed, in turns, after a run that is not.
        clock: seconds, as `time.perf_counter` gives them.

    Raises:
        ValueError: if nbytes is below 4,096, or width or runs is not positive.
    """
    tests = probes(nbytes, width)
    with one_core():
        seconds = in_turns(tests, runs, clock)
    return Machine(*(test.rate(found) for test, found in zip(tests, seconds, strict=True)))


def probes(nbytes: int = 96 * MiB, width: int = 1024) -> tuple[Probe, Probe, Probe]:
    """What `measure` times: a copy, a vector times a matrix, a matrix times a matrix, all float32."""
    whole("nbytes", nbytes, 4096)
    whole("width", width, 1)
    rng = np.random.default_rng(0)
    columns = min(4096, nbytes // 4096)
    matrix = rng.random((nbytes // 4 // columns, columns), dtype=np.float32)
    vector = rng.random(len(matrix), dtype=np.float32)
    target = np.empty_like(matrix)
    square = rng.random((width, width), dtype=np.float32)
    return (
        Probe("copy", "B", 2 * matrix.nbytes, lambda: np.copyto(target, matrix)),
        Probe("vector x matrix", "B", matrix.nbytes, lambda: vector @ matrix),
        Probe("matrix x matrix", "FLOP", 2 * width**3, lambda: square @ square),
    )


def in_turns(tests: Sequence[Probe], runs: int, clock: Clock = time.perf_counter) -> list[list[float]]:
    """Seconds of `runs` runs of each probe, one after the other in turns, after one run each that is not timed.

    In turns, so that a minute in which the machine is busy with something else slows all of them, not one.
    """
    whole("runs", runs, 1)
    for test in tests:
        test.run()
    seconds: list[list[float]] = [[] for _ in tests]
    for _ in range(runs):
        for test, found in zip(tests, seconds, strict=True):
            start = clock()
            test.run()
            found.append(clock() - start)
    return seconds


@contextmanager
def one_core() -> Iterator[bool]:
    """Let numpy's matrix products use one core; yields whether that worked.

    Works with the OpenBLAS inside numpy's own wheels. With another library nothing changes: set the number of threads
    outside then (`OMP_NUM_THREADS=1`).
    """
    setter, getter = _openblas()
    if setter is None or getter is None:
        yield False
        return
    before = getter()
    setter(1)
    try:
        yield True
    finally:
        setter(before)


@cache
def _openblas() -> tuple[Any, Any]:
    """The functions of numpy's OpenBLAS that set and get the number of threads, or (None, None)."""
    home = Path(np.__file__).parent
    for path in [*home.parent.glob("numpy.libs/*openblas*"), *home.glob(".dylibs/*openblas*")]:
        library = ctypes.CDLL(str(path))  # loaded already: this only finds it
        for ending in ("64_", "", "_"):
            names = (f"{prefix}_num_threads{ending}" for prefix in ("scipy_openblas_set", "scipy_openblas_get"))
            found = [getattr(library, name, None) for name in names]
            if all(found):
                return found[0], found[1]
    return None, None
