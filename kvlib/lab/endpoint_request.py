"""One request to an OpenAI-compatible endpoint: what is sent, what came of it, and whether it may have to be paid.

Nothing here raises because of a server. Whatever happens becomes an `Outcome`, so that no traceback of a network
library carries a header, and the caller always learns what a request can have cost:

    usage      the server counted the tokens: the price is known
    free       the request was turned away at the door, or never left
    neither    it may have been worked on, and paid for, without an answer
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

from kvlib.lab.access import Endpoint, Key, Messages
from kvlib.lab.english import first_number

MOST_BYTES = 2**20  # of a response; an answer of three digits comes in about 600
MOST_CHARACTERS = 500  # of a reply that are kept
_STOP = {401: "the key", 402: "the account", 403: "the key", 404: "the model or the address", 405: "the address"}
# Azure's "HTTP error response code and billing status": work may be charged whatever the status, as for a 400 of the
# content filter or a 408; a 401 or a 429 is not. (MicrosoftDocs, how-to/manage-costs.md, 2024.)
_FREE = {401, 402, 403, 404, 405, 429}
_AGAIN = {408, 409, 425, 429}  # and everything from 500


class Usage(NamedTuple):
    """Tokens as the server counted them; `cached_tokens` is None where it does not say."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    `result` is answered, refused (by the model or a filter), rejected (the request is wrong for this server), again
    (worth another try) or stop (no request will do better). `why` is in our words, or the server's without the key.
    """

    result: str
    why: str = ""
    free: bool = False
    usage: Usage | None = None
    reply: str = ""
    number: int | None = None
    wait: float = 0.0  # seconds that the server asks for
    seconds: float = 0.0


def ask(client: httpx.Client, to: Endpoint, messages: Messages, timeout: float) -> Outcome:
    """Send one request, wait at most about `timeout` seconds, and say what came of it. Never raises."""
    begun = time.perf_counter()
    try:
        outcome = _exchange(client, to, messages, begun + timeout)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        outcome = Outcome("again", f"no connection ({type(error).__name__})", free=True)
    except Exception as error:  # whatever it is, the request may have been worked on; its text may hold a header
        outcome = Outcome("again", f"no answer ({type(error).__name__})")
    return replace(outcome, seconds=time.perf_counter() - begun)


def _exchange(client: httpx.Client, to: Endpoint, messages: Messages, deadline: float) -> Outcome:
    received = bytearray()
    with client.stream("POST", f"{to.base_url}/chat/completions", json=to.body(messages)) as response:
        for part in response.iter_bytes():
            received += part
            if len(received) > MOST_BYTES:
                return Outcome("again", f"an answer of more than {MOST_BYTES:,} bytes")
            if time.perf_counter() > deadline:
                return Outcome("again", "an answer that does not end")
    if response.is_success:
        return _answer(bytes(received), to.key)
    return _failure(response.status_code, bytes(received), _retry_after(response), to.key)


def _answer(body: bytes, key: Key) -> Outcome:
    """The outcome of a response that claims success."""
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        message, end = choice["message"], choice.get("finish_reason")
        said, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Outcome("again", "an answer that is no chat completion")
    if isinstance(said, list):  # some servers send parts
        said = "".join(str(part.get("text", "")) for part in said if isinstance(part, dict))
    text = said if isinstance(said, str) else ""
    refused = bool(refusal) or end == "content_filter"
    return Outcome(
        "refused" if refused else "answered",
        usage=_usage(data.get("usage")),
        reply=key.scrub(str(refusal) if refusal and not text else text)[:MOST_CHARACTERS],
        number=None if refused else first_number(text),
    )


def _usage(given: Any) -> Usage | None:
    """The server's counts, None unless they make sense."""
    if not isinstance(given, dict):
        return None
    details = given.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    usage = Usage(given.get("prompt_tokens"), given.get("completion_tokens"), cached)  # type: ignore[arg-type]
    counts = [count for count in usage if count is not None]
    if None in usage[:2] or not all(type(count) is int and 0 <= count < 10**9 for count in counts):
        return None
    return usage if max(cached or 0, 1) <= usage.prompt_tokens else None  # a prompt of 0 tokens was not counted


def _failure(status: int, body: bytes, wait: float, key: Key) -> Outcome:
    """The outcome of an HTTP status that is no success."""
    free, said = status in _FREE, f"HTTP {status}"
    if status in (401, 403):  # what a server says about a key may hold a part of it
        return Outcome("stop", f"the server does not accept {_STOP[status]} ({said})", free)
    text = body.decode("utf-8", "replace")
    said = f"{said}: {key.scrub(_message(text))[:200]}"
    if "insufficient_quota" in text:
        return Outcome("stop", f"the account has no money left ({said})", free)
    if status in _STOP or 300 <= status < 400:
        return Outcome("stop", f"the server does not accept {_STOP.get(status, 'the address')} ({said})", free)
    if status in _AGAIN or status >= 500:
        return Outcome("again", said, free, wait=wait)
    filtered = re.search(r"content_?(filter|policy|management)", text, re.IGNORECASE)
    return Outcome("refused" if filtered else "rejected", said, free)


def _message(text: str) -> str:
    """The server's own words in an error."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return " ".join(text.split())


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the header Retry-After asks for, as a number or as a date (RFC 9110, 10.2.3); 0 if it does not."""
    given = response.headers.get("Retry-After", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0
