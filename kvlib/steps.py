"""One step of a GPU, taken apart: what it reads, computes and sends, each in seconds at the datasheet's rate.

    seconds = max(read, compute) + communication + overheads

Reading and computing overlap, so the longer one counts; the rest is added. An `Efficiency` says how far from the
datasheet each part is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvlib.efficiency import Efficiency


@dataclass(frozen=True)
class Step:
    """The parts of a decode step or a prefill, for one GPU: scalars or arrays, in seconds at the datasheet's rate.

    `read` is bytes / bandwidth; `linear` and `attention` are FLOPs / peak, of products with weights and with the cache.
    `moved` is bytes sent / link bandwidth and `waits` the latency of sending. `launches` counts layers started and
    `sequences` those that one scheduler looks after. `idle` is the share of time lost to pipeline bubbles. The three
    flags choose the regime: a group of GPUs or one alone, FP4 units or others, a mixture of experts or not.
    """

    read: Any
    linear: Any
    attention: Any
    moved: Any = 0.0
    waits: Any = 0.0
    launches: Any = 0
    sequences: Any = 0
    idle: Any = 0.0
    group: bool = False
    fp4: bool = False
    experts: bool = False

    @property
    def floor(self) -> Any:
        """Seconds at least: the longer of reading and computing, nothing else."""
        return larger(self.read, self.work)

    @property
    def work(self) -> Any:
        """Seconds of computing at full peak."""
        return self.linear + self.attention

    def seconds(self, shares: Efficiency) -> Any:
        """Seconds to expect of an engine with this efficiency."""
        product = shares.compute * (shares.fp4 if self.fp4 else 1) * (shares.experts if self.experts else 1)
        compute = self.linear / product + self.attention / shares.compute
        read = self.read / (shares.memory_group if self.group else shares.memory_alone)
        overhead = self.launches * shares.layer + self.sequences * shares.sequence
        return larger(read, compute) / (1 - self.idle) + overhead + self.moved / shares.link + self.waits


def larger(a: Any, b: Any) -> Any:
    """The larger of two numbers, or of each pair of two arrays; numpy need not be there."""
    return a + (b - a) * (b > a)


def smaller(a: Any, b: Any) -> Any:
    """The smaller of two numbers, or of each pair of two arrays."""
    return a + (b - a) * (b < a)
