"""The benchmark of the needle map runs, and its ratio and memory keep their promises on this machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvlib.lab.tinylm import save_weights
from tests.needle_models import random_model

TOOL = Path(__file__).parent.parent / "tools" / "bench_needle.py"


def bench(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    weights = tmp_path_factory.mktemp("bench") / "weights.npz"
    save_weights(weights, random_model().weights)  # the speed does not depend on the weights
    ran = bench("--repetitions", 1, "--weights", weights)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_prints_a_ratio_and_forking_changes_no_answer(printed):
    (changed,) = re.search(r"forking is [\d.]+ times as fast; cells with other answers: (\d+)", printed).groups()
    assert int(changed) <= 1  # how large the ratio is, a run on a quiet machine has to say
    assert "9 depths x 6 lengths, 1 haystacks each: 54 questions" in printed


def test_it_stays_under_300_mb(printed):
    assert float(re.search(r"peak memory ([\d.]+) MB", printed).group(1)) < 300


def test_a_number_of_repetitions_that_cannot_be_is_refused():
    ran = bench("--repetitions", 0)
    assert ran.returncode == 2 and "--repetitions must be 1 or more; got 0" in ran.stderr
