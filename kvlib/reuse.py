"""What an engine remembers of earlier prompts: whole blocks, found by their hash, as vLLM does it.

When a byte budget is full, the least recently used block is forgotten. A hit was computed for exactly these tokens
after exactly this prefix; a key vector depends on everything before it, so nothing else would be right.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvlib.engine import pool
from kvlib.model import Model
from kvlib.units import size, whole

Tokens = Sequence[Hashable]


@dataclass(frozen=True)
class PrefixBlock:
    """The unit in which an engine can reuse a prefix: `tokens` tokens, `bytes` bytes on each rank."""

    tokens: int
    bytes: int

    def __repr__(self) -> str:
        return f"reuse in steps of {self.tokens:,} tokens, {size(self.bytes)} each"


def prefix_block(model: Model, max_model_len: int | None = None, **settings: Any) -> PrefixBlock:
    """The least prefix that an engine with a paged pool reuses, and what keeping it takes.

    A prefix ends where all groups of layers can start again: at a common multiple of their blocks. Recurrent layers
    need a state there, and so that a page can hold one, blocks of hundreds or thousands of tokens.

    Args:
        model: the model.
        max_model_len: longest request in tokens; None: the model's own, or 131,072.
        settings: kv_dtype, tp, block, ... as in `kvlib.pool`.

    Returns:
        A PrefixBlock; its bytes are a page of every group, as if a state were kept at each end of a block.

    Raises:
        ValueError: if prefix caching is off (state_mode "none"), or the engine could not lay the model out.
    """
    if settings.get("state_mode") == "none":
        raise ValueError('state_mode must be "align" or "all": "none" is an engine without prefix caching')
    length = max_model_len or model.max_context or 131_072
    laid = pool(model, length, blocks=1, **settings)
    step = math.lcm(*(group.block_tokens for group in laid.groups))
    return PrefixBlock(step, sum(laid.block_bytes * (step // group.block_tokens) for group in laid.groups))


@dataclass
class Tally:
    """What a cache has done so far, in requests and tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    hit_tokens: int = 0
    evicted_tokens: int = 0

    @property
    def hit_rate(self) -> float:
        """The share of prompt tokens that need not be computed."""
        return self.hit_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def add(self, prompt: int, hit: int) -> int:
        """Count a request; returns the hit."""
        self.requests += 1
        self.prompt_tokens += prompt
        self.hit_tokens += hit
        return hit


@dataclass(frozen=True)
class _Block:
    """A cached block. Its parent is a block, not a hash: equal hashes prove nothing."""

    number: int
    parent: Any
    tokens: tuple[Hashable, ...]
    key: Any


@dataclass
class BlockCache:
    """Whole blocks of tokens, found by hash(hash of the parent, tokens); the salt stands in for the first parent.

    Args:
        block_tokens: tokens per block; a part of a block is never reused.
        block_bytes: bytes that a block takes.
        budget_bytes: bytes that all blocks may take; the least recently used go first, the end of a prefix before its
            beginning.
        hash_function: of (parent's hash, tokens). vLLM trusts a SHA-256.
        verify: compare tokens and parent after the hash agrees. Without it a collision hands out a stranger's cache.

    Raises:
        ValueError: if a size is not a positive whole number, or the budget negative.

    Source: vLLM, docs/design/prefix_caching.md (commit 01ff8bff).
    """

    block_tokens: int
    block_bytes: int
    budget_bytes: int
    hash_function: Callable[[Any], Hashable] = hash
    verify: bool = True
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        whole("block_tokens", self.block_tokens, 1)
        whole("block_bytes", self.block_bytes, 1)
        whole("budget_bytes", self.budget_bytes)
        self._recent: OrderedDict[int, _Block] = OrderedDict()  # least recently used first
        self._by_hash: dict[Hashable, list[_Block]] = {}
        self._made = 0

    @classmethod
    def of(cls, model: Model, budget_bytes: int, **settings: Any) -> BlockCache:
        """A cache in the blocks of a model: `prefix_block(model, **settings)`, budget in bytes of one rank."""
        unit = prefix_block(model, **settings)
        return cls(unit.tokens, unit.bytes, budget_bytes)

    @property
    def used_bytes(self) -> int:
        """Bytes of all cached blocks."""
        return len(self._recent) * self.block_bytes

    def lookup(self, tokens: Tokens, salt: Hashable = None) -> int:
        """Tokens at the start of the prompt whose cache is there; at least one token is always left to compute."""
        return self._usable(len(tokens), len(self._find(tokens, salt)))

    def serve(self, tokens: Tokens, salt: Hashable = None) -> int:
        """Look a prompt up, then keep its full blocks; returns the tokens that were found."""
        chain = self._find(tokens, salt)
        hit = self._usable(len(tokens), len(chain))
        for first in range(len(chain) * self.block_tokens, len(tokens) - self.block_tokens + 1, self.block_tokens):
            chain.append(
                self._keep(tuple(tokens[first : first + self.block_tokens]), chain[-1] if chain else None, salt)
            )
        for block in reversed(chain):
            self._recent.move_to_end(block.number)
        while self.used_bytes > self.budget_bytes:
            self._forget()
        return self.tally.add(len(tokens), hit)

    def _cut(self, tokens: Tokens, skip: int = 0) -> Iterator[tuple[Hashable, ...]]:
        """The full blocks of a prompt, without the first `skip`."""
        step = self.block_tokens
        for end in range((skip + 1) * step, len(tokens) + 1, step):
            yield tuple(tokens[end - step : end])

    def _usable(self, tokens: int, blocks: int) -> int:
        return min(blocks, max(0, tokens - 1) // self.block_tokens) * self.block_tokens

    def _find(self, tokens: Tokens, salt: Hashable) -> list[_Block]:
        """The cached blocks with which the prompt begins."""
        chain: list[_Block] = []
        for wanted in self._cut(tokens):
            parent = chain[-1] if chain else None
            before = parent.number if parent else ("salt", salt)
            same_hash = self._by_hash.get(self._key(wanted, parent, salt), [])
            found = [b for b in same_hash if not self.verify or (b.parent == before and b.tokens == wanted)]
            if not found:
                break
            chain.append(found[0])
        return chain

    def _keep(self, tokens: tuple[Hashable, ...], parent: _Block | None, salt: Hashable) -> _Block:
        before = parent.number if parent else ("salt", salt)
        block = _Block(self._made, before, tokens, self._key(tokens, parent, salt))
        self._made += 1
        self._recent[block.number] = block
        self._by_hash.setdefault(block.key, []).append(block)
        return block

    def _key(self, tokens: tuple[Hashable, ...], parent: _Block | None, salt: Hashable) -> Hashable:
        return self.hash_function((parent.key if parent else salt, tokens))

    def _forget(self) -> None:
        _, block = self._recent.popitem(last=False)
        self._by_hash[block.key].remove(block)
        if not self._by_hash[block.key]:
            del self._by_hash[block.key]
        self.tally.evicted_tokens += self.block_tokens
