"""One request: what every kind of answer and failure means, what it can have cost, and that a key never shows."""

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from kvlib.lab.access import endpoint
from kvlib.lab.endpoint_request import Outcome, Usage, _answer, _retry_after, _usage, ask
from kvlib.lab.local_server import FAULTS, serving

KEY = "sk-test-9f8e7d6c5b4a"
CHAT = [
    {
        "role": "user",
        "content": "The seat of keen actor is 221.\n\nWhat is the seat of keen actor? Answer with the number only.",
    }
]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def one(fault="", timeout=5.0, **changes):
    """The outcome of one request to a local server with one fault, and the server."""
    with serving(faults=[fault]) as server:
        to = endpoint("solver", base_url=server.base_url, key=KEY, **changes)
        with to.client(timeout, 1) as client:
            return ask(client, to, CHAT, timeout), server


# ---------------------------------------------------------------- outcomes


def test_an_answer():
    outcome, server = one()
    assert (outcome.result, outcome.reply, outcome.number) == ("answered", "221", 221)
    # 7 words, 1 stop; 7 words, 1 question mark; 5 words, 1 stop.
    assert outcome.usage == Usage(prompt_tokens=22, completion_tokens=1, cached_tokens=0)
    assert 0 < outcome.seconds < 5
    assert (server.requests, len(server.billed)) == (1, 1)


EXPECTED = {  # fault -> result, whether free, whether counted
    "429": ("again", True, False),
    "429, wait": ("again", True, False),
    "500": ("again", False, False),
    "500, worked": ("again", False, False),
    "hang up": ("again", False, False),
    "hang up, worked": ("again", False, False),
    "half": ("again", False, False),
    "garbage": ("again", False, False),
    "no usage": ("answered", False, False),
    "html": ("answered", False, True),
    "huge": ("again", False, False),
    "filtered": ("refused", False, True),
    "bad request": ("rejected", False, False),
    "filter": ("refused", False, False),
    "key": ("stop", True, False),
    "echo": ("answered", False, True),
    "echo, 400": ("rejected", False, False),
    "echo, 401": ("stop", True, False),
    "echo, 500": ("again", False, False),
}


@pytest.mark.parametrize("fault", EXPECTED)
def test_every_fault(fault):
    outcome, server = one(fault)
    assert (outcome.result, outcome.free, outcome.usage is not None) == EXPECTED[fault]
    assert not (outcome.free and server.billed), "what was billed must never be called free"
    assert len(server.billed) == FAULTS[fault][0]


@pytest.mark.parametrize("fault", ["stall", "stall, worked"])
def test_a_stall_ends_at_the_timeout(fault):
    outcome, _ = one(fault, timeout=0.15)
    assert (outcome.result, outcome.free, outcome.why) == ("again", False, "no answer (ReadTimeout)")
    assert 0.1 < outcome.seconds < 2


def test_every_fault_is_tested():
    assert EXPECTED.keys() | {"stall", "stall, worked"} == FAULTS.keys()


def test_an_answer_that_trickles_ends_too():
    def trickle():
        for _ in range(200):
            time.sleep(0.01)
            yield b" "

    to = endpoint("slow", base_url="http://127.0.0.1:1")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=trickle()))
    outcome = ask(httpx.Client(transport=transport), to, CHAT, timeout=0.1)
    assert (outcome.result, outcome.free, outcome.why) == ("again", False, "an answer that does not end")


def test_nobody_there_is_free():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    to = endpoint("nobody", base_url=f"http://127.0.0.1:{port}/v1")
    with to.client(1.0, 1) as client:
        outcome = ask(client, to, CHAT, 1.0)
    assert (outcome.result, outcome.free) == ("again", True)


def test_a_wrong_path_says_so():
    with serving() as server:
        to = endpoint("solver", base_url=server.base_url.replace("/v1", "/v2"))
        with to.client(1.0, 1) as client:
            outcome = ask(client, to, CHAT, 1.0)
    assert (
        outcome.result == "stop" and "the model or the address (HTTP 404: no /v2/chat/completions here)" in outcome.why
    )


@pytest.mark.parametrize(
    ("status", "text", "result", "free"),
    [
        (307, "", "stop", False),
        (403, "no", "stop", True),
        (408, "", "again", False),
        (422, "no such field", "rejected", False),
        (429, '{"error": {"code": "insufficient_quota", "message": "pay"}}', "stop", True),
        (400, '{"error": {"code": "content_filter", "message": "no"}}', "refused", False),
        (503, "busy", "again", False),
    ],
)
def test_further_statuses(status, text, result, free):
    to = endpoint("m", base_url="http://127.0.0.1:1")
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(status, text=text)))
    outcome = ask(client, to, CHAT, 1.0)
    assert (outcome.result, outcome.free) == (result, free)


# ---------------------------------------------------------------- replies and counts


def chat(message, **choice):
    return httpx.Response(200, json={"choices": [{"message": message, **choice}]}).content


NO_KEY = endpoint("m", base_url="http://127.0.0.1:1", key="").key


@pytest.mark.parametrize(
    ("body", "result", "number"),
    [
        (chat({"content": "221"}), "answered", 221),
        (chat({"content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "221"}]}), "answered", 221),
        (chat({"content": None}, finish_reason="length"), "answered", None),
        (chat({}), "answered", None),
        (chat({"content": None, "refusal": "I will not say 221."}), "refused", None),
        (chat({"content": "221"}, finish_reason="content_filter"), "refused", None),
        (chat("221"), "again", None),
        (b'{"error": {"message": "overloaded"}}', "again", None),
        (b'{"choices": []}', "again", None),
        (b"[" * 100_000, "again", None),
        (b"\xff\xfe", "again", None),
        (b"", "again", None),
        (b"null", "again", None),
        (b"1" * 5_000, "again", None),
    ],
)
def test_bodies(body, result, number):
    outcome = _answer(body, NO_KEY)
    assert (outcome.result, outcome.number) == (result, number)


def test_a_long_reply_is_scored_whole_and_kept_in_part():
    outcome = _answer(chat({"content": "well, " * 1_000 + "221"}), NO_KEY)
    assert outcome.number == 221 and len(outcome.reply) == 500


@pytest.mark.parametrize(
    ("given", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 1}, Usage(9, 1, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}, Usage(9, 1, 8)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(9, 1, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10}}, None),
        ({"prompt_tokens": -9, "completion_tokens": 1}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": True, "completion_tokens": 1}, None),
        ({"prompt_tokens": 9.5, "completion_tokens": 1}, None),
        ({"prompt_tokens": 9}, None),
        ({"prompt_tokens": 10**12, "completion_tokens": 1}, None),
        ([9, 1], None),
        (None, None),
    ],
)
def test_counts_that_make_no_sense_are_no_counts(given, usage):
    assert _usage(given) == usage


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", 0.0), ("inf", 0.0), ("nan", 0.0), ("", 0.0)],
)
def test_retry_after_in_seconds(header, seconds):
    assert _retry_after(httpx.Response(429, headers={"Retry-After": header})) == seconds


def test_retry_after_as_a_date():
    for ahead, least, most in ((60, 55, 60), (-60, 0, 0)):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        assert least <= _retry_after(httpx.Response(429, headers={"Retry-After": date})) <= most


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize("fault", [name for name in FAULTS if name.startswith("echo")])
def test_a_server_that_repeats_the_key(fault):
    outcome, _ = one(fault)
    assert KEY not in repr(outcome)
    assert "[key]" in repr(outcome) or fault == "echo, 401"


def test_an_outcome_is_all_that_comes_back_of_a_broken_client():
    """Whatever is raised inside, with whatever text, becomes words of ours."""

    def burst(request):
        raise RuntimeError(request.headers["Authorization"])

    to = endpoint("m", base_url="http://127.0.0.1:1", key=KEY)
    with to.client(1.0, 1) as client:
        client._transport = httpx.MockTransport(burst)
        outcome = ask(client, to, CHAT, 1.0)
    assert outcome == Outcome("again", "no answer (RuntimeError)", seconds=outcome.seconds)
