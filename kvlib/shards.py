"""What one GPU of a cluster holds: its share of the weights and of the cache, and the layouts that cannot work.

Four ways of sharing a model out, and what each divides:

* tensor parallelism (TP) cuts every layer: matrices by heads or columns, the cache by KV heads;
* pipeline parallelism (PP) gives each stage some of the layers, with their cache;
* data parallelism (DP) repeats the model and divides the sequences;
* expert parallelism (EP) lets the DP copies share one set of routed experts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from kvlib.dtypes import DTYPES, DType, dtype
from kvlib.model import Chunked, Compressed, Full, Latent, Layer, Model, NoCache, Recurrent, Sliding
from kvlib.pages import entry_bytes, state_bytes

_WHOLE = ("norms", "router", "extras")  # small, or needed everywhere: every GPU of a TP group has all of it
_VOCAB_STEP = 64


@dataclass(frozen=True, order=True)
class Split:
    """A layout: `tp` x `pp` x `dp` GPUs.

    `ep` is 1 (experts are cut by TP like any other matrix) or the number of GPUs that share whole experts out:
    `tp` times some of the DP copies. `dcp` ranks among those of `tp` stripe the tokens instead of repeating them.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    dcp: int = 1

    @property
    def gpus(self) -> int:
        """How many GPUs the layout needs."""
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        extra = "".join(f", {name} {n}" for name, n in (("EP", self.ep), ("DCP", self.dcp)) if n > 1)
        return f"TP {self.tp} x PP {self.pp} x DP {self.dp}{extra}"


def refusal(model: Model, split: Split, domain: int) -> str:
    """The first reason why no engine can start this layout, or "": memory is not looked at.

    Sources: query and KV heads, vllm/model_executor/models/llama.py; recurrent state, vllm/model_executor/layers/mamba/
    mamba_utils.py; EP spans TP x DP within a stage, vLLM documentation, Expert Parallel Deployment; decode context
    parallelism, vllm/config/parallel.py.
    """
    tp, heads, layers = split.tp, model.query_heads, len(model.layers)
    if tp > domain:
        return f"TP {tp} does not fit into one domain of {domain} GPUs"
    if heads and heads % tp:
        return f"TP {tp} does not divide the {heads} query heads of {model.name}"
    for layer in model.layer_counts:
        if isinstance(layer, Full) and layer.kv_heads % tp and tp % layer.kv_heads:
            return f"TP {tp} neither divides the {layer.kv_heads} KV heads of {model.name} nor is a multiple of them"
        if isinstance(layer, Recurrent) and not _divides_state(layer, tp):
            return f"TP {tp} does not divide the recurrent state of {model.name}"
    if split.pp > layers:
        return f"PP {split.pp} is more than the {layers} layers of {model.name}"
    return _expert_refusal(model, split) or _stripe_refusal(model, split)


def _divides_state(layer: Recurrent, tp: int) -> bool:
    try:
        state_bytes(layer, tp)
    except ValueError:
        return False
    return True


def _expert_refusal(model: Model, split: Split) -> str:
    if split.ep == 1:
        return ""
    if not model.experts:
        return f"EP {split.ep} needs experts, and {model.name} has none"
    if model.experts % split.ep:
        return f"EP {split.ep} does not divide the {model.experts} experts of {model.name}"
    if split.ep % split.tp or (split.tp * split.dp) % split.ep:
        return f"EP {split.ep} is not TP {split.tp} times a divisor of DP {split.dp}"
    return ""


def _stripe_refusal(model: Model, split: Split) -> str:
    if split.dcp == 1:
        return ""
    if split.tp % split.dcp:
        return f"DCP {split.dcp} does not divide TP {split.tp}, whose GPUs it uses"
    for layer in model.layer_counts:
        if isinstance(layer, Sliding | Chunked | Compressed):
            return f"DCP {split.dcp} does not work with the {layer.kind} layers of {model.name}"
        if isinstance(layer, Full) and split.tp < layer.kv_heads * split.dcp:
            return f"DCP {split.dcp} needs TP of {layer.kv_heads} KV heads x {split.dcp} or more; TP is {split.tp}"
    return ""


def cuts(layers: int, pp: int) -> list[int]:
    """Where stages begin and end. What does not divide goes to stages before the last, which has the output head.

    Source: vllm/distributed/utils.py, get_pp_indices.
    """
    share, rest = divmod(layers, pp)
    sizes = (share + (pp - 1 - rest <= stage < pp - 1) for stage in range(pp))
    return [0, *itertools.accumulate(sizes)]


def cache_of(layer: Layer, context: int, kv_dtype: str, tp: int = 1, dcp: int = 1) -> int:
    """Bytes that one GPU keeps of one sequence of `context` tokens in one layer.

    KV heads are divided over `tp`, and repeated where there are fewer heads than GPUs (vllm#21348 logs the last step: 4
    heads at TP 4). An MLA latent is whole on every GPU of the TP group. `dcp` stripes tokens of layers that keep all.
    Plain formats are counted as `Model.cache_bytes` counts; those with a name of their own (`fp8_ds_mla`, `int8_pth`)
    with their scales, as in `kvlib.pages.entry_bytes`.
    """
    if isinstance(layer, Full | Latent) and not isinstance(layer, Sliding | Chunked):
        context = -(-context // dcp)
    if kv_dtype in DTYPES or not isinstance(layer, Full | Latent | Compressed):
        return int(layer.cache_bytes(context, dtype(kv_dtype if kv_dtype in DTYPES else "bf16"), tp))
    if isinstance(layer, Compressed):
        raise ValueError(f"kv_dtype must be one of {', '.join(DTYPES)} for {layer.kind} layers; got {kv_dtype!r}")
    if isinstance(layer, Sliding):
        context = min(context, layer.window)
    if isinstance(layer, Chunked):
        context = min(context, layer.chunk)
    return context * entry_bytes(layer, kv_dtype, tp)


def stage_caches(model: Model, context: int, kv_dtype: str, split: Split) -> list[int]:
    """Bytes of one sequence's cache on one GPU of each stage."""
    sizes = {layer: cache_of(layer, context, kv_dtype, split.tp, split.dcp) for layer in model.layer_counts}
    upto = [0, *itertools.accumulate(sizes[layer] for layer in model.layers)]
    return [upto[stop] - upto[start] for start, stop in itertools.pairwise(cuts(len(model.layers), split.pp))]


@dataclass(frozen=True)
class Part:
    """One part of the weights inside the layers: `numbers`, cut `ways` ways, spread over layers with a mixer or all."""

    numbers: int
    ways: int
    per_mixer: bool
    stored: DType


def layer_parts(model: Model, formats: Mapping[str, DType], tp: int) -> tuple[list[Part], int, DType]:
    """(parts that TP divides or repeats, numbers of the routed experts, their format).

    TP divides attention, feed-forward blocks and experts; norms and routers are whole on each GPU. What a GPU needs
    although it is not its share is added: the key and value projections of repeated KV heads, and the projection into
    an MLA latent. The low-rank query projection of MLA is repeated too, but a Model does not know its width: it counts
    as divided, which is up to 6 % of the attention weights too little.

    Source: vllm/model_executor/layers/linear.py, QKVParallelLinear, ReplicatedLinear in models/deepseek_v2.py.
    """
    parts, experts = [], 0
    for name, numbers in model.weights:
        if name == "experts":
            experts += numbers
        elif name not in ("embedding", "head"):
            ways = 1 if name in _WHOLE else tp
            repeated = _repeated(model, tp) if name == "attention" else 0
            parts.append(Part(numbers + repeated, ways, name == "attention", stored_as(formats, name)))
    return parts, experts, stored_as(formats, "experts")


def _repeated(model: Model, tp: int) -> int:
    """Numbers that a TP group holds more than once, over all layers."""
    widths = 0
    for layer, count in model.layer_counts.items():
        if isinstance(layer, Full):
            widths += count * (layer.key_dim + layer.value_dim) * max(0, tp - layer.kv_heads)
        elif isinstance(layer, Latent):
            widths += count * layer.growth_elements() * (tp - 1)
        elif isinstance(layer, Compressed):
            widths += count * layer.dim * (tp - 1)
    return model.hidden_size * widths


def ends(model: Model, formats: Mapping[str, DType], tp: int, pp: int) -> tuple[int, int]:
    """Bytes of (embedding, output head) on one GPU: rows are divided, the vocabulary padded to a multiple of 64 and TP.

    A tied head has no weights of its own, but a last stage that is not the first needs a copy of the embedding.

    Source: vllm/model_executor/layers/vocab_parallel_embedding.py; tied weights, vllm/model_executor/models/qwen2.py.
    """
    step = _VOCAB_STEP * tp
    padding = -model.vocab_size % step * model.hidden_size
    numbers = {name: sum(n for part, n in model.weights if part == name) for name in ("embedding", "head")}
    tied = numbers["embedding"] and numbers["head"] < numbers["embedding"] // 2
    size = {
        name: int(stored_as(formats, name).nbytes(-(-(n + padding) // tp))) if n else 0 for name, n in numbers.items()
    }
    return size["embedding"], size["embedding"] if tied and pp > 1 else size["head"]


def stage_weights(model: Model, formats: Mapping[str, DType], split: Split) -> list[int]:
    """Bytes of weights on one GPU of each stage.

    A Model knows its weights by part, not by layer, so each part is spread evenly over its layers. Where the first
    layers are dense and the rest have experts, stages without dense layers hold a little more than this says.
    """
    total, mixers = len(model.layers), has_mixer(model)
    parts, experts, stored = layer_parts(model, formats, split.tp)
    if experts:
        parts.append(Part(experts, split.ep if split.ep > 1 else split.tp, False, stored))
    first, last = ends(model, formats, split.tp, split.pp)
    stages = []
    for stage, (start, stop) in enumerate(itertools.pairwise(cuts(total, split.pp))):
        held, mixing = stop - start, mixers[stop] - mixers[start]
        size = first * (stage == 0) + last * (stage == split.pp - 1)
        for part in parts:
            some, of = (mixing, mixers[-1]) if part.per_mixer else (held, total)
            size += int(part.stored.nbytes(-(-part.numbers * some // (of * part.ways))))
        stages.append(size)
    return stages


def has_mixer(model: Model) -> list[int]:
    """Running count of the layers that have a mixer (attention or recurrent): the others hold no attention weights."""
    flags = [not isinstance(layer, NoCache) for layer in model.layers]
    return [0, *itertools.accumulate(map(int, flags if any(flags) else [True] * len(flags)))]


def stored_as(formats: Mapping[str, DType], part: str) -> DType:
    """The format of a part of the weights: its own, or that of "other"."""
    return formats.get(part, formats["other"])
