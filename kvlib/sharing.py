"""The article's car sharing, simulated: many users, a few replicas of a model, one queue. How long do they wait?

A discrete-event simulation with simpy. Requests arrive, go to the least busy replica, or wait in one queue for all if
that one has no room; each replica batches continuously under its memory limit (`kvlib.batching`), at the speed of
`kvlib.speed`. What comes out is a simulation, never a measurement: it is as good as that speed, and it knows no
network, no tokeniser and no failures. Where theory has an answer (`kvlib.queueing`) it agrees with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

import numpy as np
import simpy

from kvlib.batching import Batch, Epoch, Sequence
from kvlib.demand import Demand
from kvlib.outcome import Sharing
from kvlib.progress import progress_bar
from kvlib.replica import Replica
from kvlib.units import whole

__all__ = ["Sharing", "share"]


def share(demand: Demand, replica: Replica, replicas: int = 1, *, progress: bool | None = None) -> Sharing:
    """Simulate `replicas` replicas that serve a demand together, from the first arrival to the last token.

    Args:
        demand: the requests, `poisson_demand(...)` or a recorded trace as a `Demand`.
        replica: one of the replicas, `replica(...)`.
        replicas: how many there are.
        progress: whether to show a progress bar on what takes over 2 s; None: on a terminal only.

    Returns:
        A Sharing. The same demand gives the same result, to the last bit. Overload ends, too: `stable` is False then.

    Raises:
        ValueError: if replicas is not a whole number above 0, or a request is too long for a replica.
    """
    count = whole("replicas", replicas, 1)
    _check_lengths(demand, replica)
    pool = _Pool(demand, replica, count)
    with progress_bar("request", len(demand), progress) as move:
        while pool.unfinished:
            before = pool.unfinished
            pool.run(requests=max(1, len(demand) // 100))
            move(before - pool.unfinished)
    return pool.report()


def _check_lengths(demand: Demand, replica: Replica) -> None:
    """Refuse what no replica could ever serve: it would wait for ever."""
    totals = demand.prompts + demand.outputs
    worst = int(totals.argmax())
    asked = f"request {worst} has {demand.prompts[worst]:,} + {demand.outputs[worst]:,} = {totals[worst]:,}"
    if totals[worst] > replica.longest:
        raise ValueError(f"prompts and outputs must be at most longest = {replica.longest:,} tokens; {asked}")
    if replica.bytes_of(int(totals[worst]) - 1) > replica.room:
        fits = np.searchsorted(replica.held, replica.room, side="right") - 1
        held = f"{fits * replica.block_tokens:,} tokens"
        raise ValueError(f"prompts and outputs must fit into the cache memory of a replica, {held}; {asked}")


class _Pool:
    """The state of a simulation: one clock, one queue, a worker for each replica."""

    def __init__(self, demand: Demand, replica: Replica, replicas: int) -> None:
        self.demand, self.replica = demand, replica
        self.environment = simpy.Environment(initial_time=float(demand.arrivals[0]))
        self.prompts, self.outputs = demand.prompts.tolist(), demand.outputs.tolist()
        self.started, self.first, self.finished = (np.full(len(demand), np.nan) for _ in range(3))
        self.queue: deque[int] = deque()
        self.unfinished = len(demand)
        self.inside = 0  # requests that have come and are not finished
        self.sequence_seconds, self._counted_until = 0.0, self.environment.now
        self.last_at_once = -1  # the last request that came and found no queue
        self.workers = [_Worker(self) for _ in range(replicas)]
        self.environment.process(self._arrivals())

    def run(self, requests: int) -> None:
        """Go on until so many more requests are finished, or all are."""
        self._pause_at = max(0, self.unfinished - requests)
        self._pause = self.environment.event()
        self.environment.run(self._pause)

    def _arrivals(self) -> Generator[simpy.Event, None, None]:
        for request, at in enumerate(self.demand.arrivals.tolist()):
            if at > self.environment.now:  # those that come at the same moment come together
                yield self.environment.timeout(at - self.environment.now)
            self._count(1)
            least = min(self.workers, key=lambda worker: worker.batch.load)
            if not self.queue and least.accepts(request):
                self.last_at_once = request
                least.take(request)
                least.look_up()
            else:
                self.queue.append(request)

    def sequence(self, request: int) -> Sequence:
        """A request as a new sequence of a batch."""
        return Sequence(request, self.prompts[request], self.outputs[request] - 1)

    def finish(self, requests: list[int]) -> None:
        """Note that these requests are finished now."""
        now = self.environment.now
        for request in requests:
            self.finished[request] = now
            self._count(-1)
            self.unfinished -= 1
        if self.unfinished <= self._pause_at and not self._pause.triggered:
            self._pause.succeed()

    def _count(self, change: int) -> None:
        now = self.environment.now
        self.sequence_seconds += self.inside * (now - self._counted_until)
        self.inside, self._counted_until = self.inside + change, now

    def report(self) -> Sharing:
        """The totals, once everything is finished."""
        arrivals = self.demand.arrivals
        return Sharing(
            demand=self.demand,
            replica=self.replica,
            replicas=len(self.workers),
            started=self.started,
            first=self.first,
            finished=self.finished,
            seconds=float(self.finished.max() - arrivals[0]),
            busy_seconds=sum(worker.busy_seconds for worker in self.workers),
            sequence_seconds=self.sequence_seconds,
            byte_seconds=sum(worker.byte_seconds for worker in self.workers),
            preemptions=sum(worker.batch.preemptions for worker in self.workers),
            stable=self.last_at_once >= len(arrivals) // 2,
        )


class _Worker:
    """One replica at work, as a simpy process."""

    def __init__(self, pool: _Pool) -> None:
        self.pool, self.environment = pool, pool.environment
        self.batch = Batch(pool.replica)
        self.busy_seconds, self.byte_seconds = 0.0, 0.0
        self._asleep: simpy.Event | None = None
        self._stretch: tuple[float, Epoch] | None = None  # since when which steps go on that may be cut short
        self._in_step = False
        self._process = self.environment.process(self._work())

    def accepts(self, request: int) -> bool:
        """Whether a request that comes now is admitted at the end of the present step."""
        if self.batch.evicted or not self.batch.hungry:
            return False
        ahead = int(self._in_step)
        if self._stretch:
            since, epoch = self._stretch
            ahead = epoch.begun(self.environment.now - since)
        return self.batch.can_admit(self.pool.prompts[request], ahead)

    def take(self, request: int) -> None:
        """Let a request in."""
        self.batch.admit(self.pool.sequence(request))

    def look_up(self) -> None:
        """Somebody was let in: wake up, or stop at the end of the present step."""
        if self._asleep is not None:
            self._asleep.succeed()
            self._asleep = None
        elif self._stretch:
            self._process.interrupt()

    def _work(self) -> Generator[simpy.Event, None, None]:
        queue, batch = self.pool.queue, self.batch
        while True:
            batch.readmit()
            while queue and not batch.evicted and batch.hungry and batch.can_admit(self.pool.prompts[queue[0]]):
                self.take(queue.popleft())
            batch.make_room()
            if not (batch.running or batch.reading):
                self._asleep = self.environment.event()
                yield self._asleep
                continue
            began, held, epoch = self.environment.now, batch.held(0), batch.next_steps()
            for request in batch.beginning:
                if np.isnan(self.pool.started[request]):
                    self.pool.started[request] = began
            steps = yield from self._pass(epoch)
            self._settle(epoch.seconds(steps), steps, held)

    def _pass(self, epoch: Epoch) -> Generator[simpy.Event, None, int]:
        """Let the time of these steps pass; if somebody is let in meanwhile, only that of the steps that have begun."""
        began = self.environment.now
        self._in_step = True
        try:
            if epoch.steps == 1:
                yield self.environment.timeout(epoch.first)
                return 1
            self._stretch = began, epoch
            try:
                yield self.environment.timeout(epoch.seconds(epoch.steps))
                return epoch.steps
            except simpy.Interrupt:
                self._stretch = None
                steps = epoch.begun(self.environment.now - began)
                yield self.environment.timeout(max(0.0, began + epoch.seconds(steps) - self.environment.now))
                return steps
        finally:
            self._stretch, self._in_step = None, False

    def _settle(self, seconds: float, steps: int, held: int) -> None:
        """Steps have passed: count them, note first and last tokens."""
        self.busy_seconds += seconds
        self.byte_seconds += seconds * (held + self.batch.held(steps - 1)) / 2
        told, finished = self.batch.advance(steps)
        for request in told:
            if np.isnan(self.pool.first[request]):
                self.pool.first[request] = self.environment.now
        self.pool.finish(finished)
