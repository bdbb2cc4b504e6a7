"""The bars of lesson 07: the two fees of a sentence, the bill for a right answer, and what others published."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from kvlib.show.drift_axes import Axis, decades, dot, number
from kvlib.show.svg import EDGE, WIDTH, Picture, _text, picture, shade
from kvlib.show.tables import Html, table
from kvlib.units import size

Record = Mapping[str, Any]

_ROW, _MEMORY = 28, 166.0  # pixels from row to row; where the memory bars begin
_THIN = 'stroke="currentColor" stroke-width="1" stroke-opacity="0.2"'


def price_list(records: Iterable[Record], title: str, sentence_bytes: int) -> Picture:
    """Two fees of each kind of sentence: the memory of 8 tokens, and the attention that it takes from the needle.

    Args:
        records: of `price_list`: kind, n, median, mean, low and high; the last is what every prompt pays once.
        title: the first words of picture and reading.
        sentence_bytes: KV cache of 8 tokens, a fact.

    Raises:
        ValueError: if there is no record, a price is not above 0, or sentence_bytes is not positive.
    """
    rows = list(records)
    if not rows or not all(row["mean"] > 0 for row in rows) or sentence_bytes <= 0:
        raise ValueError(
            f"records must hold prices above 0, at least one, and sentence_bytes be positive; got {len(rows)} records "
            f"with means {[row['mean'] for row in rows]}, {sentence_bytes!r} bytes"
        )
    seen = [row[key] for row in rows for key in ("mean", "median", "low", "high") if row[key] > 0]
    axis, left, wide, top = decades(seen), 338.0, WIDTH - EDGE - 338.0 - 74, 64.0

    def x(value: float) -> float:
        return left + wide * axis.at(value) if value > 0 else left

    foot = top + _ROW * len(rows)
    drawn = [
        _text(EDGE, 15, title, weight=600),
        _text(_MEMORY, 48, f"8 tokens: {size(sentence_bytes)}"),
        _text(left, 48, "attention taken, the needle's own = 1"),
        *_ticks(axis, x, top - 8, foot + 4, room=62),
    ]
    for place, row in enumerate(rows):
        y = top + _ROW * place
        drawn.append(_text(_MEMORY - 10, y + 15, row["kind"], anchor="end"))
        drawn.append(_memory(sentence_bytes, y) if row is not rows[-1] else _text(_MEMORY, y + 15, "once in a prompt"))
        drawn.append(_fee(row, x, y, left))
    drawn.append(_text(EDGE, foot + 42, "Bars: mean, with its 95 % interval. Dashed: median."))
    cheap, dear = (end(rows[:-1] or rows, key=lambda row: row["mean"]) for end in (min, max))
    prices = "; ".join(f"{row['kind']} {number(row['mean'])} (median {number(row['median'])})" for row in rows)
    times = float(f"{dear['mean'] / cheap['mean']:.2g}")
    reading = (
        f"{title}. Every 8 tokens cost the same memory, {size(sentence_bytes)}. The attention that a sentence takes, "
        f"in that of the needle, is on average: {prices}. "
        f"One {dear['kind']} costs as much as {times:,.0f} of {cheap['kind']}."
    )
    return picture("".join(drawn), foot + 54, reading)


def _memory(nbytes: int, y: float) -> str:
    look = f'fill="{shade(0)[0]}"'
    return f'<rect class="memory" data-bytes="{nbytes}" x="{_MEMORY}" y="{y}" width="92" height="20" {look}/>'


def _fee(row: Record, x: Callable[[float], float], y: float, left: float) -> str:
    """The bar of one kind's mean price, its interval, its median and its number."""
    mean, low, high, median = (x(row[key]) for key in ("mean", "low", "high", "median"))
    look = 'stroke="currentColor" stroke-width="2"'
    return (
        f'<rect class="price" data-kind="{escape(row["kind"])}" data-price="{row["mean"]:.3g}" x="{left}" y="{y}" '
        f'width="{max(1.0, mean - left):.1f}" height="20" fill="{shade(5)[0]}"/>'
        f'<path class="interval" d="M{low:.1f} {y + 10}H{high:.1f}" {look}/>'
        f'<path class="median" d="M{median:.1f} {y - 2}v24" {look} stroke-dasharray="3 2"/>'
    ) + _text(max(mean, high, median) + 6, y + 15, number(row["mean"]))


def _ticks(axis: Axis, x: Callable[[float], float], top: float, foot: float, room: float, unit: str = "") -> list[str]:
    """A thin line at every tick, and its number where there is room for it."""
    drawn, previous = [], -math.inf
    for tick in axis.ticks:
        drawn.append(f'<path class="grid" d="M{x(tick):.1f} {top}V{foot}" {_THIN}/>')
        if x(tick) - previous >= room:
            drawn.append(_text(x(tick), foot + 16, f"{unit}{number(tick)}", anchor="middle"))
            previous = x(tick)
    return drawn


def invoice(records: Iterable[Record], title: str) -> Picture:
    """What a right answer costs for each way of sending the context, on a logarithmic scale, with recall beside it.

    Args:
        records: of `billed`: way, n, accuracy, low, high, recall, and usd_per_right with _low and _high. They are None
            where no answer was right, or may have been.
        title: the first words of picture and reading.

    Raises:
        ValueError: if there is no record, or none with a right answer.
    """
    rows = list(records)
    prices = [row["usd_per_right"] for row in rows if row["usd_per_right"]]
    if not prices:
        raise ValueError(f"records must hold one with a right answer; got {len(rows)} records without")
    known = [row[f"usd_per_right_{end}"] for row in rows for end in ("low", "high") if row["usd_per_right"]]
    axis, left, wide = decades([*prices, *(usd for usd in known if usd)]), 190.0, 216.0
    top, foot = 56.0, 56.0 + _ROW * len(rows)
    columns = ((left + wide + 132, "recall"), (WIDTH - EDGE, "accuracy [95 %], n"))
    drawn = [_text(EDGE, 15, title, weight=600), _text(left, 42, "USD for a right answer")]
    drawn += [_text(x, 42, words, anchor="end") for x, words in columns]

    def x(value: float) -> float:
        return left + wide * axis.at(value)

    drawn += _ticks(axis, x, top - 6, foot, room=80, unit="$")
    said = []
    for place, row in enumerate(rows):
        y = top + _ROW * place
        share = f"{row['accuracy']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        cells = (f"{row['recall']:.2f}", f"{share}, {row['n']}")
        drawn.append(_text(left - 10, y + 15, row["way"], anchor="end"))
        drawn.append(_bill(row, x, y, left, wide))
        drawn += [_text(at, y + 15, cell, anchor="end") for (at, _), cell in zip(columns, cells, strict=True)]
        said.append(f"{row['way']} {_price(row)}, recall {row['recall']:.2f}, accuracy {share}")
    drawn.append(_text(EDGE, foot + 38, "Recall: the share of prompts that still hold the needle."))
    drawn.append(_text(EDGE, foot + 58, "Lines: the price at both ends of the accuracy's interval."))
    return picture("".join(drawn), foot + 70, f"{title}, USD for a right answer: {'; '.join(said)}.")


def _bill(row: Record, x: Callable[[float], float], y: float, left: float, wide: float) -> str:
    """The bar of one way, with the ends that the accuracy's interval gives; without an end where none was right."""
    price, low, high = (row[f"usd_per_right{end}"] for end in ("", "_low", "_high"))
    data = f'class="bill" data-way="{escape(row["way"])}" data-usd="{price or math.inf:.6g}"'
    if not price:
        look = 'fill="none" stroke="currentColor" stroke-dasharray="4 3"'
        box = f'<rect {data} x="{left}" y="{y}" width="{wide}" height="20" {look}/>'
        return box + _text(left + wide / 2, y + 15, _price(row), anchor="middle")
    right = x(high) if high else left + wide
    drawn = (
        f'<rect {data} x="{left}" y="{y}" width="{max(x(price) - left, 2.0):.1f}" height="20" fill="{shade(0)[0]}"/>'
        f'<path class="interval" d="M{x(low):.1f} {y + 10}H{right:.1f}" stroke="currentColor" stroke-width="2"/>'
    )
    return drawn + _text(left + wide + 8, y + 15, _price(row))


def _price(row: Record) -> str:
    return f"${number(row['usd_per_right'])}" if row["usd_per_right"] else "never right"


def published(records: Iterable[Record], title: str) -> Picture:
    """What others published of large models: the score in the shortest prompts and in the longest, in %.

    A dashed frame and the first line say that these are not our measurements.

    Args:
        records: benchmark, model, short_tokens, short, long_tokens and long (scores in %).
        title: the first words of picture and reading.

    Raises:
        ValueError: if there is no record, or a score is not from 0 to 100.
    """
    rows = list(records)
    order = list(dict.fromkeys(row["benchmark"] for row in rows))
    rows.sort(key=lambda row: order.index(row["benchmark"]))
    if not rows or not all(0 <= row[end] <= 100 for row in rows for end in ("short", "long")):
        raise ValueError(f"records must hold scores from 0 to 100 %, at least one; got {[dict(row) for row in rows]}")
    axis, left, wide = Axis(0, 100, (0, 25, 50, 75, 100)), 230.0, 270.0
    drawn = [
        _text(EDGE + 8, 24, title, weight=600),
        _text(EDGE + 8, 44, "Published by others: other models, tasks and scores. Not measured here."),
        _text(EDGE + 8, 64, "Ring: the shortest prompts. Cross: the longest."),
    ]
    y, previous = 66.0, ""
    for row in rows:
        if row["benchmark"] != previous:
            previous = row["benchmark"]
            y += 28
            drawn.append(_text(EDGE + 8, y, previous, weight=600))
        y += 22
        short, long = (left + wide * axis.at(row[end]) for end in ("short", "long"))
        drawn.append(_text(left - 14, y + 4.5, row["model"], anchor="end"))
        drawn.append(f'<path d="M{short:.1f} {y}H{long:.1f}" stroke="{shade(3)[0]}" stroke-width="2"/>')
        drawn += [
            dot(short, y, 0, f'data-x="{row["short_tokens"]}" data-y="{row["short"]:g}"', hollow=True),
            dot(long, y, 5, f'data-x="{row["long_tokens"]}" data-y="{row["long"]:g}"'),
        ]
        drawn.append(_text(left + wide + 14, y + 4.5, f"{_score(row, 'short')} → {_score(row, 'long')}"))
    foot = y + 18
    for tick in axis.ticks:
        x = left + wide * axis.at(tick)
        drawn.append(f'<path class="grid" d="M{x:.1f} 78V{foot}" {_THIN}/>')
        drawn.append(_text(x, foot + 16, f"{tick:g} %", anchor="middle"))
    drawn.append(
        f'<rect class="others" x="2" y="2" width="{WIDTH - 4}" height="{foot + 26:.0f}" rx="6" fill="none" '
        f'stroke="currentColor" stroke-dasharray="6 4"/>'
    )
    said = "; ".join(
        f"{row['benchmark']}, {row['model']}: {_score(row, 'short')}, {_score(row, 'long')}" for row in rows
    )
    return picture("".join(drawn), foot + 32, f"{title}. Published by others, not measured here, in %: {said}.")


def published_table(records: Iterable[Record], title: str) -> Html:
    """The same results as a table, each with its source and date.

    Args:
        records: as for `published`, with source and as_of; effective_tokens where it was published, 0 for less than the
            shortest.
        title: the caption, to which "published by others" is added.

    Raises:
        ValueError: if a record has no source or no date.
    """
    body = []
    for row in records:
        if not (row.get("source") and row.get("as_of")):
            raise ValueError(f"every published record must have source and as_of; got {dict(row)!r}")
        known = row.get("effective_tokens")
        reach = "–" if known is None else _length(known) if known else f"below {_length(row['short_tokens'])}"
        scores = (_score(row, "short"), _score(row, "long"))
        body.append((row["benchmark"], row["model"], *scores, reach, row["source"], row["as_of"]))
    headers = ("benchmark", "model", "short (%)", "long (%)", "effective length", "source", "as of")
    return table(f"{title} (published by others, not measured here)", headers, body)


def _score(row: Record, end: str) -> str:
    return f"{row[end]:.1f} at {_length(row[f'{end}_tokens'])}"


def _length(tokens: int) -> str:
    """Tokens as papers write them: 4K, 128K, 1M; in full where that would round."""
    for letter, scale in (("M", 2**20), ("M", 10**6), ("K", 2**10), ("K", 10**3)):
        if tokens >= scale and tokens % scale == 0:
            return f"{tokens // scale}{letter}"
    return f"{tokens:,}"
