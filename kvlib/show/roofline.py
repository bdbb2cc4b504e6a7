"""The roofline: where a decode step and a prefill stand under the two limits of a machine, as picture, words and table.

Horizontally FLOPs per byte read, vertically FLOP/s, both logarithmic. Below the ridge the memory sets the speed, above
it the matrix units do. Pure functions; the panel of lesson 04 draws them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvlib.hardware import Accelerator
from kvlib.hardware import gpu as known_gpu
from kvlib.model import Model
from kvlib.placement import Placement, place
from kvlib.precision import peak_unit
from kvlib.show.roof import Mark, duration, figure, rate, roof_picture
from kvlib.show.svg import Picture, plural
from kvlib.show.tables import Html, table
from kvlib.speed import Seconds, decode_seconds, prefill_seconds
from kvlib.steps import Step
from kvlib.traffic import weights_read
from kvlib.units import size, tokens

RIGHT, SLIP = 0.05, 0.02  # a prediction is right within 5 %; a mistake is named if it gives the number within 2 %


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
        f"Roofline of the {op.card.title} with the ridge at {figure(op.ridge)} FLOPs per byte. A decode step of batch "
        f"{op.batch:,} reads {size(round(op.read))}, {figure(op.intensity)} FLOPs per byte, {side}. "
        f"The prefill of one prompt of {tokens(op.context)} has {figure(_prompt_intensity(op))}."
    )


def operation_sentence(op: Operation) -> str:
    """The answer in words: TPOT at best and to expect, tokens per second, what limits, and whether it fits."""
    share = op.decode
    words = (
        f"{asked(op)}: a decode step reads {size(round(op.read))} and takes {duration(share.ideal)} at best (TPOT), "
        f"about {duration(share.estimate)} in a real engine. That is {figure(op.per_user)} tokens/s a reader"
        f"{f', {figure(op.batch * op.per_user)} in all' if op.batch > 1 else ''}; {_limit(op)} limits. "
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
        ("FLOPs per byte", figure(op.intensity), figure(_prompt_intensity(op))),
        ("what limits", op.decode.bound, op.prefill.bound),
        ("at best", duration(op.decode.ideal), duration(op.prefill.ideal)),
        ("expected", duration(op.decode.estimate), duration(op.prefill.estimate)),
        ("from, to", _span(op.decode), _span(op.prefill)),
        ("tokens/s at best", figure(op.batch / op.decode.ideal), figure(op.context / op.prefill.ideal)),
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
    much = f"{figure(max(off, 1 / off))} times too {'high' if off > 1 else 'low'}"
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
