"""Pages and groups: how an engine cuts a model's layers into equal blocks before it knows how many blocks it has.

The rules, in the order in which the engine applies them:

1. If all layers keep every token (or all have the same window), there is one group and a block is `block` tokens of
   every layer.
2. Otherwise layers of one kind form a bucket. With recurrent layers the block of the attention layers grows until its
   page holds a state, which is then padded to the page.
3. The largest page wins. A layer that needs less per token gets more tokens per block.
4. Buckets are cut into groups of equally many layers, as many as the smallest bucket has; what is missing is padding.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

from kvlib.model import Chunked, Compressed, Full, Latent, Layer, Model, NoCache, Recurrent, Shared, Sliding
from kvlib.pages import entry_bytes, state_bytes

_MODES = ("none", "align", "all")


@dataclass(frozen=True)
class Group:
    """`layers` layers that share one list of blocks of `block_tokens` tokens.

    A request needs `fixed` blocks, and, if the group `grows`, one for each block of its tokens: of at most `window`
    tokens if there is a window, of every `stripes`-th if ranks share the tokens out.
    """

    kind: str
    layers: int
    block_tokens: int
    grows: bool = True
    window: int | None = None
    stripes: int = 1
    fixed: int = 0

    def blocks_for(self, tokens: int) -> int:
        """Blocks that one request of `tokens` tokens may hold.

        Source: vllm/v1/kv_cache_interface.py, max_memory_usage_bytes of each kind.
        """
        if not self.grows:
            return self.fixed
        held = tokens if self.window is None else min(tokens, self.window)
        return _cdiv(_cdiv(held, self.stripes), self.block_tokens) + self.fixed


@dataclass(frozen=True)
class Layout:
    """A block, and how many of them a request of any length needs."""

    groups: tuple[Group, ...]
    block_tokens: int
    block_bytes: int
    page_bytes: int
    state_bytes: int
    padding_layers: int
    dcp: int
    rule: str

    def blocks_for(self, tokens: int) -> int:
        """Blocks that one request of `tokens` tokens may hold, over all groups."""
        return sum(group.blocks_for(tokens) for group in self.groups)


@dataclass(frozen=True)
class _Settings:
    """What the engine is told; the fields are the arguments of `kvlib.engine.pool`."""

    max_model_len: int
    kv_dtype: str
    tp: int
    pp: int
    dcp: int
    block: int | None
    in_flight: int
    spec_tokens: int
    state_mode: str
    state_dtype: str
    hybrid: bool
    state_chunk: int


def lay_out(models: tuple[Model, ...], **settings: Any) -> Layout:
    """The blocks of a model (or of target and draft together); the arguments are those of `kvlib.engine.pool`."""
    s = _Settings(**settings)
    if s.state_mode not in _MODES:
        raise ValueError(f"state_mode must be one of {', '.join(_MODES)}; got {s.state_mode!r}")
    stages, guessing = _stages(models, s)
    layers = [layer for stage in stages for layer in stage]
    if not layers:
        raise ValueError(f"model must have a layer with a cache; {models[0].name} has none")
    _check_dcp(layers, s)
    kinds = dict.fromkeys(layers)
    uniform = len({_spec(layer) for layer in kinds}) == 1 and not isinstance(layers[0], Recurrent)
    made = _uniform(stages, s) if uniform else _grouped(stages, s)
    return replace(made, rule=f"{made.rule}, {guessing} of the layers guess ahead") if guessing else made


def _stages(models: tuple[Model, ...], s: _Settings) -> tuple[list[list[Layer]], int]:
    """The layers that cache something, by pipeline stage, and how many guess ahead; those sit on the last stage."""
    for model in models:
        if not isinstance(model, Model):
            raise ValueError(f"model must be a kvlib Model (or a target and a draft); got {model!r:.80}")
    target, extra = list(models[0].layers), [layer for draft in models[1:] for layer in draft.layers]
    if s.spec_tokens and len(models) == 1:
        extra = list(_guessing_layers(models[0]))
    if s.pp > len(target):
        raise ValueError(f"pp must be at most the {len(target)} layers of {models[0].name}; got {s.pp}")
    cuts = _cut(len(target), s.pp)
    stages = [target[start:stop] for start, stop in itertools.pairwise(cuts)]
    stages[-1] += extra
    kept = [[_charged(layer, s.hybrid) for layer in stage if _caches(layer)] for stage in stages]
    return kept, sum(map(_caches, extra))


def _cut(layers: int, pp: int) -> list[int]:
    """Where the stages begin and end. What does not divide goes to the stages before the last, from the back.

    Source: vllm/distributed/utils.py, get_pp_indices.
    """
    share, rest = divmod(layers, pp)
    shares = [share + (pp - 1 - rest <= stage < pp - 1) for stage in range(pp)]
    return [sum(shares[:stage]) for stage in range(pp + 1)]


def _guessing_layers(model: Model) -> tuple[Layer, ...]:
    """The attention layers of a multi-token-prediction head: those the model lists, else one like its last."""
    listed = getattr(model, "mtp_layers", ())
    if listed:
        return tuple(listed)
    attention = [layer for layer in model.layers if _grows(layer)]
    return (attention[-1],) if attention else ()


def _caches(layer: Layer) -> bool:
    return not isinstance(layer, Shared | NoCache)


def _charged(layer: Layer, hybrid: bool) -> Layer:
    """The layer as the engine charges it: without the hybrid manager a window counts like full attention."""
    if isinstance(layer, Compressed):
        raise ValueError("the block layout of compressed attention (DeepSeek-V4) is not known; use model.cache_bytes")
    if isinstance(layer, Sliding | Chunked) and not hybrid:
        return Full(layer.kv_heads, layer.key_dim, layer.value_dim)
    return layer


def _check_dcp(layers: list[Layer], s: _Settings) -> None:
    """Decode context parallelism stripes tokens over ranks that would otherwise hold the same heads."""
    if s.dcp == 1:
        return
    if s.tp % s.dcp:
        raise ValueError(f"dcp must divide tp ({s.tp}), whose ranks it uses; got {s.dcp}")
    for layer in dict.fromkeys(layers):
        if isinstance(layer, Sliding | Chunked):
            raise ValueError(f"dcp must be 1 for a model with {layer.kind} layers; got {s.dcp}")
        if isinstance(layer, Full) and s.tp < layer.kv_heads * s.dcp:
            raise ValueError(f"dcp must be at most tp / KV heads = {s.tp} / {layer.kv_heads}; got {s.dcp}")


def _grows(layer: Layer) -> bool:
    """Whether the layer keeps every token."""
    return isinstance(layer, Latent) or (isinstance(layer, Full) and not isinstance(layer, Sliding | Chunked))


def _spec(layer: Layer) -> tuple[str, int]:
    """What makes layers alike in a uniform pool: keeping everything, or the same window."""
    if isinstance(layer, Sliding):
        return layer.kind, layer.window
    if isinstance(layer, Chunked):
        return layer.kind, layer.chunk
    return ("full", 0) if _grows(layer) else (layer.kind, 0)


def _kernel_block(layers: list[Layer], s: _Settings) -> int:
    """Tokens per block unless the engine is told otherwise: 64 for MLA kernels, 16 for the others."""
    return s.block or (64 if any(isinstance(layer, Latent) for layer in layers) else 16)


def _uniform(stages: list[list[Layer]], s: _Settings) -> Layout:
    """One group: a block is `block` tokens of every layer, so layers of different widths simply add up."""
    layers = [layer for stage in stages for layer in stage]
    block = _kernel_block(layers, s)
    width = max(sum(entry_bytes(layer, s.kv_dtype, s.tp) for layer in stage) for stage in stages)
    group = _group(layers[0], max(map(len, stages)), block, s)
    rule = f"uniform pool: {group.layers} {group.kind} layers, {width:,} B per token and rank, blocks of {block} tokens"
    return Layout((group,), block, block * width, block * width, 0, 0, s.dcp, rule)


def _grouped(stages: list[list[Layer]], s: _Settings) -> Layout:
    """Several groups share blocks of equal bytes."""
    buckets: dict[Layer, list[int]] = {}
    for stage, layers in enumerate(stages):
        for layer in layers:
            buckets.setdefault(layer, []).append(stage)
    attention = [layer for layer in buckets if not isinstance(layer, Recurrent)]
    widths = {layer: entry_bytes(layer, s.kv_dtype, s.tp) for layer in attention}
    states = [_state_bytes(layer, s) for layer in buckets if isinstance(layer, Recurrent)]
    state = max(states, default=0)
    base = _aligned_block(attention, widths, state, s)
    page = max([base * width for width in widths.values()] + ([state] if not attention else []))
    blocks = {layer: _stretched(base, page, widths[layer], layer) for layer in attention}

    counts = [len(stage_of) for stage_of in buckets.values()]
    fewest, most = min(counts), max(counts)
    per_group = most if 2 * most < 3 * fewest else fewest
    groups, padding, slices = [], 0, 1
    for layer, stage_of in buckets.items():
        many = _cdiv(len(stage_of), per_group)
        padding += many * per_group - len(stage_of)
        block = blocks.get(layer, base)
        for first in range(many):
            members = stage_of[first::many]
            groups.append(_group(layer, len(members), block, s))
            slices = max(slices, *(members.count(stage) for stage in range(s.pp)))
    layers_per_block = per_group if s.pp == 1 else slices
    shown = next((blocks[layer] for layer in attention if _grows(layer)), base)
    rule = _grouped_rule(groups, padding, page, layers_per_block, state)
    return Layout(tuple(groups), shown, page * layers_per_block, page, state, padding, s.dcp, rule)


def _state_bytes(layer: Recurrent, s: _Settings) -> int:
    return state_bytes(layer, s.tp, s.spec_tokens, s.state_dtype)


def _aligned_block(attention: list[Layer], widths: dict[Layer, int], state: int, s: _Settings) -> int:
    """Tokens per block of the widest attention layer: the kernel's, or as many more as make its page hold a state."""
    quantum = _kernel_block(attention, s)
    if not state:
        return quantum
    if not attention:
        return s.max_model_len  # states only: the block never fills
    width = next((widths[layer] for layer in attention if _grows(layer)), max(widths.values()))
    if s.state_mode == "all":
        chunk = math.lcm(s.state_chunk, quantum)
        return chunk * _cdiv(state, chunk * width)
    return quantum * _cdiv(state, quantum * width)


def _stretched(base: int, page: int, width: int, layer: Layer) -> int:
    """Tokens of a narrower layer that fill the same page."""
    if page % (base * width):
        raise ValueError(f"pages must divide: {page:,} B is no multiple of {base} x {width:,} B ({layer.kind})")
    return page // width


def _group(layer: Layer, layers: int, block: int, s: _Settings) -> Group:
    """A group of `layers` such layers: what a request holds in it."""
    if isinstance(layer, Recurrent):
        fixed = {"none": 1, "align": 2}.get(s.state_mode)
        if fixed is None:
            return Group(layer.kind, layers, block)
        return Group(layer.kind, layers, block, grows=False, fixed=fixed + s.spec_tokens)
    if isinstance(layer, Sliding):
        # one more, because the window need not begin where a block begins
        return Group(layer.kind, layers, block, window=layer.window - 1 + s.in_flight, fixed=1)
    if isinstance(layer, Chunked):
        return Group(layer.kind, layers, block, window=layer.chunk + s.in_flight)
    return Group(layer.kind, layers, block, stripes=s.dcp)


def _cdiv(a: int, b: int) -> int:
    """The ceiling of a / b."""
    return -(-a // b)


def _grouped_rule(groups: list[Group], padding: int, page: int, layers: int, state: int) -> str:
    """The layout in words."""
    kinds: dict[tuple[str, int], int] = {}
    for group in groups:
        kinds[group.kind, group.block_tokens] = kinds.get((group.kind, group.block_tokens), 0) + 1
    named = " + ".join(f"{many} {kind} (block {block:,})" for (kind, block), many in kinds.items())
    aligned = f", a state of {state:,} B padded to it" if state else ""
    padded = f", {padding} padding layers" if padding else ""
    return f"hybrid pool: groups {named}; page {page:,} B{aligned}; {layers} layers per group{padded}"
