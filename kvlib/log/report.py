"""What an explanation consists of: where the bytes went, predictions beside the log, and how they are shown."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kvlib.engine import Pool
from kvlib.log.fit import EXACT, RANKS
from kvlib.model import Model
from kvlib.units import GiB, size


@dataclass(frozen=True)
class Term:
    """A named part of one GPU's memory. `line` is where the log prints it, None if it was computed; `how` says how."""

    name: str
    bytes: int
    how: str
    line: int | None = None


@dataclass(frozen=True)
class Check:
    """A prediction beside the log; `low` and `high` are what it may be, given how the log rounds its input."""

    name: str
    predicted: float
    logged: float
    low: float
    high: float
    unit: str
    verdict: str
    why: str

    @property
    def difference(self) -> float:
        """Logged minus predicted."""
        return self.logged - self.predicted

    @property
    def agrees(self) -> bool:
        """Whether the difference has a name: none, rounding, or the poorest of several ranks."""
        return self.verdict in (EXACT, "rounding", RANKS)

    def show(self, value: float) -> str:
        """`value` in the unit of the check."""
        if self.unit == "bytes":
            return f"{value / GiB:,.2f} GiB"
        return f"{value:,.2f}{self.unit}" if self.unit in ("x", "%") else f"{value:,.0f}"


def check(
    name: str,
    predicted: float,
    logged: float,
    *,
    span: tuple[float, float] | None = None,
    half: float = 0.0,
    unit: str = "",
    why: str = "",
) -> Check:
    """A Check whose verdict follows from the numbers: equal, inside the rounding, or off.

    Args:
        name: what is compared.
        predicted: our number.
        logged: the log's number.
        span: the ends of the prediction when its inputs are rounded.
        half: half a unit of the last printed place of `logged`.
        unit: "bytes", "x", "%" or nothing for a count.
        why: what explains a difference beyond rounding.
    """
    low, high = span or (predicted, predicted)
    if abs(predicted - logged) <= half:
        verdict, why = EXACT, "" if not half else "equal as printed"
    elif low - half <= logged <= high + half:
        verdict, why = "rounding", "inside what the rounded figures of the log leave open"
    else:
        verdict = "off"
        why = why or "not explained by the figures of this log"
    return Check(name, predicted, logged, low, high, unit, verdict, why)


@dataclass(frozen=True)
class Explanation:
    """A start-up log, explained. Every number is a figure of the log or follows from one by a stated rule.

    `terms` add up to the card (or to what the log shows of it); `checks` set predictions beside the log; `settings`
    maps each setting to (value, how it is known); `missing` names figures that this log does not print; `used_lines`
    are the (number, text) of the lines that were read.
    """

    engine: str
    model: Model | None
    terms: tuple[Term, ...]
    checks: tuple[Check, ...]
    pool: Pool | None
    settings: dict[str, tuple[Any, str]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    used_lines: tuple[tuple[int, str], ...] = ()
    starts: int = 1

    @property
    def agrees(self) -> bool:
        """Whether there is a check, and every difference has a name."""
        return bool(self.checks) and all(item.agrees for item in self.checks)

    @property
    def unexplained(self) -> tuple[Check, ...]:
        """The checks whose difference has no name."""
        return tuple(item for item in self.checks if not item.agrees)

    @property
    def total_bytes(self) -> int:
        """What the terms add up to."""
        return sum(term.bytes for term in self.terms)

    def __contains__(self, name: object) -> bool:
        return any(item.name == name for item in self.checks)

    def __getitem__(self, name: str) -> Check:
        """The check called `name`; a ValueError lists what there is."""
        for item in self.checks:
            if item.name == name:
                return item
        raise ValueError(f"name must be one of {', '.join(c.name for c in self.checks) or '(no checks)'}; got {name!r}")

    def __repr__(self) -> str:
        subject = f"{self.engine} start-up log" + (f" of {self.model.name}" if self.model else ", model not known")
        lines = [f"{subject}: {len(self.used_lines)} lines used"]
        if self.terms:
            lines.append("where the memory is")
            lines += [f"  {t.name:<34} {t.bytes / GiB:>9.2f} GiB  {_where(t)}" for t in self.terms]
        if self.checks:
            lines.append("prediction beside the log")
            lines += [
                f"  {c.name:<24} {c.show(c.predicted):>14} {c.show(c.logged):>14}  {_verdict(c)}" for c in self.checks
            ]
        if self.pool:
            lines.append(f"rule: {self.pool.rule}")
        lines += [f"setting: {n} = {v} ({how})" for n, (v, how) in self.settings.items() if v is not None]
        lines += [f"not in this log: {item}" for item in self.missing]
        lines += [f"note: {item}" for item in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        caption = f"{self.engine} start-up log" + (f" of {self.model.name}" if self.model else ", model not known")
        terms = _rows((t.name, size(t.bytes), _where(t)) for t in self.terms)
        checks = _rows((c.name, c.show(c.predicted), c.show(c.logged), _verdict(c)) for c in self.checks)
        settings = _rows((n, str(v), how) for n, (v, how) in self.settings.items() if v is not None)
        items = [*([f"Rule: {self.pool.rule}"] if self.pool else []), *(f"Not in this log: {m}" for m in self.missing)]
        remarks = "".join(f"<li>{html.escape(text)}</li>" for text in (*items, *self.notes))
        used = "".join(
            f"<li value='{number}'><code>{html.escape(text)}</code></li>" for number, text in self.used_lines
        )
        return (
            f"<table><caption>{html.escape(caption)}: where the memory is</caption>"
            f"<tr><th>part</th><th>size</th><th>from</th></tr>{terms}</table>"
            "<table><caption>Prediction beside the log</caption>"
            f"<tr><th>figure</th><th>predicted</th><th>logged</th><th>difference</th></tr>{checks}</table>"
            "<table><caption>Settings</caption>"
            f"<tr><th>setting</th><th>value</th><th>known from</th></tr>{settings}</table>"
            f"<ul>{remarks}</ul><details><summary>Lines used</summary><ol>{used}</ol></details>"
        )


def _where(term: Term) -> str:
    return f"line {term.line}, {term.how}" if term.line else term.how


def _verdict(item: Check) -> str:
    """The verdict, with the difference where there is one and its name."""
    shown = "" if item.verdict == EXACT else f" ({item.show(item.difference)})"
    return f"{item.verdict}{shown}" + (f": {item.why}" if item.why else "")


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "".join(f"<tr>{row}</tr>" for row in cells)
