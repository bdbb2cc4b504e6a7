"""One copy of a model on its GPUs, as a simulation sees it: how long a step takes, and what a sequence occupies.

Times are those of `kvlib.speed`: max(reading, computing) + overheads, with the fitted efficiencies. What depends on the
length of a sequence (reading its cache, attending to it) is kept as straight lines over the length, so that the time of
many steps in a row is a sum in closed form.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kvlib.dtypes import DType
from kvlib.efficiency import Efficiency, calibration
from kvlib.hardware import Accelerator
from kvlib.model import Model
from kvlib.placement import CHUNK, Placement, place
from kvlib.traffic import cache_read
from kvlib.units import size, whole

TOLERANCE = 1e-4  # of the largest value: how far a straight line may be from a cost that grows in small stairs
_SHORT = 32_768  # tokens of a prompt up to which its attention is kept in a table
_MOST_TOKENS = 10_000_000
_FINE, _COARSE = 8_192, 64  # lengths up to which every token is looked at, and the stride beyond


@dataclass(frozen=True)
class Line:
    """Seconds of one sequence in a decode step, up to a length of `until`: value + slope x (length - start)."""

    start: int
    until: int
    read: float
    read_slope: float
    attend: float
    attend_slope: float


@dataclass(frozen=True, eq=False)
class Replica:
    """A model placed on `gpus` GPUs, with the rules of its engine.

    Attributes:
        placed: the model on its GPUs.
        efficiency: what the engine gets of the datasheet.
        max_batch: sequences that it works on at the same time (vLLM: max_num_seqs).
        chunk_tokens: tokens of one step (vLLM: max_num_batched_tokens), prompts and answers together.
        block_tokens: tokens of a block of cache; a sequence holds whole blocks.
        longest: tokens of the longest request that it accepts (vLLM: max_model_len).
    """

    placed: Placement
    efficiency: Efficiency
    max_batch: int
    chunk_tokens: int
    block_tokens: int
    longest: int
    _fixed: dict[int, tuple[float, float, float]] = field(default_factory=dict, repr=False)

    @property
    def gpus(self) -> int:
        """GPUs of this copy."""
        return self.placed.gpus

    @cached_property
    def room(self) -> float:
        """Bytes for caches on each GPU."""
        return self.placed.room()

    @cached_property
    def held(self) -> NDArray[np.int64]:
        """Bytes that 0, 1, 2, ... blocks of one sequence occupy on each GPU."""
        blocks = np.arange(-(-self.longest // self.block_tokens) + 1)
        model, kv, tp = self.placed.model, self.placed.kv, self.placed.tp
        table: NDArray[np.int64] = np.asarray(model.cache_bytes(blocks * self.block_tokens, kv, tp)).astype(np.int64)
        table[0] = 0
        return table

    def bytes_of(self, tokens: int) -> int:
        """Bytes that a sequence of `tokens` tokens occupies on each GPU."""
        return int(self.held[-(-tokens // self.block_tokens)])

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The seconds that a sequence adds to a decode step, as straight lines over its length (new token included)."""
        stride = 1 if self.longest <= _FINE else _COARSE
        lengths = np.unique(np.r_[1, np.arange(stride, self.longest + 1, stride), self.longest]).astype(np.int64)
        placed = self.placed
        read = np.asarray(cache_read(placed.model, lengths, placed.kv, placed.tp), float) / placed.gpu.bandwidth
        attend = np.asarray(placed.decode(1, lengths.astype(object)).attention, float)
        read, attend = read / self._memory, attend / self.efficiency.compute
        knots = sorted(_knots(lengths, read) | _knots(lengths, attend))
        if len(knots) == 1:
            return (Line(1, self.longest, float(read[0]), 0.0, float(attend[0]), 0.0),)
        return tuple(
            Line(
                start=int(lengths[a]),
                until=int(lengths[b]),
                read=float(read[a]),
                read_slope=float((read[b] - read[a]) / (lengths[b] - lengths[a])),
                attend=float(attend[a]),
                attend_slope=float((attend[b] - attend[a]) / (lengths[b] - lengths[a])),
            )
            for a, b in pairwise(knots)
        )

    def line(self, length: int) -> Line:
        """The line on which a sequence of this length lies; at a knot, the one that goes on."""
        place = bisect_left(self._ends, length + 1)
        return self.lines[min(place, len(self.lines) - 1)]

    @cached_property
    def _ends(self) -> list[int]:
        return [line.until for line in self.lines]

    def decoding(self, batch: int) -> tuple[float, float, float]:
        """(reading weights, computing with weights, overheads), in seconds, of a decode step of `batch` sequences."""
        if batch not in self._fixed:
            step, shares = self.placed.decode(batch, 1), self.efficiency
            caches = batch * float(cache_read(self.placed.model, 1, self.placed.kv, self.placed.tp))
            read = (step.read - caches / self.placed.gpu.bandwidth) / self._memory
            overhead = step.launches * shares.layer + step.sequences * shares.sequence
            overhead += step.moved / shares.link + step.waits
            self._fixed[batch] = float(read), float(step.linear / self._product), float(overhead)
        return self._fixed[batch]

    def mixed_seconds(self, batch: int, reading: float, attending: float, chunks: Iterable[tuple[int, int]]) -> float:
        """Seconds of a step in which `batch` sequences get a token and pieces of prompts are read beside them.

        Weights are read once for all of it, and everything is computed: max(weights + caches, all FLOPs) + overheads.

        Args:
            batch: sequences that get a token, 0 or more.
            reading: seconds of reading their caches.
            attending: seconds of attending to them.
            chunks: (tokens, tokens of the same prompt before them) of each piece.
        """
        pieces = list(chunks)
        tokens = batch + sum(new for new, _ in pieces)
        weights, overhead = (column[tokens] for column in self._chunk)
        work = attending + sum(self._prompt(new, before) for new, before in pieces)
        if batch:
            work += self.decoding(batch)[1]
        return max(weights + reading, work) + overhead + batch * self.efficiency.sequence

    @cached_property
    def _chunk(self) -> tuple[list[float], list[float]]:
        """(reading weights, overheads) in seconds of a step that reads prompts, by all of its tokens."""
        tokens = np.arange(1, self.chunk_tokens + 1)
        step, shares = self.placed.prefill(tokens), self.efficiency
        overhead = step.launches * shares.layer + step.moved / shares.link + step.waits + 0.0 * tokens
        read = step.read / self._memory + 0.0 * tokens
        return [0.0, *read.astype(float).tolist()], [0.0, *overhead.astype(float).tolist()]

    def _prompt(self, new: int, before: int) -> float:
        """Seconds of computing of a piece of a prompt."""
        return self._linear[0] + self._linear[1] * new + self._attention(before + new) - self._attention(before)

    @cached_property
    def _linear(self) -> tuple[float, float]:
        """(seconds of the logits, seconds of one more token) of computing with weights."""
        one, two = (float(self.placed.prefill(tokens).linear) / self._product for tokens in (1, 2))
        return 2 * one - two, two - one

    def _attention(self, tokens: int) -> float:
        """Seconds of all attention within a prompt of so many tokens."""
        if tokens < len(self._short):
            return self._short[tokens]
        return float(self.placed.prefill(tokens).attention / self.efficiency.compute)

    @cached_property
    def _short(self) -> list[float]:
        """`_attention` of prompts up to 32,768 tokens; longer ones are few."""
        tokens = np.arange(1, min(self.longest, _SHORT) + 1).astype(object)
        seconds = self.placed.prefill(tokens).attention / self.efficiency.compute
        return [0.0, *seconds.astype(float).tolist()]

    @cached_property
    def _memory(self) -> float:
        group = self.placed.tp > 1
        return self.efficiency.memory_group if group else self.efficiency.memory_alone

    @cached_property
    def _product(self) -> float:
        """Share of the peak that products with weights reach, as `kvlib.steps.Step.seconds` has it."""
        step, shares = self.placed.decode(1, 1), self.efficiency
        return shares.compute * (shares.fp4 if step.fp4 else 1) * (shares.experts if step.experts else 1)

    def __repr__(self) -> str:
        on = f"{self.gpus} x {self.placed.gpu.name}" if self.gpus > 1 else self.placed.gpu.name
        return f"{self.placed.model.name} on {on}: {size(self.room)} for caches, up to {self.max_batch:,} sequences"


def replica(
    model: Model | str,
    gpu: str | Accelerator,
    *,
    tp: int = 1,
    weight_dtype: str | DType | Mapping[str, str | DType] = "bf16",
    kv_dtype: str | DType | None = None,
    max_batch: int = 256,
    chunk_tokens: int = CHUNK,
    block_tokens: int = 16,
    longest: int = 32_768,
    efficiency: Efficiency | None = None,
) -> Replica:
    """One copy of a model on `tp` GPUs: one car of the car sharing.

    Args:
        model: a Model, or a name from `kv.models()`.
        gpu: an accelerator or its name.
        tp: tensor parallelism.
        weight_dtype: format of the weights, or formats by part with "other" for the rest.
        kv_dtype: format of the cache; None: as `kvlib.speed` chooses it.
        max_batch: sequences that are worked on at the same time.
        chunk_tokens: tokens of one step; must leave at least one beside a full batch, 8,192 at most.
        block_tokens: tokens of a block of cache.
        longest: tokens of the longest request, prompt and answer together.
        efficiency: what the engine gets of the datasheet; None: the calibration of `kvlib.efficiency`.

    Raises:
        ValueError: if an argument is out of range, the layout cannot start, or no request of one token fits.
    """
    placed = place(model, gpu, tp=tp, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    most, chunk = whole("max_batch", max_batch, 1), whole("chunk_tokens", chunk_tokens, 2)
    if not most < chunk <= CHUNK:
        raise ValueError(f"chunk_tokens must be above max_batch ({most:,}) and at most {CHUNK:,}; got {chunk:,}")
    if whole("longest", longest, 2) > _MOST_TOKENS:
        raise ValueError(f"longest must be at most {_MOST_TOKENS:,} tokens; got {longest:,}")
    made = Replica(
        placed=placed,
        efficiency=calibration().efficiency if efficiency is None else efficiency,
        max_batch=most,
        chunk_tokens=chunk,
        block_tokens=whole("block_tokens", block_tokens, 1),
        longest=whole("longest", longest, 2),
    )
    if made.room < made.bytes_of(2):
        raise ValueError(
            f"gpu must hold the weights of {placed.model.name} and some cache: {placed.gpus} x {placed.gpu.name} "
            f"leaves {made.room / 1e9:,.1f} GB; use more tp, a smaller weight_dtype or a larger GPU"
        )
    return made


def _knots(x: NDArray[np.int64], y: NDArray[np.float64]) -> set[int]:
    """Indexes between which straight lines stay within TOLERANCE of `y`: cut where the line is farthest off, again."""
    allowed = TOLERANCE * float(np.abs(y).max())
    knots, open_ends = {0, len(x) - 1}, [(0, len(x) - 1)]
    while open_ends:
        a, b = open_ends.pop()
        if b - a < 2:
            continue
        off = np.abs(y[a : b + 1] - np.interp(x[a : b + 1], [x[a], x[b]], [y[a], y[b]]))
        worst = int(off.argmax())
        if off[worst] > allowed:
            knots.add(a + worst)
            open_ends += [(a, a + worst), (a + worst, b)]
    return knots
