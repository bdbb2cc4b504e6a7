"""Throughput of a placement: a ceiling from everything at once, an estimate from one thing after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kvlib.efficiency import Calibration, Efficiency
from kvlib.model import Chunked
from kvlib.placement import CHUNK, Placement
from kvlib.steps import Step


@dataclass(frozen=True)
class Throughput:
    """Output tokens/s of all GPUs together, while requests come as fast as they are served.

    `ceiling` is the bound, with `ceiling_batch` sequences in flight; `estimate` has `batch` of them. About three
    speeds of four lie between `low` and `high`. `tpot` is the estimated seconds between two tokens of one request,
    pauses for other requests' prompts included; `ttft` those until its first, if it need not wait. `bound` names what
    sets the ceiling.
    """

    ceiling: Any
    estimate: Any
    low: Any
    high: Any
    batch: Any
    ceiling_batch: Any
    ttft: Any
    tpot: Any
    gpus: int
    bound: Any

    @property
    def per_gpu(self) -> Any:
        """The estimate per GPU."""
        return self.estimate / self.gpus

    def __repr__(self) -> str:
        if hasattr(self.estimate, "shape"):
            return f"Throughput(estimate={self.estimate!r}, ceiling={self.ceiling!r})"
        span = f"{self.low:,.0f} to {self.high:,.0f}"
        users = f"{self.batch:,.0f} sequences on {self.gpus:,} GPU{'s' if self.gpus > 1 else ''}"
        limit = f"{self.bound} allows at most {self.ceiling:,.0f}"
        return f"about {self.estimate:,.0f} tokens/s ({span}) with {users}; {limit}"


def serve(placed: Placement, tokens_in: int, tokens_out: int, most: int | None, fitted: Calibration) -> Throughput:
    """`throughput` of a placement, for one set of whole numbers."""
    ceiling, ceiling_batch, bound = ceiling_speed(placed, tokens_in, tokens_out, most)
    batch = engine_batch(placed, tokens_in, tokens_out, most)
    step, prompts = engine_steps(placed, batch, tokens_in, tokens_out)
    estimate = min(ceiling, engine_speed(placed.copies, batch, tokens_in, tokens_out, step, prompts, fitted.efficiency))
    return Throughput(
        ceiling=ceiling,
        estimate=estimate,
        low=estimate * fitted.low,
        high=min(ceiling, estimate * fitted.high),
        batch=batch,
        ceiling_batch=ceiling_batch,
        ttft=placed.prefill(tokens_in).seconds(fitted.efficiency),
        tpot=batch / estimate,
        gpus=placed.gpus,
        bound=bound,
    )


def ceiling_speed(placed: Placement, tokens_in: int, tokens_out: int, most: int | None) -> tuple[float, float, str]:
    """(tokens/s, sequences in flight, what sets the limit) at 100 % of the datasheet.

    Over the life of a batch the GPU must read what its steps read and compute what prefill and decode compute. At best
    both go on at the same time, prompts in the shadow of decoding: the longer of the two is the bound. Sequences are of
    all ages, from the first token of their answer to the last.
    """
    ages = _ages(placed, tokens_in, tokens_out)
    batch = _checked(placed, placed.fitting(ages, ideal=True), tokens_in, tokens_out, most)
    steps = tokens_out - 1  # the first token comes out of the prefill
    each, prompt = [placed.decode(batch, age, native=False) for age in ages], placed.prefill(tokens_in, native=False)
    read = max(steps, 1) * sum(step.read for step in each) / len(ages)
    work = steps * sum(step.work for step in each) / len(ages) + batch / placed.copies * prompt.work
    return batch * tokens_out / max(read, work), batch, "memory" if read > work else "compute"


def _ages(placed: Placement, tokens_in: int, tokens_out: int) -> list[int]:
    """Contexts whose mean stands for all steps of an answer: its two ends.

    Exact where a layer keeps every token. A layer with a window stops growing, so the mean of the ends is below the
    true mean and the ceiling stays a ceiling. What a chunked layer reads goes up and down: several points.
    """
    first, last = tokens_in + 1, tokens_in + max(1, tokens_out - 1)
    points = 17 if any(isinstance(layer, Chunked) for layer in placed.model.layer_counts) else 2
    return [first + (last - first) * i // (points - 1) for i in range(points)]


def engine_batch(placed: Placement, tokens_in: int, tokens_out: int, most: int | None) -> float:
    """Sequences that an engine keeps in flight: it admits one only if all of its tokens will fit.

    TensorRT-LLM's default scheduler (GUARANTEED_NO_EVICT) does so. Where its rule leaves room for less than one, one.
    """
    return _checked(placed, max(1.0, placed.fitting([tokens_in + tokens_out])), tokens_in, tokens_out, most)


def engine_steps(placed: Placement, batch: float, tokens_in: int, tokens_out: int) -> tuple[Step, Step]:
    """(a decode step at half the answer, the prefill of one chunk of prompts)."""
    return placed.decode(batch, tokens_in + tokens_out // 2), placed.prefill(tokens_in, 0, _together(tokens_in))


def engine_speed(
    copies: int, batch: float, tokens_in: int, tokens_out: int, step: Step, prompts: Step, shares: Efficiency
) -> float:
    """Tokens/s when prompts are read and answers written by turns: a batch is prefilled, then decoded step by step."""
    prefill = batch / copies * prompts.seconds(shares) / _together(tokens_in)
    return float(batch * tokens_out / ((tokens_out - 1) * step.seconds(shares) + prefill))


def _together(tokens_in: int) -> float:
    """Prompts that share one chunk of prefill."""
    return max(1.0, CHUNK / tokens_in)


def _checked(placed: Placement, fits: float, tokens_in: int, tokens_out: int, most: int | None) -> float:
    """The batch: what fits, or less if less is asked for."""
    if fits < 1:
        where = f"{placed.gpus} x {placed.gpu.name} ({placed.split})"
        wanted = f"input_tokens and output_tokens must fit into memory with the weights of {placed.model.name}"
        raise ValueError(f"{wanted}; got {tokens_in:,} and {tokens_out:,} on {where}, which hold {fits:.2f} of one")
    if fits == math.inf and most is None:
        raise ValueError(f"concurrency must be given for {placed.model.name}, which has no cache to fill the memory")
    return float(fits if most is None else min(fits, most))
