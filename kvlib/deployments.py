"""Deployments that others published, to compare plans with: who runs which model on how many GPUs, laid out how."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

from kvlib.catalogue import model as known_model
from kvlib.cluster import plan
from kvlib.plans import Plan


@dataclass(frozen=True)
class Deployment:
    """One published deployment. `runs` is False where it ran out of memory, and the publisher said so.

    `tokens` is the context that was reported to fit; `weights_gib` what a log printed for one GPU, if there is one.
    """

    id: str
    model: str
    gpu: str
    weights: str | Mapping[str, str] = field(hash=False)
    tokens: int
    runs: bool
    source: str
    as_of: date
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    kv: str = "bf16"
    weights_gib: float | None = None

    @property
    def gpus(self) -> int:
        """GPUs of the deployment."""
        return self.tp * self.pp * self.dp

    @property
    def what(self) -> str:
        """The deployment in words: "Llama 3.1 405B, bf16, 8 x h100-sxm, TP 8"."""
        stored = self.weights if isinstance(self.weights, str) else " + ".join(dict.fromkeys(self.weights.values()))
        degrees = (("TP", self.tp), ("PP", self.pp), ("DP", self.dp), ("EP", self.ep))
        layout = " x ".join(f"{name} {n}" for name, n in degrees if n > 1)
        on = f"{self.gpus} x {self.gpu}" + (f", {layout}" if layout else "")
        return f"{known_model(self.model).title}, {stored}, {self.tokens:,} tokens, {on}"

    def plan(self, **settings: Any) -> Plan:
        """The same layout, judged by `kvlib.cluster`: does it say that this runs?"""
        shape = {"tp": self.tp, "pp": self.pp, "dp": self.dp, "ep": self.ep}
        return plan(self.model, self.tokens, self.dp, self.gpu, self.weights, self.kv, **{**shape, **settings})


@cache
def deployments() -> tuple[Deployment, ...]:
    """The published deployments, in the order of the data file."""
    text = (resources.files("kvlib") / "data" / "deployments.toml").read_text(encoding="utf-8")
    return tuple(Deployment(**record) for record in tomllib.loads(text)["deployments"])
