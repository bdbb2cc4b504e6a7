"""Tensor parallelism in numpy: one attention layer cut into parts, one for each GPU. Same answer, what cache on each?

Every part gets some of the query heads, with what these heads need; the outputs of all parts add up to the layer's.
Here the "GPUs" are a loop, and adding up is a sum; on real GPUs it is an all-reduce over NVLink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from kvlib.lab.attention import Array, Attention, AttentionLayer, Cache
from kvlib.lab.latent import LatentAttention
from kvlib.units import whole


def share_out(layer: Attention | LatentAttention, tp: int) -> tuple[AttentionLayer, ...]:
    """`layer` cut by heads into `tp` parts.

    KV heads go to the GPU whose query heads ask them; with fewer KV heads than GPUs, several GPUs hold a copy of one.
    A latent is asked by every head, so every part of an MLA layer makes, and keeps, all of it.

    Raises:
        ValueError: if tp does not divide the query heads, or neither divides the KV heads nor is a multiple of them.
    """
    heads = layer.heads if isinstance(layer, Attention) else len(layer.up_key)
    if heads % whole("tp", tp, 1):
        raise ValueError(f"tp must divide the {heads} query heads; got {tp}")
    if isinstance(layer, Attention):
        return tuple(_attention_part(layer, gpu, tp) for gpu in range(tp))
    return tuple(_latent_part(layer, gpu, tp) for gpu in range(tp))


def attend_together(parts: Sequence[AttentionLayer], x: Array, caches: Sequence[Cache]) -> Array:
    """The layer's output for each token of `x`: every part works alone with its own cache, then all are added up.

    Raises:
        ValueError: if there are not as many caches as parts.
    """
    return reduce(add, (part.attend(x, cache) for part, cache in zip(parts, caches, strict=True)))


def _attention_part(layer: Attention, gpu: int, tp: int) -> Attention:
    if layer.kv_heads % tp and tp % layer.kv_heads:
        raise ValueError(f"tp must divide the {layer.kv_heads} KV heads or be a multiple of them; got {tp}")
    heads, kv_heads = layer.heads // tp, max(1, layer.kv_heads // tp)
    asked = gpu * layer.kv_heads // tp  # the first KV head that this GPU's query heads ask
    queries = slice(gpu * heads * layer.head_dim, (gpu + 1) * heads * layer.head_dim)
    keys = slice(asked * layer.head_dim, (asked + kv_heads) * layer.head_dim)
    return replace(
        layer,
        query=layer.query[:, queries],
        key=layer.key[:, keys],
        value=layer.value[:, keys],
        output=layer.output[queries],
        heads=heads,
        kv_heads=kv_heads,
    )


def _latent_part(layer: LatentAttention, gpu: int, tp: int) -> LatentAttention:
    all_heads, _, head_dim = layer.up_key.shape
    heads, asked = all_heads // tp, layer.query.shape[1] // all_heads  # numbers of one head's query
    mine = slice(gpu * heads, (gpu + 1) * heads)
    return replace(
        layer,
        query=layer.query[:, mine.start * asked : mine.stop * asked],
        up_key=layer.up_key[mine],
        up_value=layer.up_value[mine],
        output=layer.output[mine.start * head_dim : mine.stop * head_dim],
    )
