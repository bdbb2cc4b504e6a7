"""Who comes when, and for how much: arrivals, prompt lengths and answer lengths of the requests of a simulation.

Everything random is drawn from a numpy Generator that the caller passes in: the same seed gives the same requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvlib.units import whole

_SKEW = 1_000  # largest ratio of mean to median


class Lengths(Protocol):
    """A distribution of lengths in tokens."""

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """`size` whole numbers of tokens, 1 or more."""


@dataclass(frozen=True)
class LogNormal:
    """Lengths with this `mean` and `median` in tokens, skewed to the right as those of real requests are.

    What falls outside 1 ... `most` is drawn again, which pulls the mean down if `most` is near.
    """

    mean: float
    median: float
    most: int = 1_000_000

    def __post_init__(self) -> None:
        whole("most", self.most, 1)
        if not 1 <= self.median <= min(self.mean, self.most):
            raise ValueError(
                f"median must be at least 1 token, at most the mean ({self.mean!r}) and most ({self.most:,}): "
                f"a log-normal is skewed to the right; got {self.median!r}"
            )
        if not self.mean <= _SKEW * self.median:
            raise ValueError(f"mean must be at most {_SKEW:,} times the median ({self.median!r}); got {self.mean!r}")

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """`size` lengths: mean = median x exp(sigma^2 / 2)."""
        sigma = math.sqrt(2 * math.log(self.mean / self.median))
        lengths = np.zeros(size)
        outside = np.arange(size)
        while outside.size:  # at least a tenth of each turn falls inside, as the median does
            lengths[outside] = np.rint(rng.lognormal(math.log(self.median), sigma, outside.size))
            outside = np.flatnonzero((lengths < 1) | (lengths > self.most))
        return lengths.astype(np.int64)


@dataclass(frozen=True)
class Geometric:
    """Lengths of 1, 2, ... tokens with this `mean`: each token is the last with the same chance.

    The discrete brother of the exponential distribution, which the formulas of M/M/c assume.
    """

    mean: float

    def __post_init__(self) -> None:
        if not 1 <= self.mean < math.inf:
            raise ValueError(f"mean must be a finite number of tokens, 1 or more; got {self.mean!r}")

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """`size` lengths."""
        return rng.geometric(1 / self.mean, size).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Demand:
    """Requests in order of arrival: seconds of arrival, tokens of the prompt, tokens of the answer (all arrays).

    Raises:
        ValueError: if there is no request, the arrays differ in length, arrivals run backwards or are not finite and 0
            or more, or a length is not a whole number of 1 or more.
    """

    arrivals: Any
    prompts: Any
    outputs: Any

    def __post_init__(self) -> None:
        arrivals = np.asarray(self.arrivals, dtype=float)
        if arrivals.ndim != 1 or not arrivals.size:
            raise ValueError(f"arrivals must be one row of at least one time in seconds; got shape {arrivals.shape}")
        if not (np.isfinite(arrivals).all() and arrivals[0] >= 0 and (np.diff(arrivals) >= 0).all()):
            raise ValueError("arrivals must be finite seconds, 0 or more, in order; sort them and leave out the rest")
        object.__setattr__(self, "arrivals", arrivals)
        for name in ("prompts", "outputs"):
            given = np.asarray(getattr(self, name))
            if given.shape != arrivals.shape:
                raise ValueError(
                    f"{name} must have one length for each of {arrivals.size:,} arrivals; got {given.shape}"
                )
            if given.dtype.kind not in "iu" or given.min() < 1:
                worst = given.min() if given.dtype.kind in "iuf" else given.dtype
                raise ValueError(
                    f"{name} must be whole numbers of tokens, 1 or more; got {given.dtype} down to {worst}"
                )
            object.__setattr__(self, name, given.astype(np.int64))

    def __len__(self) -> int:
        return int(self.arrivals.size)

    @property
    def rate(self) -> float:
        """Requests per second between the first and the last arrival (infinite if they all come at once)."""
        span = float(self.arrivals[-1] - self.arrivals[0])
        return (len(self) - 1) / span if span else math.inf

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and answer together."""
        return int((self.prompts + self.outputs).max())

    def __repr__(self) -> str:
        means = f"{self.prompts.mean():,.0f} tokens in, {self.outputs.mean():,.0f} out on average"
        return f"{len(self):,} requests, {self.rate:,.3g} per second, {means}"


def poisson_demand(
    rate: float,
    requests: int,
    prompt: int | Sequence[int] | Lengths,
    output: int | Sequence[int] | Lengths,
    rng: np.random.Generator,
) -> Demand:
    """Requests that come independently of each other: a Poisson process of `rate` requests per second.

    Many users together are one Poisson process whose rate is the sum of theirs, so `rate` may be of one or of all.

    Args:
        rate: requests per second, above 0.
        requests: how many.
        prompt: tokens of every prompt, of each one, or a distribution (`LogNormal`, `Geometric`).
        output: tokens of the answers, in the same way.
        rng: a numpy Generator, such as `np.random.default_rng(1)`.

    Raises:
        ValueError: if the rate is not above 0 and finite, or a length is out of range.
    """
    if not (isinstance(rate, Real) and 0 < rate < math.inf):
        raise ValueError(f"rate must be requests per second, above 0 and finite; got {rate!r}")
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy Generator, such as np.random.default_rng(1); got {rng!r:.80}")
    count = whole("requests", requests, 1)
    gaps = rng.exponential(1 / rate, count)
    return Demand(np.cumsum(gaps), _lengths("prompt", prompt, rng, count), _lengths("output", output, rng, count))


def _lengths(name: str, given: Any, rng: np.random.Generator, count: int) -> Any:
    if hasattr(given, "draw"):
        return given.draw(rng, count)
    if np.ndim(given):
        return given
    return np.full(count, whole(name, given, 1))
