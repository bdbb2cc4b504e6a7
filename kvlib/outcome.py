"""What a simulated car sharing looked like: to its users (waits), to its owner (utilisation, cost)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kvlib.cost import cost_per_million
from kvlib.demand import Demand
from kvlib.owning import Ownership, Rent
from kvlib.ranges import Amount, Estimate
from kvlib.replica import Replica

_SHOWN = (0.5, 0.95, 0.99)


@dataclass(frozen=True, eq=False, repr=False)
class Sharing:
    """What a simulation saw: arrays of seconds with one entry for each request, and totals.

    Attributes:
        demand: the requests.
        replica: what each of the replicas is.
        replicas: how many.
        started: when a prompt began to be read.
        first: when the first token of an answer was written.
        finished: when the last one was.
        seconds: from the first arrival to the last token.
        busy_seconds: of all replicas together, time in which something was read or written.
        sequence_seconds: the number of requests in the system, integrated over time: waiting ones, too.
        byte_seconds: bytes held on one GPU of each replica, integrated over time (start and end of a stretch averaged).
        preemptions: how often a sequence had to leave and be read again.
        stable: False if nobody of the second half of the requests came to an empty queue. Then the waits say how long
            the run was, not how long one waits.
    """

    demand: Demand
    replica: Replica
    replicas: int
    started: Any
    first: Any
    finished: Any
    seconds: float
    busy_seconds: float
    sequence_seconds: float
    byte_seconds: float
    preemptions: int
    stable: bool

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replica.gpus * self.replicas

    @cached_property
    def wait(self) -> Any:
        """Seconds from arrival until the prompt began to be read."""
        return self.started - self.demand.arrivals

    @cached_property
    def ttft(self) -> Any:
        """Seconds from arrival to the first token."""
        return self.first - self.demand.arrivals

    @cached_property
    def tpot(self) -> Any:
        """Seconds from one token to the next, the mean over each answer; only of answers of two tokens or more."""
        several = self.demand.outputs > 1
        return (self.finished - self.first)[several] / (self.demand.outputs[several] - 1)

    @property
    def utilisation(self) -> float:
        """Share of the time in which a replica works. A batch of one counts like a full one: see `batch`."""
        return min(1.0, self.busy_seconds / (self.replicas * self.seconds))

    @property
    def memory(self) -> float:
        """Share of the room for caches that is held, on average."""
        return self.byte_seconds / (self.replicas * self.seconds * self.replica.room)

    @property
    def in_system(self) -> float:
        """Requests in the system on average, waiting or worked on: L in Little's law, L = rate x time in the system."""
        return self.sequence_seconds / self.seconds

    @property
    def output_per_second(self) -> float:
        """Output tokens/s of all replicas together, pauses included."""
        return float(self.demand.outputs.sum()) / self.seconds

    @property
    def requests_per_second(self) -> float:
        """Requests that were finished per second."""
        return len(self.demand) / self.seconds

    def usd_per_million(self, hour: Ownership | Rent | Amount) -> Estimate:
        """USD per million output tokens if they pay for all hours of all GPUs, those of prompts and pauses included.

        `hour` is an Ownership, a Rent, or USD per GPU-hour, as in `kvlib.cost.cost_per_million`.
        """
        while_busy = self.output_per_second / self.utilisation
        cost = cost_per_million(hour, utilisation=self.utilisation, output_per_second=while_busy, gpus=self.gpus)
        assert cost.output is not None
        return cost.output

    def __repr__(self) -> str:
        ttft, tpot = (_percentiles(times) for times in (self.ttft, self.tpot))
        lines = [
            f"simulated: {self.demand} on {self.replicas} x {self.replica.placed.model.name} ({self.gpus} GPUs)",
            f"TTFT {ttft}; TPOT {tpot}",
            f"busy {self.utilisation:.1%} of the time, {self.memory:.1%} of the cache memory held, "
            f"{self.output_per_second:,.0f} output tokens/s, {self.preemptions:,} preemptions",
        ]
        if not self.stable:
            lines.insert(0, f"NO STEADY STATE: more requests come than the {self.requests_per_second:,.3g} per second")
            lines.insert(1, "  that are served; the queue grows as long as they come, and so do the waits below")
        return "\n  ".join(lines)


def _percentiles(times: Any) -> str:
    """The median and two high percentiles, in words."""
    if not times.size:
        return "not defined (one token each)"
    values = np.quantile(times, _SHOWN)
    return ", ".join(f"p{share * 100:.0f} {_seconds(value)}" for share, value in zip(_SHOWN, values, strict=True))


def _seconds(value: float) -> str:
    return f"{value * 1e3:,.3g} ms" if value < 1 else f"{value:,.4g} s"
