"""Rates are amounts over the seconds of the clock; no test here looks at the real one."""

import itertools

import numpy as np
import pytest

from kvlib.lab import machine as machine_module
from kvlib.lab.machine import Machine, Probe, Rate, in_turns, measure, one_core, probes


class Ticks:
    """A clock by which the runs last 1, 2, 3, 1, 2, 3, ... seconds."""

    def __init__(self, lengths):
        self.now, self.lengths, self.running = 0.0, itertools.cycle(lengths), False

    def __call__(self):
        if self.running:
            self.now += next(self.lengths)
        self.running = not self.running
        return self.now


def test_rates_are_bytes_and_flops_over_seconds():
    # three probes in turns: the copy takes 1 s each time, the vector 2 s, the matrices 4 s
    found = measure(nbytes=2**16, width=10, runs=3, clock=Ticks([1, 2, 4]))
    assert (found.copy.median, found.matvec.median, found.matmul.median) == (2 * 2**16, 2**15, 2 * 10**3 / 4)
    assert found.copy.spread == 0 and found.copy.runs == 3
    assert found.ridge == 500 / 2**15


def test_median_and_spread():
    found = Probe("x", "B", 12, lambda: None).rate([1.0, 2.0, 6.0])
    assert (found.median, found.slowest, found.fastest, found.runs) == (6, 2, 12, 3)
    assert found.spread == pytest.approx(10 / 6)
    assert repr(Rate("copy", "B", 12e9, 2e9, 20e9, 3)) == "copy: 12.0 GB/s (2.0 to 20.0 in 3 runs)"


def test_runs_go_in_turns_after_one_that_is_not_timed():
    seen = []
    tests = [Probe(name, "B", 1, lambda name=name: seen.append(name)) for name in "ab"]
    assert in_turns(tests, 2, Ticks([5])) == [[5, 5], [5, 5]]
    assert "".join(seen) == "ababab"


def test_probes_do_what_they_count():
    copy, matvec, matmul = probes(2**16, 8)
    assert (copy.amount, matvec.amount, matmul.amount) == (2 * 2**16, 2**16, 2 * 8**3)
    columns = matvec.run().size
    rows = 2**16 // 4 // columns
    assert rows * columns * 4 == matvec.amount and matmul.run().shape == (8, 8)


def test_one_core_is_given_back(monkeypatch):
    threads = [6]
    monkeypatch.setattr(machine_module, "_openblas", lambda: (lambda n: threads.append(n), lambda: threads[-1]))
    with one_core() as worked:
        assert worked and threads[-1] == 1
    assert threads[-1] == 6


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(machine_module, "_openblas", lambda: (None, None))
    with one_core() as worked:
        assert not worked


def test_numpys_own_library_obeys():
    with one_core() as worked:
        if worked:
            assert machine_module._openblas()[1]() == 1
    assert np.ones((3, 3)) @ np.ones(3) == pytest.approx(3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nbytes": 100}, "nbytes must be a whole number, 4,096 or more; got 100"),
        ({"nbytes": 4096, "width": 0}, "width must be a whole number, 1 or more; got 0"),
        ({"nbytes": 4096, "width": 2, "runs": 0}, "runs must be a whole number, 1 or more; got 0"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        measure(**wrong)


def test_machine_is_three_rates():
    assert set(Machine.__dataclass_fields__) == {"copy", "matvec", "matmul"}
