"""How much of the datasheet a serving engine gets: a few factors, fitted to published speeds, with their error bars.

`tools/fit_efficiency.py` writes data/efficiency.toml from one half of data/throughput.toml and scores the other half.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from datetime import date
from functools import cache
from importlib import resources
from typing import Any
from zlib import crc32

from kvlib.hardware import Source


@dataclass(frozen=True)
class Efficiency:
    """What is left of bandwidth and FLOP/s, by regime, and what every step costs besides.

    Shares of the datasheet: `memory_alone` of the bandwidth while decoding on one GPU, `memory_group` on one GPU of
    several that share a model; `compute` of the FLOP/s, to be multiplied by `fp4` where the matrix units work in FP4
    and by `experts` for a mixture of experts; `link` of the link. Seconds: `layer` per layer and step, whatever the
    batch; `sequence` per sequence and step, for scheduling, sampling and detokenising.
    """

    memory_alone: float = 1.0
    memory_group: float = 1.0
    compute: float = 1.0
    fp4: float = 1.0
    experts: float = 1.0
    link: float = 1.0
    layer: float = 0.0
    sequence: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            seconds = field.name in ("layer", "sequence")
            if not (0 <= value < 1 if seconds else 0 < value <= 1):
                wanted = "seconds, 0 or more and below 1" if seconds else "a share above 0 and at most 1"
                raise ValueError(f"{field.name} must be {wanted}; got {value!r}")


IDEAL = Efficiency()


@dataclass(frozen=True)
class Calibration:
    """The fitted factors and how far they can be trusted.

    Four of five speeds of the fitted half lay between `low` and `high` times the estimate. `fit` and `score` describe
    the two halves: number of rows, median of |estimate / measured - 1|, its nine-tenths quantile, the median of the
    signed error, and the share of rows inside the interval.
    """

    efficiency: Efficiency
    low: float
    high: float
    fit: dict[str, float]
    score: dict[str, float]
    source: str
    as_of: date


@cache
def calibration() -> Calibration:
    """The calibration in data/efficiency.toml."""
    data = _read("efficiency.toml")
    shares = Efficiency(**data["efficiency"])
    return Calibration(shares, **data["interval"], fit=data["fit"], score=data["score"], **data["source"])


@dataclass(frozen=True)
class PublishedSpeed:
    """One published figure: `value` in base units, of all `gpus` or of each (`per_gpu`).

    `quantity` is "output" or "input" (tokens/s), "ttft" (s, one prompt alone) or "slope" (s per context token of a
    decode step; `intercept` is the step at context 0). `input` and `output` are tokens per request, None where the
    source does not say; `concurrency` None means as many as fit; `tp` None means that the layout is not stated.
    """

    id: str
    source: Source
    as_of: date
    quantity: str
    value: float
    model: str
    gpu: str
    gpus: int
    weights: str
    kv: str
    tp: int | None = None
    ep: bool = False
    input: int | None = None
    output: float | None = None
    concurrency: int | None = None
    per_gpu: bool = False
    kv_stated: bool = True
    itl: float | None = None
    intercept: float | None = None
    note: str = ""

    @property
    def total(self) -> float:
        """The figure of all GPUs together."""
        return self.value * (self.gpus if self.per_gpu else 1)

    @property
    def complete(self) -> bool:
        """Whether the row states enough to predict it: output speed, layout, tokens in and out."""
        return self.quantity == "output" and None not in (self.tp, self.input, self.output)

    @property
    def fitted(self) -> bool:
        """Whether the row belongs to the half that the calibration is fitted on: an even CRC-32 of its id.

        Decided by the id alone, before anything was fitted, so that nobody can choose.
        """
        return crc32(self.id.encode()) % 2 == 0


@cache
def published_speeds() -> tuple[PublishedSpeed, ...]:
    """The published speeds in data/throughput.toml, in its order."""
    data = _read("throughput.toml")
    sources = {key: Source(**record) for key, record in data["sources"].items()}
    return tuple(PublishedSpeed(**{**row, "source": sources[row["source"]]}) for row in data["rows"])


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("kvlib") / "data" / name).read_text(encoding="utf-8"))
