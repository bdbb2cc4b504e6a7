"""The reader's own machine under its own roof: what was measured there, beside what its two rates allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from kvlib.flops import decode_flops, prefill_flops
from kvlib.model import Model
from kvlib.show.roof import Mark, duration, figure, rate, roof_picture
from kvlib.show.svg import Picture
from kvlib.show.tables import Html, table
from kvlib.traffic import cache_read, weights_read
from kvlib.units import GB

if TYPE_CHECKING:
    from kvlib.lab.transformer import Race


@dataclass(frozen=True)
class Phase:
    """Something that was timed: FLOPs, bytes that it has to read, and the seconds of its fastest run."""

    name: str
    flops: int
    read: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """The two rates of a machine, in bytes/s and FLOP/s, and the phases of a transformer that were timed on it.

    All are the fastest of several runs: other programs only ever add, and on a busy machine medians differ by half.
    """

    bandwidth: float
    peak: float
    phases: tuple[Phase, ...]

    @classmethod
    def of(cls, model: Model, found: Race) -> Self:
        """From what `kvlib.lab.transformer.race` found with this model, whose numbers take 32 bits."""
        prompt, context = found.prefill.prediction.tokens, found.decode.prediction.tokens
        weights = weights_read(model, 1, "fp32")
        reading = Phase(f"prefill of {prompt:,} tokens", prefill_flops(model, prompt), weights, found.prefill.fastest)
        held = weights + cache_read(model, context, "fp32")
        writing = Phase("decode of one token", decode_flops(model, context), held, found.decode.fastest)
        return cls(found.machine.matvec.fastest, found.machine.matmul.fastest, (reading, writing))

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
        f"{figure(p.seconds / found.ideal(p))} times"
        for p in found.phases
    )
    return f"Ridge at {figure(ridge)} FLOPs per byte. {each}."


def measured_table(found: Measured, caption: str) -> Html:
    """Measured beside predicted, phase by phase."""
    body = [
        (
            p.name,
            figure(p.flops / p.read),
            duration(found.ideal(p)),
            duration(p.seconds),
            f"{p.seconds / found.ideal(p):.2f}",
        )
        for p in found.phases
    ]
    rates = f"{rate(found.peak)}, {found.bandwidth / GB:.3g} GB/s"
    return table(f"{caption}: {rates}", ("phase", "FLOPs per byte", "predicted", "measured", "ratio"), body)
