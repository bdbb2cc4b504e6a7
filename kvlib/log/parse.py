"""Finds the figures in a start-up log, and where they stand. It judges nothing.

Time stamps, process prefixes, file names and colours are ignored. If a log holds several starts, the last one counts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from kvlib.log.patterns import PATTERNS, Pattern
from kvlib.units import GiB, MiB

_ANSI = re.compile(r"\x1b\[[0-9;]{0,20}m")
# kind of a group -> (bytes per unit, half of the last place when two decimals are printed)
_SIZES = {"gib": (GiB, 0.005), "mib": (MiB, 0.005)}


class LogError(ValueError):
    """The text holds nothing that can be explained; the message says what was looked for."""


@dataclass(frozen=True)
class Reading:
    """One figure as printed: bytes, a number or a word. `half` is half a unit of its last printed place."""

    name: str
    value: Any
    half: float
    position: int
    length: int
    decimals: int = 0


# Figures that say something about memory; a text with settings only is not a start-up log.
_MEMORY = {
    "weights",
    "blocks",
    "concurrency",
    "total",
    "kv",
    "kv_keys",
    "tokens",
    "tokens_total",
    "needed",
    "estimated",
    "graphs_estimated",
    "graphs_actual",
    "consumed",
    "block",
    "ssm_state",
    "free_start",
    "free_pool",
    "state",
}
_REFUSED = "No available memory for the cache blocks"
_ASYNC = "Asynchronous scheduling is enabled"


@dataclass(frozen=True)
class ParsedLog:
    """The readings of the last start in a log, by name, in the order of the text."""

    text: str
    engine: str
    readings: dict[str, tuple[Reading, ...]]
    starts: int
    refused: bool
    asynchronous: bool

    def line(self, reading: Reading) -> tuple[int, str]:
        """Line number (from 1) and text of the line on which a reading begins, at most 300 characters of it."""
        number = self.text.count("\n", 0, reading.position) + 1
        begin = self.text.rfind("\n", 0, reading.position) + 1
        end = self.text.find("\n", reading.position)
        line = self.text[begin : end if end >= 0 else None]
        if len(line) > 300:
            line = self.text[reading.position : reading.position + min(reading.length, 300)]
        return number, line.strip()


def parse(text: Any) -> ParsedLog:
    """Read every known figure of the last start in `text`.

    Raises:
        LogError: if text is not a str (or bytes), is empty, or holds no memory figure of an engine.
    """
    if isinstance(text, bytes | bytearray):
        text = bytes(text).decode("utf-8", "replace")
    if not isinstance(text, str):
        raise LogError(f"text must be the text of a start-up log; got {type(text).__name__}")
    if not text.strip():
        raise LogError("text must be the text of a start-up log; got an empty text")
    text = _ANSI.sub("", text) if "\x1b" in text else text
    found: list[tuple[Reading, Pattern]] = []
    for pattern in PATTERNS:
        if pattern.keyword in text:
            for match in pattern.regex.finditer(text):
                found.extend((reading, pattern) for reading in _readings(match))
    found.sort(key=lambda item: item[0].position)
    refused = _REFUSED in text
    memory = [item for item in found if item[0].name in _MEMORY]
    if not memory and not refused:
        raise LogError(
            "text must contain start-up lines of vLLM, SGLang or llama.cpp, such as 'GPU KV cache size: 42,656 "
            "tokens', 'KV Cache is allocated. #tokens: ...' or 'llama_kv_cache: size = ...'; "
            f"found none in {len(text):,} characters"
        )
    engine = _engine([pattern for _, pattern in memory])
    starts = _starts([item for item in found if item[1].engine == engine])
    readings: dict[str, list[Reading]] = defaultdict(list)
    for reading, _ in starts[-1] if starts else []:
        readings[reading.name].append(reading)
    asynchronous = _ASYNC in text
    return ParsedLog(
        text, engine, {k: tuple(v) for k, v in readings.items()}, max(1, len(starts)), refused, asynchronous
    )


def _readings(match: re.Match[str]) -> list[Reading]:
    """The figures of one message."""
    made = []
    for group, printed in match.groupdict().items():
        if printed is None:
            continue
        name, kind = group.split("__")
        digits = printed.replace(",", "")
        decimals = len(digits.partition(".")[2])
        value: Any = printed
        half = 0.0
        if kind in _SIZES:
            unit, place = _SIZES[kind]
            value = float(digits) * unit
            half = unit * (place if decimals <= 2 else 0.5 * 10**-decimals)
        elif kind == "num":
            value, half = float(digits), 0.5 * 10**-decimals
        elif kind == "int":
            value = int(digits)
        made.append(Reading(name, value, half, match.start(), match.end() - match.start(), decimals))
    return made


def _engine(patterns: list[Pattern]) -> str:
    """The engine that printed most of the memory figures."""
    engines = [pattern.engine for pattern in patterns]
    return max(("vllm", "sglang", "llama.cpp"), key=engines.count)


def _starts(found: list[tuple[Reading, Pattern]]) -> list[list[tuple[Reading, Pattern]]]:
    """Cut before each line that opens a start after the last was closed; a piece that closes nothing stays attached."""
    pieces: list[list[tuple[Reading, Pattern]]] = [[]]
    closed, last = False, -1
    for item in found:
        role = item[1].role
        if role == "open" and closed and item[0].position != last:
            pieces.append([])
            closed = False
        closed = closed or role == "close"
        last = item[0].position
        pieces[-1].append(item)
    if len(pieces) > 1 and not closed:
        tail = pieces.pop()
        pieces[-1].extend(tail)
    return pieces
