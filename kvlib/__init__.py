"""kvlib: the formulas of the course on VRAM economics. `import kvlib as kv`, then `kv.model("llama-3.1-8b")`.

Public names are loaded when they are first used, so that the import stays quick and pulls in neither numpy nor widgets.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "units": ["GB", "KiB", "MiB", "GiB", "size", "tokens", "usd"],
    "dtypes": ["DTYPES", "dtype"],
    "model": ["Model", "Full", "Sliding", "Chunked", "Latent", "Compressed", "Recurrent", "Shared", "NoCache"],
    "configs": ["ConfigError", "from_config"],
    "hardware": ["Accelerator", "gpu", "gpus"],
    "catalogue": ["model", "models"],
    "engine": ["Pool", "pool"],
    "memory": ["Budget", "budget"],
    "log": ["Explanation", "LogError", "explain_log"],
    "speed": ["Seconds", "decode_seconds", "prefill_seconds", "ridge", "throughput"],
    "serving": ["Throughput"],
    "ranges": ["Estimate", "Range"],
    "currency": ["Rate", "exchange_rate", "from_usd", "to_usd"],
    "owning": ["Api", "Ownership", "Rent"],
    "cost": [
        "break_even",
        "cost_per_million",
        "joules_per_token",
        "keep_usd_per_hour",
        "margin",
        "markup",
        "usd_per_day",
    ],
    "anchors": ["anchor", "owner", "ownership_table"],
    "prices": ["price", "prices"],
    "deepseek_day": ["published_day"],
    "cache_rules": ["CacheRule", "cache_rule", "rules_for"],
    "sessions": ["Request", "block_references", "conversation", "shared_tokens", "stamped"],
    "prefix": ["SessionBill", "session_bill"],
    "payback": ["reads_to_pay", "requests_to_pay", "reuses_per_hour", "search_requests_to_pay"],
    "reuse": ["BlockCache", "PrefixBlock", "prefix_block"],
    "radix": ["RadixCache"],
    "stack": ["HitCurve", "hit_curve"],
    "traces": ["Trace", "TraceError", "read_azure", "read_mooncake"],
    "synthetic": ["Spread", "agents", "chats", "documents"],
    "keep": ["Place", "affordable_bytes", "cheapest", "longest_pause", "session_options"],
    "cluster": ["longest_context", "most_sequences", "plan", "size_cluster"],
    "demand": ["poisson_demand"],
    "sharing": ["share"],
    "deployments": ["Deployment", "deployments"],
    "show.cluster_panel": ["ClusterPanel"],
    "public_logs": ["log_text", "startup", "startups"],
    "show.memory_panels": ["LogPanel", "MemoryPanel"],
    "show.needle_panel": ["NeedlePanel"],
    "show.panels": ["CachePanel", "ReceiptPanel"],
    "show.receipt": ["Receipt", "receipt"],
    "facts": ["article_claims", "article_ranges", "lessons", "published"],
}
_PUBLIC = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_PUBLIC)


class _Package(ModuleType):
    """Keeps `kv.model` the function: importing the submodule kvlib.model must not hide it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "lab":
        return import_module("kvlib.lab")
    if name not in _PUBLIC:
        raise AttributeError(f"kvlib has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"kvlib.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
