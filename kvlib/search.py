"""Every layout up to a number of GPUs, and the best of them: by a loop to check, and by arrays to be fast."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvlib.plans import Plan, judge
from kvlib.question import Question
from kvlib.shards import Part, Split, cache_of, cuts, ends, has_mixer, layer_parts, refusal

MISSES = 3  # near misses that a ranking lists
Found = tuple[int, int, list[Split], list[Split]]


@dataclass(frozen=True)
class Search:
    """The layouts to try: up to `max_gpus` GPUs, and the degrees that the caller fixed (None: all)."""

    question: Question
    max_gpus: int
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None
    dcp: int | None = 1

    def rings(self) -> list[tuple[int, int]]:
        """(tp, dcp) that the model allows."""
        q = self.question
        widths = range(1, min(q.domain, self.max_gpus) + 1) if self.tp is None else [self.tp]
        found = []
        for tp in widths:
            if tp <= self.max_gpus and not refusal(q.model, Split(tp), q.domain):
                stripes = range(1, tp + 1) if self.dcp is None else [self.dcp]
                found += [(tp, n) for n in stripes if not refusal(q.model, Split(tp, dcp=n), q.domain)]
        return found

    def depths(self, tp: int) -> list[int]:
        """Numbers of pipeline stages."""
        most = min(len(self.question.model.layers), self.max_gpus // tp)
        return [pp for pp in ([self.pp] if self.pp else range(1, most + 1)) if pp <= most]

    def sharing(self, tp: int, pp: int) -> list[tuple[int, range]]:
        """(ep, the dp that go with it): without EP any dp, else the experts stay once in every ep / tp copies."""
        most, experts = self.max_gpus // (tp * pp), self.question.model.experts
        if self.ep is not None:
            widths = [self.ep]
        else:
            widths = [1, *(tp * copies for copies in range(2, most + 1) if experts and experts % (tp * copies) == 0)]
        found = []
        for ep in widths:
            step = max(1, ep // tp)
            if ep > 1 and (ep % tp or not experts or experts % ep):
                continue
            if self.dp is None:
                found.append((ep, range(step, most + 1, step)))
            elif self.dp <= most and self.dp % step == 0:
                found.append((ep, range(self.dp, self.dp + 1)))
        return found

    def splits(self) -> Iterator[Split]:
        """Every layout to try, one by one."""
        for tp, dcp in self.rings():
            for pp in self.depths(tp):
                for ep, copies in self.sharing(tp, pp):
                    for dp in copies:
                        yield Split(tp, pp, dp, ep, dcp)

    def refused(self) -> list[Plan]:
        """A plan for each TP degree (or for what the caller fixed) that the model does not allow."""
        q, found = self.question, []
        for tp in range(1, min(q.domain, self.max_gpus) + 1) if self.tp is None else [self.tp]:
            copies = self.dp or (max(1, self.ep // tp) if self.ep else 1)
            plan = judge(q, Split(tp, self.pp or 1, copies, self.ep or 1, self.dcp or 1))
            if plan.per_gpu is None:
                found.append(plan)
            elif plan.gpus > self.max_gpus:
                why = f"{plan.split} needs {plan.gpus:,} GPUs, and max_gpus is {self.max_gpus:,}"
                found.append(Plan(q, plan.split, None, why))
        return found


def by_loop(search: Search, keep: int) -> Found:
    """(layouts tried, how many fit, the best `keep`, the nearest misses), by looking at each layout."""
    good: list[tuple[tuple[int, ...], Split]] = []
    bad: list[tuple[tuple[int, ...], Split]] = []
    for split in search.splits():
        free = search.question.per_gpu(split).free
        ties = (split.pp, split.dp, split.tp, split.ep, split.dcp)
        if free >= 0:
            good.append(((split.gpus, -free, *ties), split))
        else:
            bad.append(((-free, split.gpus, *ties), split))
    fewest = min((split.gpus for _, split in good), default=math.inf)
    bad_and_smaller = [item for item in bad if item[1].gpus < fewest]
    best = [split for _, split in heapq.nsmallest(keep, good)]
    near = [split for _, split in heapq.nsmallest(MISSES, bad_and_smaller)]
    return len(good) + len(bad), len(good), best, near


def by_arrays(search: Search, keep: int) -> Found:
    """The same as `by_loop`. Sizes are float64, exact up to 2**53 bytes, far above any GPU."""
    import numpy as np

    free, columns = _free_memory(search)
    if not free.size:
        return 0, 0, [], []
    tp, pp, dp, ep, dcp = columns
    gpus = tp * pp * dp
    fits = free >= 0

    def first(rows: Any, main: Any, second: Any, wanted: int) -> list[Split]:
        """The `wanted` first rows by (main, second, ties)."""
        if rows.size > wanted:  # sort only what can be among the first
            rows = rows[main[rows] <= np.partition(main[rows], wanted - 1)[wanted - 1]]
        keys = (dcp, ep, tp, dp, pp, second, main)
        order = rows[np.lexsort([key[rows] for key in keys])][:wanted]
        return [Split(*(int(column[row]) for column in columns)) for row in order]

    good = np.flatnonzero(fits)
    fewest = gpus[good].min() if good.size else math.inf
    bad = np.flatnonzero(~fits & (gpus < fewest))
    return int(free.size), int(good.size), first(good, gpus, -free, keep), first(bad, -free, gpus, MISSES)


def _free_memory(search: Search) -> tuple[Any, tuple[Any, ...]]:
    """(bytes free on the fullest GPU, (tp, pp, dp, ep, dcp)) as arrays with an entry for each layout.

    The stages of all pipeline depths lie end to end in one array per TP degree; a layout is then one row of a table
    sequences x cache + weights, and its fullest stage the largest entry.
    """
    import numpy as np

    q, model = search.question, search.question.model
    layers, mixers = len(model.layers), np.array(has_mixer(model))
    free, rows = [], []
    for tp, dcp in search.rings():
        depths = search.depths(tp)
        if not depths:
            continue
        bounds = [cuts(layers, pp) for pp in depths]
        start, stop = (np.array([b for bound in bounds for b in bound[cut]]) for cut in (slice(-1), slice(1, None)))
        held, mixing = stop - start, mixers[stop] - mixers[start]
        sizes = {layer: cache_of(layer, q.context, q.kv_dtype, tp, dcp) for layer in model.layer_counts}
        upto = [0, *itertools.accumulate(sizes[layer] for layer in model.layers)]
        cache = np.array([float(upto[b] - upto[a]) for a, b in zip(start, stop, strict=True)])

        parts, experts, stored = layer_parts(model, q.formats, tp)
        of = (layers, int(mixers[-1]))
        fixed = sum((_spread(part, mixing if part.per_mixer else held, of) for part in parts), 0.0 * cache)
        begins = np.cumsum([0, *depths])
        for at, pp in zip(begins, depths, strict=False):
            first, last = ends(model, q.formats, tp, pp)
            fixed[at] += first
            fixed[at + pp - 1] += last

        routed: dict[int, Any] = {}
        for at, pp in zip(begins, depths, strict=False):
            stages = slice(at, at + pp)
            for ep, copies in search.sharing(tp, pp):
                if ep not in routed:
                    routed[ep] = _spread(Part(experts, ep if ep > 1 else tp, False, stored), held, of)
                dp = np.arange(copies.start, copies.stop, copies.step)
                each = -(-q.sequences // dp.astype(float))
                used = each[:, None] * cache[stages] + (fixed[stages] + routed[ep][stages])
                free.append(q.limit - q.overhead(Split(tp, pp, 1, ep, dcp)) - used.max(axis=1))
                rows.append((tp, pp, dp, ep, dcp))
    counts = [len(row[2]) for row in rows]
    repeated = [np.repeat([row[i] for row in rows], counts) for i in (0, 1, 3, 4)]
    dps = np.concatenate([row[2] for row in rows]) if rows else np.empty(0, int)
    columns = (repeated[0], repeated[1], dps, repeated[2], repeated[3])
    return (np.concatenate(free) if free else np.empty(0)), columns


def _spread(part: Part, some: Any, of: tuple[int, int]) -> Any:
    """Bytes of `some` layers' share of a part, on one GPU: an array like `some`."""
    numbers = -(-part.numbers * some // ((of[1] if part.per_mixer else of[0]) * part.ways))
    return part.stored.nbytes(numbers).astype(float)
