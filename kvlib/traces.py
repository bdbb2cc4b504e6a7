"""Recorded traffic: the trace format of Mooncake (JSON lines) and the arrivals that Azure published (CSV).

Files are read line by line with a bound on the length of a line, so that a broken file costs an error, not the memory
of the machine. A line that is not what it should be is an error with its number, or skipped and listed if asked.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from kvlib.sessions import Request
from kvlib.units import whole

MOONCAKE_BLOCK = 512  # tokens that one of the hash_ids stands for
LONGEST_LINE = 2**20  # bytes; a prompt of 2 million tokens has 4,000 hash_ids, which are 40 kB
AZURE_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_MOST_TOKENS = 10**9


class TraceError(ValueError):
    """A trace that cannot be read; the message names the file, the line and what would be right."""


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival, and the (line number, reason) of each line that was skipped."""

    requests: tuple[Request, ...]
    skipped: tuple[tuple[int, str], ...] = ()

    @property
    def blocks(self) -> list[list[int]]:
        """The hash_ids of each request (Mooncake), for `hit_curve`; empty lists where there are none."""
        return [[name for name, _ in request.parts if isinstance(name, int)] for request in self.requests]

    @property
    def block_tokens(self) -> list[list[int]]:
        """The tokens of each of these blocks; a prompt's last one may be part empty."""
        return [[size for name, size in request.parts if isinstance(name, int)] for request in self.requests]

    def __repr__(self) -> str:
        many = len(self.requests)
        prompt = sum(request.tokens for request in self.requests) / many
        output = sum(request.output_tokens for request in self.requests) / many
        skipped = f", {len(self.skipped):,} lines skipped" if self.skipped else ""
        return f"{many:,} requests, {prompt:,.1f} prompt and {output:,.1f} output tokens on average{skipped}"


def read_mooncake(
    path: str | Path,
    *,
    skip_malformed: bool = False,
    block_tokens: int = MOONCAKE_BLOCK,
    longest_line: int = LONGEST_LINE,
) -> Trace:
    """A trace of JSON lines: timestamp (ms), input_length, output_length, hash_ids (one per block of the prompt).

    Equal hash_ids mean an equal block after an equal prefix. Some writers give a part of a block an id, some do not;
    tokens without an id are shared with nobody.

    Args:
        path: the file.
        skip_malformed: leave bad lines out and list them in `skipped`, instead of raising.
        block_tokens: tokens per hash id.
        longest_line: bytes beyond which a line is malformed; it is never read as a whole.

    Returns:
        A Trace with times in seconds. Blank lines count as nothing.

    Raises:
        TraceError: if a line is malformed, or no request is left.
        OSError: if the file cannot be opened.

    Source: kvcache-ai/Mooncake, FAST25-release/traces.
    """
    block = whole("block_tokens", block_tokens, 1)
    number = 0

    def parse(line: str) -> Request:
        nonlocal number
        number += 1
        record = _json(line)
        at = _number(record, "timestamp")
        tokens, output = _count(record, "input_length", least=1), _count(record, "output_length")
        ids = record.get("hash_ids", [])
        if not isinstance(ids, list) or not all(type(one) is int and 0 <= one < 2**63 for one in ids):
            raise TraceError(f"hash_ids must be a list of whole numbers, 0 or more; got {ids!r:.80}")
        if len(set(ids)) < len(ids):
            raise TraceError("hash_ids must not repeat within a request")
        if len(ids) not in (tokens // block, -(-tokens // block)):
            raise TraceError(f"hash_ids must be one per {block} of the {tokens:,} input tokens; got {len(ids):,}")
        parts: list[Any] = [(one, min(block, tokens - place * block)) for place, one in enumerate(ids)]
        rest = tokens - sum(many for _, many in parts)
        return Request(at / 1000, tuple(parts + [(("rest", number), rest)] * bool(rest)), output)

    return _read(Path(path), parse, skip_malformed, longest_line)


def read_azure(path: str | Path, *, skip_malformed: bool = False, longest_line: int = LONGEST_LINE) -> Trace:
    """Arrivals from a CSV with the columns TIMESTAMP, ContextTokens, GeneratedTokens; nothing is known to be shared.

    Args:
        path: the file.
        skip_malformed: leave bad lines out and list them in `skipped`, instead of raising.
        longest_line: bytes beyond which a line is malformed; it is never read as a whole.

    Returns:
        A Trace whose times are seconds after its first arrival, to the microsecond.

    Raises:
        TraceError: if the header or a line is malformed, or no request is left.
        OSError: if the file cannot be opened.

    Source: Azure/AzurePublicDataset, AzureLLMInferenceTrace (2023 and 2024).
    """
    number = 0
    zone: bool | None = None

    def parse(line: str) -> Request | None:
        nonlocal number, zone
        number += 1
        cells = next(csv.reader([line], strict=True), [])
        if number == 1:
            if cells != AZURE_COLUMNS:
                raise _HeaderError(f"the first line must be {','.join(AZURE_COLUMNS)}; got {line!r:.80}")
            return None
        if len(cells) != len(AZURE_COLUMNS):
            raise TraceError(f"a line must have {len(AZURE_COLUMNS)} columns; got {len(cells)}")
        moment = _moment(cells[0])
        if zone not in (None, moment.tzinfo is not None):
            raise TraceError("TIMESTAMP must have a time zone on all lines or on none")
        zone = moment.tzinfo is not None
        tokens, output = (_digits(name, cell) for name, cell in zip(AZURE_COLUMNS[1:], cells[1:], strict=True))
        parts = ((("request", number), tokens),) if tokens else ()
        return Request(_since_1970(moment), parts, output)

    trace = _read(Path(path), parse, skip_malformed, longest_line)
    start = trace.requests[0].at
    shifted = tuple(Request(float(r.at - start), r.parts, r.output_tokens) for r in trace.requests)
    return Trace(shifted, trace.skipped)


class _HeaderError(TraceError):
    """A file of another kind: skipping lines would not help."""


def _read(path: Path, parse: Callable[[str], Request | None], skip: bool, longest: int) -> Trace:
    """Every line through `parse`; the requests in order of arrival."""
    whole("longest_line", longest, 1)
    requests: list[Request] = []
    skipped: list[tuple[int, str]] = []
    with path.open("rb") as file:
        for number, raw in _lines(file, longest):
            try:
                line = _text(raw, longest, first=number == 1)
                request = parse(line) if line else None
            except (ValueError, RecursionError, csv.Error) as wrong:
                reason = str(wrong) or type(wrong).__name__
                if not skip or isinstance(wrong, _HeaderError):
                    raise TraceError(f"{path}, line {number}: {reason}") from None
                skipped.append((number, reason))
            else:
                requests += [request] if request else []
    if not requests:
        bad = f"; {len(skipped):,} malformed lines, the first is line {skipped[0][0]}" if skipped else ""
        raise TraceError(f"{path} must have at least one request{bad}")
    return Trace(tuple(sorted(requests, key=lambda request: request.at)), tuple(skipped))


def _lines(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, each cut after `longest` + 1 bytes; what is cut off is passed over in pieces."""
    number = 0
    while raw := file.readline(longest + 1):
        number += 1
        yield number, raw
        while not raw.endswith(b"\n") and (raw := file.readline(longest)):
            pass


def _text(raw: bytes, longest: int, first: bool) -> str:
    if len(raw) > longest and not raw.endswith(b"\n"):
        raise TraceError(f"a line must have at most {longest:,} bytes; this one is longer")
    try:
        return raw.decode("utf-8-sig" if first else "utf-8").strip()
    except UnicodeDecodeError as wrong:
        raise TraceError(
            f"text must be UTF-8; byte {wrong.start + 1} of the line is 0x{raw[wrong.start]:02x}"
        ) from None


def _json(line: str) -> dict[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise TraceError(f"numbers must be finite; got {word}")

    try:
        record = json.loads(line, parse_constant=refuse)
    except json.JSONDecodeError as wrong:
        raise TraceError(f"must be a JSON object: {wrong.msg} at column {wrong.colno}") from None
    except RecursionError:
        raise TraceError("must be a JSON object: nested too deeply") from None
    if not isinstance(record, dict):
        raise TraceError(f"must be a JSON object; got {type(record).__name__}")
    return record


def _number(record: dict[str, Any], name: str) -> float:
    value: Any = record.get(name)
    if type(value) not in (int, float) or not 0 <= value < 10**15 or not math.isfinite(value):
        raise TraceError(f"{name} must be a number of milliseconds, 0 or more; got {value!r:.80}")
    return float(value)


def _count(record: dict[str, Any], name: str, least: int = 0) -> int:
    value = record.get(name)
    if type(value) is not int or not least <= value <= _MOST_TOKENS:
        raise TraceError(f"{name} must be a whole number, {least} to {_MOST_TOKENS:,}; got {value!r:.80}")
    return value


def _digits(name: str, cell: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", cell):
        raise TraceError(f"{name} must be a whole number, 0 to 999,999,999; got {cell!r:.80}")
    return int(cell)


def _moment(cell: str) -> datetime:
    """The date and time of a cell; digits beyond the microsecond are dropped."""
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:", cell):
        try:
            return datetime.fromisoformat(cell)
        except ValueError:
            pass
    raise TraceError(f"TIMESTAMP must be like 2023-11-16 18:15:46.680590; got {cell!r:.80}")


def _since_1970(moment: datetime) -> Fraction:
    """Seconds, exact: a float cannot hold microseconds and 54 years."""
    start = datetime(1970, 1, 1, tzinfo=UTC if moment.tzinfo else None)
    micros = (moment - start) // timedelta(microseconds=1)
    return Fraction(micros, 10**6)
