"""A map's cells hold the depths they say, and forking one prefix changes the time, not the answers."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from kvlib.lab import depth as depth_module
from kvlib.lab.depth import DEPTHS, MAP_LENGTHS, heatmap, schemes
from kvlib.lab.trials import ALL_FACTS
from tests.needle_models import LastValue, random_model


def test_the_default_grid_is_nine_depths_by_six_lengths():
    assert DEPTHS == (0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1) and len(MAP_LENGTHS) == 6
    rows = heatmap(LastValue(), [100, 200], repetitions=3)
    assert [(row["tokens"], row["depth"], row["n"]) for row in rows] == [
        (tokens, depth, 3) for tokens in (100, 200) for depth in DEPTHS
    ]
    assert {(row["arm"], row["scheme"]) for row in rows} == {("plain filler", "nope")}


@pytest.mark.parametrize("fork", [True, False])
def test_a_model_that_quotes_the_last_value_is_right_at_depth_one_only(fork):
    rows = heatmap(LastValue(), [200], (0.0, 0.5, 1.0), repetitions=5, fork=fork)
    assert [row["right"] for row in rows] == [0, 0, 5]
    assert [row["quotes nothing"] + row["right"] for row in rows] != [5, 5, 5]  # it quotes another needle


def test_forking_reads_each_haystack_once():
    forked, separate = LastValue(), LastValue()
    heatmap(forked, [200], DEPTHS, repetitions=4)
    heatmap(separate, [200], DEPTHS, repetitions=4, fork=False)
    assert (forked.prefilled, separate.prefilled) == (4 * 191, 4 * 9 * 191)
    assert sorted(forked.sent) == sorted(separate.sent) == [200] * 36


def test_forked_and_separate_prompts_give_the_same_answers():
    forked, separate = (
        heatmap(random_model(), [100, 400], (0.1, 0.9), ALL_FACTS, repetitions=6, fork=fork) for fork in (True, False)
    )
    for one, other in zip(forked, separate, strict=True):
        assert one.pop("mass") == pytest.approx(other.pop("mass"), rel=1e-4)
        assert one.pop("kv_bytes") < other.pop("kv_bytes")  # a shared prefix is stored once
        assert one == other


def test_a_pool_gives_the_same_map():
    options = {"lengths": [64, 5000], "depths": (0.0, 1.0), "repetitions": 9}
    here = heatmap(random_model(), **options)
    for pool in (ThreadPoolExecutor(2), ProcessPoolExecutor(2)):
        with pool:
            assert heatmap(random_model(), **options, executor=pool) == here


def test_the_schemes_meet_the_same_haystacks(monkeypatch):
    monkeypatch.setattr(depth_module, "load", lambda name: random_model(scheme=name))
    rows = schemes(("nope", "alibi"), [64], (0.0, 1.0), repetitions=3)
    assert [(row["scheme"], row["depth"], row["n"]) for row in rows] == [
        (scheme, depth, 3) for scheme in ("nope", "alibi") for depth in (0.0, 1.0)
    ]
    assert rows[0]["sent"] == rows[2]["sent"] and rows[0]["mass"] != rows[2]["mass"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"repetitions": 0}, "repetitions"), ({"depths": (1.5,)}, "1.5"), ({"lengths": [20]}, "tokens must be 81")],
)
def test_a_map_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        heatmap(LastValue(), **{"lengths": [200], "repetitions": 1, **changes})
