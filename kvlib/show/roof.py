"""The picture of a roof: FLOPs per byte from left to right, FLOP/s upwards, both logarithmic, as an SVG string.

Below the ridge the memory sets the speed, above it the matrix units do. What stands under the roof, roofline.py says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kvlib.show.svg import EDGE, WIDTH, Picture, _text, picture, shade

_LEFT, _TOP, _TALL = 112, 28, 292
_RADIUS = 9


@dataclass(frozen=True)
class Mark:
    """A point under the roof: a letter, its name, FLOPs per byte and FLOP/s. `hollow` marks a prediction."""

    letter: str
    name: str
    intensity: float
    speed: float
    hollow: bool = False


def roof_picture(peak: float, bandwidth: float, marks: Sequence[Mark], title: str, reading: str) -> Picture:
    """A roof of slope `bandwidth` up to `peak`, with marks under it, on logarithmic axes.

    Raises:
        ValueError: if a rate, an intensity or a speed is not above 0.
    """
    for name, value in (("peak", peak), ("bandwidth", bandwidth), *((m.name, m.intensity * m.speed) for m in marks)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a finite number above 0; got {value!r}")
    ridge = peak / bandwidth
    axes = _Axes(
        min(-1, *(math.floor(math.log10(m.intensity)) for m in marks)),
        max(math.ceil(math.log10(ridge)) + 1, *(math.ceil(math.log10(m.intensity) + 0.1) for m in marks)),
        math.floor(min(math.log10(bandwidth) - 1, *(math.log10(m.speed) - 0.2 for m in marks))),
        math.ceil(max(math.log10(peak) + 0.2, *(math.log10(m.speed) + 0.1 for m in marks))),
    )
    drawn = [_text(EDGE, 15, title, weight=600), *axes.grid()]
    start = 10.0**axes.west
    look = 'fill="none" stroke="currentColor" stroke-width="2.5" stroke-linejoin="round"'
    low = max(start, 10.0**axes.south / bandwidth)  # the roof leaves the frame below
    drawn.append(
        f'<path class="roof" data-peak="{peak:.6g}" data-bandwidth="{bandwidth:.6g}" d="M{axes.x(low):.1f} '
        f'{axes.y(low * bandwidth):.1f}L{axes.x(ridge):.1f} {axes.y(peak):.1f}H{axes.x(10.0**axes.east):.1f}" {look}/>'
    )
    foot = axes.y(10.0**axes.south)
    drawn.append(
        f'<path class="ridge" d="M{axes.x(ridge):.1f} {axes.y(peak):.1f}V{foot:.1f}" stroke="currentColor" '
        f'stroke-dasharray="4 4"/>'
    )
    drawn.append(_text(axes.x(ridge) - 6, foot - 8, f"ridge: {figure(ridge)}", anchor="end"))
    middle = math.sqrt(low * ridge)
    drawn.append(_text(axes.x(middle) - 10, axes.y(middle * bandwidth) - 8, "memory", anchor="end"))
    drawn.append(_text(axes.x(ridge) + 12, axes.y(peak) - 8, "computing"))
    drawn += [_badge(axes.x(mark.intensity), axes.y(mark.speed), mark) for mark in marks]
    bottom = foot + 40.0
    drawn.append(_text(_LEFT + (WIDTH - EDGE - _LEFT) / 2, bottom, "FLOPs per byte read from memory", anchor="middle"))
    for mark in marks:
        bottom += 22
        drawn.append(_badge(EDGE + _RADIUS, bottom - 4.5, mark, "legend"))
        words = f"{mark.name}: {figure(mark.intensity)} FLOPs per byte, {rate(mark.speed)}"
        drawn.append(_text(EDGE + 26, bottom, words))
    return picture("".join(drawn), bottom + 12, reading)


@dataclass(frozen=True)
class _Axes:
    """Powers of ten at the four sides, and where a value lies in the picture."""

    west: int
    east: int
    south: int
    north: int

    def x(self, value: float) -> float:
        return _LEFT + (WIDTH - EDGE - _LEFT) * (math.log10(value) - self.west) / (self.east - self.west)

    def y(self, value: float) -> float:
        return _TOP + _TALL * (self.north - math.log10(value)) / (self.north - self.south)

    def grid(self) -> list[str]:
        """A thin line and a number for every power of ten."""
        drawn, thin = [], 'stroke="currentColor" stroke-width="1" stroke-opacity="0.22"'
        for power in range(self.west, self.east + 1):
            x = self.x(10.0**power)
            drawn.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_TOP + _TALL}" {thin}/>')
            anchor = "end" if power == self.east else "middle"
            drawn.append(_text(x, _TOP + _TALL + 18, f"{10.0**power:,.10g}", anchor=anchor))
        for power in range(self.south, self.north + 1):
            y = round(self.y(10.0**power), 1)
            drawn.append(f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - EDGE}" {thin}/>')
            drawn.append(_text(_LEFT - 8, y + 4, rate(10.0**power), anchor="end"))
        return drawn


def _badge(x: float, y: float, mark: Mark, css: str = "mark") -> str:
    """A round sign with a letter: filled for what is computed, dashed and empty for what was predicted."""
    fill, ink, dash = "none", "currentColor", ' stroke-dasharray="3 2"'
    if not mark.hollow:
        fill, ink = shade(0 if mark.letter == "D" else 1)
        dash = ""
    circle = (
        f'<circle class="{css}" data-letter="{mark.letter}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{fill}" '
        f'stroke="currentColor" stroke-width="1.5"{dash}/>'
    )
    return circle + _text(x, round(y + 4.5, 1), mark.letter, anchor="middle", fill=ink, weight=600)


def rate(flops: float) -> str:
    """FLOP/s as people read them: 989 TFLOP/s."""
    for scale, unit in ((10**15, "PFLOP/s"), (10**12, "TFLOP/s"), (10**9, "GFLOP/s"), (10**6, "MFLOP/s")):
        if flops >= scale * 0.9999:
            return f"{figure(flops / scale)} {unit}"
    return f"{flops:,.3g} FLOP/s"


def duration(seconds: float) -> str:
    """Seconds as people read them: 4.56 ms, 12.1 s."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale * 0.9995:
            return f"{figure(seconds / scale)} {unit}"
    return f"{figure(seconds * 1e6)} µs"


def figure(x: float) -> str:
    """Three digits without an exponent: 0.993, 295, 12,300."""
    if x >= 1000:
        return f"{float(f'{x:.3g}'):,.0f}"
    return f"{x:.3g}"
