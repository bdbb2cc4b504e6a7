"""Continuous batching of one replica, step by step: who is in the batch, what a step takes, who must leave it.

The rules are those of vLLM's scheduler (vllm/v1/core/sched/scheduler.py), reduced to what decides about waiting:

- Every step gives each running sequence one token. What is left of `chunk_tokens` reads prompts, in order of arrival,
  the last one in part if it is too long (chunked prefill). The step that ends a prompt gives the first token.
- A request is admitted if a step has tokens left for its prompt, and a place in the batch and blocks for the whole
  prompt are free.
- A sequence holds whole blocks and takes one more when it grows into it. If none is free, the sequence that was
  admitted last leaves, loses its cache, and is read again from the beginning later, answer so far included
  (preemption by recomputation).

Steps without prompts are not gone through one by one: while nobody joins, leaves, or changes its Line, the time of a
step grows by the same amount from step to step, so the time of many is a sum in closed form. Nothing is approximated.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from kvlib.replica import Replica


@dataclass(slots=True, eq=False)
class Sequence:
    """A request inside a replica: tokens to read, of them read already, tokens still to write."""

    request: int
    prompt: int
    left: int
    read: int = 0
    slot: int = -1
    start: int = 0  # length in step `clock` is start + clock
    until: int = 0  # the clock at which it is finished
    terms: tuple[float, float, float, float] = (
        0.0,
        0.0,
        0.0,
        0.0,
    )  # read, its slope, attend, its slope; over the clock


@dataclass(frozen=True)
class Epoch:
    """`steps` steps, the first of `first` seconds, each further one `growth` longer."""

    steps: int
    first: float
    growth: float = 0.0

    def seconds(self, steps: int) -> float:
        """Seconds of the first `steps` of them."""
        return steps * self.first + self.growth * steps * (steps - 1) / 2

    def begun(self, seconds: float) -> int:
        """Steps that have begun, or just ended, after so many seconds: at least one."""
        half = self.first - self.growth / 2  # seconds(k) = half k + growth / 2 k^2
        inside = max(0.0, half * half + 2 * self.growth * seconds)
        steps = math.ceil(2 * seconds / (half + math.sqrt(inside)))
        while steps > 1 and self.seconds(steps - 1) >= seconds:  # rounding moved it by one
            steps -= 1
        while steps < self.steps and self.seconds(steps) < seconds:
            steps += 1
        return min(max(steps, 1), self.steps)


class Batch:
    """The sequences of one replica: `running` write, `reading` have their prompts read, `evicted` wait to come back."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.running: dict[int, Sequence] = {}  # by request, in order of admission
        self.reading: deque[Sequence] = deque()
        self.evicted: deque[Sequence] = deque()
        self.preemptions = 0
        self.clock = 0  # steps so far
        self._reserved = 0  # bytes of prompts that are being read
        self._starts = np.full(replica.max_batch, -(2**60))  # of each slot: length - clock
        self._free = list(range(replica.max_batch))
        self._events: list[tuple[int, int, int]] = []  # (clock, request, start): a sequence ends or changes its line
        self._sums = [0.0, 0.0, 0.0, 0.0]
        self._known: dict[int, int] = {}  # bytes of the running sequences by the clock, until one comes or goes
        self._planned: list[tuple[Sequence, int]] = []  # (sequence, tokens) of the prompts that this step reads

    @property
    def load(self) -> int:
        """Requests in this replica."""
        return len(self.running) + len(self.reading) + len(self.evicted)

    def held(self, ahead: int) -> int:
        """Bytes on each GPU that are occupied in the step `ahead` steps from now (0: the next one)."""
        if not self.running:
            return self._reserved
        at = self.clock + ahead
        if at not in self._known:
            block = self.replica.block_tokens
            blocks = (self._starts + (at + block - 1)) // block  # far below 0 in a free slot, which "clip" makes 0
            self._known[at] = int(self.replica.held.take(blocks, mode="clip").sum())
        return self._known[at] + self._reserved

    @property
    def hungry(self) -> bool:
        """Whether the next step could read more of prompts than is here to be read."""
        waiting = sum(sequence.prompt - sequence.read for sequence in self.reading)
        return len(self.running) + waiting < self.replica.chunk_tokens

    # --- joining and leaving

    def can_admit(self, prompt: int, ahead: int = 0) -> bool:
        """Whether a prompt of so many tokens has a place in the batch, and blocks, `ahead` steps from now."""
        full = len(self.running) + len(self.reading) >= self.replica.max_batch
        return not full and self.held(ahead) + self.replica.bytes_of(prompt) <= self.replica.room

    def admit(self, sequence: Sequence) -> None:
        """Let a sequence in: its prompt is read as soon as those before it are."""
        self._reserved += self.replica.bytes_of(sequence.prompt)
        self.reading.append(sequence)

    def readmit(self) -> None:
        """Let sequences that had to leave back in, as far as there is room."""
        while self.evicted and self.can_admit(self.evicted[0].prompt):
            self.admit(self.evicted.popleft())

    def make_room(self) -> None:
        """Evict the sequences that were admitted last until the next step has blocks for all that stay."""
        while self.held(0) > self.replica.room:
            if self.reading:
                gone = self.reading.pop()
                self._reserved -= self.replica.bytes_of(gone.prompt)
                self.preemptions += gone.read > 0
            else:
                self.preemptions += 1
                _, gone = self.running.popitem()
                self._remove(gone)
                gone.left = gone.until - self.clock - 1  # reading it again gives one of these
                gone.prompt = gone.start + self.clock
            gone.read = 0
            self.evicted.appendleft(gone)

    def _remove(self, gone: Sequence) -> None:
        self._known.clear()
        self._starts[gone.slot] = -(2**60)
        self._free.append(gone.slot)
        self._sums = [total - term for total, term in zip(self._sums, gone.terms, strict=True)]
        if not self.running:
            self._sums = [0.0, 0.0, 0.0, 0.0]  # what rounding has left behind

    def _run(self, sequence: Sequence) -> None:
        """A prompt has been read: the sequence writes from the next step on."""
        self._known.clear()
        sequence.start = sequence.prompt + 1 - self.clock
        sequence.until = self.clock + sequence.left
        sequence.slot = self._free.pop()
        sequence.terms = (0.0, 0.0, 0.0, 0.0)
        self._starts[sequence.slot] = sequence.start
        self.running[sequence.request] = sequence
        self._take_line(sequence)

    def _take_line(self, sequence: Sequence) -> None:
        """Take the Line of the present length, and note when it or the answer ends."""
        line = self.replica.line(sequence.start + self.clock)
        offset = sequence.start - line.start
        terms = (
            line.read + line.read_slope * offset,
            line.read_slope,
            line.attend + line.attend_slope * offset,
            line.attend_slope,
        )
        self._sums = [t - old + new for t, old, new in zip(self._sums, sequence.terms, terms, strict=True)]
        sequence.terms = terms
        ends = min(sequence.until, max(line.until - sequence.start, self.clock + 1))
        heappush(self._events, (ends, sequence.request, sequence.start))

    # --- stepping

    def next_steps(self) -> Epoch:
        """The steps that can be taken without a decision: one with prompts in it, or many without."""
        batch, self._planned = len(self.running), self._pieces()
        read_now = self._sums[0] + self._sums[1] * self.clock
        attend_now = self._sums[2] + self._sums[3] * self.clock
        if self._planned:
            pieces = [(new, sequence.read) for sequence, new in self._planned]
            return Epoch(1, self.replica.mixed_seconds(batch, read_now, attend_now, pieces))
        weights, linear, overhead = self.replica.decoding(batch)
        reading, computing = weights + read_now, linear + attend_now
        ahead, catching_up = reading - computing, self._sums[3] - self._sums[1]
        growth = self._sums[1] if ahead > 0 or (ahead == 0 and catching_up < 0) else self._sums[3]
        steps = self._next_event() - self.clock
        if ahead * catching_up > 0:  # the other of reading and computing will take longer some steps from now
            steps = min(steps, max(1, math.ceil(ahead / catching_up)))
        return Epoch(self._with_room(steps), max(reading, computing) + overhead, growth)

    def _pieces(self) -> list[tuple[Sequence, int]]:
        """(sequence, tokens) of the prompts that the next step reads, none if nobody's prompt is to be read."""
        budget = self.replica.chunk_tokens - len(self.running)
        pieces: list[tuple[Sequence, int]] = []
        for sequence in self.reading:
            new = min(budget, sequence.prompt - sequence.read)
            pieces.append((sequence, new))
            budget -= new
            if not budget:
                break
        return pieces

    def _next_event(self) -> int:
        """The clock at which the next sequence ends or changes its line."""
        while True:
            at, request, start = self._events[0]
            if request in self.running and self.running[request].start == start:
                return at
            heappop(self._events)  # it was evicted

    def _with_room(self, steps: int) -> int:
        """The most of so many steps for which there are blocks; the first one has them (`make_room`)."""
        if self.held(steps - 1) <= self.replica.room:
            return steps
        low, high = 1, steps - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.held(middle - 1) <= self.replica.room else (low, middle - 1)
        return low

    @property
    def beginning(self) -> list[int]:
        """The requests of whose prompts these `next_steps` read the first piece."""
        return [sequence.request for sequence, _ in self._planned if not sequence.read]

    def advance(self, steps: int) -> tuple[list[int], list[int]]:
        """Take so many of `next_steps`: (requests whose prompt has been read, requests that are finished)."""
        self.clock += steps
        finished = self._settle()
        told = []
        for sequence, new in self._planned:
            sequence.read += new
            if sequence.read < sequence.prompt:
                continue
            self.reading.popleft()
            self._reserved -= self.replica.bytes_of(sequence.prompt)
            told.append(sequence.request)
            if sequence.left:
                self._run(sequence)
            else:
                finished.append(sequence.request)
        if not self.running:
            self.clock, self._events = 0, []
        return told, finished

    def _settle(self) -> list[int]:
        """Let those go whose answer is complete; give a new Line to those who came to the end of theirs."""
        finished = []
        while self._events and self._events[0][0] <= self.clock:
            _, request, start = heappop(self._events)
            sequence = self.running.get(request)
            if sequence is None or sequence.start != start:
                continue
            if sequence.until <= self.clock:
                del self.running[request]
                self._remove(sequence)
                finished.append(request)
            else:
                self._take_line(sequence)
        return finished
