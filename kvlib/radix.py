"""What an engine remembers of earlier prompts: a radix tree of tokens, as SGLang does it.

A prefix is reused to the token, and what is forgotten is a leaf, the least recently used one, as a whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from kvlib.dtypes import DType
from kvlib.model import Compressed, Model, Recurrent
from kvlib.reuse import Tally, Tokens
from kvlib.units import whole


class _Node:
    """A run of tokens that follow `parent`; the children differ in their first token."""

    def __init__(self, tokens: tuple[Hashable, ...], parent: _Node | None):
        self.tokens = tokens
        self.parent = parent
        self.children: dict[Hashable, _Node] = {}


@dataclass
class RadixCache:
    """A tree of token runs: any prefix can be reused, to the token. A leaf is forgotten as a whole.

    Args:
        token_bytes: bytes that a token takes.
        budget_bytes: bytes that the tree may take; the least recently used leaf goes first.

    Raises:
        ValueError: if a size is not a positive whole number, or the budget negative.

    Source: Zheng et al. 2023, SGLang (arXiv 2312.07104), section 3.
    """

    token_bytes: int
    budget_bytes: int
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        whole("token_bytes", self.token_bytes, 1)
        whole("budget_bytes", self.budget_bytes)
        self._roots: dict[Hashable, _Node] = {}
        self._recent: OrderedDict[_Node, None] = OrderedDict()  # a parent is always more recent than its children
        self._tokens = 0

    @classmethod
    def of(cls, model: Model, budget_bytes: int, kv_dtype: str | DType = "bf16", tp: int = 1) -> RadixCache:
        """A cache of a model's tokens, budget in bytes of one GPU.

        Raises:
            ValueError: if the model keeps a state, which exists for whole sequences only, or compresses its tokens.
        """
        if any(isinstance(layer, Recurrent | Compressed) for layer in model.layers):
            raise ValueError(f"model must keep every token; {model.name} has recurrent or compressed layers")
        return cls(model.cache_bytes(1, kv_dtype, tp), budget_bytes)

    @property
    def used_bytes(self) -> int:
        """Bytes of all cached tokens."""
        return self._tokens * self.token_bytes

    def lookup(self, tokens: Tokens, salt: Hashable = None) -> int:
        """Tokens at the start of the prompt whose cache is there; at least one token is always left to compute."""
        path, within = self._walk(tokens, salt)
        return min(sum(len(node.tokens) for node in path[:-1]) + within, max(0, len(tokens) - 1))

    def serve(self, tokens: Tokens, salt: Hashable = None) -> int:
        """Look a prompt up, then keep it as far as the budget goes; returns the tokens that were found."""
        hit = self.lookup(tokens, salt)
        kept = tuple(tokens[: self.budget_bytes // self.token_bytes])
        self._roots.setdefault(salt, _Node((), None))
        path, within = self._walk(kept, salt)
        node = path[-1]
        if within < len(node.tokens):
            node = path[-1] = self._split(node, within)
        done = sum(len(each.tokens) for each in path)
        if done < len(kept):
            leaf = _Node(kept[done:], node)
            node.children[kept[done]] = leaf
            self._tokens += len(leaf.tokens)
            path.append(leaf)
        for each in reversed(path[1:]):
            self._recent[each] = None
            self._recent.move_to_end(each)
        while self.used_bytes > self.budget_bytes:
            self._forget()
        return self.tally.add(len(tokens), hit)

    def _walk(self, tokens: Tokens, salt: Hashable) -> tuple[list[_Node], int]:
        """The nodes from the root along the prompt, and how many tokens of the last one agree with it."""
        node = self._roots.get(salt) or _Node((), None)
        path, place, within = [node], 0, 0
        while place < len(tokens) and within == len(node.tokens) and tokens[place] in node.children:
            node = node.children[tokens[place]]
            path.append(node)
            within = 0
            while within < len(node.tokens) and place < len(tokens) and node.tokens[within] == tokens[place]:
                within, place = within + 1, place + 1
        return path, within

    def _split(self, node: _Node, at: int) -> _Node:
        """Cut a run in two; returns the upper part."""
        parent = node.parent
        assert parent is not None
        upper = _Node(node.tokens[:at], parent)
        parent.children[upper.tokens[0]] = upper
        node.tokens, node.parent = node.tokens[at:], upper
        upper.children[node.tokens[0]] = node
        return upper

    def _forget(self) -> None:
        leaf, _ = self._recent.popitem(last=False)
        assert leaf.parent is not None and not leaf.children
        del leaf.parent.children[leaf.tokens[0]]
        self._tokens -= len(leaf.tokens)
        self.tally.evicted_tokens += len(leaf.tokens)
