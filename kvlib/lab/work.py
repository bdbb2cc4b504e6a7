"""What does one more token cost? Counted in multiply-adds, which repeat exactly, and timed in seconds, which do not."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kvlib.units import whole

if TYPE_CHECKING:
    import numpy as np

    from kvlib.lab.attention import Array, AttentionLayer


class Work:
    """Multiplies matrices and counts the multiply-adds, by what they were for (`by_part`) and in all (`total`)."""

    def __init__(self) -> None:
        self.by_part: Counter[str] = Counter()

    def matmul(self, part: str, a: Array, b: Array) -> Array:
        """`a @ b`. Each number of the result is a sum of as many products as `a` has columns: these are counted."""
        product: Array = a @ b
        self.by_part[part] += product.size * a.shape[-1]
        return product

    @property
    def total(self) -> int:
        """Multiply-adds so far, two floating-point operations each; exponentials and divisions are not counted."""
        return self.by_part.total()

    def __repr__(self) -> str:
        parts = " + ".join(f"{part} {count:,}" for part, count in self.by_part.items())
        return f"{self.total:,} multiply-adds" + (f" = {parts}" if parts else "")


class TokenCost(NamedTuple):
    """What one further token costs after `context` tokens."""

    context: int
    multiply_adds: int
    seconds: float


def next_token(
    layer: AttentionLayer, context: int, *, cached: bool, rng: np.random.Generator, repeats: int = 3
) -> TokenCost:
    """Cost of one token after `context` random ones: from a filled cache, or by doing the whole sequence again.

    Multiply-adds are counted and repeat exactly; seconds are this machine's, the best of `repeats`. Neither includes
    filling the cache: each of those tokens was new once, and paid for then.
    """
    x = rng.standard_normal((whole("context", context, 1) + 1, layer.width))
    cache = layer.new_cache()
    if cached:
        layer.attend(x[:-1], cache)
    spare = [copy.deepcopy(cache) for _ in range(whole("repeats", repeats, 1) + 1)]

    def one_more(work: Work | None = None) -> object:
        return layer.step(x[-1], spare.pop(), work) if cached else layer.attend(x, work=work)

    one_more(work := Work())
    return TokenCost(context, work.total, timed(one_more, repeats))


def timed(run: Callable[[], object], repeats: int = 3) -> float:
    """Seconds that `run()` takes on this machine: the best of `repeats`, because other programs only ever add."""
    seconds = []
    for _ in range(whole("repeats", repeats, 1)):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
