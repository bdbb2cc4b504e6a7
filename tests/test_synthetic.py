from collections import defaultdict
from itertools import pairwise
from statistics import fmean, median

import numpy as np
import pytest

from kvlib.sessions import block_references, shared_tokens
from kvlib.stack import hit_curve
from kvlib.synthetic import Spread, agents, chats, documents


def rng(seed=7):
    return np.random.default_rng(seed)


def by_session(rows):
    sessions = defaultdict(list)
    for row in rows:
        sessions[row.answer[0]].append(row)
    return sessions.values()


@pytest.mark.parametrize("make", [chats, agents, documents])
def test_a_seed_repeats_the_traffic_and_another_does_not(make):
    assert make(rng(), 20) == make(rng(), 20) != make(rng(8), 20)


@pytest.mark.parametrize("make", [chats, agents])
def test_a_session_repeats_its_last_prompt_its_answer_and_adds_something(make):
    rows = make(rng(), 30)
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    assert len(by_session(rows)) == 30
    for session in by_session(rows):
        for old, new in pairwise(session):
            assert shared_tokens(old, new) == old.tokens
            assert new.parts[len(old.parts)] == (old.answer, old.output_tokens)
            assert new.tokens > old.tokens + old.output_tokens and new.at > old.at


@pytest.mark.parametrize("make", [chats, agents])
def test_sessions_share_the_front_and_nothing_else(make):
    sessions = list(by_session(make(rng(), 10, system_tokens=321)))
    assert {shared_tokens(a[-1], b[-1]) for a, b in pairwise(sessions)} == {321}
    alone = list(by_session(make(rng(), 10, system_tokens=0)))
    assert {shared_tokens(a[-1], b[-1]) for a, b in pairwise(alone)} == {0}


def test_the_parameters_mean_what_they_say():
    rows = chats(rng(), 4_000, per_second=2.0, turns=4.0, question=Spread(60, 1.0), answer=Spread(200, 0.5))
    firsts = [session[0] for session in by_session(rows)]
    assert len(rows) / 4_000 == pytest.approx(4, rel=0.05)  # geometric: standard error 0.05
    assert 4_000 / max(row.at for row in firsts) == pytest.approx(2, rel=0.06)
    assert median(row.tokens - 1_000 for row in firsts) == pytest.approx(60, rel=0.08)
    assert fmean(np.log([row.output_tokens for row in rows])) == pytest.approx(np.log(200), abs=0.03)
    assert np.std(np.log([row.output_tokens for row in rows])) == pytest.approx(0.5, rel=0.05)


def test_popular_documents_are_asked_about_more_often():
    rows = documents(rng(), 6_000, library=10, popularity=1.0)
    asked = np.bincount([row.parts[1][0][1] for row in rows], minlength=10)
    expected = 6_000 / np.arange(1, 11) / sum(1 / k for k in range(1, 11))
    assert np.all(abs(asked - expected) < 5 * np.sqrt(expected))
    assert len({row.parts[1] for row in rows}) == 10  # a document always has the same length
    assert all(row.marks == (2,) for row in rows)
    flat = np.bincount([row.parts[1][0][1] for row in documents(rng(), 6_000, library=10, popularity=0)], minlength=10)
    assert np.all(abs(flat - 600) < 5 * np.sqrt(600))


def test_agents_reuse_more_than_chats():
    """Long fronts and many steps: that is why agents pay for caches first."""
    rates = {}
    for make in (chats, agents):
        requests = block_references(make(rng(), 40), 64)
        rates[make] = hit_curve(requests).rate(10**9)
    assert rates[agents] > 0.9 > rates[chats] > 0.5


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (chats, {"turns": 0.5}, "turns must be 1 or more on average; got 0.5"),
        (agents, {"steps": float("nan")}, "turns must be 1 or more on average; got nan"),
        (chats, {"per_second": 0}, "per_second must be above 0; got 0"),
        (chats, {"system_tokens": -1}, "system_tokens must be a whole number, 0 or more; got -1"),
        (documents, {"popularity": -1}, "popularity must be 0 or more; got -1"),
        (documents, {"library": 0}, "library must be a whole number, 1 or more; got 0"),
    ],
)
def test_bad_parameters_are_named(make, change, message):
    with pytest.raises(ValueError, match=message):
        make(rng(), 5, **change)


def test_a_spread_has_bounds():
    assert Spread(50).tokens(rng(), 3) == [50, 50, 50]
    for median_, sigma in ((0, 1), (1, -1), (float("inf"), 1)):
        with pytest.raises(ValueError, match="a spread must have a median above 0"):
            Spread(median_, sigma)
    assert chats(rng(), 0) == [] == documents(rng(), 0)
