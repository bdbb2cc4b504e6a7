"""The curves of lesson 07: accuracy, attention on the needle and odds of noise against the length of the prompt.

Every function takes the plain records of kvlib.lab.drift and its neighbours, and gives an SVG with its reading in
words. Maps and bars are in drift_maps.py and drift_bars.py, and can be called from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from kvlib.lab.asking import TRAINED
from kvlib.lab.score import effective_length
from kvlib.lab.words import CHANCE
from kvlib.show.drift_axes import Axis, Frame, Point, decades, dot, from_zero, lengths, number
from kvlib.show.drift_bars import invoice, price_list, published, published_table
from kvlib.show.drift_maps import heatmap
from kvlib.show.svg import EDGE, Picture, _text, plural

__all__ = ["accuracy", "heatmap", "invoice", "mass", "odds", "price_list", "published", "published_table"]

Record = Mapping[str, Any]
_FITTED = 40  # points of a computed curve


class OddsLike(Protocol):
    """A straight line of odds, such as `kvlib.lab.dilution.OddsLine`: a + b x tokens."""

    @property
    def a(self) -> float: ...
    @property
    def b(self) -> float: ...


def accuracy(
    records: Iterable[Record],
    title: str,
    *,
    x: str = "tokens",
    xlabel: str = "",
    by: str = "arm",
    chance: float = CHANCE,
    ceiling: Record | None = None,
    trained: int | None = TRAINED,
    effective: bool = True,
    runs: Iterable[Record] = (),
) -> Picture:
    """Accuracy with 95 % Wilson bands: a line for each arm.

    Args:
        records: with `x`, `by`, n, accuracy, low and high.
        title: the first words of picture and reading.
        x: the key that runs to the right: "tokens" on a logarithmic axis, any other, such as "rivals", in even steps.
        xlabel: what that axis is called; "": "tokens of the prompt", or the key itself.
        by: the key that tells the lines apart.
        chance: accuracy of guessing, drawn as a line.
        ceiling: the record without a haystack, drawn as a line; None: not drawn.
        trained: tokens up to which the model was trained, shaded; None, or another x: not shaded.
        effective: mark each line's effective length (tokens only).
        runs: records of other runs, with the key "run" as well: thin lines in the colour of their arm.

    Raises:
        ValueError: if there is no record, a record lacks a key, or an arm has two at the same x.
    """
    arms = _grouped(records, by, (x, "n", "accuracy", "low", "high"))
    along = x == "tokens"
    values = sorted({row[x] for rows in arms.values() for row in rows})
    axis = lengths(values) if along else Axis(0, 1, tuple(values), steps=tuple(values))
    frame = Frame(axis, Axis(-0.02, 1.06, (0, 0.25, 0.5, 0.75, 1)))
    drawn = [_text(EDGE, 15, title, weight=600)]
    if trained is not None and along:
        drawn.append(frame.trained(trained, f"trained: up to {trained:,}"))
    drawn += frame.grid(xlabel or ("tokens of the prompt" if along else x))
    drawn.append(frame.across(chance, f"chance {number(chance)}", "chance"))
    if ceiling is not None:
        words = f"dotted: no haystack {ceiling['accuracy']:.2f} (n = {ceiling['n']})"
        drawn.append(frame.across(ceiling["accuracy"], words, "ceiling", above=True))
    others = _runs(runs, by, x, values)
    for index, name in enumerate(arms):
        drawn += [frame.line(points, index, f"{name}, {run}", "run", 1) for run, points in others.get(name, {}).items()]
    legends, readings = [], []
    for index, (name, rows) in enumerate(arms.items()):
        drawn += _banded(frame, name, rows, index, x)
        first, last = f"{rows[0]['accuracy']:.2f} at {rows[0][x]:,}", _share(rows[-1], x)
        reach = ""
        if effective and along:
            most = effective_length({row[x]: row["accuracy"] for row in rows})
            drawn.append(_ring(frame, next(row for row in rows if row[x] == most), x))
            reach = f"; effective length {most:,}{' or more' if most == rows[-1][x] else ''}"
        legends.append(f"{name}: {first}, {last}{reach}")
        readings.append(f"{name}: {_share(rows[0], x)} to {last}, n = {_many(rows)}{reach}")
    notes = [f"Pale bands: 95 % Wilson intervals. n = {_many(row for rows in arms.values() for row in rows)}."]
    if effective and along:
        notes.append("A ring marks the effective length: the last with 85 % of the accuracy at the shortest prompt.")
    said = "; ".join(readings)
    for name, by_run in others.items():
        if name in arms and by_run:
            ends = sorted(points[-1][1] for points in by_run.values())
            notes.append(f"Thin lines: {plural(len(by_run), 'training run')} on {name}.")
            said += f"; {name} in {plural(len(by_run), 'training run')}: {ends[0]:.2f} to {ends[-1]:.2f} at the longest"
    return frame.finished(drawn, legends, notes, f"{title}. {said}. Chance is {number(chance)}.")


def mass(
    records: Iterable[Record],
    title: str,
    *,
    by: str = "arm",
    curves: Mapping[str, Iterable[Point]] | None = None,
    trained: int | None = TRAINED,
) -> Picture:
    """Attention on the needle against the length, both logarithmic, beside what theory says of it.

    Args:
        records: of `dilution`: tokens, mass and, where it is known, theory; `by` tells several arms apart.
        title: the first words of picture and reading.
        by: that key; records without it are one line, "measured".
        curves: further computed curves, as (tokens, mass) pairs: the reader's own theory.
        trained: tokens up to which the model was trained, shaded; None: not shaded.

    Raises:
        ValueError: if there is no record, a record lacks a key, or a mass is not above 0.
    """
    arms = _grouped(records, by, ("tokens", "mass"))
    own = {name: [(float(n), float(m)) for n, m in points] for name, points in (curves or {}).items()}
    theories = {
        name: [(row["tokens"], row["theory"]) for row in rows if "theory" in row] for name, rows in arms.items()
    }
    every = [row["mass"] for rows in arms.values() for row in rows]
    every += [share for points in (*own.values(), *theories.values()) for _, share in points]
    if not min(every) > 0:
        raise ValueError(f"mass must be above 0 on a logarithmic axis; got {min(every)!r}")
    frame = Frame(lengths(row["tokens"] for rows in arms.values() for row in rows), decades(every, most=1.0))
    drawn = [_text(EDGE, 15, title, weight=600)]
    if trained is not None:
        drawn.append(frame.trained(trained, f"trained: up to {trained:,}"))
    drawn += frame.grid("tokens of the prompt")
    legends, samples = [], []
    for index, (name, rows) in enumerate(arms.items()):
        drawn.append(frame.line([(row["tokens"], row["mass"]) for row in rows], index, name))
        drawn += [_point(frame, row, "tokens", "mass", index) for row in rows]
        words = (
            f"{name}: {rows[0]['mass']:.3f} at {rows[0]['tokens']:,}, {rows[-1]['mass']:.3f} at {rows[-1]['tokens']:,}"
        )
        if theories[name]:
            drawn.append(frame.theory(theories[name], index, name))
            samples.append((index, f"{name}, theory"))
            words += f" (theory {theories[name][-1][1]:.3f})"
        legends.append(words)
    for index, (name, points) in enumerate(own.items(), start=len(arms)):
        inside = [(n, share) for n, share in points if frame.x.low <= n <= frame.x.high]
        drawn.append(frame.theory(inside, index, name))
        samples.append((index, name))
    notes = (
        ["Theory: 1 / (1 + (N − 1) e^−Δ), with Δ as it was measured at one length."] if any(theories.values()) else []
    )
    return frame.finished(drawn, legends, notes, f"{title}. {'; '.join(legends)}.", samples)


def odds(
    records: Iterable[Record],
    title: str,
    *,
    by: str = "arm",
    fits: Mapping[str, OddsLike] | None = None,
) -> Picture:
    """Odds of noise against needle, (1 - m) / m, over the length, with the straight lines fitted to them.

    Args:
        records: tokens and odds, or tokens and mass (then the odds of the mean mass are drawn).
        title: the first words of picture and reading.
        by: the key that tells several arms apart; records without it are one line, "measured".
        fits: for an arm, its line a + b x tokens.

    Raises:
        ValueError: if there is no record, a record lacks a key, or a fit is for no arm.
    """
    rows = [row if "odds" in row else {**row, "odds": (1 - row["mass"]) / row["mass"]} for row in records]
    arms, fits = _grouped(rows, by, ("tokens", "odds")), fits or {}
    if unknown := [name for name in fits if name not in arms]:
        raise ValueError(f"fits must be for {', '.join(arms)}; got {', '.join(unknown)}")
    longest = max(row["tokens"] for row in rows)
    tops = [row["odds"] for row in rows] + [line.a + line.b * longest for line in fits.values()]
    frame = Frame(from_zero([longest]), from_zero(tops))
    drawn = [_text(EDGE, 15, title, weight=600), *frame.grid("tokens of the prompt")]
    legends = []
    for index, (name, each) in enumerate(arms.items()):
        drawn += [_point(frame, row, "tokens", "odds", index) for row in each]
        words = f"{name}: {number(each[-1]['odds'])} at {each[-1]['tokens']:,} tokens"
        if name in fits:
            line = fits[name]
            steps = [longest * step / _FITTED for step in range(_FITTED + 1)]
            points = [(n, line.a + line.b * n) for n in steps if line.a + line.b * n >= 0]
            drawn.append(frame.theory(points, index, name, "fit"))
            words += f"; line {number(line.a)} + {number(line.b)} × tokens"
        else:
            drawn.append(frame.line([(row["tokens"], row["odds"]) for row in each], index, name))
        legends.append(words)
    return frame.finished(drawn, legends, ["Points: measured. Thin lines: fitted."], f"{title}. {'; '.join(legends)}.")


def _grouped(records: Iterable[Record], by: str, needed: Sequence[str]) -> dict[str, list[Record]]:
    """The records by arm, each arm's in the order of the first needed key."""
    arms: dict[str, list[Record]] = {}
    for row in records:
        if missing := [key for key in needed if key not in row]:
            raise ValueError(
                f"every record must have {', '.join(needed)}; missing {', '.join(missing)} in {dict(row)!r}"
            )
        arms.setdefault(str(row.get(by, "measured")), []).append(row)
    if not arms:
        raise ValueError("records must hold at least one record; got none")
    for name, rows in arms.items():
        rows.sort(key=lambda row: row[needed[0]])
        if len({row[needed[0]] for row in rows}) < len(rows):
            raise ValueError(f"records of {by} {name!r} must have one for each {needed[0]}; some stand there twice")
    return arms


def _runs(runs: Iterable[Record], by: str, x: str, values: Sequence[float]) -> dict[str, dict[str, list[Point]]]:
    """The line of every run by arm, at those values of x that the picture has."""
    found: dict[str, dict[str, list[Point]]] = {}
    for row in sorted(runs, key=lambda row: row[x]):
        if row[x] in values:
            lines = found.setdefault(str(row.get(by, "measured")), {})
            lines.setdefault(f"run {row['run']}", []).append((row[x], row["accuracy"]))
    return found


def _banded(frame: Frame, name: str, rows: Sequence[Record], index: int, x: str) -> list[str]:
    """An arm's intervals, line and points."""
    low, middle, high = ([(row[x], row[end]) for row in rows] for end in ("low", "accuracy", "high"))
    points = [_point(frame, row, x, "accuracy", index) for row in rows]
    return [frame.band(low, high, index, name), frame.line(middle, index, name), *points]


def _point(frame: Frame, row: Record, x: str, y: str, index: int) -> str:
    data = f'data-x="{row[x]:g}" data-y="{row[y]:.3g}"'
    return dot(frame.px(row[x]), frame.py(row[y]), index, data)


def _ring(frame: Frame, row: Record, x: str) -> str:
    """A ring around the last point of a line that still counts."""
    return (
        f'<circle class="effective" data-tokens="{row[x]}" cx="{frame.px(row[x]):.1f}" '
        f'cy="{frame.py(row["accuracy"]):.1f}" r="9" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    )


def _share(row: Record, x: str) -> str:
    return f"{row['accuracy']:.2f} [{row['low']:.2f}, {row['high']:.2f}] at {row[x]:,}"


def _many(rows: Iterable[Record]) -> str:
    counts = [row["n"] for row in rows]
    few, most = min(counts), max(counts)
    return f"{few}" if few == most else f"{most} to {few}"
