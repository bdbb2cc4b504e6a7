"""What one token costs to compute: FLOPs, layer by layer; traffic.py counts the bytes.

A multiply-add counts as two FLOPs. Every weight that multiplies costs 2 FLOPs per token; the embedding table is looked
up, not multiplied, and the output head works only for tokens whose logits somebody wants. On top comes attention, which
each kind of layer counts for itself: how many earlier entries the newest token meets, and how wide they are.
Normalisation, softmax and rotary factors are left out: below 1 % everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlib.model import Chunked, Compressed, Full, Latent, Layer, Model, Recurrent, Shared, Sliding, at_most
from kvlib.units import whole

# What a Latent layer does not say, alike in every published MLA model of the catalogue (config.json of DeepSeek-V2, V3
# and Kimi K2: qk_nope_head_dim, v_head_dim): in prefill each head has keys of 128 + rope_dim numbers and values of 128.
MLA_NOPE, MLA_VALUE = 128, 128
# Sparse attention: an indexer of 64 heads scores every entry, attention reads the best (index_n_heads, index_topk).
INDEX_HEADS, LATENT_TOPK, COMPRESSED_TOPK = 64, 2048, 1024
# A recurrent state is decayed, updated by an outer product and read: three multiply-adds for each of its numbers
# (gated delta rule, arXiv 2412.06464, eq. 10, with the read-out; Mamba-2 needs one less).
STATE_FLOPS = 6


def attended(layer: Layer, context: Any) -> Any:
    """Entries that the newest of `context` tokens meets in one layer, itself included: int or array, as `context`."""
    if isinstance(layer, Sliding):
        return at_most(context, layer.window)
    if isinstance(layer, Chunked):
        return context - (context - at_most(context, 1)) // layer.chunk * layer.chunk
    if isinstance(layer, Latent) and layer.indexer_dim:
        return at_most(context, LATENT_TOPK)
    if isinstance(layer, Full | Latent):
        return context
    if isinstance(layer, Compressed):
        return at_most(context, layer.window) + _chosen(layer, context)
    return 0 * context


def attended_by_all(layer: Layer, tokens: Any) -> Any:
    """The sum of `attended` over contexts of 1, 2, ... `tokens`: what a causal prefill meets in one layer."""
    if isinstance(layer, Sliding):
        return _ramp(tokens, layer.window)
    if isinstance(layer, Chunked):
        chunks, rest = tokens // layer.chunk, tokens % layer.chunk
        return chunks * _triangle(layer.chunk) + _triangle(rest)
    if isinstance(layer, Latent) and layer.indexer_dim:
        return _ramp(tokens, LATENT_TOPK)
    if isinstance(layer, Full | Latent):
        return _triangle(tokens)
    if isinstance(layer, Compressed):
        most = COMPRESSED_TOPK * layer.ratio if layer.indexer_dim else tokens
        short = at_most(tokens, most) if layer.indexer_dim else tokens
        return _ramp(tokens, layer.window) + _steps(short, layer.ratio) + (tokens - short) * COMPRESSED_TOPK
    return 0 * tokens


def prefill_flops(model: Model, tokens: Any, cached: Any = 0, logits: int = 1) -> Any:
    """FLOPs to read a prompt of `tokens` new tokens after `cached` ones, on all GPUs together.

    2 x (active weights without embedding and head) x tokens + 2 x head x logits + causal attention. With the logits of
    every token and the embedding counted too, the first two terms are the rule of thumb 2 x active parameters x tokens.

    Args:
        model: the model.
        tokens: whole number or array of them.
        cached: tokens before these whose keys and values are there already.
        logits: tokens whose logits are computed: an engine needs the last one.

    Returns:
        A whole number, or an array of the shape of `tokens`.

    Raises:
        ValueError: if an argument is negative or not whole.

    Source: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1, with the causal half of the attention term.
    """
    tokens, cached, logits = whole("tokens", tokens), whole("cached", cached), whole("logits", logits)
    body, head = multiplied_weights(model)
    return 2 * body * tokens + 2 * head * logits + prefill_attention_flops(model, tokens, cached)


def prefill_attention_flops(model: Model, tokens: Any, cached: Any = 0) -> Any:
    """FLOPs of the attention term of `prefill_flops` alone, with recurrent updates: they use no weights either."""
    tokens, cached = whole("tokens", tokens), whole("cached", cached)
    every = cached + tokens

    def one(layer: Layer) -> Any:
        met = attended_by_all(layer, every) - attended_by_all(layer, cached)
        scored = _scored_by_all(layer, every) - _scored_by_all(layer, cached)
        return met * _pair_flops(layer, model.query_heads, decode=False) + scored + tokens * _state_flops(layer)

    return over_layers(model, one)


def decode_flops(model: Model, context: Any) -> Any:
    """FLOPs to generate one token of a sequence that is `context` tokens long with it, on all GPUs together.

    2 x (active weights without the embedding) + attention over the context. MLA attends in the latent space, where one
    entry is `rank` wide for every head (absorbed projections, arXiv 2405.04434, section 2.1.2).
    """
    body, head = multiplied_weights(model)
    return 2 * (body + head) + decode_attention_flops(model, context)


def decode_attention_flops(model: Model, context: Any) -> Any:
    """FLOPs of the attention term of `decode_flops` alone, with recurrent updates."""
    context = whole("context", context)

    def one(layer: Layer) -> Any:
        scored = entries_scored(layer, context) * _index_flops(layer)
        pairs = attended(layer, context) * _pair_flops(layer, model.query_heads, decode=True)
        return pairs + scored + _state_flops(layer)

    return over_layers(model, one) + 0 * context


def multiplied_weights(model: Model) -> tuple[int, int]:
    """(weights inside the layers that one token multiplies, weights of the output head); a tied head is the embedding.

    Per-layer embedding tables (Gemma 3n) stand in a part "extras" and count as multiplied: an upper estimate.
    """
    embedding, own = part(model, "embedding"), part(model, "head")
    tied = own < embedding // 2  # a head of its own is as large as the embedding; OPT's projections make it larger
    return model.active_parameters - embedding - own, embedding if tied else own


def part(model: Model, name: str) -> int:
    """Weights of one part, 0 if the model has none."""
    return sum(numbers for known, numbers in model.weights if known == name)


def over_layers(model: Model, one: Callable[[Layer], Any]) -> Any:
    """The sum of `one(layer)` over the layers. A shared layer repeats an earlier one; which, it does not say: the mean.

    Families that share caches repeat one pattern of layers throughout, so the mean is nearly exact.
    """
    attention = sum(count for layer, count in model.layer_counts.items() if entry_width(layer, 1))
    shared = sum(count for layer, count in model.layer_counts.items() if isinstance(layer, Shared))
    total: Any = 0
    repeated: Any = 0
    for layer, count in model.layer_counts.items():
        cost = count * one(layer)
        total = total + cost
        repeated = repeated + (cost if entry_width(layer, 1) else 0)
    return total + repeated * shared // max(1, attention)


def entry_width(layer: Layer, tp: int) -> int:
    """Numbers that one GPU reads of one entry."""
    if isinstance(layer, Full):
        return layer.per_token(tp)
    if isinstance(layer, Latent):
        return layer.rank + layer.rope_dim
    return layer.dim if isinstance(layer, Compressed) else 0


def _pair_flops(layer: Layer, heads: int, decode: bool) -> int:
    """FLOPs for one query token and one entry: a score and a weighted sum for every query head."""
    if isinstance(layer, Full):
        return 2 * heads * (layer.key_dim + layer.value_dim)
    if isinstance(layer, Latent):
        apart = MLA_NOPE + layer.rope_dim + MLA_VALUE
        return 2 * heads * (2 * layer.rank + layer.rope_dim if decode else apart)
    return 4 * heads * layer.dim if isinstance(layer, Compressed) else 0


def entries_scored(layer: Layer, context: Any) -> Any:
    """Entries that the indexer of a sparse layer scores for one token."""
    if isinstance(layer, Latent) and layer.indexer_dim:
        return context
    return context // layer.ratio if isinstance(layer, Compressed) and layer.indexer_dim else 0 * context


def _scored_by_all(layer: Layer, tokens: Any) -> Any:
    """FLOPs of the indexer over contexts of 1 ... `tokens`."""
    if isinstance(layer, Latent) and layer.indexer_dim:
        return _triangle(tokens) * _index_flops(layer)
    if isinstance(layer, Compressed) and layer.indexer_dim:
        return _steps(tokens, layer.ratio) * _index_flops(layer)
    return 0 * tokens


def _index_flops(layer: Layer) -> int:
    return 2 * INDEX_HEADS * int(getattr(layer, "indexer_dim", 0))


def _state_flops(layer: Layer) -> int:
    """FLOPs of one token in a recurrent layer: its state, and the taps of its short convolution."""
    return STATE_FLOPS * layer.state + 2 * layer.conv if isinstance(layer, Recurrent) else 0


def _chosen(layer: Compressed, context: Any) -> Any:
    """Compressed entries that one token meets: all, or the best of the indexer."""
    entries = context // layer.ratio if layer.ratio else 0 * context
    return at_most(entries, COMPRESSED_TOPK) if layer.indexer_dim else entries


def _triangle(n: Any) -> Any:
    return n * (n + 1) // 2


def _ramp(n: Any, limit: int) -> Any:
    """Sum of min(k, limit) for k = 1 ... n."""
    low = at_most(n, limit)
    return _triangle(low) + (n - low) * limit


def _steps(n: Any, ratio: int) -> Any:
    """Sum of k // ratio for k = 1 ... n; 0 without a ratio."""
    if not ratio:
        return 0 * n
    whole_steps, rest = n // ratio, n % ratio
    return ratio * _triangle(whole_steps - at_most(whole_steps, 1)) + whole_steps * (rest + 1) if ratio > 0 else 0 * n
