"""One attention layer in numpy, with and without a KV cache: does the cache change the answer, and what does it save?

Every matrix product goes through `Work`, which counts the multiply-adds of the operands it is really given. Left out,
because it caches nothing: further layers, MLPs, norms, batches. Positions are left out too: this layer knows the order
of the tokens only through the causal mask. MLA, which needs a rotary key, is in latent.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.work import Work
from kvlib.model import Full, Sliding
from kvlib.units import size, whole

Array = NDArray[Any]


class Cache:
    """What one layer remembers of one sequence: named arrays with one row per token.

    `arrays` are the real thing, `nbytes` is their size. They grow by copying, as in transformers' DynamicCache. `seen`
    counts the tokens that have passed through; with a `window`, no more than the last `window` of them are `held`.
    """

    def __init__(self, rows: dict[str, tuple[int, ...]], dtype: str, window: int | None = None) -> None:
        stored = _dtype(dtype, "float16", "float32", "float64")
        self.arrays: dict[str, Array] = {name: np.empty((0, *row), stored) for name, row in rows.items()}
        self.window = None if window is None else whole("window", window, 1)
        self.seen = 0

    def extend(self, window: int | None, **new: Array) -> tuple[Array, ...]:
        """Store the rows of new tokens and return all rows that these tokens may look at, oldest first.

        With a window, each token looks back at `window - 1` others, so a block of several tokens is shown more than
        `window` rows; the cache keeps the last `window` of them.
        """
        wanted, own = ({name: a.shape[1:] for name, a in arrays.items()} for arrays in (new, self.arrays))
        if wanted != own or window != self.window:
            layer = f"rows {wanted} and window {window}"
            raise ValueError(
                f"cache must be this layer's new_cache(), with {layer}; got {own} and window {self.window}"
            )
        lookback = None if window is None else window - 1
        shown = {name: _last(self.arrays[name], lookback) for name in new}
        shown = {name: np.concatenate([shown[name], rows], dtype=shown[name].dtype) for name, rows in new.items()}
        self.arrays = {name: _last(rows, window) for name, rows in shown.items()}
        self.seen += len(next(iter(new.values())))
        return tuple(shown.values())

    @property
    def held(self) -> int:
        """Tokens in the arrays now."""
        return len(next(iter(self.arrays.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, as numpy reports them."""
        return sum(array.nbytes for array in self.arrays.values())

    def __repr__(self) -> str:
        arrays = " + ".join(f"{name} {array.shape} {array.dtype}" for name, array in self.arrays.items())
        return f"{self.held:,} of {self.seen:,} tokens held: {arrays} = {size(self.nbytes)}"


class AttentionLayer:
    """What `Attention` and `LatentAttention` have in common: both are a function of all tokens so far."""

    query: Array

    @property
    def width(self) -> int:
        """Numbers that describe one token on its way through the model (hidden size)."""
        return len(self.query)

    def new_cache(self, dtype: str | None = None) -> Cache:
        """An empty cache for one sequence, stored as float16, float32 or float64; by default as the weights are."""
        raise NotImplementedError

    def attend(self, x: Array, cache: Cache | None = None, work: Work | None = None) -> Array:
        """The layer's output for each token of `x`; shape (tokens, width) in and out.

        Args:
            x: without a cache the whole sequence; with one, only the tokens that are new, and the cache is extended.
            cache: from `new_cache()`.
            work: counts the multiply-adds.

        Raises:
            ValueError: if x is empty or not `width` wide, or the cache belongs to another kind of layer.
        """
        raise NotImplementedError

    def step(self, x: Array, cache: Cache, work: Work | None = None) -> Array:
        """One new token: its output from its input and the cache, which grows by one row; shape (width,) in and out."""
        token = np.asarray(x)
        if token.shape != (self.width,):
            raise ValueError(f"x must be one token of shape ({self.width},); got an array of shape {token.shape}")
        output: Array = self.attend(token[None], cache, work)[0]
        return output

    def _checked(self, x: Any) -> Array:
        """`x` as an array of the weights' dtype."""
        tokens: Array = np.asarray(x, dtype=self.query.dtype)
        if tokens.ndim != 2 or tokens.shape[1] != self.width or not len(tokens):
            wanted = f"x must have shape (tokens, {self.width}) with at least one token"
            raise ValueError(f"{wanted}; got an array of shape {tokens.shape}")
        return tokens


@dataclass(frozen=True, eq=False, repr=False)
class Attention(AttentionLayer):
    """Multi-head (MHA), grouped-query (GQA) or multi-query (MQA) attention, over all tokens or a sliding `window`.

    Weights have shape (inputs, outputs). Each of the `kv_heads` serves a group of heads // kv_heads query heads
    (Ainslie et al., arXiv 2305.13245). Only keys and values are cached: nobody asks for an old query again.
    """

    query: Array
    key: Array
    value: Array
    output: Array
    heads: int
    kv_heads: int
    window: int | None = None

    def __post_init__(self) -> None:
        whole("heads", self.heads, 1)
        whole("kv_heads", self.kv_heads, 1)
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide the {self.heads} heads into equal groups; got {self.kv_heads}")
        if self.window is not None:
            whole("window", self.window, 1)

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        width: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int | None = None,
        dtype: str = "float32",
    ) -> Self:
        """A layer with random weights, float32 or float64; `head_dim` need not be width / heads."""
        for name, value in {"width": width, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}.items():
            whole(name, value, 1)
        queries, keys = heads * head_dim, kv_heads * head_dim
        return cls(
            query=random_weights(rng, (width, queries), dtype),
            key=random_weights(rng, (width, keys), dtype),
            value=random_weights(rng, (width, keys), dtype),
            output=random_weights(rng, (queries, width), dtype),
            heads=heads,
            kv_heads=kv_heads,
            window=window,
        )

    @property
    def head_dim(self) -> int:
        """Numbers in one key, and in one value."""
        return int(self.query.shape[1]) // self.heads

    @property
    def layer(self) -> Full:
        """The same layer as kvlib counts it: `layer.cached_elements(tokens)` predicts the size of the cache."""
        shape = (self.kv_heads, self.head_dim, self.head_dim)
        return Full(*shape) if self.window is None else Sliding(*shape, self.window)

    def new_cache(self, dtype: str | None = None) -> Cache:
        """An empty cache: a key and a value for each KV head and token, `window` tokens at most."""
        row = (self.kv_heads, self.head_dim)
        return Cache({"keys": row, "values": row}, dtype or self.query.dtype.name, self.window)

    def attend(self, x: Array, cache: Cache | None = None, work: Work | None = None) -> Array:
        """The layer's output for each token of `x`, as `AttentionLayer.attend` says."""
        x, work = self._checked(x), work or Work()
        queries = work.matmul("projections", x, self.query).reshape(len(x), self.kv_heads, -1, self.head_dim)
        keys = work.matmul("projections", x, self.key).reshape(len(x), self.kv_heads, self.head_dim)
        values = work.matmul("projections", x, self.value).reshape(len(x), self.kv_heads, self.head_dim)
        if cache is not None:
            keys, values = cache.extend(self.window, keys=keys, values=values)

        # From here (kv_heads, group, tokens, ...): all queries of a group meet the same keys and the same values.
        scores = work.matmul("scores", queries.transpose(1, 2, 0, 3), keys.transpose(1, 2, 0)[:, None])
        weights = causal_softmax(scores / math.sqrt(self.head_dim), self.window)
        mixed = work.matmul("mixing", weights, values.transpose(1, 0, 2)[:, None])
        return work.matmul("projections", mixed.transpose(2, 0, 1, 3).reshape(len(x), -1), self.output)

    def __repr__(self) -> str:
        kind = {1: "MQA", self.heads: "MHA"}.get(self.kv_heads, "GQA")
        window = "" if self.window is None else f", window {self.window:,}"
        kv = f"{self.kv_heads} KV heads x {self.head_dim}"
        return f"{kind}: {self.heads} query heads, {kv}, width {self.width}{window}"


def causal_softmax(scores: Array, window: int | None = None) -> Array:
    """Attention weights: a softmax over the tokens that each query may see; shape (..., queries, tokens) in and out.

    The queries are those of the last tokens. Each sees itself and what came before, `window` tokens in all.
    """
    queries, tokens = scores.shape[-2:]
    ahead = np.arange(tokens) - np.arange(tokens - queries, tokens)[:, None]  # how far a key lies after the query
    visible = (ahead <= 0) & (ahead > -(window or tokens))
    masked = np.where(visible, scores, -math.inf)
    powers = np.exp(masked - masked.max(axis=-1, keepdims=True))
    weights: Array = powers / powers.sum(axis=-1, keepdims=True)
    return weights


def generate_recomputing(layer: AttentionLayer, prompt: Array, tokens: int, work: Work | None = None) -> Array:
    """`tokens` outputs after `prompt`, each the next input, everything done again each time; shape (tokens, width)."""
    sequence = layer._checked(prompt)
    for _ in range(whole("tokens", tokens, 1)):
        latest = layer.attend(sequence, work=work)[-1:]
        sequence = np.concatenate([sequence, latest])
    return sequence[-tokens:]


def generate_cached(layer: AttentionLayer, prompt: Array, tokens: int, work: Work | None = None) -> Array:
    """The same outputs, but the prompt goes through once (prefill), then each token alone (decode)."""
    cache = layer.new_cache()
    outputs = [layer.attend(prompt, cache, work)[-1]]
    while len(outputs) < whole("tokens", tokens, 1):
        outputs.append(layer.step(outputs[-1], cache, work))
    return np.stack(outputs)


def random_weights(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Weights of shape (..., inputs, outputs) that keep the variance of what goes through: normal / sqrt(inputs)."""
    weights: Array = (rng.standard_normal(shape) / math.sqrt(shape[-2])).astype(_dtype(dtype, "float32", "float64"))
    return weights


def _last(rows: Array, count: int | None) -> Array:
    """The last `count` rows, or all of them. A copy, so that what is cut off does not stay in memory behind a view."""
    return rows if count is None or len(rows) <= count else rows[len(rows) - count :].copy()


def _dtype(name: str, *known: str) -> np.dtype[Any]:
    """The numpy dtype of that name, if it is one of `known`."""
    if name not in known:
        raise ValueError(f"dtype must be one of {', '.join(known)}; got {name!r}")
    return np.dtype(name)
