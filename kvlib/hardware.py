"""Accelerators as dated, sourced records: memory, bandwidth, FLOP/s, links, watts. The figures stand in data/gpus.toml.

The number on the box is not what the driver shows: an "80 GB" H100 has 81,559 MiB, which is 79.65 GiB or 85.52 GB. A
record keeps both, and a figure that nobody printed is None, never guessed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from kvlib.units import GiB, size


@dataclass(frozen=True)
class Source:
    """Where figures were read, and when: the date of the page, or the day it was read if it has none."""

    title: str
    as_of: date
    url: str = ""

    def __str__(self) -> str:
        return f"{self.title}{f' <{self.url}>' if self.url else ''}, {self.as_of}"


@dataclass(frozen=True)
class Link:
    """How GPUs of one `domain` talk: bytes per second one way, and the sum of both ways that datasheets print."""

    kind: str
    per_direction: int
    both_directions: int
    domain: int | None = None


@dataclass(frozen=True)
class Accelerator:
    """One accelerator, in base units.

    `label_gb` is the marketing number. `visible_bytes` is what nvidia-smi shows, None where no listing was found;
    `engine_bytes` is the (least, most) that serving engines printed as the card's total. `bandwidth` is bytes/s of the
    memory, `flops` dense FLOP/s by precision, never the sparsity figure; `measured_flops` the best matrix product
    somebody measured. A figure named in `unverified` was not read in a source that can be cited.
    """

    name: str
    title: str
    vendor: str
    label_gb: int
    bandwidth: int
    flops: Mapping[str, int] = field(hash=False)
    source: str
    as_of: date
    sources: Mapping[str, Source] = field(hash=False, repr=False)
    visible_bytes: int | None = None
    engine_bytes: tuple[int, int] | None = None
    measured_flops: Mapping[str, int] = field(default_factory=dict, hash=False)
    tdp_watts: int | None = None
    link: Link | None = None
    unverified: tuple[str, ...] = ()
    status: str = "shipping"
    note: str = ""
    aliases: tuple[str, ...] = ()

    def verified(self, figure: str) -> bool:
        """Whether `figure` (`visible_bytes`, `flops.bf16`, ...) is known and was read in a citable source."""
        known: Any = self
        for part in figure.split("."):
            known = known.get(part) if isinstance(known, Mapping) else getattr(known, part, None)
        return known is not None and figure not in self.unverified

    def figure_source(self, figure: str) -> Source:
        """The source of one figure: its own, or that of the whole record."""
        return self.sources.get(figure.partition(".")[0], self.sources[""])

    def __repr__(self) -> str:
        seen = size(self.visible_bytes) if self.visible_bytes else "not recorded"
        peak = self.flops.get("bf16", max(self.flops.values()))
        return (
            f"{self.name}: label {self.label_gb} GB, driver shows {seen}, {self.bandwidth / 10**12:.2f} TB/s, "
            f"{peak / 10**12:,.0f} TFLOP/s bf16 dense ({self.as_of})"
        )


@cache
def _records() -> dict[str, Accelerator]:
    text = (resources.files("kvlib") / "data" / "gpus.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    sources = {key: Source(**record) for key, record in data["sources"].items()}
    return {record["name"]: _accelerator(record, sources) for record in data["gpu"]}


def _accelerator(record: dict[str, Any], sources: dict[str, Source]) -> Accelerator:
    """One TOML record as an Accelerator: numbers become ints, source keys become Sources."""
    own = {figure: sources[key] for figure, key in record.pop("figure_sources", {}).items()}
    main = sources[record["source"]]
    link = record.pop("link", None)
    seen = record.pop("engine_gib", None)
    return Accelerator(
        **{
            **record,
            "bandwidth": round(record["bandwidth"]),
            "flops": _whole(record["flops"]),
            "measured_flops": _whole(record.get("measured_flops", {})),
            "source": str(main),
            "sources": MappingProxyType({"": main, **own}),
            "unverified": tuple(record.get("unverified", ())),
            "aliases": tuple(record.get("aliases", ())),
        },
        engine_bytes=(round(seen[0] * GiB), round(seen[1] * GiB)) if seen else None,
        link=Link(link["kind"], round(link["per_direction"]), round(link["both_directions"]), link.get("domain"))
        if link
        else None,
    )


def _whole(rates: dict[str, float]) -> Mapping[str, int]:
    return MappingProxyType({name: round(rate) for name, rate in rates.items()})


def gpus() -> tuple[str, ...]:
    """The names that `gpu` knows, in the order of the data file."""
    return tuple(_records())


def gpu(name: str | Accelerator) -> Accelerator:
    """The accelerator called `name`; spaces, hyphens and case do not matter (`h100-sxm`, `RTX 5090`, `H200`).

    Args:
        name: a name from `gpus()`, one of its aliases, or a record, which comes back as it is.

    Raises:
        ValueError: if there is no such record; the message suggests the nearest names and lists all of them.
    """
    if isinstance(name, Accelerator):
        return name
    known = {_squeeze(alias): item for item in _records().values() for alias in (item.name, *item.aliases)}
    if isinstance(name, str) and (found := known.get(_squeeze(name))):
        return found
    raise ValueError(f"gpu must be one of {', '.join(gpus())}; got {name!r}{_suggest(name, known)}")


def _suggest(name: Any, known: dict[str, Accelerator]) -> str:
    """` (did you mean ...?)` with the nearest names, or nothing."""
    asked = _squeeze(name) if isinstance(name, str) else ""
    near = [key for key in known if asked and (key.startswith(asked) or asked.startswith(key))]
    near = near or get_close_matches(asked, known, n=3, cutoff=0.6)
    names = dict.fromkeys(known[key].name for key in near)
    return f" (did you mean {' or '.join(names)}?)" if names else ""


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
