"""The KV cache of the tiny model: real arrays that grow, and forks that read one common prefix.

Asking nine questions about one text is reading it once, then nine short continuations: what a prefix cache does.
"""

from __future__ import annotations

import numpy as np

from kvlib.lab.attention import Array
from kvlib.lab.tinyweights import HEAD_DIM, HEADS
from kvlib.units import size, whole


class Cache:
    """Keys and values of `batch` sequences of equal length, as real arrays; from `TinyLM.prefill` or `fork`.

    The local layer keeps its last 16 tokens. The global layer keeps all: `own` rows for each sequence and, after a
    fork, `shared` rows that the sequences have in common and that exist once. Room for growth doubles when it is full;
    `nbytes` counts the rows in use.
    """

    def __init__(self, local: Array, shared: Array, tokens: int) -> None:
        self.local = local  # (batch, up to 16 tokens, 2, heads, head_dim); of the 2, keys come first
        self.shared = shared  # (2, heads, tokens, head_dim)
        self.tokens = tokens
        self._room = np.empty((len(local), 2, HEADS, 0, HEAD_DIM), local.dtype)

    @property
    def batch(self) -> int:
        """Sequences in this cache."""
        return len(self.local)

    @property
    def own(self) -> Array:
        """The global layer's rows that are not shared; shape (batch, 2, heads, tokens, head_dim)."""
        return self._room[:, :, :, : self.tokens - self.shared.shape[2]]

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in use, as numpy reports them; what forks share is counted once."""
        return self.local.nbytes + self.shared.nbytes + self.own.nbytes

    def fork(self, copies: int) -> Cache:
        """`copies` sequences that all go on from here. The prefix is not copied: all of them read the same rows.

        Raises:
            ValueError: if copies is not a whole number, 1 or more, or this cache already holds several sequences.
        """
        copies = whole("copies", copies, 1)
        if self.batch != 1:
            raise ValueError(f"fork needs a cache of one sequence; this one holds {self.batch}")
        prefix = self.own[0]
        if self.shared.shape[2]:
            prefix = np.concatenate([self.shared, prefix], axis=2)
        return Cache(np.repeat(self.local, copies, axis=0), prefix, self.tokens)

    def append(self, rows: Array) -> None:
        """Store the global layer's rows of new tokens; shape as `own`."""
        used, needed = self.own.shape[3], self.own.shape[3] + rows.shape[3]
        if needed > self._room.shape[3]:
            room = np.empty((self.batch, 2, HEADS, max(needed, 2 * used), HEAD_DIM), rows.dtype)
            room[:, :, :, :used] = self.own
            self._room = room
        self._room[:, :, :, used:needed] = rows
        self.tokens += rows.shape[3]

    def scores(self, queries: Array) -> Array:
        """Product of each query with each key: (batch, heads, queries, head_dim) -> (batch, heads, queries, tokens)."""
        shared, own = self.shared[0].swapaxes(-1, -2), self.own[:, 0].swapaxes(-1, -2)
        return np.concatenate([_each(queries, shared), queries @ own], axis=-1)

    def mix(self, attention: Array) -> Array:
        """Sum of the values, weighted by the attention: the shapes of `scores` the other way."""
        prefix = self.shared.shape[2]
        mixed: Array = _each(attention[..., :prefix], self.shared[1]) + attention[..., prefix:] @ self.own[:, 1]
        return mixed

    def __repr__(self) -> str:
        shared = f", {self.shared.shape[2]:,} of them shared" if self.shared.shape[2] else ""
        return f"{self.batch:,} x {self.tokens:,} tokens{shared}: {size(self.nbytes)}"


def _each(rows: Array, shared: Array) -> Array:
    """Product of each sequence's rows (batch, heads, n, a) with one matrix per head (heads, a, b) for all sequences.

    The rows of all sequences go through together, so that the shared matrix is read from memory once, not per sequence.
    """
    batch, heads, n, width = rows.shape
    together = rows.transpose(1, 0, 2, 3).reshape(heads, batch * n, width) @ shared
    return together.reshape(heads, batch, n, -1).swapaxes(0, 1)
