"""The memory of one GPU, shared out: what a serving engine leaves for the KV cache.

    KV = utilisation x visible memory - weights - non-torch - activation peak [- estimated CUDA graphs]

Whether the graphs are subtracted or come on top is a switch of the engine, and the default changed with the version.
"""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from typing import Any

from kvlib.hardware import Accelerator, gpu
from kvlib.units import GiB, size

_MOST = 10**18  # bytes; no GPU comes near


@dataclass(frozen=True)
class Budget:
    """One GPU of `total` visible bytes, of which the engine may use `limit`. `kv_bytes` is what the rest leaves.

    `parts` lays (name, bytes) end to end: used first, then KV, then what lies outside the limit. A negative `kv_bytes`
    means that the engine refuses to start.
    """

    total: int
    limit: int
    weights: int
    non_torch: int
    activation: int
    graphs: int
    graphs_subtracted: bool
    rule: str

    @property
    def kv_bytes(self) -> int:
        """Bytes left for the KV cache; negative when the engine would refuse to start."""
        taken = self.weights + self.non_torch + self.activation + (self.graphs if self.graphs_subtracted else 0)
        return self.limit - taken

    @property
    def fits(self) -> bool:
        """Whether anything is left for a cache."""
        return self.kv_bytes > 0

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """(name, bytes), which add up to `total`: graphs on top of the limit are taken from what lies outside it."""
        outside = self.total - self.limit - (0 if self.graphs_subtracted else self.graphs)
        names = ("weights", "non-torch", "activation", "CUDA graphs", "KV cache", "outside the limit")
        sizes = (self.weights, self.non_torch, self.activation, self.graphs, self.kv_bytes, outside)
        return tuple(zip(names, sizes, strict=True))

    def __repr__(self) -> str:
        parts = " + ".join(f"{name} {part / GiB:.2f}" for name, part in self.parts if part)
        verdict = size(self.kv_bytes) if self.fits else f"{self.kv_bytes / GiB:.2f} GiB: the engine refuses to start"
        return f"{parts} = {self.total / GiB:.2f} GiB; KV cache {verdict}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{size(part)}</td></tr>"
            for name, part in self.parts
        )
        return f"<table><caption>{html.escape(self.rule)}</caption>{rows}</table>"


def budget(
    total: int | float | str | Accelerator,
    weights: float,
    *,
    utilisation: float | None = None,
    non_torch: float = 0,
    activation: float = 0,
    graphs: float = 0,
    subtract_graphs: bool | None = None,
    version: str | None = None,
    limit: float | None = None,
) -> Budget:
    """Bytes of one GPU that a vLLM-like engine leaves for the KV cache.

    Args:
        total: visible bytes of the GPU, an Accelerator, or its name (then `visible_bytes` is used).
        weights: bytes the rank holds after loading: its shard under tensor parallelism.
        utilisation: share of the **total** the engine may use; None is the engine's default, 0.90, or 0.92 from 0.22.
        non_torch: bytes that PyTorch did not allocate: CUDA context, NCCL buffers, other processes.
        activation: peak bytes of the profiling forward pass. It is not divided by tensor parallelism.
        graphs: bytes of CUDA graphs.
        subtract_graphs: True if the engine subtracts them, False if they come on top, None to go by `version`:
            engines from 0.21 (and an unknown version) subtract. Builds differ: where a log says it, the log decides.
        version: engine version, "0.20.1".
        limit: bytes the engine may use, where a log prints the product and the printed utilisation is rounded.

    Raises:
        ValueError: if a size is negative or not a number, or utilisation is not in (0, 1].

    Source: vllm/v1/worker/gpu_worker.py; the printed splits in tests/data/engine_logs.json.
    """
    seen, name = _visible(total), total if isinstance(total, str) else getattr(total, "name", "the GPU")
    number = _version(version)
    if utilisation is None:
        utilisation = 0.92 if number is not None and number >= (0, 22) else 0.90
    if isinstance(utilisation, bool) or not isinstance(utilisation, int | float) or not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be a share above 0 and at most 1; got {utilisation!r}")
    if subtract_graphs is None:
        subtract_graphs = number is None or number >= (0, 21)
    allowed = _bytes("limit", limit) if limit is not None else math.floor(seen * utilisation)
    product = f"{utilisation:g} x {seen / GiB:.2f} GiB of {name}"
    what = product if limit is None else f"{allowed / GiB:.2f} GiB as printed"
    graph_rule = "- CUDA graphs" if subtract_graphs else "(CUDA graphs come on top)"
    return Budget(
        total=seen,
        limit=allowed,
        weights=_bytes("weights", weights),
        non_torch=_bytes("non_torch", non_torch),
        activation=_bytes("activation", activation),
        graphs=_bytes("graphs", graphs, signed=True),
        graphs_subtracted=subtract_graphs,
        rule=f"KV = {what} - weights - non-torch - activation {graph_rule}",
    )


def _visible(total: Any) -> int:
    """Visible bytes of a number, an Accelerator or a name."""
    if isinstance(total, str | Accelerator):
        card = gpu(total)
        if card.visible_bytes is None:
            raise ValueError(f"total: nobody recorded what the driver shows for {card.name}; give the bytes instead")
        return card.visible_bytes
    return _bytes("total", total)


def _bytes(name: str, value: Any, signed: bool = False) -> int:
    """A size as whole bytes (a measured GiB figure times 2**30 is a float); a ValueError naming it otherwise.

    Graph sizes may be negative: an engine that measures free memory before and after can print that.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    if not number or (value < 0 and not signed):
        raise ValueError(f"{name} must be a number of bytes, 0 or more, below an exabyte; got {value!r}")
    nearest: int = round(value)
    return nearest


def _version(text: str | None) -> tuple[int, int] | None:
    """`0.22.1rc1` as (0, 22); None if there is none."""
    if text is None:
        return None
    found = re.match(r"v?(\d{1,6})\.(\d{1,6})", text) if isinstance(text, str) else None
    if not found:
        raise ValueError(f'version must look like "0.22.0"; got {text!r}')
    return int(found[1]), int(found[2])
