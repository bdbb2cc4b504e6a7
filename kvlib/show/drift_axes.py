"""A frame with two axes, and the lines, bands and points in it, as SVG strings.

Lines differ by colour, by dashes and by the shape of their points, so that colour is never the only sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from kvlib.show.svg import EDGE, WIDTH, Picture, _text, picture, shade

Point = tuple[float, float]

_DASHES = ("", "8 4", "2 3", "9 3 2 3", "14 4", "5 2 1 2 1 2")
_THIN = 'stroke="currentColor" stroke-width="1" stroke-opacity="0.2"'


@dataclass(frozen=True)
class Axis:
    """Where a value lies between the two ends of an axis: 0 at `low`, 1 at `high`.

    `steps` spaces the given values evenly, whatever their distance; `log` goes by ratios. `ticks` are named.
    """

    low: float
    high: float
    ticks: tuple[float, ...] = ()
    log: bool = False
    steps: tuple[float, ...] = ()

    def at(self, value: float) -> float:
        """Share of the way from low to high."""
        if self.steps:
            return (self.steps.index(value) + 0.5) / len(self.steps)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def lengths(values: Iterable[float]) -> Axis:
    """A logarithmic axis for token counts, which names each of the values."""
    known = tuple(sorted(set(values)))
    return Axis(known[0] / 1.25, known[-1] * 1.25, known, log=True)


def decades(values: Iterable[float], most: float = math.inf) -> Axis:
    """A logarithmic axis from the power of ten below the smallest value to that above the largest, at most `most`."""
    known = list(values)
    low, high = (
        math.floor(math.log10(min(known)) + 1e-9),
        math.ceil(math.log10(min(max(known), most)) - 1e-9),
    )
    high = max(high, low + 1)
    return Axis(10.0**low, 10.0**high, tuple(10.0**power for power in range(low, high + 1)), log=True)


def from_zero(values: Iterable[float]) -> Axis:
    """A linear axis from 0 to a little above the largest value, with four to six round ticks."""
    top = max(max(values), 1e-12) * 1.08
    scale = 10.0 ** math.floor(math.log10(top / 4))
    step = max(n for n in (1, 2, 5, 10) if n * scale <= top / 4 * (1 + 1e-9)) * scale
    return Axis(0.0, top, tuple(step * n for n in range(int(top / step + 1e-9) + 1)))


@dataclass(frozen=True)
class Frame:
    """A rectangle of the picture, in pixels, and the axes that it spans."""

    x: Axis
    y: Axis
    left: float = 64
    top: float = 30
    wide: float = WIDTH - EDGE - 64 - 10
    tall: float = 250

    @property
    def floor(self) -> float:
        """The y of the lower side."""
        return self.top + self.tall

    def px(self, value: float) -> float:
        """Where a value of the x axis lies."""
        return self.left + self.wide * self.x.at(value)

    def py(self, value: float) -> float:
        """Where a value of the y axis lies."""
        return self.floor - self.tall * self.y.at(value)

    def path(self, points: Sequence[Point]) -> str:
        """The points, joined."""
        return "L".join(f"{self.px(x):.1f} {self.py(y):.1f}" for x, y in points)

    def grid(self, xlabel: str) -> list[str]:
        """Sides, ticks with their numbers, and the name of the x axis; the title names the other."""
        drawn = []
        for value in self.y.ticks:
            y = round(self.py(value), 1)
            drawn.append(f'<path class="grid" d="M{self.left} {y}h{self.wide:.1f}" {_THIN}/>')
            drawn.append(_text(self.left - 7, round(y + 4.5, 1), number(value), anchor="end"))
        previous = -math.inf
        for value in self.x.ticks:
            x = self.px(value)
            drawn.append(f'<path class="grid" d="M{x:.1f} {self.floor}v5" stroke="currentColor"/>')
            if x - previous >= 42:  # numbers must not run into each other
                drawn.append(_text(x, self.floor + 19, number(value), anchor="middle"))
                previous = x
        drawn.append(_text(self.left + self.wide / 2, self.floor + 37, xlabel, anchor="middle"))
        drawn.append(
            f'<path d="M{self.left} {self.top}V{self.floor}h{self.wide:.1f}" fill="none" stroke="currentColor"/>'
        )
        return drawn

    def line(self, points: Sequence[Point], index: int, name: str = "", css: str = "line", width: float = 2.5) -> str:
        """A line in the look of series `index`."""
        return (
            f'<path class="{css}" data-name="{escape(name)}" d="M{self.path(points)}" fill="none" '
            f'stroke="{shade(index)[0]}" stroke-width="{width:g}" stroke-dasharray="{_DASHES[index % len(_DASHES)]}"/>'
        )

    def theory(self, points: Sequence[Point], index: int, name: str, css: str = "theory") -> str:
        """A thin line for what is computed, beside the points of what was measured."""
        look = f'fill="none" stroke="{shade(index)[0]}" stroke-width="1.5" stroke-dasharray="3 3"'
        return f'<path class="{css}" data-name="{escape(name)}" d="M{self.path(points)}" {look}/>'

    def band(self, low: Sequence[Point], high: Sequence[Point], index: int, name: str) -> str:
        """The area between two lines."""
        around, colour = self.path([*low, *reversed(high)]), shade(index)[0]
        return f'<path class="band" data-name="{escape(name)}" d="M{around}Z" fill="{colour}" fill-opacity="0.16"/>'

    def across(self, value: float, words: str, css: str, above: bool = False) -> str:
        """A dotted line over the whole width at a value of the y axis, named at its end or `above` the frame."""
        y, right = round(self.py(value), 1), self.left + self.wide
        line = (
            f'<path class="{css}" data-value="{value:.6g}" d="M{self.left} {y}h{self.wide:.1f}" stroke="currentColor" '
            f'stroke-width="1.5" stroke-dasharray="1 3"/>'
        )
        return line + _text(right - 4, self.top - 4 if above else round(y - 5, 1), words, anchor="end")

    def trained(self, last: float, words: str = "trained") -> str:
        """A grey field up to the last value that the model was trained on."""
        wide = min(self.px(last), self.left + self.wide) - self.left
        if wide <= 0:
            return ""
        return (
            f'<rect class="trained" data-last="{last:g}" x="{self.left}" y="{self.top}" width="{wide:.1f}" '
            f'height="{self.tall}" fill="currentColor" fill-opacity="0.08"/>'
            + _text(self.left + wide / 2, self.floor - 14, words, anchor="middle")
        )

    def finished(
        self,
        drawn: Sequence[str],
        legends: Sequence[str],
        notes: Sequence[str],
        reading: str,
        theories: Sequence[tuple[int, str]] = (),
    ) -> Picture:
        """The picture: what is drawn, and under it the legends of the lines, those of the theories, and notes."""
        below, bottom = [], self.floor + 44
        looks = [(index, words, True) for index, words in enumerate(legends)]
        looks += [(index, words, False) for index, words in theories]
        for index, words, measured in looks:
            bottom += 20
            below.append(legend(index, words, bottom, measured))
        for words in notes:
            bottom += 20
            below.append(_text(EDGE, bottom, words))
        return picture("".join([*drawn, *below]), bottom + 12, reading)


def dot(x: float, y: float, index: int, data: str = "", hollow: bool = False) -> str:
    """The point of series `index` at pixels x, y: circle, square, triangle, diamond, bar, cross."""
    shapes = (
        "M{l} {y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0",
        "M{l} {t}h9v9h-9Z",
        "M{x} {t}l5.5 9h-11Z",
        "M{x} {u}l5.5 5.5l-5.5 5.5l-5.5 -5.5Z",
        "M{l} {v}h9v4h-9Z",
        "M{w} {t}h3v3h3v3h-3v3h-3v-3h-3v-3h3Z",
    )
    at = {"x": x, "y": y, "l": x - 4.5, "t": y - 4.5, "u": y - 5.5, "v": y - 2, "w": x - 1.5}
    d = shapes[index % len(shapes)].format(**{key: f"{value:.1f}" for key, value in at.items()})
    fill = 'fill="none" stroke-width="2"' if hollow else f'fill="{shade(index)[0]}" stroke-width="0.5"'
    return f'<path class="point" {data} d="{d}" {fill} stroke="{shade(index)[0] if hollow else "currentColor"}"/>'


def legend(index: int, words: str, y: float, measured: bool = True) -> str:
    """The look of series `index` and what it is; `measured` False is the thin line of a theory."""
    colour, dash = shade(index)[0], _DASHES[index % len(_DASHES)]
    look = f'stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"'
    if not measured:
        look = f'stroke="{colour}" stroke-width="1.5" stroke-dasharray="3 3"'
    sample = f'<path d="M{EDGE} {y - 4.5}h44" {look}/>' + (dot(EDGE + 22, y - 4.5, index) if measured else "")
    return sample + _text(EDGE + 52, y, words)


def number(value: float) -> str:
    """A number on an axis or in a legend, three digits and no exponent: 16,384, 0.25, 0.0001."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
