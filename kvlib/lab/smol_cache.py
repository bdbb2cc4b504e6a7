"""The KV cache of a whole model in two numpy arrays, forked where several questions share a start."""

from __future__ import annotations

import numpy as np

from kvlib.dtypes import dtype as number_format
from kvlib.lab.attention import Array
from kvlib.units import size, whole


class LlamaCache:
    """Keys and values of one sequence: two arrays of shape (layers, KV heads, room, head size).

    `tokens` of the `room` rows are filled. `nbytes` is the size of the filled rows, as numpy reports it, and `reserved`
    that of the whole arrays: what an engine has to set aside.
    """

    def __init__(self, layers: int, kv_heads: int, head_dim: int, room: int, dtype: str = "fp32") -> None:
        self.dtype = number_format(dtype).name
        if self.dtype not in ("fp32", "fp16"):
            raise ValueError(f"dtype must be fp32 or fp16, the formats that numpy can hold; got {dtype!r}")
        shape = (layers, kv_heads, whole("room", room), head_dim)
        self.keys, self.values = (np.empty(shape, np.float32 if self.dtype == "fp32" else np.float16) for _ in "kv")
        self.tokens = 0

    @property
    def room(self) -> int:
        """Tokens for which there are rows."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that are filled."""
        return self.keys[:, :, : self.tokens].nbytes + self.values[:, :, : self.tokens].nbytes

    @property
    def reserved(self) -> int:
        """Bytes of both arrays, rows that wait for a token included."""
        return self.keys.nbytes + self.values.nbytes

    def store(self, layer: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Write the rows of new tokens, shape (tokens, KV heads, head size), behind the filled ones.

        Returns all keys and values of the layer in float32, shape (KV heads, tokens so far, head size). The count moves
        on when the last layer has stored its rows.
        """
        end = self.tokens + len(keys)
        self.keys[layer, :, self.tokens : end] = keys.transpose(1, 0, 2)
        self.values[layer, :, self.tokens : end] = values.transpose(1, 0, 2)
        shown = (a[layer, :, :end].astype(np.float32, copy=False) for a in (self.keys, self.values))
        if layer == len(self.keys) - 1:
            self.tokens = end
        return next(shown), next(shown)

    def fork(self, room: int) -> LlamaCache:
        """A copy of this sequence with room for `room` further tokens: the shared start is not computed again."""
        layers, kv_heads, _, head_dim = self.keys.shape
        branch = LlamaCache(layers, kv_heads, head_dim, self.tokens + whole("room", room), self.dtype)
        for mine, its in ((self.keys, branch.keys), (self.values, branch.values)):
            its[:, :, : self.tokens] = mine[:, :, : self.tokens]
        branch.tokens = self.tokens
        return branch

    def __repr__(self) -> str:
        return f"{self.tokens:,} tokens in {self.dtype} = {size(self.nbytes)}; room for {self.room:,}"
