"""A Llama in numpy with a real KV cache: the forward pass of SmolLM2, for any weights of that shape.

Nothing is sampled and nothing batched: one sequence, float32 arithmetic. Decode has to read every weight once per token
and prefill has to multiply, so both are written to leave that work to the matrix library: matrices that share an input
are one matrix, each lies in memory as the product reads it, and large intermediate results go into buffers that stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from kvlib.configs import from_config
from kvlib.lab.attention import Array
from kvlib.lab.smol_cache import LlamaCache
from kvlib.model import Model
from kvlib.units import whole

CHUNK = 256  # tokens of a prompt that go through the layers together: enough to keep a matrix product busy


@dataclass(frozen=True, eq=False)
class LlamaBlock:
    """The weights of one layer, each matrix of shape (inputs, outputs): a vector times it reads memory in order.

    `qkv` holds query, key and value side by side, `gate_up` the two input matrices of the MLP; both halves share an
    input, so they are one product.
    """

    attention_gain: Array
    qkv: Array
    output: Array
    mlp_gain: Array
    gate_up: Array
    down: Array


@dataclass(frozen=True, eq=False)
class Llama:
    """A decoder of the Llama family with tied embeddings; `config` in the words of a Hugging Face config.json.

    `head` has shape (width, vocabulary): its columns are the embeddings as well. Each query and key head has the halves
    of its rotary pairs apart: numbers i and i + head size / 2 turn together (Su et al., arXiv 2104.09864).
    """

    config: dict[str, Any]
    blocks: tuple[LlamaBlock, ...]
    gain: Array
    head: Array
    _buffers: dict[str, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def assemble(cls, config: dict[str, Any], tensor: Callable[[str], Array]) -> Self:
        """From tensors by the names and shapes that transformers gives them, (outputs, inputs), without "model."."""

        def matrix(*names: str) -> Array:
            side_by_side = np.concatenate([tensor(f"{name}.weight").T for name in names], axis=1)
            return np.ascontiguousarray(side_by_side, np.float32)

        def gain(name: str) -> Array:
            return np.asarray(tensor(f"{name}.weight"), np.float32)

        def block(at: str) -> LlamaBlock:
            return LlamaBlock(
                gain(f"{at}.input_layernorm"),
                matrix(*(f"{at}.self_attn.{part}_proj" for part in "qkv")),
                matrix(f"{at}.self_attn.o_proj"),
                gain(f"{at}.post_attention_layernorm"),
                matrix(f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj"),
                matrix(f"{at}.mlp.down_proj"),
            )

        blocks = tuple(block(f"layers.{i}") for i in range(config["num_hidden_layers"]))
        return cls(config, blocks, gain("norm"), matrix("embed_tokens"))

    @classmethod
    def random(cls, rng: np.random.Generator, config: dict[str, Any]) -> Self:
        """Random weights for this config: speaks nonsense, but costs what the real ones cost."""
        width, mlp, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
        keys = width // heads * config["num_key_value_heads"]
        outputs = {"q_proj": width, "k_proj": keys, "v_proj": keys, "gate_proj": mlp, "up_proj": mlp}

        def tensor(name: str) -> Array:
            part = name.split(".")[-2]
            if "norm" in part:
                return np.asarray(rng.uniform(0.5, 1.5, width), np.float32)
            rows = config["vocab_size"] if part == "embed_tokens" else outputs.get(part, width)
            inputs = mlp if part == "down_proj" else width
            weights: Array = rng.standard_normal((rows, inputs), dtype=np.float32) / np.float32(math.sqrt(inputs))
            return weights

        return cls.assemble(config, tensor)

    @cached_property
    def model(self) -> Model:
        """The same network as kvlib counts it, read from the config."""
        return from_config(self.config)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, as numpy reports them."""
        matrices = [array for block in self.blocks for array in vars(block).values()]
        return sum(int(array.nbytes) for array in [*matrices, self.gain, self.head])

    def new_cache(self, room: int, dtype: str = "fp32") -> LlamaCache:
        """An empty cache for `room` tokens, in fp32 or fp16."""
        return LlamaCache(len(self.blocks), self.config["num_key_value_heads"], self._head_dim, room, dtype)

    def forward(self, ids: Sequence[int], cache: LlamaCache, *, chunk: int = CHUNK, every: bool = False) -> Array:
        """Logits of the last token, shape (vocabulary,), after these new tokens; the cache grows by them.

        Args:
            ids: the tokens that the cache does not hold yet: a prompt, a question, or the one token of a decode step.
            cache: from `new_cache` or a fork; what it holds comes before `ids`.
            chunk: tokens that go through the layers together. It changes the speed, not the answer.
            every: the logits of every new token instead, shape (tokens, vocabulary).

        Raises:
            ValueError: if there are no ids, one of them is not in the vocabulary, or the cache is another model's or
                has too little room; it stays as it was.
        """
        tokens = np.asarray(ids)
        if tokens.ndim != 1 or not len(tokens) or tokens.dtype.kind not in "iu":
            raise ValueError(f"ids must be one row of whole numbers, one at least; got {ids!r:.80}")
        if tokens.min() < 0 or tokens.max() >= self.head.shape[1]:
            raise ValueError(f"ids must be from 0 to {self.head.shape[1] - 1:,}; got {tokens.min()} to {tokens.max()}")
        whole("chunk", chunk, 1)
        self._check(cache, len(tokens))
        kept = []
        for start in range(0, len(tokens), chunk):
            x = self._layers(tokens[start : start + chunk], cache)
            kept.append(x if every else x[-1:])
        logits: Array = self._norm(np.concatenate(kept if every else kept[-1:]), self.gain) @ self.head
        return logits if every else logits[0]

    def _check(self, cache: LlamaCache, new: int) -> None:
        wanted, got = ((*a.keys.shape[:2], a.keys.shape[3]) for a in (self.new_cache(0), cache))
        if wanted != got:
            raise ValueError(
                f"cache must have layers, KV heads and head size {wanted}, as new_cache() makes it; got {got}"
            )
        if cache.tokens + new > cache.room:
            raise ValueError(
                f"cache must have room for {cache.tokens + new:,} tokens, {new:,} of them new; it has {cache.room:,}"
            )

    def _layers(self, ids: Array, cache: LlamaCache) -> Array:
        """The stream after the last layer, shape (tokens, width)."""
        x = np.ascontiguousarray(self.head[:, ids].T)
        turn = self._angles(cache.tokens, len(ids))
        for i, block in enumerate(self.blocks):
            x += self._attention(i, block, self._norm(x, block.attention_gain), cache, turn)
            x += self._mlp(block, self._norm(x, block.mlp_gain))
        return x

    def _attention(self, i: int, block: LlamaBlock, x: Array, cache: LlamaCache, turn: tuple[Array, Array]) -> Array:
        new, size, kv = len(x), self._head_dim, self.config["num_key_value_heads"]
        group = self.config["num_attention_heads"] // kv
        heads = np.matmul(x, block.qkv, out=self._buffer("qkv", new, block.qkv.shape[1])).reshape(new, -1, size)
        rotate(heads[:, :-kv], *turn)  # queries and keys; values know nothing of positions
        keys, values = cache.store(i, heads[:, -2 * kv : -kv], heads[:, -kv:])

        # All queries of a group meet the same keys: one product for each KV head.
        queries = heads[:, : -2 * kv].reshape(new, kv, group, size).transpose(1, 2, 0, 3) * np.float32(size**-0.5)
        queries = queries.reshape(kv, group * new, size)
        scores = self._buffer("scores", kv, group * new, keys.shape[1])
        if new == 1:  # keys first: that product streams them from memory, the other would copy them first
            scores[:] = (keys @ queries.transpose(0, 2, 1)).transpose(0, 2, 1)
        else:
            np.matmul(queries, keys.transpose(0, 2, 1), out=scores)
            behind = np.triu(np.full((new, new), -np.inf, np.float32), 1)  # a token does not look at those behind it
            scores.reshape(kv, group, new, -1)[..., -new:] += behind
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        mixed = scores @ values
        mixed /= scores.sum(axis=2, keepdims=True)
        joined: Array = mixed.reshape(kv, group, new, size).transpose(2, 0, 1, 3).reshape(new, -1) @ block.output
        return joined

    def _mlp(self, block: LlamaBlock, x: Array) -> Array:
        """down(silu(gate x) · up x); silu(z) = z / (1 + e^-z) = z/2 · (1 + tanh(z/2)), which cannot overflow."""
        inner = len(block.down)
        both = np.matmul(x, block.gate_up, out=self._buffer("gate_up", len(x), 2 * inner))
        gate, up = both[:, :inner], both[:, inner:]
        gate *= np.float32(0.5)
        gated = np.tanh(gate, out=self._buffer("gated", len(x), inner))
        gated += 1
        gated *= gate
        gated *= up
        out: Array = gated @ block.down
        return out

    def _norm(self, x: Array, gain: Array) -> Array:
        """Each token divided by the root of its mean square, times the gain (RMS norm, arXiv 1910.07467)."""
        square = np.einsum("ti,ti->t", x, x)[:, None] / np.float32(x.shape[1])
        normed: Array = x * (1 / np.sqrt(square + np.float32(self.config["rms_norm_eps"])))
        normed *= gain
        return normed

    def _angles(self, start: int, tokens: int) -> tuple[Array, Array]:
        """Cosine and sine of position · base^(-2i / head size), shape (tokens, 1, head size / 2), for `rotate`."""
        powers = np.arange(0, self._head_dim, 2) / self._head_dim
        angles = np.arange(start, start + tokens)[:, None, None] * self.config["rope_theta"] ** -powers
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def _buffer(self, name: str, *shape: int) -> Array:
        """Memory for an intermediate result, the same each time: fresh pages would cost more than the arithmetic."""
        kept, wanted = self._buffers.get(name), math.prod(shape)
        if kept is None or kept.size < wanted:
            kept = self._buffers[name] = np.empty(wanted, np.float32)
        return kept[:wanted].reshape(shape)

    @property
    def _head_dim(self) -> int:
        return int(self.config["hidden_size"]) // int(self.config["num_attention_heads"])


def rotate(x: Array, cosine: Array, sine: Array) -> None:
    """Turn each pair (x[..., i], x[..., i + half]) by its angle, in place: the rotary position embedding."""
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    turned = left * cosine - right * sine
    right *= cosine
    right += left * sine
    left[:] = turned
