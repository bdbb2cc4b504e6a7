"""One plan: a layout judged. It fits, or is too full, or impossible, and says why."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kvlib.engine import Pool, pool
from kvlib.question import PerGPU, Question
from kvlib.shards import Split, refusal, stage_caches, stage_weights
from kvlib.units import size


@dataclass(frozen=True)
class Plan:
    """A layout for a question: `gpus` = `tp` x `pp` x `dp`; `fits`, and `why`; `per_gpu` on the fullest GPU.

    `per_gpu` is None where the layout itself is impossible: then `why` says what it breaks.
    """

    question: Question = field(repr=False)
    split: Split
    per_gpu: PerGPU | None
    why: str

    @property
    def gpus(self) -> int:
        """GPUs of the whole plan."""
        return self.split.gpus

    @property
    def tp(self) -> int:
        """Tensor parallelism: GPUs that share each layer."""
        return self.split.tp

    @property
    def pp(self) -> int:
        """Pipeline parallelism: stages, each with some of the layers."""
        return self.split.pp

    @property
    def dp(self) -> int:
        """Data parallelism: copies of the attention part, each with its own sequences."""
        return self.split.dp

    @property
    def ep(self) -> int:
        """Expert parallelism: GPUs that share whole experts out; 1 where TP cuts each expert."""
        return self.split.ep

    @property
    def dcp(self) -> int:
        """Decode context parallelism: ranks of the TP group that stripe the tokens."""
        return self.split.dcp

    @property
    def fits(self) -> bool:
        """Whether every GPU holds what the plan puts on it."""
        return self.per_gpu is not None and self.per_gpu.free >= 0

    @property
    def domains(self) -> int:
        """NVLink domains (nodes) that the plan touches: whole TP groups go into each."""
        groups = self.pp * self.dp
        return -(-groups // max(1, self.question.domain // self.tp))

    def longest_context(self) -> int | float:
        """Tokens per sequence that still fit this layout (one more does not); 0 if none, inf if memory sets no limit.

        The cache grows with the context, so bisection is exact.
        """
        return _largest(lambda tokens: self._with(context=tokens))

    def most_sequences(self) -> int | float:
        """Sequences of this context that still fit this layout (one more does not); 0 if none, inf without a cache."""
        if self.per_gpu is None:
            return 0
        q = self.question
        weights = stage_weights(q.model, q.formats, self.split)
        caches = stage_caches(q.model, q.context, q.kv_dtype, self.split)
        rooms = [q.limit - q.overhead(self.split) - held for held in weights]
        if min(rooms) < 0:
            return 0
        each = [room // cache for room, cache in zip(rooms, caches, strict=True) if cache]
        return self.dp * min(each) if each else math.inf

    def pool(self, **settings: Any) -> Pool:
        """The paged pool that an engine builds on each GPU of this plan: `kvlib.engine.pool`, which rounds to blocks.

        It reserves tokens in flight for layers with a window, and pads recurrent states, so it can hold fewer requests
        than the plan counts bytes for. A ValueError if the layout is impossible or leaves no room.
        """
        if self.per_gpu is None:
            raise ValueError(f"plan must be one that an engine can start; {self.why}")
        room = self.per_gpu.free + self.per_gpu.kv_cache
        q = self.question
        shape = {"kv_dtype": q.kv_dtype, "tp": self.tp, "pp": self.pp, "dcp": self.dcp}
        return pool(q.model, q.context, available_bytes=room, **{**shape, **settings})

    def _with(self, **changes: Any) -> bool:
        """Whether this layout fits another context or number of sequences."""
        return self.per_gpu is not None and replace(self.question, **changes).per_gpu(self.split).free >= 0

    def __repr__(self) -> str:
        verdict = "fits" if self.fits else "too full" if self.per_gpu else "impossible"
        return f"{self.gpus} x {self.question.gpu_name} as {self.split} {verdict}: {self.why}"

    def _repr_html_(self) -> str:
        rows = self.per_gpu.parts if self.per_gpu else ()
        body = "".join(f"<tr><td>{name}</td><td style='text-align:right'>{size(part)}</td></tr>" for name, part in rows)
        return f"<table><caption>{html.escape(repr(self))}</caption>{body}</table>"


def judge(question: Question, split: Split) -> Plan:
    """The plan of one layout: refused, too full, or fitting, with the reason."""
    refused = refusal(question.model, split, question.domain)
    if refused:
        return Plan(question, split, None, refused)
    held = question.per_gpu(split)
    return Plan(question, split, held, _reason(question, split, held))


def _reason(question: Question, split: Split, held: PerGPU) -> str:
    """Why it fits, or the first thing that does not: overheads, then weights, then the cache."""
    where = f" (stage {held.stage + 1} of {split.pp})" if split.pp > 1 else ""
    room, crossing = held.limit, ""
    link = question.link
    if link is not None and link.domain is not None and split.tp > link.domain:
        crossing = f"; TP {split.tp} is wider than the {link.kind} domain of {link.domain}, so it is slow"
    needs = (
        ("activation and runtime need", held.activation + held.runtime),
        ("weights need", held.weights),
        ("the KV cache needs", held.kv_cache),
    )
    for name, need in needs:
        if need > room:
            gap = f"{size(need - room)} short"
            return f"on the fullest GPU{where} {name} {size(need)} and {size(room)} are left: {gap}"
        room -= need
    return f"the fullest GPU{where} uses {size(held.used)} of {size(held.limit)}: {size(held.free)} free{crossing}"


def _largest(fits: Callable[[int], bool]) -> int | float:
    """The largest whole number that fits, by doubling and bisection; 0 if 1 does not fit, inf beyond 2**60."""
    high = 1
    while fits(high):
        high *= 2
        if high > 2**60:
            return math.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
