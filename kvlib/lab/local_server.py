"""A server on this machine that speaks the OpenAI protocol: to show a run without money, and to test it with faults.

It answers each prompt with a function of yours, counts every word and mark as one token, keeps a prefix cache in blocks
of 16 tokens, and writes a bill. Told to, it fails as real servers do. It is a stub: its speed says nothing.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from kvlib.lab.english import ONLY, task_ids
from kvlib.lab.words import decode

if TYPE_CHECKING:
    from kvlib.lab.tinylm import TinyLM

Answerer = Callable[[str], str]
BLOCK = 16  # tokens of a block of the prefix cache
STALL = 30.0  # seconds that a stalled request is held, unless the server is closed before

# fault -> (whether the work was done, and so billed, HTTP status, further headers)
FAULTS: dict[str, tuple[bool, int, dict[str, str]]] = {
    "429": (False, 429, {}),
    "429, wait": (False, 429, {"Retry-After": "0.05"}),
    "500": (False, 500, {}),
    "500, worked": (True, 500, {}),
    "stall": (False, 0, {}),
    "stall, worked": (True, 0, {}),
    "hang up": (False, 0, {}),
    "hang up, worked": (True, 0, {}),
    "half": (True, 200, {}),
    "garbage": (True, 200, {}),
    "no usage": (True, 200, {}),
    "html": (True, 200, {"Content-Type": "text/html"}),
    "huge": (True, 200, {}),
    "filtered": (True, 200, {}),
    "bad request": (False, 400, {}),
    "filter": (True, 400, {}),
    "key": (False, 401, {}),
    "echo": (True, 200, {}),  # the reply repeats the caller's key
    "echo, 400": (False, 400, {}),
    "echo, 401": (False, 401, {}),
    "echo, 500": (False, 500, {}),
}


class Counted(NamedTuple):
    """One line of the server's bill, in its own tokens."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class LocalServer:
    """What the server has seen: `requests` that came in, and the `billed` ones, whose work was done."""

    def __init__(self, answer: Answerer, faults: Iterable[str]) -> None:
        self.base_url = ""
        self.requests = 0
        self.billed: list[Counted] = []
        self.closing = threading.Event()
        self._answer, self._faults = answer, iter(faults)
        self._blocks: set[int] = set()
        self._lock = threading.Lock()

    def next_fault(self) -> str:
        """The fault of the next request in the script, "" when the script has ended."""
        with self._lock:
            self.requests += 1
            return next(self._faults, "")

    def work(self, body: dict[str, Any]) -> tuple[str, Counted]:
        """The reply to a request, which is put on the bill."""
        prompt = "\n".join(message["content"] for message in body["messages"] if message["role"] == "user")
        tokens = _tokens("\n".join(message["content"] for message in body["messages"]))
        most = body.get("max_tokens", body.get("max_completion_tokens"))
        words = _tokens(self._answer(prompt))[:most]
        with self._lock:
            counted = Counted(len(tokens), self._cached(tokens), max(1, len(words)))
            self.billed.append(counted)
        return " ".join(words), counted

    def _cached(self, tokens: list[str]) -> int:
        """Leading tokens that were in the cache in whole blocks; now the whole prompt is."""
        hits, name, unbroken = 0, 0, True
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            name = hash((name, *tokens[start : start + BLOCK]))
            unbroken = unbroken and name in self._blocks
            hits += BLOCK * unbroken
            self._blocks.add(name)
        return hits


def solve(prompt: str) -> str:
    """The right answer to a literal needle question, by looking for its words; "none" if they do not stand there."""
    asked = re.search(rf"What is the (\w+ of \w+ \w+)\? {re.escape(ONLY)}", prompt)
    found = re.search(rf"\bthe {asked[1]} is (\d+)\.", prompt, re.IGNORECASE) if asked else None
    return found[1] if found else "none"


def answers_of(model: TinyLM) -> Answerer:
    """An answerer that reads the English prompt with the tiny model, one prompt at a time."""
    turn = threading.Lock()

    def answer(prompt: str) -> str:
        ids = task_ids(prompt)
        with turn:
            return decode(model.read(model.prefill(ids[:-1]), ids[-1:]).answer)

    return answer


@contextmanager
def serving(answer: Answerer = solve, faults: Iterable[str] = ()) -> Iterator[LocalServer]:
    """A running server on a free port of 127.0.0.1; its `base_url` is what `endpoint` wants.

    Args:
        answer: from the user's words to the reply. Several threads may call it at once.
        faults: what happens to the first requests, in their order: names from `FAULTS`, or "" for nothing.

    Raises:
        ValueError: if a fault is unknown.
    """
    script = list(faults)
    if unknown := set(script) - FAULTS.keys() - {""}:
        raise ValueError(f'faults must be "" or among {", ".join(FAULTS)}; got {sorted(unknown)}')
    local = LocalServer(answer, script)
    server = _Server(("127.0.0.1", 0), _handler(local))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    local.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread.start()
    try:
        yield local
    finally:
        local.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(local: LocalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or headers and body wait for each other, 40 ms a request

        def do_POST(self) -> None:
            """One request: do the work, or a fault's share of it, and answer."""
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self.reply(404, {}, json.dumps(_error("", f"no {self.path} here")))
                return
            fault = local.next_fault()
            worked, status, headers = FAULTS.get(fault, (True, 200, {}))
            said, counted = local.work(body) if worked else ("", Counted(0, 0, 0))
            message = f"told to fail: {fault}"
            if fault.startswith("echo"):
                said = message = f"you sent {self.headers['Authorization']}"
            if fault.startswith("stall"):
                local.closing.wait(STALL)
            if status:
                good = status == 200
                whole = _completion(body["model"], said, counted, fault) if good else _error(fault, message)
                text = json.dumps(whole)
                self.reply(status, headers, {"garbage": text[:40], "huge": text + " " * 2**21}.get(fault, text), fault)
            else:
                self.close_connection = True

        def reply(self, status: int, headers: dict[str, str], text: str, fault: str = "") -> None:
            """Send a response, or half of it."""
            data = text.encode()
            self.send_response(status)
            shown = {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
            for name, value in shown.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if fault == "half" else data)
            self.close_connection = self.close_connection or fault == "half"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    """One thread for each connection."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Callers that hang up are part of the game."""


def _completion(model: str, said: str, counted: Counted, fault: str) -> dict[str, Any]:
    filtered = fault == "filtered"
    message = {"role": "assistant", "content": None if filtered else said}
    choice = {"index": 0, "message": message, "finish_reason": "content_filter" if filtered else "stop"}
    usage = {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens},
    }
    whole = {"id": "local", "object": "chat.completion", "model": model, "choices": [choice]}
    return whole if fault == "no usage" else whole | {"usage": usage}


def _error(fault: str, message: str) -> dict[str, Any]:
    kind = "content_filter" if fault == "filter" else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "code": kind}}


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)
