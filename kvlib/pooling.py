"""Everyone owns a car, or all share a few: how many replicas N users need, alone and from one pool.

Three kinds of answer, never to be mixed up: theory (`kvlib.queueing`), our simulation (`pool_users`), and what others
measured in production (`pooling_results`). Sharing saves twice. Users rarely need their replica at the same moment, so
a pool needs little more than their mean load (statistical multiplexing); and those who do come at the same moment share
the reading of the weights (batching). A replica with `max_batch=1` shows the first alone.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from numbers import Real
from typing import Any

import numpy as np

from kvlib.demand import Demand, Lengths, LogNormal, poisson_demand
from kvlib.hardware import Source
from kvlib.outcome import Sharing
from kvlib.progress import progress_bar
from kvlib.replica import Replica
from kvlib.sharing import share
from kvlib.units import whole

TokenLengths = int | Sequence[int] | Lengths


@dataclass(frozen=True)
class Target:
    """What users accept: a `share` of the requests has its first token within `ttft` seconds.

    And the same share of the answers needs at most `tpot` seconds per token after that; None: the pace does not matter.
    """

    ttft: float = 2.0
    share: float = 0.95
    tpot: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must be inside (0, 1), such as 0.95; got {self.share!r}")
        for name in ("ttft", "tpot"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be seconds above 0; got {value!r}")

    def met_by(self, seen: Sharing) -> bool:
        """Whether a simulation met it, in a steady state."""
        quick = np.quantile(seen.ttft, self.share) <= self.ttft
        fluent = self.tpot is None or not seen.tpot.size or np.quantile(seen.tpot, self.share) <= self.tpot
        return bool(seen.stable and quick and fluent)


@dataclass(frozen=True, eq=False, repr=False)
class Pooling:
    """Simulated: `users` users with replicas of their own, and with one pool, both at the same target.

    `alone` is what one user sees with the fewest own replicas, `pooled` what all see with the fewest common ones.
    """

    users: int
    target: Target
    alone: Sharing
    pooled: Sharing

    @property
    def gpus_alone(self) -> int:
        """GPUs if each user has their own."""
        return self.users * self.alone.gpus

    @property
    def gpus_pooled(self) -> int:
        """GPUs of the pool."""
        return self.pooled.gpus

    @property
    def saved(self) -> float:
        """Share of the GPUs that the pool saves."""
        return 1 - self.gpus_pooled / self.gpus_alone

    def __repr__(self) -> str:
        within = f"{self.target.share:.0%} of first tokens within {self.target.ttft:g} s"
        return (
            f"simulated, {self.users:,} users, {within}: {self.gpus_alone:,} GPUs if everyone has their own (busy "
            f"{self.alone.utilisation:.2%}), {self.gpus_pooled:,} in one pool (busy {self.pooled.utilisation:.1%}): "
            f"{self.saved:.1%} fewer"
        )


def pool_users(
    users: int,
    requests_per_hour: float,
    replica: Replica,
    prompt: TokenLengths,
    output: TokenLengths,
    target: Target | None = None,
    *,
    requests: int = 5_000,
    seed: int = 1,
    progress: bool | None = None,
) -> Pooling:
    """How many replicas `users` users need alone and pooled, simulated, at the same target.

    Args:
        users: how many.
        requests_per_hour: of each user; they come independently of each other, as a Poisson process.
        replica: a replica, `replica(...)`.
        prompt: tokens of a prompt: one length for all, or a distribution.
        output: tokens of an answer, in the same way.
        target: what users accept; None: 95 % of first tokens within 2 s.
        requests: requests of each simulation; the rarer the late ones, the more it takes.
        seed: of the random numbers, the same for every simulation.
        progress: whether to show a progress bar on what takes over 2 s; None: on a terminal only.

    Raises:
        ValueError: if a value is out of range, or an empty replica misses the target already.
    """
    count, wanted = whole("users", users, 1), Target() if target is None else target
    if not (isinstance(requests_per_hour, Real) and 0 < requests_per_hour < math.inf):
        raise ValueError(f"requests_per_hour must be above 0 and finite; got {requests_per_hour!r}")
    one, all_of_them = (
        poisson_demand(requests_per_hour * n / 3_600, requests, prompt, output, np.random.default_rng(seed))
        for n in (1, count)
    )
    with progress_bar("simulation", progress=progress) as move:
        return Pooling(count, wanted, fewest(one, replica, wanted, move), fewest(all_of_them, replica, wanted, move))


def fewest(demand: Demand, replica: Replica, target: Target, tick: Callable[[int], object] | None = None) -> Sharing:
    """The simulation with the fewest replicas that meet the target: doubled until they do, then halved between.

    Raises:
        ValueError: if even an empty replica misses the target.
    """
    _check_reachable(demand, replica, target)

    def attempt(replicas: int) -> Sharing:
        seen = share(demand, replica, replicas, progress=False)
        if tick is not None:
            tick(1)
        return seen

    too_few, enough = 0, 1
    best = attempt(enough)
    while not target.met_by(best):
        if enough >= 2 * len(demand):  # every request has a replica of its own
            raise ValueError(f"target must be within reach of a replica that does one request at a time; got {target}")
        too_few, enough = enough, 2 * enough
        best = attempt(enough)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        seen = attempt(middle)
        if target.met_by(seen):
            enough, best = middle, seen
        else:
            too_few = middle
    return best


def _check_reachable(demand: Demand, replica: Replica, target: Target) -> None:
    """Refuse a target that fails on the time of reading a prompt alone: no number of replicas would help."""
    size = replica.chunk_tokens
    lengths, places = np.unique(demand.prompts, return_inverse=True)
    alone = [
        sum(replica.mixed_seconds(0, 0.0, 0.0, [(min(size, n - at), at)]) for at in range(0, n, size))
        for n in lengths.tolist()
    ]
    least = float(np.quantile(np.array(alone)[places], target.share))
    if least > target.ttft:
        raise ValueError(
            f"ttft must be at least the time to read a prompt on an empty replica, {least:.3g} s for "
            f"{target.share:.0%} of these; got {target.ttft!r}"
        )


@dataclass(frozen=True)
class PoolingResult:
    """A figure that others measured, with what was shared to get it."""

    id: str
    what: str
    value: float
    unit: str
    mechanism: str
    source: Source
    as_of: str


@cache
def pooling_results() -> tuple[PoolingResult, ...]:
    """What others measured about sharing, in the order of the data file."""
    return tuple(PoolingResult(**record) for record in _records("results"))


def pooling_result(id: str) -> PoolingResult:
    """The measured figure called `id`; a ValueError lists them."""
    known = {result.id: result for result in pooling_results()}
    if id not in known:
        raise ValueError(f"id must be one of {', '.join(known)}; got {id!r}")
    return known[id]


def published_lengths(id: str = "azure-2023-conversation", most: int = 16_000) -> tuple[LogNormal, LogNormal]:
    """(prompt, output) lengths with the mean and the median of a published trace, and at most `most` tokens each.

    The log-normal shape is our assumption: only its mean and median are the trace's.
    """
    known = {record["id"]: record for record in _records("lengths")}
    if id not in known:
        raise ValueError(f"id must be one of {', '.join(known)}; got {id!r}")
    row = known[id]
    prompt, output = (LogNormal(row[f"{kind}_mean"], row[f"{kind}_median"], most) for kind in ("prompt", "output"))
    return prompt, output


def _records(kind: str) -> list[dict[str, Any]]:
    text = (resources.files("kvlib") / "data" / "pooling.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    sources = {key: Source(**record) for key, record in data["sources"].items()}
    return [{**row, "source": sources[row["source"]], "as_of": str(row["as_of"])} for row in data[kind]]
