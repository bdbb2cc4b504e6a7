"""Multi-head latent attention (MLA) in numpy: how can 128 heads share a cache of 576 numbers per token?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from kvlib.lab.attention import Array, AttentionLayer, Cache, causal_softmax, random_weights
from kvlib.lab.work import Work
from kvlib.model import Latent
from kvlib.units import whole


@dataclass(frozen=True, eq=False, repr=False)
class LatentAttention(AttentionLayer):
    """Multi-head latent attention (MLA): all heads share one latent and one rotary key per token.

    `down` makes the latent. Each head's `up_key` and `up_value` turn it into that head's key and value. The rotary part
    carries the position. Section 2.1 of DeepSeek-V2 (arXiv 2405.04434), without its low-rank queries and norms.
    """

    query: Array  # (width, heads * (head_dim + rope_dim))
    down: Array  # (width, rank)
    rope: Array  # (width, rope_dim)
    up_key: Array  # (heads, rank, head_dim)
    up_value: Array  # (heads, rank, head_dim)
    output: Array  # (heads * head_dim, width)

    def __post_init__(self) -> None:
        if self.rope.shape[1] % 2:
            raise ValueError(f"rope_dim must be even, because it is rotated in pairs; got {self.rope.shape[1]}")

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        width: int,
        heads: int,
        head_dim: int,
        rank: int,
        rope_dim: int,
        dtype: str = "float32",
    ) -> Self:
        """A layer with random weights, float32 or float64."""
        sizes = {"width": width, "heads": heads, "head_dim": head_dim, "rank": rank, "rope_dim": rope_dim}
        for name, value in sizes.items():
            whole(name, value, 1)
        return cls(
            query=random_weights(rng, (width, heads * (head_dim + rope_dim)), dtype),
            down=random_weights(rng, (width, rank), dtype),
            rope=random_weights(rng, (width, rope_dim), dtype),
            up_key=random_weights(rng, (heads, rank, head_dim), dtype),
            up_value=random_weights(rng, (heads, rank, head_dim), dtype),
            output=random_weights(rng, (heads * head_dim, width), dtype),
        )

    @property
    def layer(self) -> Latent:
        """The same layer as kvlib counts it."""
        return Latent(rank=self.down.shape[1], rope_dim=self.rope.shape[1])

    def new_cache(self, dtype: str | None = None) -> Cache:
        """An empty cache: one latent and one rotary key per token, however many heads there are."""
        rows = {"latents": self.down.shape[1:], "rotary_keys": self.rope.shape[1:]}
        return Cache(rows, dtype or self.query.dtype.name)

    def attend(self, x: Array, cache: Cache | None = None, work: Work | None = None) -> Array:
        """The layer's output for each token of `x`, as `AttentionLayer.attend` says.

        Without a cache every head unpacks its own keys and values: the definition. With one, `up_key` and `up_value`
        work on the query and on the result instead ("absorbed"), so that the latents are never unpacked.
        """
        x, work = self._checked(x), work or Work()
        heads, _, head_dim = self.up_key.shape
        positions = np.arange(len(x)) + (0 if cache is None else cache.seen)
        queries = work.matmul("projections", x, self.query).reshape(len(x), heads, -1).swapaxes(0, 1)
        content, rotary = queries[..., :head_dim], rotate(queries[..., head_dim:], positions)
        latents = work.matmul("projections", x, self.down)
        rotary_keys = rotate(work.matmul("projections", x, self.rope), positions)
        scale = 1 / math.sqrt(queries.shape[-1])

        if cache is None:
            keys = work.matmul("unpacking", latents, self.up_key)
            values = work.matmul("unpacking", latents, self.up_value)
            scores = work.matmul("scores", content, keys.swapaxes(1, 2))
            scores = scores + work.matmul("scores", rotary, rotary_keys.T)
            mixed = work.matmul("mixing", causal_softmax(scores * scale), values)
        else:
            latents, rotary_keys = cache.extend(None, latents=latents, rotary_keys=rotary_keys)
            content = work.matmul("projections", content, self.up_key.swapaxes(1, 2))
            scores = work.matmul("scores", content, latents.T) + work.matmul("scores", rotary, rotary_keys.T)
            mixed = work.matmul("mixing", causal_softmax(scores * scale), latents)
            mixed = work.matmul("projections", mixed, self.up_value)
        return work.matmul("projections", mixed.swapaxes(0, 1).reshape(len(x), -1), self.output)

    def __repr__(self) -> str:
        heads, rank, head_dim = self.up_key.shape
        shared = f"one latent of {rank} + rotary key of {self.rope.shape[1]} for all"
        return f"MLA: {heads} heads x {head_dim}, {shared}, width {self.width}"


def rotate(x: Array, positions: Array, base: float = 10_000.0) -> Array:
    """Rotary position embedding (Su et al., arXiv 2104.09864); shape (..., tokens, dim) in and out, dim even.

    Numbers i and i + dim/2 are a point in the plane, turned by position / base**(2 i / dim). The product of a rotated
    query and a rotated key then depends only on how far apart they are, so a rotated key can be cached.
    """
    half = x.shape[-1] // 2
    angles = positions[:, None] / base ** (np.arange(half) / half)
    cosine, sine = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return np.concatenate([left * cosine - right * sine, right * cosine + left * sine], axis=-1)
