"""The file of a run: every request in it before it leaves, a cap that holds, and nothing lost to a crash."""

import json
import threading
import time
from decimal import Decimal

import pytest

from kvlib.lab.ledger import Ledger, LedgerError, exact, per_question, read_lines

D = Decimal


def never():
    return False


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def some(path):
    """A file with an answer to a, one failure and an answer to b, and a failure of c."""
    with Ledger(path, D(1)) as ledger:
        for name, ends in {"a": ["answer"], "b": ["no answer", "answer"], "c": ["no answer"]}.items():
            for end in ends:
                attempt = ledger.reserve(name, D("0.1"), never)
                cost = D("0.01") if end == "answer" else D("0.1")
                ledger.settle(end, name, attempt, D("0.01") if end == "answer" else D(0), cost, reply="221 – ja")
    return path.read_bytes()


def test_what_the_file_says(path):
    some(path)
    assert [(line["line"], line["id"], line["attempt"]) for line in lines(path)] == [
        ("sent", "a", 1),
        ("answer", "a", 1),
        ("sent", "b", 1),
        ("no answer", "b", 1),
        ("sent", "b", 2),
        ("answer", "b", 2),
        ("sent", "c", 1),
        ("no answer", "c", 1),
    ]
    history = per_question(read_lines(path)[0])
    assert [line["attempt"] for line in history["b"]] == [1, 1, 2, 2]
    with Ledger(path, D(1)) as ledger:  # two known prices of 0.01, two unknown outcomes of at most 0.1
        assert (ledger.usd, ledger.usd_at_most) == (D("0.02"), D("0.22"))
        assert [ledger.answered(name) for name in "abc"] == [True, True, False]
        assert ledger.reserve("c", D("0.1"), never) == 2
    assert lines(path)[-1]["line"] == "sent"


def test_a_line_stands_on_the_disk_before_the_request_may_leave(path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda _: synced.append(path.stat().st_size))
    with Ledger(path, D(1)) as ledger:
        ledger.reserve("a", D("0.25"), never)
        (line,) = lines(path)
        assert synced == [path.stat().st_size], "and it is on the disk, not in a buffer"
        assert (line["line"], line["id"], line["usd_at_most"]) == ("sent", "a", 0.25)
        assert (ledger.usd, ledger.usd_at_most) == (0, D("0.25"))


def test_amounts_survive_the_file_exactly(path):
    """A sum of 1,000 thirds and the like is the same before and after."""
    with Ledger(path, D(1_000)) as ledger:
        for number in range(1, 60):
            attempt = ledger.reserve("a", D(1) / number, never)
            ledger.settle("no answer", "a", attempt, D(1) / (7 * number), D(1) / (3 * number))
        known, most = ledger.usd, ledger.usd_at_most
    with Ledger(path, D(1_000)) as again:
        assert (again.usd, again.usd_at_most) == (known, most)
    assert known >= sum(D(1) / (7 * number) for number in range(1, 60))
    assert exact(D(2) / 3) == D("0.666666666667") and exact(D("0.25")) == D("0.25")


# ---------------------------------------------------------------- the cap


def test_the_cap_is_reached_to_the_last_cent_and_not_passed(path):
    with Ledger(path, D("0.30")) as ledger:
        assert [ledger.reserve(name, D("0.1"), never) for name in "abc"] == [1, 1, 1]
        assert not ledger.capped
        for name in "abc":
            ledger.settle("no answer", name, 1, D(0), D("0.1"))
        assert ledger.reserve("d", D("0.000000000001"), never) is None
        assert ledger.capped
        assert ledger.usd_at_most == D("0.3")
    assert len(lines(path)) == 6, "nothing is written of what is not sent"


def test_what_was_set_aside_and_not_needed_is_free_again(path):
    with Ledger(path, D("0.1")) as ledger:
        for number in range(5):
            attempt = ledger.reserve(f"q{number}", D("0.1"), never)
            assert attempt == 1
            ledger.settle("answer", f"q{number}", 1, D(0), D(0))


def test_a_request_waits_for_the_price_of_those_under_way(path):
    with Ledger(path, D("0.15")) as ledger:
        ledger.reserve("a", D("0.1"), never)
        got = []
        waiting = threading.Thread(target=lambda: got.append(ledger.reserve("b", D("0.1"), never)))
        waiting.start()
        time.sleep(0.08)
        assert got == [] and not ledger.capped
        ledger.settle("answer", "a", 1, D("0.02"), D("0.02"))
        waiting.join(2)
        assert got == [1]
        assert ledger.usd_at_most == D("0.12")


def test_a_stop_ends_the_waiting(path):
    stop = threading.Event()
    with Ledger(path, D("0.15")) as ledger:
        ledger.reserve("a", D("0.1"), stop.is_set)
        got = []
        waiting = threading.Thread(target=lambda: got.append(ledger.reserve("b", D("0.1"), stop.is_set)))
        waiting.start()
        stop.set()
        waiting.join(2)
        assert got == [None] and not ledger.capped
        assert ledger.reserve("c", D("0.01"), stop.is_set) is None


def test_earlier_runs_count(path):
    some(path)
    with Ledger(path, D("0.30")) as ledger:  # 0.22 may be gone
        assert ledger.reserve("d", D("0.09"), never) is None
    with Ledger(path, D("0.31")) as ledger:
        assert ledger.reserve("d", D("0.09"), never) == 1


# ---------------------------------------------------------------- crashes


def test_a_request_under_way_at_a_crash_counts_as_paid(path):
    some(path)
    with path.open("ab") as file:
        file.write(b'{"line": "sent", "id": "d", "attempt": 1, "usd_at_most": 0.07}\n')
    with Ledger(path, D(1)) as ledger:
        assert ledger.lost == 1
        assert (ledger.usd, ledger.usd_at_most) == (D("0.02"), D("0.29"))
        assert not ledger.answered("d")
    last = lines(path)[-1]
    assert (last["line"], last["id"], last["usd"], last["usd_at_most"]) == ("no answer", "d", 0.0, 0.07)
    with Ledger(path, D(1)) as ledger:  # once is enough
        assert (ledger.lost, ledger.usd_at_most) == (0, D("0.29"))


def test_cut_anywhere_nothing_is_lost_but_the_line_itself(path, monkeypatch):
    """For every place where a crash can cut the file: what may have been paid is still all there."""
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of openings
    whole = some(path)
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in [*range(1, ends[-3], 7), *ends[:-1], *(end - 1 for end in ends), *range(ends[-3], len(whole))]:
        complete = [json.loads(line) for line in whole[:cut].split(b"\n")[: sum(end <= cut for end in ends)]]
        if whole[cut : cut + 1] == b"\n":  # only the newline is missing: the line counts
            complete.append(json.loads(whole[:cut].split(b"\n")[-1]))
        path.write_bytes(whole[:cut])
        with Ledger(path, D(1)) as ledger:
            open_ = {(line["id"], line["attempt"]): line["usd_at_most"] for line in complete if line["line"] == "sent"}
            ended = [line for line in complete if line["line"] != "sent"]
            for line in ended:
                del open_[line["id"], line["attempt"]]
            most = sum(D(str(line["usd_at_most"])) for line in ended) + sum(D(str(usd)) for usd in open_.values())
            assert (ledger.usd_at_most, ledger.lost) == (most, len(open_))
            assert ledger.torn == (cut not in ends and whole[cut : cut + 1] != b"\n")
            attempt = ledger.reserve("z", D("0.1"), never)
            ledger.settle("answer", "z", attempt, D("0.1"), D("0.1"))
        kept, torn = read_lines(path)
        assert torn == 0 and kept[-1]["id"] == "z"
        assert kept[: len(complete)] == complete
        assert path.read_bytes().startswith(whole[:cut]), "nothing is ever deleted"


def test_a_crash_while_the_crash_is_noted(path):
    whole = some(path)
    path.write_bytes(whole[:-30] + b'\n{"line": "to')
    with Ledger(path, D(1)) as ledger:
        assert (ledger.torn, ledger.lost) == (2, 1)
    with Ledger(path, D(1)) as ledger:
        assert (ledger.torn, ledger.lost) == (0, 0)


# ---------------------------------------------------------------- other files, other runs


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"# Notes",
        b'{"cells": []}',
        b'{"line": "sent", "id": "a", "attempt": 1}\n{"line": "sent", "id": "a", "attempt": 1, "usd_at_most": 1}\n',
        b'\x00\x00\n{"line": "sent", "id": "a", "attempt": 1, "usd_at_most": 1}\n',
        b'{"line": "sent", "id": "a", "attempt": 1, "usd_at_most": -1}\n{"line": "torn", "lines": 2}\n',
    ],
)
def test_another_file_is_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="must be a ledger"), Ledger(path, D(1)):
        pass
    assert path.read_bytes() == content


def test_a_missing_or_empty_file_is_a_new_one(path):
    assert read_lines(path) == ([], 0)
    path.touch()
    with Ledger(path, D(1)) as ledger:
        assert (ledger.torn, ledger.usd_at_most) == (0, 0)
    assert path.read_bytes() == b""


def test_one_run_at_a_time(path):
    with Ledger(path, D(1)), pytest.raises(LedgerError, match="must not be in use"), Ledger(path, D(1)):
        pass
    with Ledger(path, D(1)):
        pass


def test_a_closed_ledger_takes_nothing(path):
    with Ledger(path, D(1)) as ledger:
        attempt = ledger.reserve("a", D("0.1"), never)
    with pytest.raises(LedgerError, match="its run has ended"):
        ledger.settle("answer", "a", attempt, D(0), D(0))
    with Ledger(path, D(1)) as again:
        assert again.lost == 1


def test_a_full_disk_ends_the_run_and_not_the_record(path, monkeypatch):
    whole = some(path)
    with Ledger(path, D(1)) as ledger:
        file = ledger._file

        class Full:
            closed = False
            fileno, close = file.fileno, file.close

            def write(self, data):
                return file.write(data[:10])

        ledger._file = Full()
        with pytest.raises(OSError, match="took only a part of a line"):
            ledger.reserve("d", D("0.1"), never)
        assert file.closed
    assert path.read_bytes() == whole + b'{"line": "'
    with Ledger(path, D(1)) as again:
        assert (again.torn, again.usd_at_most) == (1, D("0.22"))
