"""What one token costs to fetch: the bytes of weights and of cache that a step reads; flops.py counts the arithmetic.

A decode step reads every weight it needs once, whatever the batch, and the cache of every sequence. That is the whole
secret of batching: weights are shared, caches are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvlib.dtypes import DType, dtype
from kvlib.flops import attended, entries_scored, entry_width, multiplied_weights, over_layers
from kvlib.model import Layer, Model
from kvlib.units import whole


def cache_read(model: Model, context: Any, kv_dtype: str | DType = "bf16", tp: int = 1) -> Any:
    """Bytes of cache that one GPU reads to generate one token at `context` tokens; recurrent state is also written.

    Not `model.cache_bytes`: a sparse layer reads a part of what it keeps, a shared one reads what another keeps, and a
    chunked one reads from the start of the chunk only.
    """
    context, stored = whole("context", context), dtype(kv_dtype)

    def one(layer: Layer) -> Any:
        numbers = attended(layer, context) * entry_width(layer, tp)
        numbers = numbers + entries_scored(layer, context) * getattr(layer, "indexer_dim", 0)
        return stored.nbytes(numbers) + 2 * layer.state_bytes(tp)

    return over_layers(model, one) + 0 * context


def weights_read(model: Model, tokens: Any, weight_dtype: str | DType | Mapping[str, str | DType] = "bf16") -> Any:
    """Bytes of weights that a step over `tokens` tokens reads once, on all GPUs together.

    All but the embedding table (a few rows of it are looked up), and of the routed experts only those that a token of
    the batch chose: `expert_coverage` of them.
    """
    stored = formats(weight_dtype)
    coverage = expert_coverage(model.experts, model.experts_per_token, tokens) if model.experts else 1.0 + 0 * tokens
    _, head = multiplied_weights(model)
    total = float(stored_as(stored, "head").nbytes(head)) + 0 * tokens
    for name, numbers in model.weights:
        if name not in ("embedding", "head"):
            share = coverage if name == "experts" else 1.0
            total += share * stored_as(stored, name).nbytes(numbers)
    return total


def expert_coverage(experts: int, per_token: int, tokens: Any) -> Any:
    """Expected share of the routed experts that at least one of `tokens` tokens chooses, if all are equally likely.

    1 - (1 - k/E)^tokens: of 256 experts, 8 each, one token reads 3 %, a batch of 64 reads 87 %. Real routers have
    favourites, so they read a little less.

    Raises:
        ValueError: if per_token is not between 1 and experts, or tokens is negative.
    """
    whole("experts", experts, 1)
    if not 1 <= whole("per_token", per_token, 1) <= experts:
        raise ValueError(f"per_token must be at most the {experts} experts; got {per_token}")
    least = tokens.min() if getattr(tokens, "size", 0) else tokens
    if not least >= 0:
        raise ValueError(f"tokens must be 0 or more; got {least!r}")
    return 1.0 - (1.0 - per_token / experts) ** tokens


def formats(weight_dtype: str | DType | Mapping[str, str | DType]) -> Mapping[str, DType]:
    """Formats by part of the weights: one for all, or a mapping in which "other" stands for the rest."""
    given = weight_dtype if isinstance(weight_dtype, Mapping) else {"other": weight_dtype}
    if "other" not in given:
        raise ValueError(f'weight_dtype must name a format for "other" parts too; got {dict(given)!r:.80}')
    try:
        return {name: dtype(stored) for name, stored in given.items()}
    except ValueError as unknown:
        raise ValueError(f"weight_{unknown}") from None


def stored_as(stored: Mapping[str, DType], name: str) -> DType:
    """The format of a part: its own, or that of "other"."""
    return stored.get(name, stored["other"])
