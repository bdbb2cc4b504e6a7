"""The cache of an attention that the learner puts together, and a verdict on the learner's prediction of it.

Pure functions; the panel only draws what they say. The bytes come from the layers of `kvlib.model`, the formula is the
same product written out with the numbers plugged in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvlib.dtypes import dtype as number_format
from kvlib.model import Full, Latent, Layer, Model, Sliding
from kvlib.show.svg import Picture, bar, plural
from kvlib.show.tables import Html, table
from kvlib.units import GB, GiB, size, whole

KINDS = {"heads": "KV heads (MHA, GQA, MQA)", "sliding": "KV heads with a sliding window", "latent": "one latent (MLA)"}
CARD_BYTES = 80 * GB
GOOD = 0.02  # a prediction this close counts as right: the rounding of "17 GB"


@dataclass(frozen=True)
class Shape:
    """What is cached by `layers` equal layers for one sequence of `tokens` tokens.

    `queries_per_kv` query heads share one KV head: 1 is MHA, several are GQA. The cache does not depend on it.
    `rank` and `rope_dim` count for kind "latent" only, `window` for "sliding" only.
    """

    kind: str
    layers: int
    kv_heads: int
    queries_per_kv: int
    head_dim: int
    window: int
    rank: int
    rope_dim: int
    tokens: int
    dtype: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        for name in ("layers", "kv_heads", "queries_per_kv", "head_dim", "window", "rank"):
            whole(name, getattr(self, name), 1)
        whole("rope_dim", self.rope_dim)

    @property
    def layer(self) -> Layer:
        """One of the layers."""
        if self.kind == "latent":
            return Latent(self.rank, self.rope_dim)
        if self.kind == "sliding":
            return Sliding(self.kv_heads, self.head_dim, self.head_dim, window=self.window)
        return Full(self.kv_heads, self.head_dim, self.head_dim)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cache, by `kvlib.model`."""
        return int(Model("panel", (self.layer,) * self.layers).cache_bytes(self.tokens, self.dtype))

    @property
    def query_heads(self) -> int:
        """Heads that ask; they cache nothing."""
        return self.kv_heads * self.queries_per_kv

    @property
    def kept(self) -> int:
        """Tokens that a layer keeps."""
        return min(self.tokens, self.window) if self.kind == "sliding" else self.tokens

    @property
    def name(self) -> str:
        """What people call this attention."""
        if self.kind == "latent":
            return "MLA"
        heads = "MHA" if self.queries_per_kv == 1 else "MQA" if self.kv_heads == 1 else "GQA"
        return f"{heads}, sliding window" if self.kind == "sliding" else heads


def formula(shape: Shape) -> str:
    """The product with its numbers: "2 (key and value) × 32 layers × 8 KV heads × ... = 17,179,869,184 bytes"."""
    bits = number_format(shape.dtype).bits
    each = f"{float(bits / 8):g} bytes ({shape.dtype})"
    if shape.kind == "latent":
        latent = f"({shape.rank:,} latent + {shape.rope_dim:,} rotary key)"
        terms = [plural(shape.layers, "layer"), latent]
    else:
        terms = [
            "2 (key and value)",
            plural(shape.layers, "layer"),
            plural(shape.kv_heads, "KV head"),
            f"head size {shape.head_dim:,}",
        ]
    kept = plural(shape.kept, "token") + (" kept" if shape.kind == "sliding" else "")
    return f"{' × '.join([*terms, kept, each])} = {shape.cache_bytes:,} bytes"


def shape_picture(shape: Shape, predicted_gb: float | None = None) -> Picture:
    """The cache on a bar as long as an 80 GB card, with the prediction as a dashed line."""
    if shape.kind == "latent":
        latent = shape.cache_bytes * shape.rank // (shape.rank + shape.rope_dim)
        parts = [("latent", latent), ("rotary key", shape.cache_bytes - latent)]
    else:
        half = shape.cache_bytes // 2
        parts = [("keys", half), ("values", shape.cache_bytes - half)]
    marks = [] if predicted_gb is None else [("your prediction", predicted_gb * GB)]
    return bar(parts, CARD_BYTES, label=f"KV cache ({shape.name}) on one card", marks=marks)  # type: ignore[arg-type]


def shape_sentence(shape: Shape) -> str:
    """The cache in words: the shape, the formula with its numbers, and both units."""
    return f"{heads(shape)}: {formula(shape)} = {size(shape.cache_bytes)}."


def heads(shape: Shape) -> str:
    """The attention in words, without its bytes: "GQA, 32 query heads on 8 KV heads"."""
    if shape.kind == "latent":
        return "MLA, one latent for all heads"
    return f"{shape.name}, {shape.query_heads:,} query heads on {plural(shape.kv_heads, 'KV head')}"


def shape_table(shape: Shape) -> Html:
    """The cache line by line, and what one more token costs."""
    per_token = Model("panel", (shape.layer,) * shape.layers).growth(shape.dtype)
    body = [
        ("attention", shape.name),
        ("formula", formula(shape)),
        ("cache", size(shape.cache_bytes)),
        (
            f"one more token {'beyond the window ' if shape.kind == 'sliding' else ''}adds",
            f"{per_token:,} B" if per_token < 1000 else f"{per_token:,} B = {size(per_token)}",
        ),
        (f"share of a card of {size(CARD_BYTES)}", f"{100 * shape.cache_bytes / CARD_BYTES:,.1f} %"),
    ]
    return table(f"KV cache of one sequence of {shape.tokens:,} tokens", ("what", "how much"), body)


def verdict(shape: Shape, predicted_gb: float) -> str:
    """How far off the prediction was, and the usual mistake that explains it, if one does.

    Args:
        shape: what was predicted.
        predicted_gb: the prediction in GB (10**9 bytes), more than 0.

    Raises:
        ValueError: if predicted_gb is not a finite number above 0.
    """
    if not (math.isfinite(predicted_gb) and predicted_gb > 0):
        raise ValueError(f"predicted_gb must be a number of GB above 0; got {predicted_gb!r}")
    said, truth = predicted_gb * GB, shape.cache_bytes
    words = f"You predicted {size(said)}; it is {size(truth)}: "
    if close(said, truth):
        return words + "right."
    ratio = said / truth if truth else math.inf
    if 0.5 < ratio < 2:
        words += f"{abs(ratio - 1) * 100:.0f} % too {'high' if ratio > 1 else 'low'}."
    else:
        words += f"{ratio:,.3g} × too high." if ratio > 1 else f"{truth / said:,.3g} × too low."
    slip = next((why for wrong, why in _slips(shape) if close(said, wrong) and not close(wrong, truth)), None)
    return words + (f" It looks as if {slip}." if slip else "")


def close(a: float, b: float) -> bool:
    """Whether `a` is within 2 % of `b`."""
    return abs(a - b) <= GOOD * b


def _slips(shape: Shape) -> list[tuple[float, str]]:
    """Bytes that the usual mistakes lead to, the most telling first."""
    truth = shape.cache_bytes
    slips = [
        (truth / GiB * GB, "you wrote the number of GiB: a GB is 10^9 bytes, a GiB is 2^30"),
        (truth / shape.layers, "you counted one layer, not all of them"),
    ]
    if shape.kind == "latent":
        rank_only = truth * shape.rank / (shape.rank + shape.rope_dim)
        return [
            (2 * truth, "you counted a key and a value: the latent is both"),
            (rank_only, "you left out the rotary key"),
            *slips,
        ]
    if shape.kind == "sliding":
        whole = truth / max(shape.kept, 1) * shape.tokens
        slips.insert(0, (whole, "you counted every token: a layer keeps only its window"))
    queries = (truth * shape.queries_per_kv, "you counted the query heads: only KV heads are cached")
    return [queries, (truth / 2, "you counted keys or values, not both"), *slips]
