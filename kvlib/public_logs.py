"""What serving engines printed at start-up in public places, as records that know what we would have predicted.

The figures stand in data/logs.toml, each with its source. A `Startup` turns them into a budget and a pool, and says how
far the prediction is from the log; `log_text` gives a few logs as they were printed.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

from kvlib.catalogue import model as catalogue_model
from kvlib.engine import Pool, pool
from kvlib.memory import Budget, budget
from kvlib.model import Full, Model, Recurrent, Shared, Sliding
from kvlib.units import GiB, MiB

_SPLIT = ("total_gib", "limit_gib", "utilisation", "weights_gib", "non_torch_gib", "activation_gib", "peak_torch_gib")


@dataclass(frozen=True)
class Startup:
    """One start of an engine. Sizes are GiB as printed, None where the log prints none; `settings` are those of `pool`.

    `kind` is "uniform" (one kind of layer), "hybrid" (several), "refused" (the engine did not start), or "" where only
    the split of the memory was published. `miss` names what explains a prediction that is off.
    """

    id: str
    what: str
    source: str
    as_of: date
    kind: str = ""
    models: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    assumed: tuple[str, ...] = ()
    kv_gib: float | None = None
    kv_mib: float | None = None
    kv_bytes: int | None = None
    tokens: int = 0
    blocks: int | None = None
    concurrency: float | None = None
    needed_gib: float | None = None
    longest: int | None = None
    split: dict[str, Any] = field(default_factory=dict, hash=False)
    miss: str = ""

    @property
    def model(self) -> Model | tuple[Model, ...]:
        """The model; or the model and its draft."""
        found = tuple(_model(name) for name in self.models)
        return found if len(found) > 1 else found[0]

    def pool(self, blocks: int) -> Pool:
        """The pool of this start with so many blocks."""
        return pool(self.model, blocks=blocks, **{"max_model_len": 32_768, **self.settings})

    @property
    def printed_bytes(self) -> tuple[int, int, int] | None:
        """KV bytes as printed, with the least and the most that the rounding leaves open; None if the log has none."""
        if self.kv_bytes is not None:
            return self.kv_bytes, self.kv_bytes, self.kv_bytes
        if self.kv_gib is None and self.kv_mib is None:
            return None
        value, unit = (self.kv_gib, GiB) if self.kv_gib is not None else (self.kv_mib or 0.0, MiB)
        # Two decimals, or none; SGLang (a page of one token is its habit) prints keys and values apart, each rounded.
        half = 0.5 if isinstance(value, int) else 0.01 if unit == GiB and self.settings.get("block") == 1 else 0.005
        return round(value * unit), round((value - half) * unit), round((value + half) * unit)

    @property
    def predicted(self) -> int | None:
        """Tokens that follow from the printed bytes alone; None if the log has none."""
        found = self._blocks()
        return None if found is None else self.pool(found[0]).reported_tokens

    @property
    def span(self) -> tuple[int, int] | None:
        """The least and the most tokens that the rounded bytes leave open."""
        found = self._blocks()
        return None if found is None else (self.pool(found[1]).reported_tokens, self.pool(found[2]).reported_tokens)

    @property
    def error(self) -> float | None:
        """By what share the prediction is above the log (below: negative)."""
        predicted = self.predicted
        return None if predicted is None else predicted / self.tokens - 1

    @property
    def exact_blocks(self) -> int | None:
        """The number of blocks that gives the printed tokens and concurrency digit for digit, if there is one.

        Only numbers are tried that the printed bytes leave open; all of them, if the log prints no bytes.
        """
        found = self._blocks()
        return next((n for n in (range(found[1], found[2] + 1) if found else self._near()) if self._exact(n)), None)

    def budget(self) -> Budget:
        """The split of the memory as published; a printed product counts more than a rounded utilisation."""
        if not self.split:
            raise ValueError(f"start-up {self.id} prints no split of the memory; its `split` is empty")
        s = {name: round(value * GiB) if name.endswith("gib") else value for name, value in self.split.items()}
        weights = s["weights_gib"]
        return budget(
            s["total_gib"] if "total_gib" in s else s["limit_gib"],
            weights,
            utilisation=s.get("utilisation"),
            non_torch=s["non_torch_gib"],
            activation=s["activation_gib"] if "activation_gib" in s else s["peak_torch_gib"] - weights,
            graphs=s.get("graphs_gib", 0),
            subtract_graphs=s.get("graphs_subtracted", False),
            limit=s.get("limit_gib"),
        )

    def _blocks(self) -> tuple[int, int, int] | None:
        """Blocks in the printed bytes, and in the least and the most of them."""
        printed, one = self.printed_bytes, self.pool(0).block_bytes
        return None if printed is None else (printed[0] // one, printed[1] // one, printed[2] // one)

    def _near(self) -> range:
        """Where to look for the blocks, going by tokens and concurrency."""
        made = self.pool(0)
        requests = self.concurrency or self.tokens / made.max_model_len
        middle = round(requests * made.per_request)
        slack = 2 + round(0.006 * made.per_request)
        return range(max(0, middle - slack), middle + slack + 1)

    def _exact(self, blocks: int) -> bool:
        made = self.pool(blocks)
        same = self.concurrency is None or abs(made.max_concurrency - self.concurrency) <= 0.00501
        return made.reported_tokens == self.tokens and (same or self.kind == "uniform")


@dataclass(frozen=True)
class Log:
    """A log as it was printed, without the time of day. `model` is a name in the catalogue."""

    id: str
    what: str
    model: str
    text: str
    printed: str
    source: str
    as_of: date


def startups(kind: str | None = None) -> tuple[Startup, ...]:
    """The public starts of one kind (see `Startup`), or "split" for those with a split of the memory; None for all.

    Raises:
        ValueError: if kind is something else.
    """
    if kind not in (None, "", "uniform", "hybrid", "refused", "split"):
        raise ValueError(f'kind must be "uniform", "hybrid", "refused", "split" or None; got {kind!r}')
    return tuple(s for s in _startups() if kind is None or (bool(s.split) if kind == "split" else s.kind == kind))


def startup(id: str) -> Startup:
    """The start with this id, such as "L170"; a ValueError lists what there is."""
    found: Startup = _named("id", id, {s.id: s for s in _startups()})
    return found


def logs() -> tuple[Log, ...]:
    """The logs that are there word for word."""
    return tuple(Log(**{**record, "text": record["text"].strip()}) for record in _data()["logs"])


def log_text(id: str) -> str:
    """The text of one log, such as "dense-80gb"; a ValueError lists what there is."""
    found: Log = _named("id", id, {log.id: log for log in logs()})
    return found.text


def _named(what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; got {name!r}")
    return known[name]


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((resources.files("kvlib") / "data" / "logs.toml").read_text(encoding="utf-8"))


@cache
def _startups() -> tuple[Startup, ...]:
    return tuple(_startup(dict(record)) for record in _data()["startups"])


def _startup(record: dict[str, Any]) -> Startup:
    """One TOML record; what belongs to the split of the memory goes into `split`."""
    split = {name: record.pop(name) for name in (*_SPLIT, "graphs_gib", "graphs_subtracted") if name in record}
    if split:
        split["kv_gib"] = record["kv_gib"]
    for name in ("models", "assumed"):
        record[name] = tuple(record.get(name, ()))
    return Startup(**record, split=split)


@cache
def _model(name: str) -> Model:
    """A model of the catalogue, or one that logs.toml describes by its layers."""
    shapes = {record["name"]: record for record in _data()["shapes"]}
    if name not in shapes:
        return catalogue_model(name)
    shape = shapes[name]
    layers: list[Any] = []
    if "full" in shape:
        count, heads, size = shape["full"]
        layers += [Full(heads, size, size)] * count
    if "sliding" in shape:
        count, heads, size, window = shape["sliding"]
        layers += [Sliding(heads, size, size, window)] * count
    if "state" in shape:
        count, numbers, channels, kernel = shape["state"]
        layers += [Recurrent(numbers, channels * kernel, kernel)] * count
    return Model(name, (*layers, Shared()))
