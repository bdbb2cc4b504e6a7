"""Hit rates of an LRU cache for every capacity at once: one pass over the references, no simulation per capacity.

An LRU cache of C blocks holds the C blocks that were used last. So a block is found exactly if fewer than C others were
used since its last use: its stack distance (Mattson et al. 1970, IBM Systems Journal 9(2)). One number per reference
answers for all C.

A request looks all its blocks up before it changes anything, can use only an unbroken prefix of them, and leaves them
behind with its first block as the most recent: so a cache never loses the beginning of a prefix before its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import index
from typing import Any

import numpy as np

from kvlib.units import whole


@dataclass(frozen=True)
class HitCurve:
    """Hits of an LRU cache as a function of its capacity in blocks.

    `needed` holds for each reference the least capacity that makes it a hit, 0 where none does (a first use). If each
    reference has a `weight` (its tokens), `hits` and `total` count these instead of references.
    """

    needed: Any = field(repr=False)
    distinct: int
    weight: Any = field(default=None, repr=False)

    @property
    def references(self) -> int:
        """Block references of the trace."""
        return int(self.needed.size)

    @cached_property
    def total(self) -> int:
        """What all references weigh: what a cache would have to find for a hit rate of 1."""
        return self.references if self.weight is None else int(self.weight.sum())

    def hits(self, capacity: Any) -> Any:
        """References (or their weight) found by `capacity` blocks: an int, or an array of the shape of `capacity`."""
        counts = np.asarray(self._cumulative[np.minimum(whole("capacity", capacity), self.distinct).astype(np.int64)])
        return counts if counts.ndim else int(counts)

    def rate(self, capacity: Any) -> Any:
        """The share of references (or of their weight) found, 0 to 1; 0 if there are none."""
        return self.hits(capacity) / max(1, self.total)

    def capacity_for(self, rate: float) -> int | None:
        """The least capacity with at least this hit rate; None if even an unlimited cache stays below."""
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be between 0 and 1; got {rate!r}")
        enough = np.flatnonzero(self._cumulative >= rate * self.total)
        return int(enough[0]) if enough.size else None

    @cached_property
    def _cumulative(self) -> Any:
        """Hits of the capacities 0, 1, ..., distinct."""
        counts = np.bincount(self.needed, self.weight, minlength=self.distinct + 1).astype(np.int64)
        counts[0] = 0
        return np.cumsum(counts)


def hit_curve(requests: Iterable[Sequence[int]] | Any, tokens: Iterable[Sequence[int]] | Any = None) -> HitCurve:
    """The hit curve of a trace.

    Args:
        requests: the block numbers of each request, first block first (`block_references`, `Trace.blocks`). A plain
            one-dimensional array stands for requests of one block each: the textbook case.
        tokens: the same shape: what each block weighs (`Trace.block_tokens`). None: every block counts as 1.

    Raises:
        ValueError: if a block occurs twice within a request, the numbers are not whole, or the shapes differ.
    """
    ids, lengths = _flat(requests)
    weight, weighed = (None, lengths) if tokens is None else _flat(tokens)
    if not np.array_equal(weighed, lengths) or (weight is not None and (weight < 0).any()):
        raise ValueError("tokens must have one number, 0 or more, for each block of requests")
    if not ids.size:
        return HitCurve(np.zeros(0, np.int64), 0, weight)
    firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)  # of each reference: where its request begins
    places = 2 * firsts + np.repeat(lengths, lengths) - 1 - np.arange(ids.size)  # backwards within the request
    stream = np.empty_like(ids)
    stream[places] = ids
    before = _previous(stream)[places]
    if (before >= firsts).any():
        request = int(np.flatnonzero(lengths.cumsum() > np.argmax(before >= firsts))[0])
        raise ValueError(f"requests must not use a block twice; request {request} does")
    seen = before >= 0
    inner = np.empty_like(places)
    inner[places] = before + 1
    # Blocks used in (before, first): those whose own previous use is not after `before`.
    recent = count_below(inner, firsts[seen], before[seen] + 1) - (before[seen] + 1)
    far = ids.size + 1
    needed = np.full(ids.size, far, np.int64)
    needed[seen] = recent + 1
    step = np.repeat(np.arange(lengths.size), lengths) * (far + 1)
    needed = np.maximum.accumulate(needed + step) - step  # a block is of use only if all before it are there
    needed[needed >= far] = 0
    return HitCurve(needed, int((~seen).sum()), weight)


def count_below(values: Any, ends: Any, limits: Any) -> Any:
    """For each query, how many of `values[:end]` are below `limit`: non-negative ints, one bit of all at a time.

    Source: the wavelet matrix, Claude and Navarro 2012 (doi 10.1007/978-3-642-34109-0_18).
    """
    begin, end = np.zeros_like(ends), ends.copy()
    counts = np.zeros_like(ends)
    top = int(max(values.max(initial=0), limits.max(initial=0)))
    for bit in reversed(range(top.bit_length())):
        low = (values >> bit & 1) == 0
        ranks = np.concatenate(([0], np.cumsum(low)))
        begin_low, end_low = ranks[begin], ranks[end]
        high = (limits >> bit & 1) == 1
        counts += np.where(high, end_low - begin_low, 0)
        begin = np.where(high, ranks[-1] + begin - begin_low, begin_low)
        end = np.where(high, ranks[-1] + end - end_low, end_low)
        values = np.concatenate((values[low], values[~low]))
    return counts


def _previous(stream: Any) -> Any:
    """Position of the previous use of the same block, -1 for a first use."""
    order = np.argsort(stream, kind="stable")
    before = np.full(stream.size, -1, np.int64)
    same = stream[order[1:]] == stream[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before


def _flat(requests: Any) -> tuple[Any, Any]:
    """All block numbers in a row, and how many belong to each request."""
    if isinstance(requests, np.ndarray) and requests.ndim == 1 and requests.dtype.kind in "iu":
        return requests.astype(np.int64), np.ones(requests.size, np.int64)
    rows = list(requests)
    try:
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(map(index, chain.from_iterable(rows)), np.int64, int(lengths.sum()))
    except (TypeError, OverflowError) as wrong:
        raise ValueError(f"requests must be sequences of whole block numbers below 2**63: {wrong}") from None
    return ids, lengths
