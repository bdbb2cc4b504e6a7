"""What was shipped: the seed that the rule picks, its checksum, its frozen answers, and a card that says so."""

import hashlib
import json

import numpy as np
import pytest
from needle_card import card
from ship_needle import GOLDEN, HOME, RUNS, STEPS, pick
from train_needle import Training

from kvlib.lab.score import effective_length, wilson
from kvlib.lab.tinylm import SCHEMES, load

RECORD = json.loads(RUNS.read_text(encoding="utf-8"))
SUMS = [line.split() for line in (HOME / "SHA256SUMS").read_text(encoding="utf-8").splitlines()]
NAMES = tuple(file.removesuffix(".npz") for _, file in SUMS)


def name(run):
    return run["scheme"], run["steps"], run["seed"]


def _run(seed, effective, at_4096):
    row = {"arm": "100 % facts", "tokens": 4096, "accuracy": at_4096}
    return {"seed": seed, "effective_length": effective, "rows": [row]}


def test_the_rule_picks_the_median_and_leaves_no_seed_out():
    assert pick([_run(0, 512, 0.1), _run(1, 8192, 0.9), _run(2, 2048, 0.5)])["seed"] == 2
    tied = [_run(0, 512, 0.1), _run(1, 2048, 0.9), _run(2, 2048, 0.4), _run(3, 2048, 0.6), _run(4, 4096, 0.95)]
    assert pick(tied)["seed"] == 3
    assert pick([_run(0, 0, 0.0), _run(1, 2048, 0.9), _run(2, 2048, 0.4)])["seed"] == 2, "the lower of two"


@pytest.mark.parametrize("scheme", NAMES)
def test_the_shipped_seed_is_the_one_of_the_rule(scheme):
    runs = [run for run in RECORD["runs"] if (run["scheme"], run["steps"]) == (scheme, STEPS)]
    assert [run["seed"] for run in runs] == list(range(len(runs))), "no seed was left out"
    assert RECORD["shipped"][scheme] == pick(runs)["seed"]


def test_all_schemes_are_shipped_in_less_than_a_megabyte():
    assert NAMES == SCHEMES
    assert len([run for run in RECORD["runs"] if run["scheme"] == "nope"]) >= 5
    paths = [HOME / f"{name}.npz" for name in NAMES]
    assert sum(path.stat().st_size for path in paths) < 1_000_000
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == [digest for digest, _ in SUMS]


def test_every_recorded_share_has_its_count_and_its_interval():
    rows = [row for run in RECORD["runs"] for part in ("rows", "depths", "cures") for row in run[part]]
    assert len(rows) > 100
    for row in rows:
        assert row["accuracy"] == pytest.approx(row["right"] / row["n"], abs=1e-6)
        assert (row["low"], row["high"]) == pytest.approx(wilson(row["right"], row["n"]), abs=1e-6)
    for run in RECORD["runs"]:
        facts = {row["tokens"]: row["accuracy"] for row in run["rows"] if row["arm"] == "100 % facts"}
        assert run["effective_length"] == effective_length(facts)


@pytest.mark.parametrize("scheme", NAMES)
def test_the_frozen_prompts_get_their_frozen_answers(scheme):
    golden = np.load(GOLDEN)
    model = load(scheme)
    prompts = [ids[:length].astype(int) for ids, length in zip(golden["prompts"], golden["lengths"], strict=True)]
    assert len(prompts) == 200
    logits = np.stack([model.read(model.prefill(ids[:-1]), ids[-1:]).logits[0] for ids in prompts])
    assert np.abs(logits[:20] - golden[f"{scheme}_logits"]).max() < 1e-3
    changed = np.sum(logits.argmax(axis=-1) != golden[f"{scheme}_answers"])
    assert changed <= 2, "another BLAS may tip a tie, no more"
    right = np.mean(golden[f"{scheme}_answers"] == golden["right"])
    assert right > 0.5, "a frozen failure would be no model"


def test_the_recorded_training_begins_as_the_trainer_begins_it():
    """The first hundred steps of the shipped seed, again: what was recorded comes from this trainer and this data."""
    seed = RECORD["shipped"]["nope"]
    recorded = next(run["log"][0] for run in RECORD["runs"] if name(run) == ("nope", STEPS, seed))
    run = Training("nope", seed, STEPS)
    while run.step < recorded["step"]:
        run.advance()
    again = run.log[-1]
    assert (again["step"], again["stage"]) == (recorded["step"], recorded["stage"])
    assert again["loss"] == pytest.approx(recorded["loss"], abs=0.05), "another BLAS may round otherwise"
    assert again["accuracy"] == pytest.approx(recorded["accuracy"], abs=0.01)


def test_the_card_says_what_the_record_says():
    assert (HOME / "MODEL_CARD.md").read_text(encoding="utf-8") == card(RECORD["runs"], RECORD["shipped"])
