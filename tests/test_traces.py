import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvlib.prefix import session_bill
from kvlib.prices import price
from kvlib.stack import hit_curve
from kvlib.traces import Trace, TraceError, read_azure, read_mooncake

DATA = Path(__file__).parent / "data"
GOOD = '{"timestamp": 1, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n'
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2023-11-16 18:15:46.6805900,374,44\n"


@pytest.fixture
def written(tmp_path):
    """Writes text or bytes to a file and gives its path."""

    def write(content, name="trace"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# ---------------------------------------------------------------- what is read


def test_a_mooncake_trace():
    trace = read_mooncake(DATA / "mooncake_small.jsonl")
    assert [request.at for request in trace.requests] == [0, 0, 2.5, 9]
    assert [request.tokens for request in trace.requests] == [1_300, 1_024, 1_900, 1_300]
    assert [request.output_tokens for request in trace.requests] == [40, 12, 7, 0]
    assert trace.blocks == [[0, 1, 2], [0, 3], [0, 1, 4, 5], [0, 1, 2]]
    assert trace.requests[0].parts == ((0, 512), (1, 512), (2, 276))
    assert repr(trace) == "4 requests, 1,381.0 prompt and 14.8 output tokens on average"
    assert trace.skipped == ()


def test_its_hits_by_hand():
    """The second request finds block 0, the third 0 and 1, the fourth 0, 1 and 2: 6 of 12 blocks."""
    curve = hit_curve(read_mooncake(DATA / "mooncake_small.jsonl").blocks)
    assert (curve.references, curve.distinct, curve.hits(99)) == (12, 6, 6)
    # Most recent first: 0 1 2, then 0 3 1 2, then 0 1 4 5 3 2. So they need 1, then 1 and 3, then 1, 2 and 6 blocks.
    assert [curve.hits(capacity) for capacity in range(7)] == [0, 3, 4, 5, 5, 5, 6]


def test_its_hits_in_tokens():
    trace = read_mooncake(DATA / "mooncake_small.jsonl")
    assert trace.block_tokens == [[512, 512, 276], [512, 512], [512, 512, 512, 364], [512, 512, 276]]
    assert hit_curve(trace.blocks, trace.block_tokens).rate(99) == (5 * 512 + 276) / 5_524


def test_it_can_be_billed():
    rows = read_mooncake(DATA / "mooncake_small.jsonl").requests
    bill = session_bill(rows, price("gpt-5"), "openai-automatic")
    assert [line.tokens("cached input") for line in bill.lines] == [0, 0, 1_024, 1_280]  # minimum 1,024, steps of 128


def test_ids_for_whole_blocks_only_leave_a_rest_that_nobody_shares(written):
    """Some writers give no id to the part of a block at the end."""
    lines = GOOD.replace("[0, 1]", "[0]") * 2
    first, second = read_mooncake(written(lines)).requests
    assert first.tokens == second.tokens == 600 and first.parts[0] == second.parts[0] == (0, 512)
    assert first.parts[1] != second.parts[1]
    assert read_mooncake(written(lines)).blocks == [[0], [0]]
    assert read_mooncake(written(GOOD.replace("[0, 1]", "[0, 1, 2]")), block_tokens=256).requests[0].tokens == 600


def test_an_azure_trace():
    trace = read_azure(DATA / "azure_small.csv")
    assert [round(request.at, 6) for request in trace.requests] == [0, 4.314579, 4.541877]
    assert [request.tokens for request in trace.requests] == [374, 396, 879]
    assert [request.output_tokens for request in trace.requests] == [44, 109, 0]
    assert hit_curve(trace.blocks).references == 0  # nothing is known to be shared


def test_azure_with_time_zones_windows_lines_and_a_byte_order_mark(written):
    zoned = HEADER + "2024-05-10 00:00:00.009930+00:00,10,1\n2024-05-10 02:00:01.009930+02:00,20,2\n"
    raw = b"\xef\xbb\xbf" + zoned.replace("\n", "\r\n").encode()
    assert [(request.at, request.tokens) for request in read_azure(written(raw)).requests] == [(0, 10), (1, 20)]


def test_requests_come_in_order_of_arrival(written):
    lines = [GOOD.replace('"timestamp": 1', f'"timestamp": {at}') for at in (5_000, 0, 2_000)]
    assert [request.at for request in read_mooncake(written("".join(lines))).requests] == [0, 2, 5]
    rows = HEADER + "2023-11-16 18:15:50,2,2\n2023-11-16 18:15:46,1,1\n"
    assert [(r.at, r.tokens) for r in read_azure(written(rows)).requests] == [(0, 1), (4, 2)]


# ---------------------------------------------------------------- what is refused

LINES = (DATA / "malformed.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
REASONS = {
    2: "timestamp must be a number of milliseconds, 0 or more; got -1",
    3: "numbers must be finite; got NaN",
    4: "timestamp must be a number of milliseconds, 0 or more; got inf",
    5: "timestamp must be a number of milliseconds, 0 or more; got '1'",
    6: "timestamp must be a number of milliseconds, 0 or more; got True",
    7: "input_length must be a whole number, 1 to 1,000,000,000; got 600.5",
    8: "input_length must be a whole number, 1 to 1,000,000,000; got 0",
    9: "output_length must be a whole number, 0 to 1,000,000,000; got -5",
    10: "output_length must be a whole number, 0 to 1,000,000,000; got None",
    11: "hash_ids must be one per 512 of the 600 input tokens; got 3",
    12: "hash_ids must not repeat within a request",
    13: "hash_ids must be a list of whole numbers, 0 or more; got [0, '1']",
    14: "hash_ids must be a list of whole numbers, 0 or more; got 7",
    15: "must be a JSON object; got list",
    16: "must be a JSON object: Expecting ',' delimiter at column 37",
    17: "must be a JSON object: Expecting value at column 1",
}


@pytest.mark.parametrize(("number", "reason"), REASONS.items())
def test_a_malformed_line_is_an_error_with_its_number(written, number, reason):
    lines = [GOOD] * (number - 1) + [LINES[number - 1]] + [GOOD]
    with pytest.raises(TraceError) as caught:
        read_mooncake(written("".join(lines)))
    assert str(caught.value).endswith(f"trace, line {number}: {reason}")


def test_malformed_lines_are_skipped_only_when_asked_and_listed():
    with pytest.raises(TraceError, match=r"malformed\.jsonl, line 2: timestamp"):
        read_mooncake(DATA / "malformed.jsonl")
    trace = read_mooncake(DATA / "malformed.jsonl", skip_malformed=True)
    assert [request.at for request in trace.requests] == [0, 0.005]
    assert dict(trace.skipped) == REASONS
    assert repr(trace).endswith("16 lines skipped")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2023-11-16 18:15:46,374\n", "a line must have 3 columns; got 2"),
        ("2023-11-16 18:15:46,374,44,1\n", "a line must have 3 columns; got 4"),
        ("-5,374,44\n", "TIMESTAMP must be like 2023-11-16 18:15:46.680590; got '-5'"),
        ("nan,374,44\n", "TIMESTAMP must be like 2023-11-16 18:15:46.680590; got 'nan'"),
        ("2023-02-30 18:15:46,374,44\n", "TIMESTAMP must be like"),
        ("1969-12-31 23:59:59,374,44\n", "at must be a number of seconds, 0 or more"),
        ("2023-11-16 18:15:46,-374,44\n", "ContextTokens must be a whole number, 0 to 999,999,999; got '-374'"),
        ("2023-11-16 18:15:46,374,NaN\n", "GeneratedTokens must be a whole number, 0 to 999,999,999; got 'NaN'"),
        ("2023-11-16 18:15:46,3_7,4\n", "ContextTokens must be a whole number, 0 to 999,999,999; got '3_7'"),
        ("2023-11-16 18:15:46,٣,4\n", "ContextTokens must be a whole number"),
        ("2023-11-16 18:15:46+00:00,374,44\n", "TIMESTAMP must have a time zone on all lines or on none"),
        ('"2023-11-16 18:15:46,374,44\n', "unexpected end of data"),
    ],
)
def test_a_malformed_row_is_an_error_with_its_number(written, row, reason):
    path = written(HEADER + ROW + row + ROW)
    with pytest.raises(TraceError, match="trace, line 3: ") as caught:
        read_azure(path)
    assert reason in str(caught.value)
    trace = read_azure(path, skip_malformed=True)
    assert len(trace.requests) == 2 and [number for number, _ in trace.skipped] == [3]


@pytest.mark.parametrize("content", ["", "\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("read", [read_mooncake, read_azure])
@pytest.mark.parametrize("skip", [False, True])
def test_an_empty_file_is_an_error(written, content, read, skip):
    with pytest.raises(TraceError, match="trace must have at least one request"):
        read(written(content), skip_malformed=skip)


def test_a_file_of_malformed_lines_is_an_error_even_if_they_are_skipped(written):
    with pytest.raises(TraceError, match="at least one request; 2 malformed lines, the first is line 1"):
        read_mooncake(written("x\ny\n"), skip_malformed=True)
    with pytest.raises(TraceError, match="at least one request"):
        read_azure(written(HEADER))


@pytest.mark.parametrize("skip", [False, True])
def test_another_kind_of_file_is_an_error_even_if_lines_are_skipped(written, skip):
    with pytest.raises(TraceError, match="line 1: the first line must be TIMESTAMP,ContextTokens,GeneratedTokens; got"):
        read_azure(written("time,in,out\n" + ROW), skip_malformed=skip)
    with pytest.raises(TraceError, match="line 1: "):
        read_azure(written(GOOD), skip_malformed=skip)


def test_text_that_is_not_utf8_is_an_error_with_its_place(written):
    path = written(GOOD.encode() + GOOD.replace("600", "6\xff0").encode("latin-1") + GOOD.encode())
    with pytest.raises(TraceError, match="line 2: text must be UTF-8; byte 35 of the line is 0xff"):
        read_mooncake(path)
    assert len(read_mooncake(path, skip_malformed=True).requests) == 2
    with pytest.raises(TraceError, match="line 1: text must be UTF-8"):
        read_azure(written("\ufeffTIMESTAMP".encode("utf-16")))


@pytest.mark.parametrize("skip", [False, True])
def test_a_line_of_a_gigabyte_is_never_read_as_a_whole(tmp_path, skip):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(GOOD.encode())
        file.seek(2**30, 1)  # a hole: nothing is stored on the disk
        file.write(b"\n" + GOOD.encode())
    tracemalloc.start()
    if skip:
        trace = read_mooncake(path, skip_malformed=True)
        assert len(trace.requests) == 2
        assert trace.skipped == ((2, "a line must have at most 1,048,576 bytes; this one is longer"),)
    else:
        with pytest.raises(TraceError, match="line 2: a line must have at most 1,048,576 bytes"):
            read_mooncake(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_the_bound_is_exact(written):
    exact = len(GOOD) - 1
    for content in (GOOD, GOOD[:-1]):
        assert read_mooncake(written(content), longest_line=exact).requests
        with pytest.raises(TraceError, match="line 1: a line must have at most"):
            read_mooncake(written(content), longest_line=exact - 1)


@pytest.mark.parametrize("nasty", ["[" * 100_000, '{"timestamp": ' + "9" * 5_000 + "}", "\x00", '{"a": "\\ud800"}'])
def test_nasty_json_is_an_ordinary_error(written, nasty):
    with pytest.raises(TraceError, match="line 1: "):
        read_mooncake(written(nasty + "\n"))


def outcome(read, path, skip):
    """A Trace, or the text of the TraceError; any other error is a failure."""
    try:
        return read(path, skip_malformed=skip)
    except TraceError as error:
        return str(error)


@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from([read_mooncake, read_azure]), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_trace_or_a_trace_error(written, chunks, read, good):
    start = (GOOD if read is read_mooncake else HEADER + ROW).encode() if good else b""
    path = written(start + b"\n".join(chunks))
    for skip in (False, True):
        result = outcome(read, path, skip)
        assert isinstance(result, Trace) or str(path) in result


def test_what_is_written_is_read(written):
    records = [
        {
            "timestamp": 10 * n,
            "input_length": 512 * (n % 3) + 100,
            "output_length": n,
            "hash_ids": list(range(n % 3 + 1)),
        }
        for n in range(50)
    ]
    trace = read_mooncake(written("".join(json.dumps(record) + "\n" for record in records)))
    assert [(r.at, r.tokens, r.output_tokens) for r in trace.requests] == [
        (x["timestamp"] / 1000, x["input_length"], x["output_length"]) for x in records
    ]


def test_a_missing_file_and_a_bad_bound():
    with pytest.raises(FileNotFoundError):
        read_mooncake(DATA / "nowhere.jsonl")
    with pytest.raises(ValueError, match="block_tokens must be a whole number, 1 or more; got 0"):
        read_mooncake(DATA / "mooncake_small.jsonl", block_tokens=0)
    with pytest.raises(ValueError, match="longest_line must be a whole number, 1 or more; got 0"):
        read_azure(DATA / "azure_small.csv", longest_line=0)
