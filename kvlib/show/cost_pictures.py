"""Money as pictures and tables: an owner line by line, a tornado, and the crossing lines of owning, renting, an API.

Pure functions that give SVG strings with their reading in words, as in svg.py; the panels draw them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape

from kvlib.cost import usd_per_day
from kvlib.owning import Api, Ownership, Rent
from kvlib.ranges import DRAWS, Amount, Estimate
from kvlib.show.svg import EDGE, WIDTH, Picture, _legend, _text, picture, shade
from kvlib.show.tables import Html, table
from kvlib.units import usd

Option = Ownership | Rent | Api
SHARES = (0.0, 0.5, 1.0)  # of all hours: where a line is computed; the middles are straight, the bands nearly
_DASHES = ("", "9 4", "2 4", "9 3 2 3")
_LEFT, _TOP, _TALL = 78, 30, 210  # of the frame in which lines cross
_STEPS = 80  # of a drawn line, so that it can be cut where it leaves the frame


# ---------------------------------------------------------------- an owner, line by line


def inputs_table(option: Ownership, assumed: Collection[str] = ()) -> Html:
    """What an owner was told: each input that is not 0, as a number or a range; `assumed` ones are called so."""
    body = []
    for field in fields(Ownership):
        given = getattr(option, field.name)
        if given and field.name != "name":
            numbers = " – ".join(f"{number:,g}" for number in (given if isinstance(given, tuple) else (given,)))
            body.append((field.name, numbers, "assumed" if field.name in assumed else ""))
    return table(f"{option.name}: a number, or low – (likely –) high", ("input", "range", ""), body)


def parts_table(option: Ownership) -> Html:
    """USD per GPU-hour of each part that costs something, and of the whole hour: low, middle, high."""
    lines = {**option.parts, "an hour": option.usd_per_gpu_hour}
    body = [(part, *(f"{usd:.2f}" for usd in (cost.low, cost.point, cost.high))) for part, cost in lines.items()]
    return table(
        "USD per GPU-hour, used in full", ("part", "low", "middle", "high"), [row for row in body if row[2] != "0.00"]
    )


# ---------------------------------------------------------------- the tornado


def tornado(estimate: Estimate, label: str, keep: int = 8) -> Picture:
    """Which assumption matters most: a bar for each input, from the result at its one end to that at its other.

    Args:
        estimate: a result with at least one uncertain input.
        label: what the result is, the first words of the reading.
        keep: bars drawn, the widest first; the others are named in the reading.

    Raises:
        ValueError: if no input is a range, or keep is below 1.
    """
    bars = [bar for bar in estimate.tornado() if bar.swing]
    if not bars or keep < 1:
        raise ValueError(
            f"a tornado needs an estimate with a range among its inputs, and keep of 1 or more; got {keep}"
        )
    shown, rest = bars[:keep], bars[keep:]
    low = min(min(bar.at_low, bar.at_high) for bar in shown)
    high = max(max(bar.at_low, bar.at_high) for bar in shown)
    left, wide = 210.0, WIDTH - EDGE - 270.0

    def x(value: float) -> float:
        return left + wide * (value - low) / (high - low)

    middle, bottom = x(estimate.point), 40 + 30 * len(shown)
    drawn = [_text(EDGE, 15, f"{label}: each assumption moved alone, {estimate.unit}", weight=600)]
    for index, bar in enumerate(shown):
        top = 34 + 30 * index
        drawn.append(_text(left - 62, top + 15, _short(bar.name), anchor="end"))
        for at, given, look in ((bar.at_low, bar.low_input, 0), (bar.at_high, bar.high_input, 1)):
            ends = sorted((middle, x(at)))
            drawn.append(
                f'<rect class="swing" data-input="{escape(bar.name)}" data-result="{at:.6g}" x="{ends[0]:.2f}" '
                f'y="{top}" width="{max(ends[1] - ends[0], 1):.2f}" height="20" fill="{shade(look)[0]}"/>'
            )
            side = at < estimate.point or (at == estimate.point and look == 0)
            drawn.append(
                _text(x(at) + (-5 if side else 5), top + 15, _number(given), anchor="end" if side else "start")
            )
    drawn.append(
        f'<path d="M{middle:.2f} 28V{bottom}" stroke="currentColor" stroke-width="1.5" stroke-dasharray="3 3"/>'
        + _text(middle, bottom + 16, f"{_number(estimate.point)}, all in the middle", anchor="middle")
    )
    drawn.append(_legend(0, "the result at the low end of the input", bottom + 38))
    drawn.append(_legend(1, "the result at its high end", bottom + 60))
    return picture("".join(drawn), bottom + 72, tornado_reading(estimate, label, keep, rest=len(rest)))


def tornado_reading(estimate: Estimate, label: str, keep: int = 8, rest: int = 0) -> str:
    """The tornado in words: the three widest bars, with the ends of input and result."""
    bars = [bar for bar in estimate.tornado() if bar.swing][: min(keep, 3)]
    said = "; ".join(
        f"{_short(bar.name)} from {_number(bar.low_input)} to {_number(bar.high_input)} moves it "
        f"from {_number(bar.at_low)} to {_number(bar.at_high)} ({bar.share:.0%} of all swings)"
        for bar in bars
    )
    more = f" {rest} narrower bars are not drawn." if rest else ""
    return f"{label}, {_number(estimate.point)} {estimate.unit} with every input in the middle: {said}.{more}"


def _short(name: str) -> str:
    """The name of an input without the option in front of it."""
    return name.split(": ")[-1]


def _number(value: float) -> str:
    """Three digits, thousands separated."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "never"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# ---------------------------------------------------------------- the lines that cross


@dataclass(frozen=True)
class Line:
    """USD per day of one option at the SHARES of use: the middle, and the ends between which 90 % of the draws lie."""

    name: str
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def lines(
    options: Mapping[str, Option], tokens_per_second: Amount, gpus: int = 1, draws: int = DRAWS
) -> tuple[Line, ...]:
    """The options' cost per day at the SHARES of use. Arguments and errors are those of `kvlib.cost.usd_per_day`."""
    result = []
    for name, option in options.items():
        days = [usd_per_day(option, share, tokens_per_second=tokens_per_second, gpus=gpus) for share in SHARES]
        ends = [span(day, draws) for day in days]
        result.append(Line(name, tuple(day.point for day in days), *map(tuple, zip(*ends, strict=True))))
    return tuple(result)


def span(estimate: Estimate, draws: int = DRAWS) -> tuple[float, float]:
    """The ends between which 90 % of the draws lie."""
    drawn = estimate.draws(draws)
    return drawn[round(0.05 * (len(drawn) - 1))], drawn[round(0.95 * (len(drawn) - 1))]


def crossings(drawn: Sequence[Line]) -> list[tuple[str, str, float]]:
    """(one, other, share of use) where two middles meet within 0 to 1; the one is cheaper beyond."""
    found = []
    for index, one in enumerate(drawn):
        for other in drawn[index + 1 :]:
            start, end = one.middle[0] - other.middle[0], one.middle[-1] - other.middle[-1]
            if start * end < 0:
                names = (one.name, other.name) if end < 0 else (other.name, one.name)
                found.append((*names, start / (start - end)))
    return sorted(found, key=lambda item: item[2])


def lines_picture(drawn: Sequence[Line], label: str, reading: str, used: float | None = None) -> Picture:
    """Cost per day against the share of hours used: a line for each option, a pale band for its range.

    Args:
        drawn: what `lines` gives.
        label: the title.
        reading: the picture in words.
        used: a share of use that a dashed line marks.

    Raises:
        ValueError: if there is no line, or `used` is not between 0 and 1.
    """
    if not drawn or not (used is None or 0 <= used <= 1):
        raise ValueError(f"needs at least one line, and used between 0 and 1; got {len(drawn)} lines, used={used!r}")
    level = [line for line in drawn if line.middle[0] > 0] or list(drawn)
    top = 1.3 * max(max(line.high) for line in level) or 1.0
    wide, floor = WIDTH - EDGE - _LEFT - 12, _TOP + _TALL

    def at(share: float, money: float) -> str:
        return f"{_LEFT + wide * share:.1f} {floor - _TALL * min(money / top, 1):.1f}"

    def path(ends: Sequence[float]) -> list[str]:
        """The points of a line up to where it leaves the frame at the top."""
        steps = [(n / _STEPS, _between(ends, n / _STEPS)) for n in range(_STEPS + 1)]
        return [at(share, money) for share, money in steps if money <= top] or [at(0, top)]

    parts = [_text(EDGE, 15, label, weight=600)]
    for tick in _ticks(top):
        y = floor - _TALL * tick / top
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{wide}" stroke="currentColor" stroke-opacity="0.2"/>')
        parts.append(_text(_LEFT - 6, round(y + 4.5, 1), f"${tick:,.6g}", anchor="end"))
    for quarter in range(5):
        x = _LEFT + wide * quarter / 4
        parts.append(f'<path d="M{x:.1f} {floor}v5" stroke="currentColor"/>')
        parts.append(_text(x, floor + 19, f"{quarter / 4:.0%}", anchor="middle"))
    parts.append(_text(_LEFT + wide / 2, floor + 37, "share of all hours in which the machine works", anchor="middle"))
    parts.append(f'<path d="M{_LEFT} {_TOP}V{floor}h{wide}" fill="none" stroke="currentColor"/>')
    for index, line in enumerate(drawn):
        colour, _ = shade(index)
        if line.high != line.low:
            around = "L".join(path(line.high) + path(line.low)[::-1])
            parts.append(f'<path class="band" d="M{around}Z" fill="{colour}" fill-opacity="0.22"/>')
        parts.append(
            f'<path class="line" data-option="{escape(line.name)}" d="M{"L".join(path(line.middle))}" fill="none" '
            f'stroke="{colour}" stroke-width="3" stroke-dasharray="{_DASHES[index % len(_DASHES)]}"/>'
        )
    for one, other, share in crossings(drawn):
        money = _between(next(line for line in drawn if line.name == one).middle, share)
        if money <= top:
            x_text, y_text = at(share, money).split()
            parts.append(
                f'<circle class="crossing" data-share="{share:.4f}" cx="{x_text}" cy="{y_text}" r="5" fill="none" '
                f'stroke="currentColor" stroke-width="2"><title>{escape(one)} = {escape(other)}</title></circle>'
            )
    if used is not None:
        x = _LEFT + wide * used
        parts.append(
            f'<path class="used" d="M{x:.1f} {_TOP - 4}V{floor}" stroke="currentColor" stroke-width="2" '
            f'stroke-dasharray="4 3"/>'
        )
        side, anchor = (-6, "end") if used > 0.5 else (6, "start")
        parts.append(_text(x + side, _TOP + 10, f"your use: {used:.0%}", anchor=anchor))
    bottom = floor + 44
    for index, line in enumerate(drawn):
        bottom += 22
        words = f"{line.name}: {usd(line.middle[0])} a day unused, {usd(line.middle[-1])} fully used"
        parts.append(_legend(index, words, bottom) + _sample(index, bottom))
    return picture("".join(parts), bottom + 12, reading)


def _sample(index: int, y: float) -> str:
    """The line of an option beside its legend, so that its dashes can be told apart without the colours."""
    look = f'stroke="{shade(index)[0]}" stroke-width="3" stroke-dasharray="{_DASHES[index % len(_DASHES)]}"'
    return f'<path d="M{WIDTH - 90} {y - 4}h70" {look}/>'


def _between(ends: Sequence[float], share: float) -> float:
    """USD at a share of use, on straight lines through the values at SHARES."""
    place = share * (len(SHARES) - 1)
    index = min(int(place), len(SHARES) - 2)
    return ends[index] + (place - index) * (ends[index + 1] - ends[index])


def _ticks(top: float) -> list[float]:
    """Four or five round numbers from 0 up to `top`."""
    step = _round(top / 4)
    return [step * n for n in range(int(top / step) + 1)]


def _round(step: float) -> float:
    """The next of 1, 2, 5, 10, ... that is not above `step`."""
    scale = 10.0 ** math.floor(math.log10(step))
    return max(n for n in (1, 2, 5, 10) if n * scale <= step * (1 + 1e-9)) * scale
