"""A plan as a picture: every GPU a box that fills with its memory, TP groups side by side, copies below each other.

And the plan in words and as a table, with a verdict on the learner's prediction. Pure functions; the panel draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from kvlib.cluster import Ranking
from kvlib.hardware import gpu
from kvlib.plans import Plan
from kvlib.shards import stage_caches, stage_weights
from kvlib.show.svg import EDGE, WIDTH, Picture, _legend, _text, picture, plural, shade
from kvlib.show.tables import Html, table
from kvlib.units import GB, size, tokens

PARTS = ("weights", "KV cache", "activation", "runtime")
_SIZES = ((16, 50, 70), (32, 38, 60), (64, 26, 50), (128, 20, 44), (10**9, 17, 38))  # cards of a copy: width, height
_ACROSS, _GAP, _PAD = 8, 4, 5
_LABEL = 16


@dataclass(frozen=True)
class Copies:
    """Copies of the model that hold the same: their numbers, and for each stage the bytes of the parts on one card."""

    first: int
    last: int
    stages: tuple[tuple[int, ...], ...]

    def label(self, dp: int) -> str:
        """Which copies these are: "copy 1 of 2", or "copies 1 to 16 of 16, all alike"."""
        if self.first == self.last:
            return f"copy {self.first} of {dp}"
        return f"copies {self.first} to {self.last} of {dp}, all alike; one is drawn"


def copies(plan: Plan) -> list[Copies]:
    """What the cards of a plan hold. Copies share the users out as evenly as they can, so at most two kinds differ."""
    q, split = plan.question, plan.split
    weights, caches = stage_weights(q.model, q.formats, split), stage_caches(q.model, q.context, q.kv_dtype, split)
    share, rest = divmod(q.sequences, split.dp)
    runtime = q.overhead(split) - q.activation
    kinds = []
    for first, last, users in ((1, rest, share + 1), (rest + 1, split.dp, share)):
        if first <= last:
            held = zip(weights, caches, strict=True)
            stages = tuple((stored, users * cache, q.activation, runtime) for stored, cache in held)
            kinds.append(Copies(first, last, stages))
    return kinds


def plan_picture(plan: Plan) -> Picture:
    """The cluster, card by card: one dashed frame for each TP group, which is one stage of one copy.

    Raises:
        ValueError: if the layout itself is impossible, so that there is nothing to fill.
    """
    if plan.per_gpu is None:
        raise ValueError(f"plan must be one that an engine can start; {plan.why}")
    wide, tall = next((wide, tall) for most, wide, tall in _SIZES if plan.tp * plan.pp <= most)
    frame = _Frame(wide, tall, plan.per_gpu.total, plan.per_gpu.limit, max(plan.per_gpu.total, plan.per_gpu.used))
    across, lines = min(plan.tp, _ACROSS), -(-plan.tp // _ACROSS)
    group_wide = across * (wide + _GAP) - _GAP + 2 * _PAD
    group_tall = lines * (tall + _GAP) - _GAP + 2 * _PAD
    title = f"{plural(plan.gpus, 'card')}: {layout_words(plan)}{'' if plan.fits else ': does not fit'}"
    drawn = [_text(EDGE, 15, title, weight=600)]
    label, top = _LABEL if plan.pp > 1 else 0, 26.0
    for kind in copies(plan):
        if plan.dp > 1:
            drawn.append(_text(EDGE, top + 12, kind.label(plan.dp)))
            top += 20
        left = float(EDGE)
        for stage, held in enumerate(kind.stages):
            if left + group_wide > WIDTH - EDGE and left > EDGE:
                left, top = float(EDGE), top + group_tall + label + 2 * _GAP
            if label:
                name = f"stage {stage + 1}" if group_wide > 56 else f"{stage + 1}"
                drawn.append(_text(left + group_wide / 2, top + 12, name, anchor="middle"))
            drawn.append(_group(left, top + label, group_wide, group_tall))
            for number in range(plan.tp):
                x = left + _PAD + number % _ACROSS * (wide + _GAP)
                y = top + label + _PAD + number // _ACROSS * (tall + _GAP)
                drawn.append(_card(held, x, y, frame))
            left += group_wide + 2 * _GAP
        top += group_tall + label + 3 * _GAP
    for index, (name, part) in enumerate(zip(PARTS, _fullest(plan), strict=True)):
        top += 22 if index else 10
        drawn.append(_legend(index, f"{name}: {size(part)} on the fullest card", top))
    top += 20
    words = f"A dashed frame holds the cards of a TP group. The dotted line is the engine's limit, {size(frame.limit)}."
    drawn.append(_text(EDGE, top, words))
    return picture("".join(drawn), top + 12, plan_reading(plan))


@dataclass(frozen=True)
class _Frame:
    """How a card is drawn: its size in pixels, its bytes, the engine's limit, and the bytes of the whole height."""

    wide: float
    tall: float
    total: int
    limit: int
    longest: int


def _group(left: float, top: float, wide: float, tall: float) -> str:
    """The frame of one TP group, whose GPUs talk in every layer."""
    look = 'fill="none" stroke="currentColor" stroke-width="1" stroke-dasharray="4 3"'
    return f'<rect class="group" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="5" {look}/>'


def _card(held: tuple[int, ...], x: float, y: float, frame: _Frame) -> str:
    """One card, filled from the bottom, with a line at the limit; what is too much stands out above the frame."""
    wide, floor, scale = frame.wide, y + frame.tall, frame.tall / frame.longest
    drawn = []
    for index, (name, part) in enumerate(zip(PARTS, held, strict=True)):
        tall = part * scale
        floor -= tall
        fill, ink = shade(index)
        drawn.append(
            f'<rect class="part" data-part="{escape(name)}" data-bytes="{part}" x="{x:.1f}" y="{floor:.2f}" '
            f'width="{wide}" height="{tall:.2f}" fill="{fill}"/>'
        )
        if tall >= 13:
            middle = round(floor + tall / 2 + 4.5, 2)
            drawn.append(_text(x + wide / 2, middle, str(index + 1), anchor="middle", fill=ink))
    bottom = y + frame.tall
    drawn.append(
        f'<path class="limit" d="M{x:.1f} {bottom - frame.limit * scale:.2f}H{x + wide:.1f}" stroke="currentColor" '
        f'stroke-dasharray="2 2"/>'
        f'<rect class="card" x="{x:.1f}" y="{bottom - frame.total * scale:.2f}" width="{wide}" '
        f'height="{frame.total * scale:.2f}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    )
    return "".join(drawn)


def _fullest(plan: Plan) -> tuple[int, ...]:
    held = plan.per_gpu
    assert held is not None
    return held.weights, held.kv_cache, held.activation, held.runtime


def layout_words(plan: Plan) -> str:
    """The degrees that are not 1, in words: "TP 4 x PP 3", "one card", "DP 8, EP 8"."""
    degrees = (("TP", plan.tp), ("PP", plan.pp), ("DP", plan.dp))
    words = " × ".join(f"{name} {n}" for name, n in degrees if n > 1) or "no division"
    more = (("EP", plan.ep), ("DCP", plan.dcp))
    return words + "".join(f", {name} {n}" for name, n in more if n > 1)


def plan_reading(plan: Plan) -> str:
    """The picture in words, for those who cannot see it."""
    held = plan.per_gpu
    assert held is not None
    groups = f"{plural(plan.dp, 'copy') if plan.dp == 1 else f'{plan.dp} copies'} of {plural(plan.pp, 'stage')}"
    parts = " + ".join(f"{name} {size(part)}" for name, part in zip(PARTS, _fullest(plan), strict=True))
    verdict = f"{size(held.free)} free" if held.free >= 0 else f"DOES NOT FIT, {size(-held.free)} over"
    return (
        f"{plural(plan.gpus, 'card')}, {groups} of {plural(plan.tp, 'card')} each. Fullest card"
        f"{f', in stage {held.stage + 1}' if plan.pp > 1 else ''}: {parts} = {size(held.used)} of the "
        f"{size(held.limit)} that the engine may use, {verdict}."
    )


def asked(ranking: Ranking) -> str:
    """The question in words: model, users, context, card."""
    q = ranking.question
    title = q.model.title or q.model.name
    users = "one user" if q.sequences == 1 else f"{q.sequences:,} users"
    stored = q.formats["other"].name
    return (
        f"{title}, weights in {stored}, cache in {q.kv_dtype}, {users} with {tokens(q.context)}"
        f"{'' if q.sequences == 1 else ' each'}, on {gpu(q.gpu_name).title}"
    )


def ranking_sentence(ranking: Ranking) -> str:
    """The answer in words: the smallest layout, what fills it, or why nothing fits; and the warnings."""
    best, held = ranking.best, f"weights {size(ranking.weight_bytes)} + caches {size(ranking.cache_bytes)}"
    if best is not None and best.per_gpu is not None:
        answer = (
            f"{plural(best.gpus, 'card')} ({layout_words(best)}) hold {held}; "
            f"the fullest card has {size(best.per_gpu.free)} of its {size(best.per_gpu.limit)} free."
        )
    else:
        nearest = (ranking.misses or ranking.refused)[:1]
        why = f" Nearest: {layout_words(nearest[0])}: {nearest[0].why}." if nearest else ""
        answer = f"no layout up to {ranking.max_gpus} cards holds {held}.{why}"
    careful = "".join(f" Careful: {warning}." for warning in ranking.warnings)
    return f"{asked(ranking)}: {answer}{careful}"


def ranking_table(ranking: Ranking, fitting: int = 5, misses: int = 2) -> Html:
    """The best layouts, and the nearest that do not fit, with what is on the fullest card."""
    body = []
    for plan in (*ranking.fitting[:fitting], *ranking.misses[:misses]):
        held = plan.per_gpu
        assert held is not None
        gap = f"fits, {size(held.free)} free" if plan.fits else f"too full, {size(-held.free)} short"
        body.append((plan.gpus, layout_words(plan), size(held.weights), size(held.kv_cache), gap))
    for plan in ranking.refused[: 0 if body else misses]:
        body.append((plan.gpus, layout_words(plan), "–", "–", f"impossible: {plan.why}"))
    headers = ("cards", "layout", "weights on the fullest card", "caches on it", "verdict")
    return table(f"Layouts: {asked(ranking)}", headers, body)


def verdict(ranking: Ranking, predicted: int) -> str:
    """How far off the prediction was, and the usual mistake that explains it, if one does.

    Raises:
        ValueError: if predicted is not a number of cards, 1 or more.
    """
    if predicted < 1:
        raise ValueError(f"predicted must be a number of cards, 1 or more; got {predicted!r}")
    said, best = f"You predicted {plural(predicted, 'card')}; ", ranking.best
    if best is None:
        return f"{said}no layout up to {ranking.max_gpus} cards fits."
    if predicted == best.gpus:
        return f"{said}right."
    off = abs(predicted - best.gpus)
    words = f"{said}the smallest layout has {best.gpus}: {off} too {'many' if predicted > best.gpus else 'few'}."
    slip = next((why for wrong, why in _slips(ranking) if wrong == predicted), None)
    return words + (f" It looks as if {slip}." if slip else "")


def _slips(ranking: Ranking) -> list[tuple[int | None, str]]:
    """Cards that the usual mistakes lead to, the most telling first."""
    q = ranking.question
    weights, caches, one = ranking.weight_bytes, ranking.cache_bytes, q.one_sequence
    room = max(1, q.limit - q.overhead(ranking.best.split) if ranking.best else q.limit)
    label = gpu(q.gpu_name).label_gb * GB

    def cards(held: int, each: int) -> int:
        return max(1, -(-held // each))

    return [
        (ranking.bag, "you cut the memory anywhere: heads and layers come whole, and each card keeps its own room"),
        (cards(weights + caches, label), "you shared the bytes out over labels: a server cannot use all of a card"),
        (cards(weights + caches, q.total), "you filled every byte that a card shows: a server cannot use all of them"),
        (cards(weights + one, room) if q.sequences > 1 else None, "you counted one user"),
        (q.sequences * cards(weights + one, room), "you gave every user a copy of the weights"),
        (cards(weights, room), "you counted the weights only"),
        (cards(caches, room), "you counted the caches only"),
    ]
