"""A trained transformer of 154,112 weights in numpy, with a real KV cache: it reads a haystack and answers a question.

Two blocks. Block 0 is local: it collects the words around each token. Block 1 is global: the answer's place looks
through all tokens for the one to quote. Only the last place answers, so block 1 works out keys and values for all
tokens, but a query for the last one alone: a prefill is linear in the tokens. The matrices are so small that a second
core would only wait for the first, so numpy is held to one. The task is in needle.py.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache as remembered
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kvlib.lab.attention import Array, causal_softmax
from kvlib.lab.latent import rotate
from kvlib.lab.machine import one_core
from kvlib.lab.tinycache import Cache
from kvlib.lab.tinyweights import (
    HEAD_DIM,
    HEADS,
    SHAPES,
    VOCABULARY,
    WIDTH,
    WINDOW,
    checked,
    load_weights,
    save_weights,
)
from kvlib.lab.transformer import rms_norm
from kvlib.model import Full, Model, Sliding
from kvlib.units import whole

__all__ = ["SCHEMES", "SHAPES", "Cache", "Reading", "TinyLM", "load", "load_weights", "save_weights"]

SCHEMES = ("nope", "alibi", "rope")  # how the global layer tells positions apart; "nope": not at all
SLOPES = 2.0 ** -np.array([2, 4, 6, 8])  # ALiBi, one per head: what a token of distance takes off the score


@dataclass(frozen=True, eq=False, repr=False)
class Reading:
    """What the model says after the last token of each sequence, and where its global layer looked to say it."""

    logits: Array  # (batch, vocabulary)
    attention: Array  # (batch, heads, tokens): each head's weights sum to 1

    @property
    def answer(self) -> NDArray[np.int64]:
        """The most likely next word of each sequence, as an id; shape (batch,)."""
        ids: NDArray[np.int64] = self.logits.argmax(axis=-1)
        return ids

    def __repr__(self) -> str:
        return f"answers {self.answer.tolist()} after {self.attention.shape[-1]:,} tokens"


class TinyLM:
    """The model as a function of its weights: `prefill` fills a cache, `read` appends to it and answers.

    Args:
        weights: arrays by name, of the shapes in `SHAPES`, all float32 or all float64, which is then used throughout.
        scheme: positions in the global layer. "nope": none; "alibi": score - slope x distance (arXiv 2108.12409);
            "rope": queries and keys turned by their position, counted from 0 (arXiv 2104.09864).

    Raises:
        ValueError: if a weight is missing, unknown or misshapen, the dtypes are mixed or others, or scheme is unknown.
    """

    def __init__(self, weights: Mapping[str, Array], scheme: str = "nope") -> None:
        if scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}; got {scheme!r}")
        self.weights, self.scheme, self.dtype = checked(weights), scheme, weights["embedding"].dtype
        distance = WINDOW + np.arange(WINDOW)[:, None] - np.arange(2 * WINDOW)  # of 32 keys from the last 16 of them
        seen = (distance >= 0) & (distance < WINDOW)
        self._bias: Array = np.where(seen, self.weights["local_bias"][:, distance % WINDOW], -math.inf)

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(weight.size for weight in self.weights.values())

    @property
    def model(self) -> Model:
        """The same network as kvlib counts it: `model.cache_bytes(tokens, "fp32")` predicts `cache.nbytes`."""
        shape = (HEADS, HEAD_DIM, HEAD_DIM)
        return Model(
            f"needle model ({self.scheme})",
            layers=(Sliding(*shape, WINDOW), Full(*shape)),
            weights=tuple((name, weight.size) for name, weight in self.weights.items()),
            hidden_size=WIDTH,
            query_heads=HEADS,
            vocab_size=VOCABULARY,
        )

    @one_core()
    def prefill(self, ids: Any, cache: Cache | None = None, chunk: int = 4096) -> Cache:
        """Read a text and keep its keys and values: a new cache, or the given one, made longer.

        Args:
            ids: word ids, shape (tokens,) or (batch, tokens).
            cache: what came before; None: nothing. Its batch must be that of ids.
            chunk: tokens of all sequences together that go through numpy at a time. It changes the speed only: up to
                about 4,096, what is worked on stays in the processor's cache.

        Raises:
            ValueError: if ids are empty, misshapen or not in the vocabulary, or do not fit the cache, or chunk is not
                a whole number, 1 or more.
        """
        ids, cache = self._started(ids, cache)
        for _ in self._extended(cache, ids, chunk):
            pass
        return cache

    @one_core()
    def read(self, cache: Cache, ids: Any, temperature: float = 1.0, top_keys: int | None = None) -> Reading:
        """Append `ids` to the cache, then say what comes next and where each head of the global layer looked.

        Args:
            cache: from `prefill` or `fork`; it becomes longer. Read from `cache.fork(1)` to leave it as it is.
            ids: at least one word id for each sequence, shape (tokens,) or (batch, tokens).
            temperature: factor on the global layer's scores at the last token, above 0. More than 1 sharpens the
                attention, as a lower temperature does where scores are divided by it.
            top_keys: each head keeps only this many keys, those with the largest scores; None: all.

        Raises:
            ValueError: as `prefill`, or if temperature or top_keys is out of range.
        """
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be a number above 0; got {temperature!r}")
        if top_keys is not None:
            top_keys = whole("top_keys", top_keys, 1)
        ids, cache = self._started(ids, cache)
        for stream in self._extended(cache, ids, 4096):
            last = stream[:, -1:]
        logits, attention = self._answers(cache, last, temperature, top_keys)
        return Reading(logits[:, 0], attention[:, :, 0])

    @one_core()
    def logits(self, ids: Any, chunk: int = 256) -> Array:
        """Logits after every token, not only the last: quadratic in the tokens. (tokens,) gives (1, tokens, 433)."""
        ids, cache = self._started(ids, None)
        parts = [self._answers(cache, stream)[0] for stream in self._extended(cache, ids, chunk)]
        return np.concatenate(parts, axis=1)

    def _started(self, ids: Any, cache: Cache | None) -> tuple[NDArray[np.int64], Cache]:
        """`ids` as (batch, tokens), and a cache for as many sequences."""
        words = np.asarray(ids)
        if words.ndim not in (1, 2) or not words.size:
            wanted = "ids must have shape (tokens,) or (batch, tokens) with at least one token"
            raise ValueError(f"{wanted}; got an array of shape {words.shape}")
        if words.dtype.kind not in "iu":
            raise ValueError(f"ids must be whole numbers; got an array of {words.dtype}")
        words = np.atleast_2d(words)
        outside = words[(words < 0) | (words >= VOCABULARY)]
        if outside.size:
            raise ValueError(f"ids must be word ids, 0 to {VOCABULARY - 1}; got {outside[0]}")
        if cache is None:
            local = np.empty((len(words), 0, 2, HEADS, HEAD_DIM), self.dtype)
            cache = Cache(local, np.empty((2, HEADS, 0, HEAD_DIM), self.dtype), 0)
        if cache.batch != len(words):
            raise ValueError(f"ids must be for the cache's {cache.batch} sequences; got {len(words)}")
        if cache.local.dtype != self.dtype:
            raise ValueError(f"cache must be of this model's {self.dtype}; got {cache.local.dtype}")
        return words, cache

    def _extended(self, cache: Cache, ids: NDArray[np.int64], chunk: int) -> Iterator[Array]:
        """Extend the cache piece by piece; after each, the stream behind block 0, shape (batch, tokens, width)."""
        step = max(1, whole("chunk", chunk, 1) // len(ids))
        if step > WINDOW:
            step -= step % WINDOW  # whole blocks for the local layer
        for start in range(0, ids.shape[1], step):
            stream = self.weights["embedding"][ids[:, start : start + step]]
            stream = self._mlp(stream + self._local(cache, self._normed(stream, "attention_gain0")), 0)
            normed = self._normed(stream, "attention_gain1")
            rows = np.stack([normed @ self.weights["k1"].T, normed @ self.weights["v1"].T], axis=1)
            rows = rows.reshape(*rows.shape[:3], HEADS, HEAD_DIM).transpose(0, 1, 3, 2, 4)
            if self.scheme == "rope":
                rows[:, 0] = rotate(rows[:, 0], np.arange(cache.tokens, cache.tokens + rows.shape[3]))
            cache.append(rows)
            yield stream

    def _local(self, cache: Cache, x: Array) -> Array:
        """Block 0's attention for new tokens, shape (batch, tokens, width) in and out; the cache keeps the last 16.

        Queries go in blocks of 16. A block needs the keys of its own 16 tokens and of the 16 before, and no others.
        """
        batch, tokens, _ = x.shape
        past, blocks = cache.local.shape[1], -(-tokens // WINDOW)
        held = np.zeros((batch, (blocks + 1) * WINDOW, 2, HEADS, HEAD_DIM), x.dtype)
        known, end = WINDOW - past, WINDOW + tokens
        held[:, known:WINDOW] = cache.local
        held[:, WINDOW:end, 0] = (x @ self.weights["k0"].T).reshape(batch, tokens, HEADS, HEAD_DIM)
        held[:, WINDOW:end, 1] = (x @ self.weights["v0"].T).reshape(batch, tokens, HEADS, HEAD_DIM)
        cache.local = held[:, max(known, tokens) : end].copy()

        queries = np.zeros((batch, blocks * WINDOW, WIDTH), x.dtype)
        queries[:, :tokens] = x @ self.weights["q0"].T
        # From here (batch, blocks, heads, ...): a view shows each block its 32 rows without copying them.
        queries = queries.reshape(batch, blocks, WINDOW, HEADS, HEAD_DIM).transpose(0, 1, 3, 2, 4)
        pairs = sliding_window_view(held, 2 * WINDOW, axis=1)[:, ::WINDOW]
        keys, values = pairs[:, :, 0], pairs[:, :, 1].swapaxes(-1, -2)
        scores = queries @ keys / math.sqrt(HEAD_DIM) + self._bias
        scores[:, 0, :, :, :known] = -math.inf  # before the text begins
        mixed = (_softmax(scores) @ values).transpose(0, 1, 3, 2, 4).reshape(batch, -1, WIDTH)
        output: Array = mixed[:, :tokens] @ self.weights["o0"].T
        return output

    def _answers(
        self, cache: Cache, stream: Array, temperature: float = 1.0, top_keys: int | None = None
    ) -> tuple[Array, Array]:
        """Block 1 and the head for the cache's last tokens: logits, and attention (batch, heads, queries, tokens)."""
        batch, tokens, _ = stream.shape
        queries = self._normed(stream, "attention_gain1") @ self.weights["q1"].T
        queries = queries.reshape(batch, tokens, HEADS, HEAD_DIM).transpose(0, 2, 1, 3)
        positions = np.arange(cache.tokens - tokens, cache.tokens)
        if self.scheme == "rope":
            queries = rotate(queries, positions)
        scores = cache.scores(queries) / math.sqrt(HEAD_DIM)
        if self.scheme == "alibi":
            scores -= SLOPES[:, None, None].astype(self.dtype) * (positions[:, None] - np.arange(cache.tokens))
        scores *= temperature
        if top_keys is not None and top_keys < cache.tokens:
            dropped = np.argpartition(scores, -top_keys, axis=-1)[..., :-top_keys]
            np.put_along_axis(scores, dropped, -math.inf, axis=-1)
        attention = causal_softmax(scores)
        mixed = cache.mix(attention)
        stream = stream + mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, WIDTH) @ self.weights["o1"].T
        return self._normed(self._mlp(stream, 1), "final_gain") @ self.weights["head"].T, attention

    def _mlp(self, stream: Array, block: int) -> Array:
        """The stream after a block's MLP: up, ReLU, down."""
        hidden = self._normed(stream, f"mlp_gain{block}") @ self.weights[f"up{block}"].T
        added: Array = np.maximum(hidden, 0, out=hidden) @ self.weights[f"down{block}"].T
        return stream + added

    def _normed(self, stream: Array, gain: str) -> Array:
        return rms_norm(stream) * self.weights[gain]

    def __repr__(self) -> str:
        return f"TinyLM, {self.scheme}: {self.parameters:,} weights, {self.model.growth('fp32'):,} B of cache per token"


@remembered
def load(name: str = "nope", folder: Path | None = None) -> TinyLM:
    """A trained model, read once: "nope", "alibi" or "rope", each from `name`.npz in `folder`.

    Args:
        name: the scheme of positions that it was trained with.
        folder: holds the weights and their SHA-256 sums in SHA256SUMS; None: those that kvlib brings along.

    Raises:
        ValueError: if there is no such model, or the file is not the one that was published.
    """
    home = resources.files("kvlib") / "data" / "needle" if folder is None else folder
    lines = (home / "SHA256SUMS").read_text(encoding="utf-8").splitlines()  # the format of `sha256sum --check`
    sums = {file.removesuffix(".npz"): digest for digest, file in (line.split() for line in lines)}
    if name not in sums:
        raise ValueError(f"name must be one of {', '.join(sums)}; got {name!r}")
    content = (home / f"{name}.npz").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sums[name]:
        raise ValueError(f"{home / name}.npz is not the published file: its SHA-256 is {found}, not {sums[name]}")
    weights = load_weights(io.BytesIO(content))
    for weight in weights.values():
        weight.flags.writeable = False  # everybody who asks gets these same arrays
    return TinyLM(weights, scheme=name)


def _softmax(scores: Array) -> Array:
    """Softmax over the last axis, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
