"""The recorded seeds: complete, in step with the rule that picked one, and counted rightly."""

from statistics import median

import pytest

from kvlib.lab import drift_runs
from kvlib.lab.drift_runs import (
    CLAIMS,
    Claim,
    at_depth,
    claims_by_seed,
    clearly_fewer,
    recorded,
    recorded_rows,
    recorded_runs,
    row_of,
    verdict,
)
from kvlib.lab.score import wilson

EVERY = recorded()["runs"]


def name(run):
    return f"{run['scheme']}-{run['steps']}-{run['seed']}"


@pytest.mark.parametrize("run", EVERY, ids=name)
def test_every_score_is_a_count_with_its_interval(run):
    for row in [*run["rows"], *run["depths"], *run["cures"], run["ceiling"]]:
        assert row["accuracy"] == pytest.approx(row["right"] / row["n"])
        assert (row["low"], row["high"]) == pytest.approx(wilson(row["right"], row["n"]))
        assert row["low"] <= row["accuracy"] <= row["high"]


def test_no_seed_of_the_main_model_is_left_out():
    assert [run["seed"] for run in recorded_runs()] == [0, 1, 2, 3, 4]


def test_the_shipped_seed_has_the_median_effective_length():
    lengths = {run["seed"]: run["effective_length"] for run in recorded_runs()}
    assert lengths[recorded()["shipped"]["nope"]] == median(lengths.values())


def test_rows_name_their_seed_and_one_is_shipped():
    rows = recorded_rows("100 % facts")
    assert {row["run"] for row in rows} == {0, 1, 2, 3, 4}
    assert {row["run"] for row in rows if row["shipped"]} == {recorded()["shipped"]["nope"]}
    assert {row["arm"] for row in rows} == {"100 % facts"}


def test_what_was_not_measured_is_refused():
    with pytest.raises(ValueError, match=r"arm and tokens must be measured in runs\.json; got 'essays', 64"):
        row_of(EVERY[0], "essays", 64)
    with pytest.raises(ValueError, match=r"scheme and steps must have runs in runs\.json; got 'nope', 7"):
        recorded_runs(steps=7)


# ---------------------------------------------------------------- made-up runs, judged by eye


def counted(right, n):
    low, high = wilson(right, n)
    return {"right": right, "n": n, "accuracy": right / n, "low": low, "high": high}


def compared(better, worse, p):
    return {"arm": "literal", "way": "mine", "better": better, "worse": worse, "p": p}


def test_clearly_fewer_needs_intervals_that_do_not_touch():
    assert clearly_fewer(counted(40, 60), counted(200, 200))
    assert not clearly_fewer(counted(59, 60), counted(200, 200))
    assert not clearly_fewer(counted(200, 200), counted(40, 60))


@pytest.mark.parametrize(
    ("row", "wanted"), [(compared(8, 0, 0.008), 1), (compared(0, 8, 0.008), -1), (compared(5, 0, 0.0625), 0)]
)
def test_a_way_is_better_or_worse_only_beyond_luck(row, wanted):
    assert verdict({"cures": [row]}, "literal", "mine") == wanted


def test_depth_is_read_at_the_length_that_is_asked_for():
    depths = [{"depth": 1.0, "tokens": tokens, "right": right} for tokens, right in ((256, 20), (4096, 7))]
    assert at_depth({"depths": depths}, 1.0, 4096)["right"] == 7


@pytest.mark.parametrize(
    ("right", "said"),
    [([1, 1, 1, 1, 1], "5 of 5"), ([1, 1, 1, 1, 0], "4 of 5"), ([1, 1, 1, 0, 0], "3 of 5: depends on the seed")],
)
def test_what_holds_in_fewer_than_four_of_five_depends_on_the_seed(monkeypatch, right, said):
    runs = [{"scheme": "nope", "steps": 1600, "seed": seed, "right": each} for seed, each in enumerate(right)]
    monkeypatch.setattr(drift_runs, "recorded", lambda: {"runs": runs})
    claims = [Claim("it is right", lambda run: run["right"] == 1), Claim("RoPE is too", lambda run: True, "rope")]
    assert claims_by_seed(claims) == [("it is right", said), ("RoPE is too", "–")]


def test_a_budget_counts_once_all_five_seeds_are_there(monkeypatch):
    trained = [(1600, seed) for seed in range(5)] + [(3200, seed) for seed in range(4)]
    runs = [{"scheme": "nope", "steps": steps, "seed": seed} for steps, seed in trained]
    monkeypatch.setattr(drift_runs, "recorded", lambda: {"runs": runs})
    assert drift_runs.budgets() == [1600] and drift_runs.budgets("rope") == []


def test_every_claim_about_the_main_model_is_decided_for_every_seed():
    claims = [claim for claim in CLAIMS if claim.scheme == "nope"]
    assert all(claim.holds(run) in (True, False) for claim in claims for run in recorded_runs())
    assert len({claim.says for claim in CLAIMS}) == len(CLAIMS)
