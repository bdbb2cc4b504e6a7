"""Runs against a server on this machine that is told to fail: the record is complete, the cap holds, no key shows."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvlib.lab import endpoint as module
from kvlib.lab.endpoint import EndpointError, endpoint, plan, results, run, summary, tariff
from kvlib.lab.endpoint_plan import dollars
from kvlib.lab.endpoint_request import Outcome, Usage
from kvlib.lab.local_server import FAULTS, Counted, answers_of, serving, solve
from kvlib.lab.needle import needles
from kvlib.lab.tinylm import TinyLM, load
from kvlib.lab.tinyweights import SHAPES
from kvlib.lab.words import WORDS
from kvlib.prices import price

KEY = "sk-test-9f8e7d6c5b4a"
RATES = {"input": "0.1", "output": "0.4", "cached_input": "0.025"}  # USD per million tokens
SMALL = {"tokens": (64, 96), "depths": (0.0, 1.0), "haystacks": 2}  # 2 arms x 2 lengths x 2 haystacks x 2 questions
QUICK = {"backoff": 0.001, "timeout": 10.0, "say": lambda _: None}
FINAL = {"right", "wrong", "no number", "refused"}


def asked_of(server, **changes):
    """The small plan for a server."""
    return plan(endpoint("solver", base_url=server.base_url, key=KEY), tariff(**RATES), **{**SMALL, **changes})


def invoice(server):
    """What the server would bill, in USD, worked out by hand."""
    micro = Decimal(0)
    for prompt, cached, completion in server.billed:
        micro += (prompt - cached) * Decimal("0.1") + cached * Decimal("0.025") + completion * Decimal("0.4")
    return micro / 10**6


def cents(records, name="usd"):
    """The exact sum of an amount."""
    return sum((Decimal(str(record[name])) for record in records), Decimal(0))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def server():
    with serving() as server:
        yield server


# ---------------------------------------------------------------- the plan


def test_the_plan_sends_nothing_and_knows_its_questions(server):
    ahead = asked_of(server)
    assert (len(ahead.items), len(ahead.groups), server.requests) == (16, 8, 0)
    assert len({item.id for item in ahead.items}) == 16
    first = ahead.items[0]
    hay = needles(Random("1/64/0"), 64, (0.0, 1.0), numeric=0, topical=0)
    assert first.value == int(WORDS[hay.questions[0].answer])
    (message,) = first.messages
    context, question = message["content"].split("\n\n")
    assert f" is {first.value}." in context and question.endswith("? Answer with the number only.")
    assert all(item.messages[0]["content"].startswith(context) for item in ahead.groups[0]), "a prefix to cache"


def test_every_arm_gets_the_same_needles(server):
    ahead = asked_of(server)
    values = {(item.arm, item.tokens, item.haystack, item.depth): item.value for item in ahead.items}
    for (arm, *where), value in values.items():
        assert arm in ("plain filler", "facts only")
        assert values["plain filler", *where] == values["facts only", *where] == value


def test_ids_stay_and_tell_requests_apart(server):
    """The address does not matter; the model, the prompt and the settings do."""
    ids = [item.id for item in asked_of(server).items]
    elsewhere = endpoint("solver", base_url="https://api.example/v1", key="another")
    assert [item.id for item in plan(elsewhere, tariff(0, 0), **SMALL).items] == ids
    for changed in ({"model": "other"}, {"max_tokens": 17}, {"settings": {"temperature": 1}}):
        to = endpoint(**{"model": "solver", "base_url": server.base_url, **changed})
        assert not set(ids) & {item.id for item in plan(to, tariff(0, 0), **SMALL).items}
    assert not set(ids) & {item.id for item in asked_of(server, seed=2).items}


def test_more_haystacks_extend_a_plan(server):
    assert {item.id for item in asked_of(server).items} < {item.id for item in asked_of(server, haystacks=3).items}


def test_the_estimate_by_hand(server):
    ahead = asked_of(server, arms={"one": {}}, tokens=(40,), depths=(0.5,), haystacks=1)
    (item,) = ahead.items
    # A prompt of 40 words of the task: its "answer" becomes "Answer with the number only ." of 6.
    assert item.words == 45
    assert item.bytes == len(item.messages[0]["content"])
    low, high = ahead.estimate()
    assert low == (45 * Decimal("0.1") + Decimal("0.4")) / 10**6
    assert high == ahead.worst(item) == ((item.bytes + 256) * Decimal("0.1") + 16 * Decimal("0.4")) / 10**6
    shown = repr(ahead)
    assert shown.startswith("questions: 1, about 1 haystacks (one)\nto solver at this machine, key from the argument\n")
    assert dollars(low) in shown and dollars(high) in shown
    assert "nothing is sent before run(" in shown and KEY not in shown


def test_the_worst_case_knows_a_dearer_cache_and_a_dearer_long_prompt(server):
    to = endpoint("m", base_url=server.base_url)
    dear = plan(to, tariff(1, 0, cached_input=3), **SMALL)
    assert dear.worst(dear.items[0]) == 3 * Decimal(dear.items[0].bytes + 256) / 10**6
    known = plan(to, price("gpt-4.1-nano"), **SMALL)
    assert known.estimate()[0] > 0


def test_the_assistants_opening_words(server, path):
    ahead = asked_of(server, begin_answer=True)
    user, assistant = ahead.items[0].messages
    assert assistant["role"] == "assistant"
    assert (
        user["content"].split("\n\n")[1]
        == f"What is {assistant['content'][:-3].replace('The', 'the')}? Answer with the number only."
    )
    assert {record["verdict"] for record in run(ahead, path, spend_at_most_usd=1, **QUICK)} == {"right"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"haystacks": 0}, "haystacks must be a whole number, 1 or more"),
        ({"arms": {}}, "must not be empty"),
        ({"tokens": ()}, "must not be empty"),
        ({"arms": {"a": {}, "b": {}}}, "two of them are the same"),
        ({"tokens": (64, 64)}, "two of them are the same"),
        ({"tokens": (9,)}, "tokens must be"),
    ],
)
def test_plans_that_cannot_be(server, changes, message):
    with pytest.raises(ValueError, match=message):
        asked_of(server, **changes)


@pytest.mark.parametrize("amount", [-1, "nan", "inf", "lots", None])
def test_amounts_that_are_none(server, path, amount):
    with pytest.raises(ValueError, match="spend_at_most_usd must be an amount of USD, 0 or more"):
        run(asked_of(server), path, spend_at_most_usd=amount, **QUICK)
    with pytest.raises(ValueError, match="input must be an amount"):
        tariff(-1, 0)
    assert server.requests == 0 and not path.exists()


@pytest.mark.parametrize(
    "changes", [{"concurrency": 0}, {"retries": -1}, {"backoff": 0}, {"timeout": -1.0}, {"give_up_after": 0}]
)
def test_settings_that_cannot_be(server, path, changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        run(asked_of(server), path, spend_at_most_usd=1, **{**QUICK, **changes})
    assert server.requests == 0


def test_a_cap_must_be_named(server, path):
    with pytest.raises(TypeError, match="spend_at_most_usd"):
        run(asked_of(server), path)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "$0.00"), ("12.5", "$12.50"), ("0.0134", "$0.013"), ("0.0000085", "$0.0000085"), ("1234.5", "$1,234.50")],
)
def test_dollars(amount, text):
    assert dollars(Decimal(amount)) == text


# ---------------------------------------------------------------- a run without faults


def test_a_run_and_its_bill(server, path):
    said = []
    records = run(asked_of(server), path, spend_at_most_usd=1, backoff=0.001, say=said.append)
    assert [record["verdict"] for record in records] == ["right"] * 16
    assert server.requests == len(server.billed) == 16
    assert cents(records) == cents(records, "usd_at_most") == invoice(server)
    low, high = asked_of(server).estimate()
    assert said[0] == f"16 of 16 questions to ask: {dollars(low)} to {dollars(high)}."
    assert said[1] == "The cap is $1.00."
    assert said[-1] == f"Cost: {dollars(invoice(server))} by the server's counts, at most {dollars(invoice(server))}."
    assert set(records[0]) == {
        *("id", "model", "arm", "tokens", "depth", "haystack", "value", "verdict", "right", "reply", "why"),
        *("prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "attempts", "usd", "usd_at_most"),
    }
    assert [(line["line"], line["attempt"]) for line in lines(path)].count(("answer", 1)) == 16
    assert results(asked_of(server), path) == records


def test_the_questions_of_a_haystack_find_their_prefix_in_the_cache(server, path):
    records = run(asked_of(server, depths=(0.0, 0.5, 1.0)), path, spend_at_most_usd=1, **QUICK)
    for record in records:
        assert record["cached_tokens"] == (0 if record["depth"] == 0 else record["cached_tokens"])
        if record["depth"]:  # all of the context's whole blocks: tokens - 9 are its own
            assert record["cached_tokens"] >= (record["tokens"] - 9) // 16 * 16


def test_a_second_run_sends_and_pays_nothing(server, path):
    first = run(asked_of(server), path, spend_at_most_usd=1, **QUICK)
    whole = path.read_bytes()
    assert run(asked_of(server), path, spend_at_most_usd=1, **QUICK) == first
    assert server.requests == 16 and path.read_bytes() == whole


def test_a_larger_plan_asks_only_what_is_new(server, path):
    run(asked_of(server), path, spend_at_most_usd=1, **QUICK)
    records = run(asked_of(server, haystacks=3), path, spend_at_most_usd=1, **QUICK)
    assert (len(records), server.requests) == (24, 24)
    assert cents(records) == invoice(server)


def test_verdicts(path):
    replies = iter(["It is 999.", "I do not know.", "the 12th", "100"])
    with serving(lambda _: next(replies)) as server:
        ahead = asked_of(server, arms={"one": {}}, tokens=(64,), depths=(0.0, 0.3, 0.6, 1.0), haystacks=1)
        records = run(ahead, path, spend_at_most_usd=1, **QUICK)
    assert [record["verdict"] for record in records] == ["wrong", "no number", "no number", "wrong"]
    assert [record["right"] for record in records] == [False] * 4
    assert [record["reply"] for record in records] == ["It is 999 .", "I do not know .", "the 12th", "100"]


def test_no_more_requests_at_a_time_than_asked(path):
    at_once, most, lock = 0, 0, threading.Lock()

    def slow(prompt):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.02)
        with lock:
            at_once -= 1
        return solve(prompt)

    with serving(slow) as server:
        run(asked_of(server), path, spend_at_most_usd=1, concurrency=3, **QUICK)
    assert 2 <= most <= 3


def model():
    """The trained model where its weights are, else one that answers at random."""
    try:
        return load("nope")
    except (OSError, ValueError):
        rng = np.random.default_rng(1)
        return TinyLM({name: rng.standard_normal(shape, dtype="float32") / 8 for name, shape in SHAPES.items()})


def test_the_tiny_model_behind_the_protocol(path):
    """It reads the English back into the same tokens, so it says what it says without a server."""
    tiny = model()
    with serving(answers_of(tiny)) as server:
        ahead = asked_of(server, tokens=(128, 256), haystacks=3)
        records = run(ahead, path, spend_at_most_usd=1, **QUICK)
    for record in records:
        hay = needles(
            Random(f"1/{record['tokens']}/{record['haystack']}"),
            record["tokens"],
            SMALL["depths"],
            **module.ARMS[record["arm"]],
        )
        ids = hay.prompt(SMALL["depths"].index(record["depth"]))
        alone = WORDS[tiny.read(tiny.prefill(ids[:-1]), ids[-1:]).answer[0]]
        assert record["reply"].replace(" ", "") == alone
        assert record["right"] == (alone == str(record["value"]))


# ---------------------------------------------------------------- the table


def fake(verdict, **changes):
    base = {"arm": "a", "tokens": 64, "prompt_tokens": 10, "cached_tokens": None, "completion_tokens": 1}
    return {**base, "verdict": verdict, "usd": 0.1, "usd_at_most": 0.2, **changes}


def test_the_table_by_hand():
    verdicts = ["right", "right", "wrong", "no number", "refused", "rejected", "no answer", "not asked"]
    (row,) = summary([fake(verdict) for verdict in verdicts])
    # Wilson's interval of 2 of 5 from the textbook formula with z = 1.96: 0.1176 to 0.7693.
    assert (row["n"], row["right"], row["accuracy"]) == (5, 2, 0.4)
    assert (round(row["low"], 4), round(row["high"], 4)) == (0.1176, 0.7693)
    assert (row["no_number"], row["refused"], row["unanswered"]) == (1, 1, 3)
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (80, None, 8)
    assert (row["usd"], row["usd_at_most"], row["usd_per_right"]) == (0.8, 1.6, 0.8)


def test_rows_and_empty_rows():
    rows = summary([fake("right"), fake("not asked", tokens=96), fake("wrong", arm="b")])
    assert [(row["arm"], row["tokens"], row["n"]) for row in rows] == [("a", 64, 1), ("a", 96, 0), ("b", 64, 1)]
    assert rows[1]["accuracy"] is rows[1]["low"] is rows[1]["high"] is rows[1]["usd_per_right"] is None
    assert [row["n"] for row in summary([fake("right"), fake("wrong", arm="b")], by=["tokens"])] == [2]
    assert summary([]) == []


# ---------------------------------------------------------------- faults

SOME = sorted(set(FAULTS) - {"stall", "stall, worked", "key", "echo, 401"})


def reconcile(server, ahead, path, cap, killed=False):
    """What must hold after any run: the file, the records and the server's bill tell one story.

    A program that is `killed` may have written that it sends, and not have come to it.
    """
    records, written = results(ahead, path), lines(path)
    sent = [line for line in written if line["line"] == "sent"]
    answers = [line["id"] for line in written if line["line"] == "answer"]
    assert len(sent) == server.requests or (killed and len(sent) > server.requests), (
        "every request is in the file, and nothing else"
    )
    assert len({(line["id"], line["attempt"]) for line in sent}) == len(sent)
    assert len(set(answers)) == len(answers), "one answer for each question"
    assert sum(record["attempts"] for record in records) == len(sent)
    assert {record["id"] for record in records if record["verdict"] in FINAL} == set(answers)
    assert [record["id"] for record in records] == [item.id for item in ahead.items]
    assert cents(records) <= invoice(server) <= cents(records, "usd_at_most") <= Decimal(str(cap))
    maybe = [line for line in written if line["line"] in ("answer", "no answer") and line["usd_at_most"] > 0]
    counted = [line for line in maybe if line["usd"] > 0]
    assert len(counted) <= len(server.billed) <= len(maybe)
    return records


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    faults=st.lists(st.sampled_from(["", *SOME]), max_size=40),
    cap=st.sampled_from([1, 0.0004, 0.0002, 0.00005]),
    concurrency=st.integers(1, 4),
    retries=st.integers(0, 3),
    breaks=st.lists(st.integers(0, 4), max_size=2),
)
def test_whatever_fails_the_record_is_complete_and_the_cap_holds(faults, cap, concurrency, retries, breaks):
    """Random faults, a random cap, and Ctrl-C at random moments; then on with it until all is done."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(faults=faults) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("os.fsync", lambda _: None)
        path, ahead = Path(folder) / "run.jsonl", asked_of(server)
        options = {"spend_at_most_usd": cap, "concurrency": concurrency, "retries": retries, **QUICK}
        for polls in breaks:
            with patch.context() as interrupted:
                interrupted.setattr(module, "wait", broken_wait(polls))
                with suppress(KeyboardInterrupt, EndpointError):
                    run(ahead, path, **options)
                reconcile(server, ahead, path, cap)
        for _ in range(60):
            try:
                records = run(ahead, path, **options)
            except EndpointError:
                continue
            finally:
                reconcile(server, ahead, path, cap)
            if cap < 1 or all(record["verdict"] in FINAL for record in records):
                break
        if cap == 1:
            assert {record["verdict"] for record in records} <= FINAL
            clean = [record["verdict"] for record in records if record["attempts"] == 1 and record["usd"]]
            assert set(clean) <= {"right", "refused", "no number"}


def broken_wait(polls):
    """The main thread's wait, with a Ctrl-C after so many rounds."""
    count = iter(range(polls))
    real = module.wait

    def wait(*args, **keywords):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return real(*args, **{**keywords, "timeout": 0.003})

    return wait


@pytest.mark.parametrize("fault", sorted(set(SOME) - {"bad request", "echo, 400"}))
def test_one_fault_is_got_over(path, fault):
    with serving(faults=["", fault]) as server:
        ahead = asked_of(server)
        records = reconcile(server, ahead, path, run(ahead, path, spend_at_most_usd=1, **QUICK) and 1)
    verdicts = sorted(record["verdict"] for record in records)
    odd = {"filtered": "refused", "filter": "refused", "echo": "no number"}.get(fault, "right")
    assert verdicts == sorted(["right"] * 15 + [odd])
    again = fault not in ("filtered", "filter", "echo", "no usage", "html")
    assert max(record["attempts"] for record in records) == 1 + again


@pytest.mark.parametrize("fault", ["stall", "stall, worked"])
def test_a_stall_is_got_over(path, fault):
    with serving(faults=["", fault]) as server:
        ahead = asked_of(server, tokens=(64,), haystacks=1)
        run(ahead, path, spend_at_most_usd=1, **{**QUICK, "timeout": 0.5})
        records = reconcile(server, ahead, path, 1)
    assert {record["verdict"] for record in records} == {"right"}
    assert cents(records, "usd_at_most") > cents(records)


def test_a_rejected_question_is_said_to_be_and_asked_again_next_time(path):
    with serving(faults=["bad request"]) as server:
        records = run(asked_of(server), path, spend_at_most_usd=1, concurrency=1, **QUICK)
        assert [record["verdict"] for record in records] == ["rejected"] + ["right"] * 15
        assert (records[0]["right"], records[0]["attempts"]) == (None, 1)
        assert records[0]["why"] == "HTTP 400: told to fail: bad request"
        assert summary(records)[0]["unanswered"] == 1
        assert run(asked_of(server), path, spend_at_most_usd=1, **QUICK)[0]["verdict"] == "right"


def test_questions_without_an_answer_end_the_run(path):
    with serving(faults=["500"] * 100) as server:
        with pytest.raises(EndpointError, match="3 questions in a row got no answer; the last one: HTTP 500") as caught:
            run(asked_of(server), path, spend_at_most_usd=1, retries=1, give_up_after=3, concurrency=1, **QUICK)
        assert server.requests == 6
        assert str(path) in str(caught.value)
        records = reconcile(server, asked_of(server), path, 1)
    assert [record["verdict"] for record in records] == ["no answer"] * 3 + ["not asked"] * 13


def test_a_wrong_key_ends_the_run_at_once_and_costs_nothing(path):
    with serving(faults=["key"] * 100) as server:
        with pytest.raises(EndpointError, match=r"does not accept the key \(HTTP 401\)"):
            run(asked_of(server), path, spend_at_most_usd=1, concurrency=1, **QUICK)
        assert server.requests == 1
        records = results(asked_of(server), path)
    assert cents(records, "usd_at_most") == 0


def test_nobody_there(path):
    with serving() as server:
        ahead = asked_of(server)
    with pytest.raises(EndpointError, match="no connection"):
        run(ahead, path, spend_at_most_usd=1, retries=1, **QUICK)
    assert cents(results(ahead, path), "usd_at_most") == 0


# ---------------------------------------------------------------- waiting


class Script:
    """Outcomes in place of a server, and the pauses between the attempts."""

    def __init__(self, monkeypatch, *outcomes):
        self.outcomes, self.pauses = iter(outcomes), []
        monkeypatch.setattr(module, "ask", lambda *_: next(self.outcomes))
        monkeypatch.setattr(threading.Event, "wait", lambda _, seconds: self.pauses.append(seconds))


RIGHT = Outcome("answered", usage=Usage(50, 1, 0), reply="100", number=100)


def alone(monkeypatch, path, *outcomes, **options):
    """One question, whose attempts end like this."""
    ahead = plan(
        endpoint("m", base_url="http://127.0.0.1:1"),
        tariff(1, 1),
        arms={"one": {}},
        tokens=(64,),
        depths=(0.0,),
        haystacks=1,
    )
    work = module._Run(
        ahead, module.Ledger(path, Decimal(1)), options.pop("retries", 5), options.pop("backoff", 1.0), 1.0, 9
    )
    script = Script(monkeypatch, *outcomes)
    with work.ledger:
        return work.question(None, ahead.items[0]), script.pauses


def test_pauses_double_with_a_share_taken_off(monkeypatch, path):
    outcome, pauses = alone(monkeypatch, path, *[Outcome("again", "HTTP 429", free=True)] * 4, RIGHT)
    assert outcome is RIGHT
    assert 0.5 <= pauses[0] <= 1
    assert pauses == [pauses[0] * factor for factor in (1, 2, 4, 8)]


def test_pauses_end_at_a_minute(monkeypatch, path):
    failed = [Outcome("again", "HTTP 429", free=True)] * 12
    outcome, pauses = alone(monkeypatch, path, *failed, retries=11)
    assert outcome.result == "again" and len(pauses) == 11
    assert 30 <= max(pauses) == pauses[6] == pauses[-1] <= 60


def test_the_servers_wish_counts_if_it_is_longer(monkeypatch, path):
    _, pauses = alone(monkeypatch, path, Outcome("again", wait=7.5), Outcome("again", wait=0.01), RIGHT)
    assert pauses[0] == 7.5 and 1 <= pauses[1] <= 2


def test_a_server_that_wants_to_be_left_alone_for_long_ends_the_run(monkeypatch, path):
    with pytest.raises(EndpointError, match=r"asks to come back in 3,600 s \(HTTP 429\)"):
        alone(monkeypatch, path, Outcome("again", "HTTP 429", free=True, wait=3_600.0))


def test_retry_after_from_a_real_header(path, monkeypatch):
    pauses = []
    real = threading.Event.wait
    monkeypatch.setattr(
        threading.Event, "wait", lambda event, seconds=None: (pauses.append(seconds), real(event, seconds))[1]
    )
    with serving(faults=["429, wait"]) as server:
        run(asked_of(server), path, spend_at_most_usd=1, concurrency=1, **QUICK)
    assert 0.05 in pauses


# ---------------------------------------------------------------- the cap


@pytest.mark.parametrize("cap", ["0.00004", "0.00007", "0.0001"])
def test_the_cap_ends_the_run(server, path, cap):
    said, ahead = [], asked_of(server)
    records = run(ahead, path, spend_at_most_usd=cap, backoff=0.001, say=said.append)
    assert cents(records) == invoice(server) <= Decimal(cap)
    unasked = [item for item, record in zip(ahead.items, records, strict=True) if record["verdict"] == "not asked"]
    assert unasked and len(unasked) == 16 - server.requests
    assert Decimal(cap) - invoice(server) < max(ahead.worst(item) for item in unasked), "it went as far as it could"
    assert any("Stopped at the cap" in line for line in said)


def test_a_cap_below_one_request_sends_nothing(server, path):
    records = run(asked_of(server), path, spend_at_most_usd="0.00001", **QUICK)
    assert server.requests == 0 and {record["verdict"] for record in records} == {"not asked"}


def test_a_cap_that_ends_early_has_asked_all_arms_alike(server, path):
    records = run(asked_of(server, haystacks=9), path, spend_at_most_usd="0.0003", concurrency=1, **QUICK)
    n = {row["arm"]: row["n"] for row in summary(records, by=["arm"])}
    assert min(n.values()) > 0 and abs(n["plain filler"] - n["facts only"]) <= 4


def test_a_free_server_needs_no_money(server, path):
    ahead = plan(endpoint("m", base_url=server.base_url), tariff(0, 0), **SMALL)
    records = run(ahead, path, spend_at_most_usd=0, **QUICK)
    assert {record["verdict"] for record in records} == {"right"}
    assert "no key" in repr(ahead)


def test_a_raised_cap_goes_on(server, path):
    run(asked_of(server), path, spend_at_most_usd="0.0001", **QUICK)
    assert 0 < server.requests < 16
    records = run(asked_of(server), path, spend_at_most_usd=1, **QUICK)
    assert {record["verdict"] for record in records} == {"right"} and server.requests == 16
    assert cents(records) == invoice(server)


def test_room_for_a_long_system_prompt(path):
    """A server that adds 3,000 tokens to every prompt: too many, unless the plan makes room."""
    with serving() as server:
        work = server.work

        def padded(body):
            said, counted = work(body)
            server.billed[-1] = counted._replace(prompt_tokens=counted.prompt_tokens + 3_000)
            return said, server.billed[-1]

        server.work = padded
        with pytest.raises(EndpointError, match="see template_tokens of plan"):
            run(asked_of(server), path, spend_at_most_usd=1, concurrency=1, **QUICK)
        ahead = asked_of(server, template_tokens=3_000)
        records = run(ahead, path, spend_at_most_usd=1, concurrency=1, **QUICK)
    assert {record["verdict"] for record in records} == {"right"} and cents(records) == invoice(server)


@pytest.mark.parametrize("usage", [(10**6, 0, 1), (50, 0, 17 + 10**4)])
def test_a_server_that_counts_more_than_can_be_ends_the_run(path, usage):
    with serving() as server:
        server.work = lambda _: ("1", Counted(*usage))
        with pytest.raises(EndpointError, match="more than this request can have"):
            run(asked_of(server), path, spend_at_most_usd=1, concurrency=1, **QUICK)
        assert server.requests == 1
        assert cents(results(asked_of(server), path)) > 0, "and what it counted is in the record"


# ---------------------------------------------------------------- Ctrl-C and worse


def script(server, path):
    """A program that does the small run and tells how it ended."""
    return textwrap.dedent(f"""
        import sys
        from kvlib.lab.endpoint import endpoint, plan, run, tariff
        ahead = plan(endpoint("solver", base_url={server.base_url!r}), tariff(**{RATES!r}), **{SMALL!r})
        try:
            run(ahead, {str(path)!r}, spend_at_most_usd=1, concurrency=2)
        except KeyboardInterrupt:
            sys.exit("interrupted")
    """)


def table(records):
    """The table without what a clock says."""
    return summary(records, by=("arm", "tokens", "depth", "haystack", "verdict", "reply"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_and_taken_up_again(tmp_path, how):
    """A real signal to a real program, while requests are under way."""
    uninterrupted, path = tmp_path / "whole.jsonl", tmp_path / "run.jsonl"
    with serving() as server:
        wanted = table(run(asked_of(server), uninterrupted, spend_at_most_usd=1, **QUICK))

    child, seen, lock = None, 0, threading.Lock()

    def answer(prompt):
        nonlocal seen
        with lock:
            seen += 1
            if seen == 6:
                os.kill(child.pid, how)
        if seen >= 6 and child.poll() is None:
            threading.Event().wait(0.2)
        return solve(prompt)

    with serving(answer) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", script(server, path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, err = child.communicate(timeout=30)
        before, asked_before = results(asked_of(server), path), server.requests
        assert cents(before) <= invoice(server) <= cents(before, "usd_at_most"), "read without being taken up again"
        answered = sum(record["verdict"] == "right" for record in before)
        assert 4 <= answered < 16
        said = []
        after = run(asked_of(server), path, spend_at_most_usd=1, backoff=0.001, say=said.append)
        reconcile(server, asked_of(server), path, 1, killed=how == signal.SIGKILL)
    assert [(record["verdict"], record["reply"]) for record in after] == [
        (row["verdict"], row["reply"]) for row in wanted
    ]
    if how == signal.SIGINT:
        assert err.strip() == "interrupted" and "Interrupted: waiting for the requests under way" in out
        assert answered == asked_before, "what was under way was waited for"
        assert server.requests == 16, "nothing is asked twice"
        assert table(after) == wanted and cents(after) == invoice(server)
    else:
        assert child.returncode == -signal.SIGKILL
        assert answered < asked_before and said[0].startswith("An earlier run broke off")
        assert cents(after) <= invoice(server) <= cents(after, "usd_at_most"), "perhaps paid for, and lost"
        assert cents(after) < cents(after, "usd_at_most"), "and the file says so"


# ---------------------------------------------------------------- the key


def test_the_key_is_nowhere(path):
    """Everything said, logged, written, returned or raised by runs against servers that repeat the key."""
    out, logged = io.StringIO(), io.StringIO()
    handler, root = logging.StreamHandler(logged), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    raised = []
    try:
        with redirect_stdout(out), redirect_stderr(out):
            for faults in (["echo", "echo, 400", "echo, 500"] * 4 + SOME, ["echo, 401"], ["echo, 500"] * 99):
                with serving(faults=faults) as server:
                    ahead = asked_of(server)
                    print(ahead, repr(vars(ahead)), repr(vars(ahead.to)))
                    try:
                        options = {"spend_at_most_usd": 1, "backoff": 0.001, "timeout": 10.0}
                        print(run(ahead, path, progress=True, concurrency=1, **options))
                    except EndpointError as error:
                        raised.append(
                            "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
                        )
                    print(results(ahead, path), summary(results(ahead, path)))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert len(raised) == 2 and "_Run" in raised[0], "the tracebacks show local variables"
    assert "[key]" in path.read_text(), "the servers did repeat it"
    for text in (out.getvalue(), logged.getvalue(), path.read_text(), *raised):
        assert text and KEY not in text
