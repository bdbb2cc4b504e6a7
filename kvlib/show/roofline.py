"""The roofline: where a decode step and a prefill stand under the two limits of a machine, as picture, words and table.

Horizontally FLOPs per byte read, vertically FLOP/s, both logarithmic. Below the ridge the memory sets the speed, above
it the matrix units do. Pure functions; the panel of lesson 04 draws them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from kvlib.flops import decode_flops, prefill_flops
from kvlib.hardware import Accelerator
from kvlib.hardware import gpu as known_gpu
from kvlib.model import Model
from kvlib.placement import Placement, place
from kvlib.precision import peak_unit
from kvlib.show.svg import EDGE, WIDTH, Picture, _text, picture, plural, shade
from kvlib.show.tables import Html, table
from kvlib.speed import Seconds, decode_seconds, prefill_seconds
from kvlib.steps import Step
from kvlib.traffic import cache_read, weights_read
from kvlib.units import GB, size, tokens

if TYPE_CHECKING:
    from kvlib.lab.transformer import Race

RIGHT, SLIP = 0.05, 0.02  # a prediction is right within 5 %; a mistake is named if it gives the number within 2 %
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


@dataclass(frozen=True)
class Operation:
    """One decode step of `batch` sequences of `context` tokens on one card, and the prefill of one such prompt.

    `flops` and `read` are those of the decode step, on datasheet terms; `decode` and `prefill` are seconds.
    """

    model: Model
    card: Accelerator
    batch: int
    context: int
    stored: str
    kv: str
    flops: int
    read: float
    step: Step
    prompt: Step
    prompt_flops: int
    decode: Seconds
    prefill: Seconds
    held: int

    @property
    def intensity(self) -> float:
        """FLOPs per byte that the decode step reads."""
        return self.flops / self.read

    @property
    def peak(self) -> float:
        """FLOP/s of the matrix units for this step; weights and cache in different formats give a mean of two peaks."""
        return float(self.flops / self.step.work)

    @property
    def ridge(self) -> float:
        """FLOPs per byte at which reading and computing take equally long."""
        return self.peak / self.card.bandwidth

    @property
    def fits(self) -> bool:
        """Whether weights and caches are less than what the card shows."""
        return self.held <= (self.card.visible_bytes or 0)

    @property
    def per_user(self) -> float:
        """Tokens per second of each sequence, at best."""
        return float(1 / self.decode.ideal)


def operation(model: Model, gpu: str, batch: int, context: int, weights: str, kv: str) -> Operation:
    """What one decode step of this batch costs on one card, whether or not it fits into its memory.

    Raises:
        ValueError: if an argument is out of range, or a format unknown.
    """
    placed: Placement = place(model, gpu, weight_dtype=weights, kv_dtype=kv)
    card, step = known_gpu(gpu), placed.decode(batch, context, native=False)
    prompt = placed.prefill(context, native=False)
    return Operation(
        model=model,
        card=card,
        batch=batch,
        context=context,
        stored=weights,
        kv=kv,
        flops=_flops(step, placed),
        read=float(step.read * card.bandwidth),
        step=step,
        prompt=prompt,
        prompt_flops=_flops(prompt, placed),
        decode=decode_seconds(model, gpu, context, batch, weight_dtype=weights, kv_dtype=kv),
        prefill=prefill_seconds(model, gpu, context, weight_dtype=weights, kv_dtype=kv),
        held=model.weight_bytes(weights) + batch * model.cache_bytes(context, kv),
    )


def _flops(step: Step, placed: Placement) -> int:
    """FLOPs of a step, from its seconds at the peak of each format."""
    rates = [placed.gpu.flops[peak_unit(placed.gpu, stored)] for stored in (placed.weights["other"], placed.kv)]
    return round(float(step.linear * rates[0] + step.attention * rates[1]))


# ---------------------------------------------------------------- the picture


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
    drawn.append(_text(axes.x(ridge) - 6, foot - 8, f"ridge: {_figure(ridge)}", anchor="end"))
    middle = math.sqrt(low * ridge)
    drawn.append(_text(axes.x(middle) - 10, axes.y(middle * bandwidth) - 8, "memory", anchor="end"))
    drawn.append(_text(axes.x(ridge) + 12, axes.y(peak) - 8, "computing"))
    drawn += [_badge(axes.x(mark.intensity), axes.y(mark.speed), mark) for mark in marks]
    bottom = foot + 40.0
    drawn.append(_text(_LEFT + (WIDTH - EDGE - _LEFT) / 2, bottom, "FLOPs per byte read from memory", anchor="middle"))
    for mark in marks:
        bottom += 22
        drawn.append(_badge(EDGE + _RADIUS, bottom - 4.5, mark, "legend"))
        words = f"{mark.name}: {_figure(mark.intensity)} FLOPs per byte, {rate(mark.speed)}"
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


def operation_picture(op: Operation, predicted: float | None = None) -> Picture:
    """The roof of the card with D, the decode step, P, the prefill of one prompt, and the prediction in seconds."""
    marks = [
        Mark("D", f"decode step, batch {op.batch:,}", op.intensity, op.flops / float(op.decode.ideal)),
        Mark("P", "prefill of one prompt", _prompt_intensity(op), op.prompt_flops / float(op.prefill.ideal)),
    ]
    if predicted:
        marks.append(Mark("?", "your decode step", op.intensity, op.flops / predicted, hollow=True))
    title = f"{op.card.title}: {rate(op.peak)}, {op.card.bandwidth / 10**12:.3g} TB/s"
    return roof_picture(op.peak, op.card.bandwidth, marks, title, operation_reading(op))


def _prompt_intensity(op: Operation) -> float:
    return float(op.prompt_flops / (op.prompt.read * op.card.bandwidth))


# ---------------------------------------------------------------- words


def rate(flops: float) -> str:
    """FLOP/s as people read them: 989 TFLOP/s."""
    for scale, unit in ((10**15, "PFLOP/s"), (10**12, "TFLOP/s"), (10**9, "GFLOP/s"), (10**6, "MFLOP/s")):
        if flops >= scale * 0.9999:
            return f"{_figure(flops / scale)} {unit}"
    return f"{flops:,.3g} FLOP/s"


def duration(seconds: float) -> str:
    """Seconds as people read them: 4.56 ms, 12.1 s."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale * 0.9995:
            return f"{_figure(seconds / scale)} {unit}"
    return f"{_figure(seconds * 1e6)} µs"


def _figure(x: float) -> str:
    """Three digits without an exponent: 0.993, 295, 12,300."""
    if x >= 1000:
        return f"{float(f'{x:.3g}'):,.0f}"
    return f"{x:.3g}"


def asked(op: Operation) -> str:
    """The question in words."""
    who = "one sequence" if op.batch == 1 else f"{op.batch:,} sequences"
    each = "" if op.batch == 1 else " each"
    title = op.model.title or op.model.name
    formats = f"weights in {op.stored}, cache in {op.kv}"
    return f"{title}, {formats}, {who} with {tokens(op.context)}{each}, on one {op.card.title}"


def operation_reading(op: Operation) -> str:
    """The picture in words, for those who cannot see it."""
    side = (
        "left of the ridge: memory sets the speed" if op.decode.bound == "memory" else "right of the ridge: computing"
    )
    return (
        f"Roofline of the {op.card.title} with the ridge at {_figure(op.ridge)} FLOPs per byte. A decode step of batch "
        f"{op.batch:,} reads {size(round(op.read))}, {_figure(op.intensity)} FLOPs per byte, {side}. "
        f"The prefill of one prompt of {tokens(op.context)} has {_figure(_prompt_intensity(op))}."
    )


def operation_sentence(op: Operation) -> str:
    """The answer in words: TPOT at best and to expect, tokens per second, what limits, and whether it fits."""
    share = op.decode
    words = (
        f"{asked(op)}: a decode step reads {size(round(op.read))} and takes {duration(share.ideal)} at best (TPOT), "
        f"about {duration(share.estimate)} in a real engine. That is {_figure(op.per_user)} tokens/s a reader"
        f"{f', {_figure(op.batch * op.per_user)} in all' if op.batch > 1 else ''}; {_limit(op)} limits. "
        f"Reading one prompt takes {duration(op.prefill.ideal)} at best (TTFT)."
    )
    trained = op.model.max_context
    if not op.fits:
        words += (
            f" Careful: this does not fit, it is {size(op.held)} and the card shows {size(op.card.visible_bytes or 0)}."
        )
    if trained and op.context > trained:
        words += f" Careful: {op.model.name} was trained for {trained:,} tokens."
    return words


def _limit(op: Operation) -> str:
    return "memory bandwidth" if op.decode.bound == "memory" else "computing"


def operation_table(op: Operation) -> Html:
    """The two phases side by side."""
    weights = round(weights_read(op.model, op.batch, op.stored))
    caches = round(op.read) - weights
    body = [
        ("weights read", size(weights), size(round(op.prompt.read * op.card.bandwidth))),
        ("caches read", size(max(0, caches)), "–"),
        ("computed (FLOPs)", f"{float(op.flops):.3g}", f"{float(op.prompt_flops):.3g}"),
        ("FLOPs per byte", _figure(op.intensity), _figure(_prompt_intensity(op))),
        ("what limits", op.decode.bound, op.prefill.bound),
        ("at best", duration(op.decode.ideal), duration(op.prefill.ideal)),
        ("expected", duration(op.decode.estimate), duration(op.prefill.estimate)),
        ("from, to", _span(op.decode), _span(op.prefill)),
        ("tokens/s at best", _figure(op.batch / op.decode.ideal), _figure(op.context / op.prefill.ideal)),
    ]
    return table(f"Speed: {asked(op)}", ("", "one decode step", "prefill of one prompt"), body)


def _span(found: Seconds) -> str:
    return f"{duration(found.low)} to {duration(found.high)}"


# ---------------------------------------------------------------- the verdict


def verdict(op: Operation, predicted: float) -> str:
    """How far off a predicted step (seconds) was from the ideal one, and the usual mistake behind it, if one is.

    Raises:
        ValueError: if predicted is not above 0 and finite.
    """
    if not 0 < predicted < math.inf:
        raise ValueError(f"predicted must be seconds above 0; got {predicted!r}")
    ideal = float(op.decode.ideal)
    said = f"You predicted {duration(predicted)}; "
    if abs(predicted / ideal - 1) <= RIGHT:
        return f"{said}right."
    off = predicted / ideal
    much = f"{_figure(max(off, 1 / off))} times too {'high' if off > 1 else 'low'}"
    words = f"{said}at best it is {duration(ideal)}, you are {much}."
    wrong, why = min(_slips(op), key=lambda slip: abs(predicted / slip[0] - 1))
    return words + (f" It looks as if {why}." if abs(predicted / wrong - 1) <= SLIP else "")


def _slips(op: Operation) -> list[tuple[float, str]]:
    """Seconds that the usual mistakes lead to, the most telling first."""
    speed = op.card.bandwidth
    weights = weights_read(op.model, op.batch, op.stored)
    one, all_of_them = weights_read(op.model, 1, op.stored), op.model.weight_bytes(op.stored)
    caches = op.read - weights
    every = plural(op.batch, "sequence")
    whole_model = (
        "you read every expert: a step reads only those that a token chose"
        if op.model.experts
        else "you read the embedding as well: a token looks up one row of it"
    )
    return [
        (weights / speed, "you forgot the caches: each sequence's is read in every step"),
        (all_of_them / speed, "you read the weights only, and forgot the caches"),
        ((op.batch * one + caches) / speed, f"you read the weights for each of the {every}: one reading serves all"),
        (op.batch * one / speed, f"you read the weights for each of the {every}: one reading serves all"),
        ((one + caches) / speed, "you read the experts of one token: a batch asks for more of them"),
        ((all_of_them + caches) / speed, whole_model),
        ((weights + caches / op.batch) / speed, "you read one sequence's cache, and there are more"),
        (float(op.step.work), "you computed only: the bytes take longer"),
        (op.read / speed, "you read only: computing takes longer"),
        (float(op.step.work) / 2, "you took the peak with sparsity, which is twice the dense one"),
        (float(op.step.work) + op.read / speed, "you added reading and computing: they go on at the same time"),
    ]


# ---------------------------------------------------------------- a machine that was measured


@dataclass(frozen=True)
class Phase:
    """Something that was timed: FLOPs, bytes that it has to read, and the median of its seconds."""

    name: str
    flops: int
    read: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """The two rates of a machine, in bytes/s and FLOP/s, and the phases of a transformer that were timed on it."""

    bandwidth: float
    peak: float
    phases: tuple[Phase, ...]

    @classmethod
    def of(cls, model: Model, found: Race) -> Self:
        """From what `kvlib.lab.transformer.race` found with this model, whose numbers take 32 bits."""
        prompt, context = found.prefill.prediction.tokens, found.decode.prediction.tokens
        weights = weights_read(model, 1, "fp32")
        reading = Phase(f"prefill of {prompt:,} tokens", prefill_flops(model, prompt), weights, found.prefill.median)
        held = weights + cache_read(model, context, "fp32")
        writing = Phase("decode of one token", decode_flops(model, context), held, found.decode.median)
        return cls(found.machine.matvec.median, found.machine.matmul.median, (reading, writing))

    def ideal(self, phase: Phase) -> float:
        """Seconds that the two rates allow at best."""
        return max(phase.read / self.bandwidth, phase.flops / self.peak)


def measured_picture(found: Measured) -> Picture:
    """The machine's own roof, with what was measured under it."""
    marks = [Mark(p.name[0].upper(), p.name, p.flops / p.read, p.flops / p.seconds) for p in found.phases]
    title = f"Measured: {rate(found.peak)}, {found.bandwidth / GB:.3g} GB/s"
    return roof_picture(found.peak, found.bandwidth, marks, title, measured_reading(found))


def measured_reading(found: Measured) -> str:
    """The machine and the phases in words."""
    ridge = found.peak / found.bandwidth
    each = "; ".join(
        f"{p.name}: {duration(p.seconds)} measured, {duration(found.ideal(p))} predicted, "
        f"{_figure(p.seconds / found.ideal(p))} times"
        for p in found.phases
    )
    return f"Ridge at {_figure(ridge)} FLOPs per byte. {each}."


def measured_table(found: Measured, caption: str) -> Html:
    """Measured beside predicted, phase by phase."""
    body = [
        (
            p.name,
            _figure(p.flops / p.read),
            duration(found.ideal(p)),
            duration(p.seconds),
            f"{p.seconds / found.ideal(p):.2f}",
        )
        for p in found.phases
    ]
    rates = f"{rate(found.peak)}, {found.bandwidth / GB:.3g} GB/s"
    return table(f"{caption}: {rates}", ("phase", "FLOPs per byte", "predicted", "measured", "ratio"), body)
