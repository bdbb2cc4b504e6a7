"""Memory as pictures: a stacked bar and a row of cards, as SVG strings in pure Python.

Text and strokes are `currentColor`, so that they follow the page's light or dark theme. The fills are Okabe and Ito's
colour-blind-safe palette, and every part also carries a number, so that colour is never the only sign. The same input
gives the same string.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from kvlib.show.tables import Html, markup
from kvlib.units import size

# Okabe and Ito, Color universal design, 2008: blue, orange, green, pink, sky, vermilion, yellow.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
WIDTH, EDGE, FONT = 720, 8, 13
_BAR_TOP, _BAR_HEIGHT, _LINE = 26, 40, 22
_LETTER = 0.58 * FONT  # an average letter, wide enough for the fonts that Lab and browsers use
_BOXES = 60


@dataclass(frozen=True, repr=False)
class Picture(Html):
    """An SVG with its reading in words. `str(picture)` is the SVG; a notebook shows it with the sentence under it."""

    svg: str = ""

    def __str__(self) -> str:
        return self.svg


def bar(
    parts: Iterable[tuple[str, int]],
    capacity: int | None = None,
    label: str = "Memory",
    marks: Iterable[tuple[str, int]] = (),
) -> Picture:
    """Parts of a memory laid end to end on one bar, in a frame as long as the memory.

    Args:
        parts: (name, bytes) pairs, from left to right. Parts beyond the palette's length reuse its colours.
        capacity: bytes of the memory, drawn as a frame; None frames the parts themselves.
        label: what the bar is, the first words of its reading.
        marks: (name, bytes) pairs, drawn as dashed lines across the bar: a prediction, a limit.

    Raises:
        ValueError: if bytes are negative, not finite or not numbers, there are no parts, or capacity is not positive.
    """
    named, marked = _checked("parts", parts), _checked("marks", marks)
    if not named:
        raise ValueError("parts must hold at least one (name, bytes) pair; got none")
    total = sum(n for _, n in named)
    if capacity is not None and not _number("capacity", capacity) > 0:
        raise ValueError(f"capacity must be more than 0 bytes; got {capacity!r}")
    frame = total if capacity is None else capacity
    longest = max(total, frame, *(n for _, n in marked), 1)
    reading = _reading(label, named, marked, total, capacity)

    def x(n: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * float(n / longest)

    drawn, start = [], 0
    for index, (name, n) in enumerate(named):
        drawn.append(_segment(index, name, n, x(start), x(start + n)))
        start += n
    drawn.append(
        f'<rect class="frame" data-bytes="{frame}" x="{EDGE}" y="{_BAR_TOP}" width="{x(frame) - EDGE:.2f}" '
        f'height="{_BAR_HEIGHT}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    )
    title = size(total) if capacity is None else f"{size(total)} of {size(capacity)}"
    if capacity is not None and total > capacity:
        title += ": does not fit"
        drawn.append(_over(x(capacity), x(total)))
    drawn.append(_text(EDGE, 15, f"{label}: {title}", weight=600))
    bottom = _BAR_TOP + _BAR_HEIGHT
    for name, n in marked:
        bottom += 20
        drawn.append(_mark(name, n, x(n), bottom))
    for index, (name, n) in enumerate(named):
        bottom += _LINE
        drawn.append(_legend(index, f"{name}: {size(n)}{_share(n, total)}", bottom))
    return picture("".join(drawn), bottom + 10, reading)


def cards(parts: Iterable[tuple[str, int]], card_bytes: int = 80 * 10**9, label: str = "Cards") -> Picture:
    """How many cards the parts fill when they are poured from one card into the next.

    The count is total bytes / card bytes, rounded up: not one byte of a card is kept back. More than 60 cards are drawn
    with one box for 10 cards, or 100, and so on; the picture then says so.

    Args:
        parts: (name, bytes) pairs, in whole bytes, poured in this order.
        card_bytes: bytes of one card; 80 GB by its label.
        label: the first words of the reading.

    Raises:
        ValueError: if bytes are negative or not whole, there are no parts, or card_bytes is not positive.
    """
    named = _checked("parts", parts)
    if not named or any(not isinstance(n, int) for _, n in named):
        raise ValueError(f"parts must hold (name, whole bytes) pairs, at least one; got {named!r}")
    if not isinstance(card_bytes, int) or card_bytes <= 0:
        raise ValueError(f"card_bytes must be a whole number of bytes, more than 0; got {card_bytes!r}")
    total = sum(n for _, n in named)
    count = -(-total // card_bytes)
    per_box = 1
    while count > _BOXES * per_box:
        per_box *= 10
    boxes = -(-count // per_box)
    across = min(max(boxes, 6), 12)
    pitch = (WIDTH - 2 * EDGE) / across
    reading = f"{_reading(label, named, (), total, None)}. That fills {plural(count, 'card')} of {size(card_bytes)}."
    drawn = [_text(EDGE, 15, f"{label}: {size(total)} on {plural(count, 'card')} of {size(card_bytes)}", weight=600)]
    for box in range(boxes):
        left, top = EDGE + box % across * pitch, _BAR_TOP + box // across * 46
        drawn += _filled(named, box * per_box * card_bytes, per_box * card_bytes, left, top, pitch - 8)
    bottom = _BAR_TOP + max(-(-boxes // across), 1) * 46 - 4
    if per_box > 1:
        bottom += 18
        drawn.append(_text(EDGE, bottom, f"One box stands for {per_box:,} cards."))
        reading += f" One box stands for {per_box:,} cards."
    for index, (name, n) in enumerate(named):
        bottom += _LINE
        drawn.append(_legend(index, f"{name}: {size(n)}", bottom))
    return picture("".join(drawn), bottom + 10, reading)


def picture(inside: str, height: float, reading: str) -> Picture:
    """An SVG of the house style around `inside`, with `reading` as its accessible name and as the text under it."""
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img" '
        f'aria-label="{escape(reading)}" style="display: block; max-width: 100%; height: auto" font-size="{FONT}">'
        f"{inside}</svg>"
    )
    caption = f'<figcaption style="font-size: {FONT}px; max-width: {WIDTH}px">{markup(reading)}</figcaption>'
    return Picture(f'<figure style="margin: 0">{svg}{caption}</figure>', reading, svg)


def shade(index: int) -> tuple[str, str]:
    """Fill and text colour of part `index`; after the last colour they start again, each lap paler."""
    colour, lap = PALETTE[index % len(PALETTE)], index // len(PALETTE)
    rest = 0.55 ** min(lap, 3)
    channels = (round(255 - rest * (255 - int(colour[i : i + 2], 16))) for i in (1, 3, 5))
    fill = "#" + "".join(f"{channel:02X}" for channel in channels)
    return fill, "#fff" if luminance(fill) < 0.18 else "#000"


def plural(count: int, noun: str) -> str:
    """`plural(1, "card")` is "1 card", `plural(2, "card")` is "2 cards"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _checked(what: str, pairs: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(str(name), _number(f"{what}: bytes of {name!r}", n)) for name, n in pairs]


def _number(what: str, n: Any) -> Any:
    """`n`, an int where it can be one; a ValueError if it is negative, not finite or not a number."""
    n = int(n) if hasattr(n, "__index__") and not isinstance(n, bool) else n
    if isinstance(n, bool) or not isinstance(n, int | float) or not 0 <= n < math.inf:
        raise ValueError(f"{what} must be a finite number, 0 or more; got {n!r}")
    return n


def _reading(label: str, named: Any, marked: Any, total: float, capacity: float | None) -> str:
    parts = " + ".join(f"{name} {size(n)}" for name, n in named)
    words = f"{label}: {parts}"
    if len(named) > 1:
        words += f" = {size(total)}"
    if capacity is not None:
        gap = capacity - total
        words += f" of {size(capacity)}"
        words += f", {size(gap)} free" if gap >= 0 else f": DOES NOT FIT, {size(-gap)} over"
    return words + "".join(f"; {name} {size(n)}" for name, n in marked)


def _share(n: float, total: float) -> str:
    return "" if not total else f", {100 * n / total:.1f} %" if n == 0 or n / total >= 0.0005 else ", under 0.1 %"


def _segment(index: int, name: str, n: float, left: float, right: float) -> str:
    wide, (fill, ink) = right - left, shade(index)
    seen = max(wide, 1) if n else 0  # a sliver of a pixel would be invisible
    rect = (
        f'<rect class="part" data-part="{escape(name)}" data-bytes="{n}" x="{left:.2f}" y="{_BAR_TOP}" '
        f'width="{seen:.2f}" height="{_BAR_HEIGHT}" fill="{fill}">'
        f"<title>{escape(name)}: {size(n)}</title></rect>"
    )
    words = f"{index + 1} {name}"
    for inside in (words, str(index + 1)):
        if len(inside) * _LETTER + 10 <= wide:
            return rect + _text((left + right) / 2, _BAR_TOP + 25, inside, anchor="middle", fill=ink)
    return rect


def _filled(named: Any, start: int, capacity: int, left: float, top: float, wide: float) -> list[str]:
    """One box that holds bytes start .. start + capacity of the parts laid end to end."""
    drawn, begin = [], 0
    for index, (name, n) in enumerate(named):
        low, high = max(begin, start), min(begin + n, start + capacity)
        begin += n
        if high > low:
            fill, ink = shade(index)
            x, across = left + wide * (low - start) / capacity, wide * (high - low) / capacity
            drawn.append(
                f'<rect class="part" data-part="{escape(name)}" data-bytes="{high - low}" x="{x:.2f}" y="{top}" '
                f'width="{across:.2f}" height="36" fill="{fill}"/>'
            )
            if across >= 14:
                drawn.append(_text(x + across / 2, top + 23, str(index + 1), anchor="middle", fill=ink))
    drawn.append(
        f'<rect class="frame" x="{left:.2f}" y="{top}" width="{wide:.2f}" height="36" rx="2" fill="none" '
        f'stroke="currentColor" stroke-width="1.5"/>'
    )
    return drawn


def _over(start: float, stop: float) -> str:
    """A dashed line over what does not fit."""
    look = 'stroke="currentColor" stroke-width="2" stroke-dasharray="5 3"'
    return f'<path class="over" d="M{start:.2f} {_BAR_TOP - 4}H{stop:.2f}" {look}/>'


def _mark(name: str, n: float, x: float, y: float) -> str:
    words, left = f"{name}: {size(n)}", x < WIDTH / 2
    line = (
        f'<path class="mark" data-bytes="{n}" d="M{x:.2f} {_BAR_TOP - 6}V{y}" stroke="currentColor" stroke-width="2" '
        f'stroke-dasharray="4 3"/>'
    )
    return line + _text(x + 6 if left else x - 6, y, words, anchor="start" if left else "end")


def _legend(index: int, words: str, y: float) -> str:
    fill, ink = shade(index)
    box = f'<rect x="{EDGE}" y="{y - 13}" width="18" height="18" fill="{fill}"/>'
    return box + _text(EDGE + 9, y + 1, str(index + 1), anchor="middle", fill=ink) + _text(EDGE + 26, y + 1, words)


def _text(x: float, y: float, words: str, anchor: str = "start", fill: str = "currentColor", weight: int = 400) -> str:
    look = f'text-anchor="{anchor}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x:.2f}" y="{y}" {look}>{markup(words, "tspan")}</text>'


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
