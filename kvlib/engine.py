"""How a serving engine turns KV bytes into blocks, and blocks into "tokens": vLLM's pool, for every kind of layer.

One pool of equal blocks is shared by groups of layers. A group that keeps everything needs a block for each
`block_tokens` tokens; a window needs a fixed number; a recurrent state one or two. "Tokens" means one of three
things, and the engine's log does not say which: a Pool has a field for each.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kvlib.dtypes import dtype
from kvlib.layout import Group, Layout, lay_out
from kvlib.model import Model
from kvlib.units import size, whole

_DEFINITIONS = ("old", "new")


@dataclass(frozen=True)
class Pool:
    """A pool of `blocks` blocks on each rank, laid out for one model. Sizes in bytes of one rank, lengths in tokens."""

    layout: Layout = field(repr=False)
    blocks: int
    max_model_len: int
    definition: str
    available_bytes: int | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of layers that share the pool, each with its block size and what a request holds in it."""
        return self.layout.groups

    @property
    def block_tokens(self) -> int:
        """Tokens in a block of the group that keeps every token (of the only group, in a uniform pool)."""
        return self.layout.block_tokens

    @property
    def block_bytes(self) -> int:
        """Bytes of one block: a page for each layer of the largest group."""
        return self.layout.block_bytes

    @property
    def per_request(self) -> int:
        """Blocks that one request of `max_model_len` tokens may hold."""
        return self.layout.blocks_for(self.max_model_len)

    @property
    def max_concurrency(self) -> float:
        """Requests of full length that fit: what the engine prints as `Maximum concurrency`."""
        return self.blocks / self.per_request

    @property
    def tokens(self) -> int:
        """Pool tokens of one rank: blocks shared equally among the groups, times the smallest block."""
        return self.blocks // len(self.groups) * min(group.block_tokens for group in self.groups)

    @property
    def tokens_old(self) -> int:
        """`GPU KV cache size` up to vLLM 0.20: the pool tokens, times the ranks of decode context parallelism."""
        return self.tokens * self.layout.dcp

    @property
    def tokens_new(self) -> int:
        """`GPU KV cache size` from vLLM 0.21: concurrency x max_model_len, so it changes when only that flag does."""
        return int(self.max_concurrency * self.max_model_len)

    @property
    def reported_tokens(self) -> int:
        """The number printed under `definition`; of a uniform pool, the pool tokens under both.

        From 0.21 engines compute `tokens_new` for uniform pools too. Where every token is kept, it differs only if
        max_model_len is no multiple of the block: by the unused part of each request's last block.
        """
        return self.tokens_new if self.definition == "new" and len(self.groups) > 1 else self.tokens_old

    @property
    def needed_bytes(self) -> int:
        """Bytes that one request of `max_model_len` tokens needs: the figure in the engine's refusal."""
        return self.per_request * self.block_bytes

    @property
    def fits(self) -> bool:
        """Whether one request of `max_model_len` tokens fits; if not, the engine refuses to start."""
        return self.blocks >= self.per_request

    @property
    def longest(self) -> int:
        """The longest request that fits, at most `max_model_len`: the refusal's `estimated maximum model length`."""
        low, high = 0, self.max_model_len
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.layout.blocks_for(middle) <= self.blocks else (low, middle - 1)
        return low

    @property
    def state_page_bytes(self) -> int:
        """Bytes of one recurrent state before padding, 0 without one."""
        return self.layout.state_bytes

    @property
    def state_padding(self) -> float:
        """Share by which a state is padded to a page: the engine prints it as `Padding mamba page size by ...%`."""
        return self.layout.page_bytes / self.layout.state_bytes - 1 if self.layout.state_bytes else 0.0

    @property
    def padding_layers(self) -> int:
        """Layers that exist only to make the groups equally large."""
        return self.layout.padding_layers

    @property
    def rule(self) -> str:
        """The rule that made the numbers, in words."""
        if self.available_bytes is None:
            blocks = f"{self.blocks:,} blocks"
        else:
            blocks = f"{self.blocks:,} blocks = floor({self.available_bytes:,} B / {self.block_bytes:,} B)"
        if len(self.groups) == 1:
            tokens = f"tokens = blocks x {self.block_tokens}"
        elif self.definition == "new":
            tokens = "reported tokens = concurrency x max_model_len (from 0.21)"
        else:
            tokens = f"reported tokens = blocks // {len(self.groups)} groups x smallest block (to 0.20)"
        striped = f", striped over {self.layout.dcp} ranks" if self.layout.dcp > 1 else ""
        return f"{self.layout.rule}; {blocks}; {tokens}{striped}"

    def __repr__(self) -> str:
        return (
            f"{self.blocks:,} blocks of {self.block_tokens:,} tokens ({size(self.block_bytes)}), "
            f"{self.per_request:,} per request of {self.max_model_len:,}: "
            f"{self.reported_tokens:,} tokens, {self.max_concurrency:.2f}x"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("blocks", f"{self.blocks:,} of {self.block_tokens:,} tokens"),
            ("bytes per block", size(self.block_bytes)),
            *(
                (f"group: {g.kind} x {g.layers}", f"{g.blocks_for(self.max_model_len):,} blocks of {g.block_tokens:,}")
                for g in self.groups
            ),
            ("blocks per request", f"{self.per_request:,} at {self.max_model_len:,} tokens"),
            ("concurrency", f"{self.max_concurrency:.2f}x"),
            ("pool tokens", f"{self.tokens:,}"),
            ("printed by vLLM up to 0.20", f"{self.tokens_old:,}"),
            ("printed by vLLM from 0.21", f"{self.tokens_new:,}"),
        ]
        cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{value}</td></tr>" for name, value in rows)
        return f"<table><caption>{html.escape(self.rule)}</caption>{cells}</table>"


def pool(
    model: Model | Sequence[Model],
    max_model_len: int,
    available_bytes: float | None = None,
    blocks: int | None = None,
    kv_dtype: str = "bf16",
    tp: int = 1,
    pp: int = 1,
    dcp: int = 1,
    block: int | None = None,
    in_flight: int = 8192,
    spec_tokens: int = 0,
    state_mode: str = "align",
    state_dtype: str = "fp32",
    definition: str = "new",
    *,
    hybrid: bool = True,
    state_chunk: int = 256,
) -> Pool:
    """The paged KV pool that an engine builds: blocks, tokens, requests.

    Args:
        model: the model; or (target, draft), whose layers share the pool.
        max_model_len: longest request the engine admits, in tokens.
        available_bytes: KV bytes of one rank (of the poorest one, if they differ): give this, or `blocks`.
        blocks: blocks of the pool, if a log prints them or a flag fixes them.
        kv_dtype: format of keys and values, independent of the weights (`kvlib.pages.KV_DTYPES`).
        tp: ranks of tensor parallelism.
        pp: stages of pipeline parallelism.
        dcp: ranks of decode context parallelism, which are among those of tp.
        block: tokens per block; None for the engine's default: 16, or 64 for MLA. With recurrent layers the block grows
            until an attention page holds a state, in multiples of this.
        in_flight: tokens of a request that may be in flight: `max_num_batched_tokens`, twice that with asynchronous
            scheduling (from 0.29).
        spec_tokens: tokens guessed ahead. The guessing head is one more attention layer (`Model.mtp_layers` where a
            model lists it); a draft model given in `model` brings its own.
        state_mode: how recurrent states are kept: "none" (prefix caching off), "align" (on), or "all".
        state_dtype: format of recurrent states.
        definition: which "tokens" `reported_tokens` is: "old" (vLLM up to 0.20) or "new".
        hybrid: False if the hybrid manager is off: then windows are charged like full attention.
        state_chunk: chunk of the state kernel, to which blocks align in mode "all".

    Returns:
        A Pool; `rule` says how it came about.

    Raises:
        ValueError: if an argument is out of range, both or neither of available_bytes and blocks are given, tp does not
            fit the heads, or the engine could not lay out the model.

    Source: vllm/v1/core/kv_cache_utils.py, vllm/v1/kv_cache_interface.py, vllm/model_executor/models/config.py.
    """
    length = whole("max_model_len", max_model_len, 1)
    if definition not in _DEFINITIONS:
        raise ValueError(f'definition must be "old" (vLLM up to 0.20) or "new"; got {definition!r}')
    if (available_bytes is None) == (blocks is None):
        raise ValueError(
            "give exactly one of available_bytes and blocks; "
            f"got available_bytes {available_bytes!r} and blocks {blocks!r}"
        )
    layout = lay_out(
        tuple(model) if isinstance(model, Sequence) else (model,),
        max_model_len=length,
        kv_dtype=kv_dtype,
        tp=whole("tp", tp, 1),
        pp=whole("pp", pp, 1),
        dcp=whole("dcp", dcp, 1),
        block=None if block is None else whole("block", block, 1),
        in_flight=whole("in_flight", in_flight, 1),
        spec_tokens=whole("spec_tokens", spec_tokens),
        state_mode=state_mode,
        state_dtype=dtype(state_dtype).name,
        hybrid=hybrid,
        state_chunk=whole("state_chunk", state_chunk, 1),
    )
    if blocks is not None:
        return Pool(layout, whole("blocks", blocks), length, definition)
    given = _whole_bytes(available_bytes)
    return Pool(layout, given // layout.block_bytes, length, definition, given)


def _whole_bytes(value: Any) -> int:
    """Bytes rounded down to a whole number: a printed GiB figure times 2**30 has a fraction."""
    number = isinstance(value, float) and math.isfinite(value)
    return int(whole("available_bytes", math.floor(value) if number else value))
