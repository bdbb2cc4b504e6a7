"""What was sent, what came back and what it cost, in one file that survives a crash; and a cap that cannot be passed.

A line is written, and forced to the disk, *before* a request leaves, and another when its outcome is known:

    {"line": "sent", "id": ..., "attempt": 1, "usd_at_most": 0.0004, ...}
    {"line": "answer", "id": ..., "attempt": 1, "usd": 0.0001, "usd_at_most": 0.0001, ...}
    {"line": "no answer", "id": ..., "attempt": 1, "usd": 0, "usd_at_most": 0.0004, "why": ...}

So at every moment the file says what can have been paid at most: the price of what the server counted, and the worst
case of every request whose outcome nobody knows. That sum is what the cap holds down. Nothing is ever deleted; a line
that a crash cut short stays, followed by a line that says so.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from threading import Condition
from typing import IO, Any, Self

Line = dict[str, Any]
_START = b'{"line": "sent", '  # of every ledger
_STEP = Decimal("1e-12")  # USD; so an amount below $1,000 has at most 15 digits, and a JSON number holds it exactly


class LedgerError(ValueError):
    """A file that is no ledger, or is not one any more."""


def read_lines(path: str | Path) -> tuple[list[Line], int]:
    """All lines of a ledger, and how many unreadable ones a crash has left at its end. A missing file has none.

    Raises:
        LedgerError: a line before the end is not one of ours: the file is something else, or was damaged.
    """
    lines: list[Line] = []
    torn: list[int] = []  # numbers of the unreadable lines since the last readable one
    data = Path(path).read_bytes() if Path(path).exists() else b""
    for number, raw in enumerate(data.removesuffix(b"\n").split(b"\n") if data else [], start=1):
        line = _parsed(raw)
        if line is None:
            torn.append(number)
            continue
        if torn and not (line["line"] == "torn" and line["lines"] == len(torn)):
            raise LedgerError(f"{path} must be a ledger; its line {torn[0]} cannot be read, and is not the last one")
        torn = []
        lines.append(line)
    if torn and not lines and not data.startswith(_START[: len(data)]):
        raise LedgerError(f"{path} must be a ledger, or a new file; nothing in it can be read as one")
    return lines, len(torn)


def per_question(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """The lines of each question, by its id."""
    history: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["line"] != "torn":
            history[line["id"]].append(line)
    return dict(history)


def exact(usd: Decimal) -> Decimal:
    """An amount rounded up to a millionth of a millionth of a dollar."""
    return usd.quantize(_STEP, ROUND_CEILING)


def money(line: Line, name: str) -> Decimal:
    """An amount of a line, exactly as it was written."""
    return Decimal(str(line[name]))


class Ledger:
    """The open file of one run. Only one run at a time can have it; several threads may use it.

    `usd` is what the server's counts add up to; `usd_at_most` adds the worst case of what is under way or unknown.
    """

    def __init__(self, path: str | Path, cap: Decimal) -> None:
        self.path, self.cap = Path(path), cap
        self.usd = self.usd_at_most = Decimal(0)
        self.torn = self.lost = 0  # lines that a crash cut short, and requests whose outcome it took away
        self.capped = False  # whether the next request did not fit under the cap
        self._open: dict[tuple[str, int], Decimal] = {}  # sent, outcome not known yet
        self._attempts: dict[str, int] = defaultdict(int)
        self._answered: set[str] = set()
        self._change = Condition()

    def __enter__(self) -> Self:
        self._file = self.path.open("ab", buffering=0)
        try:
            _lock(self._file, self.path)
            self._recover()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._file.close()

    def answered(self, question: str) -> bool:
        """Whether the question needs no further request."""
        return question in self._answered

    def reserve(self, question: str, worst: Decimal, stopped: Callable[[], bool]) -> int | None:
        """Set the worst case of a request aside and write that it is sent; gives the number of the attempt.

        Where only requests under way stand between it and the cap, this waits for their real price. None: it does not
        fit under the cap (`capped` is then true), or the run was stopped.
        """
        most = exact(worst)
        with self._change:
            while self.usd_at_most + most > self.cap and not stopped():
                if not self._open:
                    self.capped = True
                    return None
                self._change.wait(0.05)
            if stopped():
                return None
            attempt = self._attempts[question] + 1
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._append({"line": "sent", "id": question, "attempt": attempt, "usd_at_most": float(most), "at": now})
            return attempt

    def settle(self, line: str, question: str, attempt: int, usd: Decimal, at_most: Decimal, **what: Any) -> None:
        """Write the outcome of an attempt, an "answer" or "no answer", and free what was set aside beyond `at_most`."""
        cost = {"usd": float(exact(usd)), "usd_at_most": float(exact(at_most))}
        with self._change:
            self._append({"line": line, "id": question, "attempt": attempt, **what, **cost})
            self._change.notify_all()

    def _recover(self) -> None:
        """Read what earlier runs left, and write down what their end took away."""
        lines, self.torn = read_lines(self.path)
        for line in lines:
            self._apply(line)
        data = self.path.read_bytes()
        if data and not data.endswith(b"\n"):
            self._write(b"\n")
        if self.torn:
            self._append({"line": "torn", "lines": self.torn, "why": "a crash cut this file short"})
        lost = dict(self._open)
        self.lost = len(lost)
        for (question, attempt), most in lost.items():
            self.settle("no answer", question, attempt, Decimal(0), most, why="the run ended before the answer came")

    def _append(self, line: Line) -> None:
        self._write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._apply(line)

    def _write(self, data: bytes) -> None:
        """Write to the disk, not to a buffer. After a failure nothing more is written behind a broken line."""
        if self._file.closed:
            raise LedgerError(f"{self.path} is closed: its run has ended")
        try:
            if self._file.write(data) != len(data):
                raise OSError(f"{self.path} took only a part of a line: is the disk full?")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.close()
            raise

    def _apply(self, line: Line) -> None:
        """What a line means for the sums."""
        if line["line"] == "torn":
            return
        name = (line["id"], line["attempt"])
        if line["line"] == "sent":
            self._attempts[line["id"]] = line["attempt"]
            self._open[name] = money(line, "usd_at_most")
            self.usd_at_most += self._open[name]
            return
        self.usd += money(line, "usd")
        self.usd_at_most += money(line, "usd_at_most") - self._open.pop(name, Decimal(0))
        if line["line"] == "answer":
            self._answered.add(line["id"])


def _parsed(raw: bytes) -> Line | None:
    """A line of a ledger; None if it is not one, or not all of one."""
    try:
        line = json.loads(raw)
        if line["line"] == "torn":
            return line if type(line["lines"]) is int else None
        whole = line["line"] in ("sent", "answer", "no answer") and isinstance(line["id"], str)
        needed = ("usd_at_most",) if line["line"] == "sent" else ("usd", "usd_at_most")
        sums = all(money(line, name) >= 0 for name in needed)
        return line if whole and sums and type(line["attempt"]) is int else None
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep a second run out, in this process or another, until the file is closed."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LedgerError(f"{path} must not be in use; another run has it open") from None
