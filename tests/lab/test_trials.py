"""Arms and ways meet the same questions; whoever works on the trials, the records are the same."""

import json
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from random import Random

import pytest

from kvlib.lab.asking import QUOTES, Trial, Way
from kvlib.lab.score import wilson
from kvlib.lab.trials import (
    ALL_FACTS,
    NOISE,
    PLAIN,
    REPORTING,
    TRIALS,
    TUNING,
    Arm,
    ceiling,
    compare,
    measure,
    run,
    summary,
)
from tests.needle_models import Backwards, LastValue, random_model

MIXED = Arm("mixed", facts=0.5, rivals=2)


# ---------------------------------------------------------------- pairs


def test_every_kind_of_noise_hides_the_same_value_for_the_same_question_at_the_same_depth():
    for trial in range(20):
        depth = Random(f"{REPORTING} 500 {trial}").random()
        hays = [arm.haystack(500, trial) for arm in NOISE]
        assert len({(hay.questions[0].key, hay.questions[0].answer) for hay in hays}) == 1
        assert len({hay.sentences for hay in hays}) == len(NOISE)
        for hay in hays:
            padded = hay.sentences[0].kind == "pad"
            place, hay_sentences = hay.questions[0].needle - padded, len(hay.sentences) - padded - 1
            assert place == round(depth * hay_sentences)


def test_a_synonym_question_is_asked_of_the_same_haystack():
    for trial in range(10):
        literal, synonym = (replace(MIXED, synonym=other).haystack(300, trial) for other in (False, True))
        assert literal.sentences == synonym.sentences and literal.questions != synonym.questions


def test_trials_lengths_and_sets_of_haystacks_differ_by_construction():
    assert REPORTING != TUNING
    hays = {
        (seeds, tokens, trial): PLAIN.haystack(tokens, trial, seeds).sentences
        for seeds in (REPORTING, TUNING)
        for tokens in (64, 65)
        for trial in range(50)
    }
    assert len(set(hays.values())) == len(hays)


def test_more_trials_only_add_to_the_first_ones():
    few, many = (run(random_model(), [MIXED], [150], trials=trials) for trials in (5, 90))
    assert few["mixed", "everything", 150] == many["mixed", "everything", 150][:5]


# ---------------------------------------------------------------- executors


WAYS = (Way(), Way("4 keys", top_keys=4))


def small(executor=None):
    """Four tasks of two lengths."""
    return measure(random_model(), [MIXED], [300, 5000], WAYS, trials={300: 110, 5000: 7}, executor=executor)


@pytest.fixture(scope="module")
def here():
    return small()


def test_who_does_the_work_does_not_matter(here):
    assert [(row["way"], row["tokens"], row["n"]) for row in here] == [
        ("everything", 300, 110),
        ("4 keys", 300, 110),
        ("everything", 5000, 7),
        ("4 keys", 5000, 7),
    ]
    spy = Backwards()
    assert small(spy) == here and len(spy.tasks) == 4
    with ThreadPoolExecutor(2) as pool:
        assert small(pool) == here


def test_a_process_pool_gives_the_same_records(here):
    with ProcessPoolExecutor(2) as pool:
        assert small(pool) == here


@pytest.mark.filterwarnings("ignore")  # of the cluster's own
def test_a_dask_cluster_gives_the_same_records(here):
    if os.environ.get("CI") != "true":
        pytest.importorskip("distributed")
    from distributed import Client

    with Client(processes=False, dashboard_address=None, n_workers=1, threads_per_worker=2) as client:
        assert small(client.get_executor()) == here


def test_tasks_are_whole_batches_of_the_trials_in_order():
    spy = Backwards()
    measure(LastValue(), [PLAIN], [64, 5000], trials={64: 1100, 5000: 8}, executor=spy)
    short = [task.trials for task in spy.tasks if task.tokens == 64]
    assert [trial for trials in short for trial in trials] == list(range(1100)) and len(short) > 1
    assert all(trials.start % (4096 // 64) == 0 for trials in short)
    assert max(len(task.trials) * task.tokens for task in spy.tasks) <= 32_768
    assert all(sum(map(len, task.batches())) == len(task.trials) for task in spy.tasks[:3])


# ---------------------------------------------------------------- records


def test_a_record_counts_its_trials():
    right = Trial(True, 0.6, (1.0,), 100, 1000, True, "needle")
    wrong = [Trial(False, 0.2, (0.0,), 50, 500, True, what) for what in ("2 of 3", "2 of 3", "nothing")]
    lost = Trial(False, 0.0, (), 30, 300, False, "filler")
    found = summary([right, *wrong, lost])
    assert (found["n"], found["right"], found["accuracy"]) == (5, 1, 0.2)
    assert (found["low"], found["high"]) == wilson(1, 5)
    assert found["mass"] == pytest.approx(1.2 / 5) and found["recall"] == 0.8
    assert (found["sent"], found["kv_bytes"]) == (280, 560)
    assert [found[f"quotes {what}"] for what in QUOTES] == [2, 0, 0, 1, 1]


def test_records_are_plain():
    (row,) = measure(random_model(), [ALL_FACTS], [64], trials=8)
    assert json.loads(json.dumps(row)) == row
    assert row["right"] + sum(row[f"quotes {what}"] for what in QUOTES) == row["n"] == 8
    assert row["sent"] == 8 * 64 and row["kv_bytes"] == random_model().model.cache_bytes(64, "fp32")


def test_the_last_value_is_the_needles_where_the_needle_comes_last():
    """A model whose every answer is known: right at depth 1, wrong at depth 0 among facts, right in plain filler."""
    at_end, at_start = (replace(ALL_FACTS, name=str(depth), depth=depth) for depth in (1.0, 0.0))
    rows = measure(LastValue(), [at_end, at_start, PLAIN], [64, 300], trials=20)
    assert [row["right"] for row in rows] == [20, 20, 0, 0, 20, 20]
    assert [row["mass"] for row in rows[:2]] == [0.5, 0.5] and rows[3]["mass"] == pytest.approx(0.5 / 299)


def test_without_a_haystack_there_are_needle_and_question():
    model = LastValue()
    row = ceiling(model, trials=7)
    assert (row["n"], row["right"], row["tokens"]) == (7, 7, 17) and model.sent == [17] * 7


def test_the_default_is_the_protocols_number_of_trials():
    spy = Backwards()
    rows = measure(LastValue(), [PLAIN], [64, 100], executor=spy)
    assert [row["n"] for row in rows] == [TRIALS[64], 30]
    assert measure(LastValue(), [PLAIN], [64, 65], trials={64: 3, 65: 4})[1]["n"] == 4


@pytest.mark.parametrize(
    ("arms", "lengths", "ways", "message"),
    [
        ([], [64], [Way()], "arms must be one or more"),
        ([PLAIN, PLAIN], [64], [Way()], "arms must be one or more, all different"),
        ([PLAIN], [64, 64], [Way()], "lengths must be one or more, all different"),
        ([PLAIN], [64], [], "ways must be"),
        ([PLAIN], [64], [Way(), Way(slope=2)], "ways must be"),
        ([PLAIN], [0], [Way()], "lengths must be a whole number"),
        ([PLAIN], [10], [Way()], "tokens must be 17 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(arms, lengths, ways, message):
    with pytest.raises(ValueError, match=message):
        measure(LastValue(), arms, lengths, ways, trials=1)


def test_trials_must_be_one_or_more_for_every_length():
    with pytest.raises(ValueError, match="trials must name a number for each length; 128 is not in"):
        measure(LastValue(), [PLAIN], [64, 128], trials={64: 2})
    with pytest.raises(ValueError, match="trials must be a whole number, 1 or more; got 0"):
        measure(LastValue(), [PLAIN], [64], trials=0)


def test_compare_counts_what_only_one_got_right():
    def trials(pattern):
        return [Trial(mark == "x", 0, (), 0, 0, True, "") for mark in pattern]

    assert compare(trials("xxx..x"), trials("x...x.")) == {"only_first": 3, "only_second": 1, "p": 2 * 5 / 16}
    with pytest.raises(ValueError, match="got 2 and 1"):
        compare(trials("xx"), trials("x"))
