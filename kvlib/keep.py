"""Keep, offload or recompute: what an idle session's KV cache costs per hour, against reading the prompt again.

Keeping costs rent for every hour and little when the user comes back. Recomputing costs nothing until then, and a
prefill at that moment. So there is a pause beyond which recomputing is cheaper, and each place has its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kvlib.cache_rules import context_data
from kvlib.dtypes import DType
from kvlib.hardware import Accelerator, Source
from kvlib.hardware import gpu as known_gpu
from kvlib.model import Model
from kvlib.speed import prefill_seconds
from kvlib.units import GB, size, usd, whole

SECONDS, MILLION = 3_600, 10**6


@dataclass(frozen=True)
class Place:
    """Where a cache can lie: USD per 10**9 bytes and hour, and bytes per second back to all of the GPUs together."""

    name: str
    usd_per_gb_hour: float
    bandwidth: float
    unverified: tuple[str, ...] = ()
    source: Source | None = None
    as_of: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _positive("usd_per_gb_hour", self.usd_per_gb_hour, zero=True)
        _positive("bandwidth", self.bandwidth)


@dataclass(frozen=True)
class Option:
    """One way to have the cache when the user returns: USD per hour of pause and per return, seconds of wait."""

    name: str
    usd_per_hour: float
    usd_per_return: float
    seconds: float

    def usd(self, pause_hours: Any) -> Any:
        """USD of one pause of so many hours and the return after it; an array gives an array."""
        return self.usd_per_hour * pause_hours + self.usd_per_return

    def __repr__(self) -> str:
        back = f"{usd(self.usd_per_return)} and {self.seconds:,.2f} s per return"
        return f"{self.name}: {usd(self.usd_per_hour)} per hour, {back}"


def places() -> tuple[Place, ...]:
    """Host memory and disk as recorded in data/context_caches.toml. Their prices are unverified: use your own."""
    data = context_data()
    return tuple(
        Place(
            **{
                **row,
                "usd_per_gb_hour": float(row["usd_per_gb_hour"]),
                "bandwidth": float(row["bandwidth"]),
                "unverified": tuple(row.get("unverified", ())),
                "source": Source(**data["sources"][row["source"]]),
            }
        )
        for row in data["places"]
    )


def options(
    cache_bytes: int,
    prefill_seconds: float,
    usd_per_gpu_hour: float,
    *,
    gpus: int = 1,
    gpu_bytes: float = 80 * GB,
    others: Iterable[Place] | None = None,
) -> tuple[Option, ...]:
    """HBM, each other place, and recomputing, for one cache.

    Args:
        cache_bytes: bytes of the cache, over all GPUs.
        prefill_seconds: time to compute it again on all `gpus`.
        usd_per_gpu_hour: what one GPU costs per hour.
        gpus: GPUs that serve the model.
        gpu_bytes: bytes of memory that a GPU's price pays for.
        others: other places; None: `places()`.

    Returns:
        Options. A return pays for the time in which the GPUs load or compute, as if they did nothing else meanwhile.

    Raises:
        ValueError: if a number is out of range.
    """
    held, many = whole("cache_bytes", cache_bytes), whole("gpus", gpus, 1)
    _positive("prefill_seconds", prefill_seconds, zero=True)
    _positive("usd_per_gpu_hour", usd_per_gpu_hour)
    _positive("gpu_bytes", gpu_bytes)
    second = usd_per_gpu_hour * many / SECONDS
    found = [Option("HBM", held / gpu_bytes * usd_per_gpu_hour, 0.0, 0.0)]
    for place in places() if others is None else others:
        wait = held / place.bandwidth
        found.append(Option(place.name, held / GB * place.usd_per_gb_hour, wait * second, wait))
    return (*found, Option("recompute", 0.0, prefill_seconds * second, float(prefill_seconds)))


def session_options(
    model: Model,
    gpu: str | Accelerator,
    tokens: int,
    usd_per_gpu_hour: float,
    *,
    tp: int = 1,
    kv_dtype: str | DType = "bf16",
    weight_dtype: str = "bf16",
    others: Iterable[Place] | None = None,
) -> tuple[Option, ...]:
    """`options` of a session of `tokens` tokens: bytes by the model, prefill time by the estimate of `kvlib.speed`.

    Args and errors as there and in `prefill_seconds`; what a GPU's price pays for is the memory on its label.
    """
    card = known_gpu(gpu)
    again = prefill_seconds(model, card, tokens, tp=tp, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    held = tp * model.cache_bytes(tokens, kv_dtype, tp)
    return options(held, again.estimate, usd_per_gpu_hour, gpus=tp, gpu_bytes=card.label_gb * GB, others=others)


def cheapest(choices: Iterable[Option], pause_hours: float) -> Option:
    """The option that costs least if the user comes back after `pause_hours`; of equal ones the first."""
    _positive("pause_hours", pause_hours, zero=True)
    return min(choices, key=lambda option: option.usd(pause_hours))


def longest_pause(keep: Option, instead: Option) -> float:
    """Hours of pause up to which `keep` costs no more than `instead`: 0 if never, infinite if always.

    Raises:
        ValueError: if `keep` has the lower rent: then it is cheaper from some pause on, not up to one.
    """
    rent, saved = keep.usd_per_hour - instead.usd_per_hour, instead.usd_per_return - keep.usd_per_return
    if rent < 0:
        raise ValueError(f"keep must be the option with the higher rent; got {keep.name} before {instead.name}")
    if rent == 0:
        return math.inf if saved >= 0 else 0.0
    return max(0.0, saved / rent)


def affordable_bytes(storage_usd: float, usd_per_gpu_hour: float, gpu_bytes: float = 80 * GB) -> float:
    """Bytes per token that a storage price can pay for if the cache lies in HBM and nothing is earned.

    Args:
        storage_usd: USD per million tokens and hour.
        usd_per_gpu_hour: what one GPU costs per hour.
        gpu_bytes: bytes of memory that this hour pays for.

    Raises:
        ValueError: if a number is out of range.
    """
    _positive("storage_usd", storage_usd, zero=True)
    _positive("usd_per_gpu_hour", usd_per_gpu_hour)
    _positive("gpu_bytes", gpu_bytes)
    return storage_usd / MILLION * gpu_bytes / usd_per_gpu_hour


def affordable(storage_usd: float, usd_per_gpu_hour: float, gpu_bytes: float = 80 * GB) -> str:
    """The same as a sentence."""
    return f"at most {size(affordable_bytes(storage_usd, usd_per_gpu_hour, gpu_bytes))} per token"


def _positive(name: str, value: float, zero: bool = False) -> None:
    if not (0 <= value < math.inf if zero else 0 < value < math.inf):
        raise ValueError(f"{name} must be a number {'of 0 or more' if zero else 'above 0'}; got {value!r}")
