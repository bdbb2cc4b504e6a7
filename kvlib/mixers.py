"""The part of a layer that looks at other tokens: what it caches, and how many weights it has.

Each function takes the fields, the layer's number and its kind, and returns (Layer, weights). Shapes are those of the
family's code in transformers 5.23.0 (`modeling_*.py`); `make test-reference` compares the counts with the real modules.
"""

from __future__ import annotations

from kvlib.fields import Fields
from kvlib.model import Chunked, Compressed, Full, Latent, Layer, NoCache, Recurrent, Shared, Sliding

DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def attention(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """Softmax attention with keys and values per KV head: MHA, GQA, MQA, sliding or chunked."""
    if f.trait("mixer", "") == "mla":
        return latent(f)
    layers, hidden = f.whole("num_hidden_layers"), f.whole("hidden_size")
    one_projection = kind == "full" and f.trait("k_is_v")  # Gemma 4: values are the keys, but both are cached
    heads, kv_heads, key_dim, value_dim = head_shape(f, i, kind, one_projection)
    shared = i >= layers - shared_layers(f)
    queries, keys, values = heads * key_dim, kv_heads * key_dim, kv_heads * value_dim

    projected = queries * (2 if f.trait("gated_queries") else 1)
    if not shared:
        projected += keys + (0 if one_projection else values)
    weights = hidden * projected + heads * value_dim * hidden
    weights += projected if f.trait("qkv_bias") else 0
    weights += hidden if f.trait("o_bias") else 0
    weights += hidden * queries if f.trait("output_gate") else 0
    if f.trait("qk_norm_if", True):
        norms = {"": 0, "head": 2 * key_dim, "head_with_bias": 4 * key_dim, "full": queries + keys}
        weights += norms[f.trait("qk_norm", "")] // (2 if shared else 1)
    if f.trait("sinks_on", []) == "all" or kind in f.trait("sinks_on", []):
        weights += heads
    return (Shared() if shared else cached(f, kind, kv_heads, key_dim, value_dim)), weights


def head_shape(f: Fields, i: int, kind: str, one_projection: bool) -> tuple[int, int, int, int]:
    """(query heads, KV heads, key width, value width) of layer `i`; some families have other shapes for some kinds."""
    layers, other = f.whole("num_hidden_layers"), dict(f.trait("shapes", {}).get(kind, {}))
    if one_projection and f.get("num_global_key_value_heads", None) is not None:
        other["num_key_value_heads"] = "num_global_key_value_heads"

    heads = f.at(other.get("num_attention_heads", "num_attention_heads"), i, layers)
    stated = f.get("num_key_value_heads", None)
    if not f.trait("kv_heads_if", True):  # Falcon before 40B: one KV head or all of them, whatever else is stated
        kv_heads = 1 if f.trait("one_kv_head") else heads
    elif f.trait("one_kv_head") and "kv_heads_if" not in f.family:
        kv_heads = 1
    elif stated is None:
        kv_heads = heads
    else:
        kv_heads = f.at(other.get("num_key_value_heads", "num_key_value_heads"), i, layers)
    if heads % kv_heads:
        raise f.error("num_key_value_heads", kv_heads, f"a divisor of the {heads} query heads")
    key_dim = f.maybe(other.get("head_dim", "head_dim")) or head_dim(f, heads)
    value_dim = f.maybe(other.get("v_head_dim", "v_head_dim")) or key_dim
    return heads, kv_heads, key_dim, value_dim


def head_dim(f: Fields, heads: int) -> int:
    """The width of a head where the config does not state it: hidden_size / num_attention_heads."""
    hidden = f.whole("hidden_size")
    if hidden % heads:
        raise f.error("num_attention_heads", heads, f"a divisor of hidden_size {hidden:,}, since there is no head_dim")
    return hidden // heads


def cached(f: Fields, kind: str, kv_heads: int, key_dim: int, value_dim: int) -> Layer:
    """What such a layer keeps: everything, a window, or a chunk."""
    if kind == "sliding":
        window, before = f.whole("sliding_window"), f.trait("window_before_query", "")
        if before and f.get(before, None) is not None:  # MiMo counts the tokens before the current one
            window = f.whole(before) + 1
        return Sliding(kv_heads, key_dim, value_dim, window)
    if kind == "chunked":
        return Chunked(kv_heads, key_dim, value_dim, f.whole("attention_chunk_size"))
    return Full(kv_heads, key_dim, value_dim)


def shared_layers(f: Fields) -> int:
    """How many layers at the end reuse the cache of an earlier one."""
    if not f.trait("shares_kv"):
        return 0
    layers = f.whole("num_hidden_layers")
    return f.whole("num_kv_shared_layers", least=0, most=layers - 1, default=0)


def latent(f: Fields) -> tuple[Layer, int]:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), with V3.2's indexer if there is one."""
    hidden, heads = f.whole("hidden_size"), f.whole("num_attention_heads")
    rank, rope, nope = f.whole("kv_lora_rank"), f.whole("qk_rope_head_dim"), f.whole("qk_nope_head_dim")
    value_dim, query_rank = f.whole("v_head_dim"), f.maybe("q_lora_rank")
    for ignored in ("num_key_value_heads", "head_dim"):
        f.get(ignored, None)  # stated by these configs, meaningless for a latent

    queries = heads * (nope + rope)
    weights = hidden * query_rank + query_rank + query_rank * queries if query_rank else hidden * queries
    weights += hidden * (rank + rope) + rank + rank * heads * (nope + value_dim) + heads * value_dim * hidden
    if f.flag("attention_bias", False):
        weights += (query_rank or 0) + (rank + rope) + hidden
    if not f.trait("indexer"):
        return Latent(rank, rope), weights
    types = f.get("indexer_types", None) or ["full"]
    if not isinstance(types, list) or any(item != "full" for item in types):
        raise f.error("indexer_types", f.get("indexer_types"), "'full' for every layer")
    width, index_heads = f.whole("index_head_dim"), f.whole("index_n_heads")
    if not query_rank:
        raise f.error("q_lora_rank", query_rank, "a whole number: the indexer reads the compressed query")
    weights += query_rank * index_heads * width + hidden * width + 2 * width + hidden * index_heads
    return Latent(rank, rope, width), weights


def cross(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """Cross-attention to an image (Llama 3.2 Vision): its cache grows with pictures, not with text."""
    hidden = f.whole("hidden_size")
    heads, kv_heads, key_dim, _ = head_shape(f, i, kind, False)
    gates, norms = 2, 2 * key_dim
    return NoCache(), hidden * key_dim * (2 * heads + 2 * kv_heads) + norms + gates


def nothing(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """A layer of a hybrid that is only a feed-forward block."""
    return NoCache(), 0


def linear(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """A recurrent mixer: which one is a trait of the family."""
    mixers = {"mamba": mamba, "mamba2": mamba2, "gdn": gated_delta_net, "kda": kimi_delta, "lightning": lightning}
    return mixers[f.family["linear"]](f)


def gated_delta_net(f: Fields) -> tuple[Layer, int]:
    """Gated DeltaNet (arXiv 2412.06464) as in Qwen3-Next: one key_dim x value_dim matrix per value head."""
    hidden, kernel = f.whole("hidden_size"), f.whole("linear_conv_kernel_dim")
    key_heads, value_heads = f.whole("linear_num_key_heads"), f.whole("linear_num_value_heads")
    key_dim, value_dim = f.whole("linear_key_head_dim"), f.whole("linear_value_head_dim")
    keys, values = key_heads * key_dim, value_heads * value_dim
    channels = 2 * keys + values
    weights = hidden * (2 * keys + 2 * values + 2 * value_heads) + channels * kernel + 2 * value_heads + value_dim
    weights += values * hidden
    return Recurrent(value_heads * key_dim * value_dim, channels * kernel, kernel, state_dtype(f)), weights


def kimi_delta(f: Fields) -> tuple[Layer, int]:
    """Kimi Delta Attention (arXiv 2510.26692): a dim x dim matrix per head, three short convolutions."""
    inner = f.get("linear_attn_config", None) or {}
    if not isinstance(inner, dict):
        raise f.error("linear_attn_config", inner, "an object")
    dim, heads, kernel = (
        f._whole(key, inner[key], 1) if key in inner else f.whole(name)
        for key, name in (
            ("head_dim", "linear_head_dim"),
            ("num_heads", "linear_num_heads"),
            ("short_conv_kernel_size", "linear_conv_kernel_dim"),
        )
    )
    hidden, wide = f.whole("hidden_size"), heads * dim
    weights = 3 * hidden * wide + 3 * wide * kernel + wide + heads + 2 * (hidden * dim + dim * wide)
    weights += hidden * heads + dim + wide * hidden
    return Recurrent(heads * dim * dim, 3 * wide * kernel, kernel, state_dtype(f)), weights


def lightning(f: Fields) -> tuple[Layer, int]:
    """Lightning attention (MiniMax-01, arXiv 2501.08313): a dim x dim matrix per head, kept in the model's dtype."""
    hidden, heads = f.whole("hidden_size"), f.whole("num_attention_heads")
    dim = f.maybe("head_dim") or head_dim(f, heads)
    wide = heads * dim
    return Recurrent(heads * dim * dim, state_dtype="bf16"), 5 * hidden * wide + wide


def mamba(f: Fields) -> tuple[Layer, int]:
    """Mamba (arXiv 2312.00752): `mamba_d_state` numbers for each of expand x hidden channels."""
    hidden, state, kernel = f.whole("hidden_size"), f.whole("mamba_d_state"), f.whole("mamba_d_conv")
    inner, rank = f.whole("mamba_expand") * hidden, f.get("mamba_dt_rank", "auto")
    rank = -(-hidden // 16) if rank == "auto" else f.whole("mamba_dt_rank")
    weights = hidden * 2 * inner + inner * kernel + inner * (rank + 2 * state) + rank * inner + inner
    weights += inner * state + inner + inner * hidden
    weights += inner if f.flag("mamba_conv_bias", True) else 0
    weights += 2 * inner + hidden if f.flag("mamba_proj_bias", False) else 0
    weights += rank + 2 * state if f.trait("ssm_norms") else 0
    return Recurrent(inner * state, inner * kernel, kernel, state_dtype(f)), weights


def mamba2(f: Fields) -> tuple[Layer, int]:
    """Mamba-2 (arXiv 2405.21060): a head_dim x state matrix per head, one short convolution over x, B and C."""
    hidden, state, kernel = f.whole("hidden_size"), f.whole("mamba_d_state"), f.whole("mamba_d_conv")
    heads, groups = f.whole("mamba_n_heads"), f.whole("mamba_n_groups")
    dim = f.get("mamba_d_head", "auto")
    expanded = f.whole("mamba_expand") * hidden if f.get("mamba_expand", None) is not None else None
    if dim == "auto" or (f.trait("inner_is_expand") and expanded != heads * f.whole("mamba_d_head")):
        if not expanded or expanded % heads or dim not in ("auto", expanded // heads):
            raise f.error("mamba_n_heads", heads, f"heads x head size = expand x hidden_size = {expanded}")
        dim = expanded // heads
    inner = heads * f._whole("mamba_d_head", dim, 1)
    channels = inner + 2 * groups * state
    weights = hidden * (inner + channels + heads) + channels * kernel + 3 * heads + inner + inner * hidden
    weights += channels if f.flag("mamba_conv_bias", True) else 0
    weights += inner + channels + heads + hidden if f.flag("mamba_proj_bias", False) else 0
    return Recurrent(inner * state, channels * kernel, kernel, state_dtype(f)), weights


def short_conv(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """LFM2's gated short convolution: it remembers a few inputs per channel and nothing else."""
    hidden, kernel, bias = f.whole("hidden_size"), f.whole("conv_L_cache"), f.flag("conv_bias", False)
    return Recurrent(0, hidden * kernel, kernel), 4 * hidden**2 + hidden * kernel + (5 * hidden if bias else 0)


def state_dtype(f: Fields) -> str:
    """The format of the recurrent state: fp32 unless the config says otherwise."""
    value = f.get("mamba_ssm_cache_dtype", None) or "float32"
    if not isinstance(value, str) or value not in DTYPES:
        raise f.error("mamba_ssm_cache_dtype", value, f"one of {', '.join(DTYPES)}")
    return DTYPES[value]


def compressed(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """DeepSeek-V4: window attention with low-rank projections, plus a compressor of `ratio` tokens into one."""
    ratio = {"csa": 4, "hca": 128, "plain": 0}[kind]
    hidden, heads, dim = f.whole("hidden_size"), f.whole("num_attention_heads"), f.whole("head_dim")
    query_rank, groups, out_rank = f.whole("q_lora_rank"), f.whole("o_groups"), f.whole("o_lora_rank")
    if f.whole("num_key_value_heads") != 1:
        raise f.error("num_key_value_heads", f.get("num_key_value_heads"), "1: keys and values are one shared vector")
    width, index_heads = f.whole("index_head_dim"), f.whole("index_n_heads")

    weights = heads + hidden * query_rank + query_rank + query_rank * heads * dim + hidden * dim + dim
    weights += out_rank * heads * dim + hidden * groups * out_rank
    if kind == "hca":
        weights += ratio * dim + 2 * hidden * dim + dim
    if kind == "csa":  # two overlapping windows: projections are twice as wide; the indexer has a compressor too
        for size in (dim, width):
            weights += ratio * 2 * size + 2 * hidden * 2 * size + size
        weights += query_rank * index_heads * width + hidden * index_heads
    return Compressed(dim, f.whole("sliding_window"), ratio, width if kind == "csa" else 0), weights


MIXERS = {
    "full": attention,
    "sliding": attention,
    "chunked": attention,
    "linear": linear,
    "conv": short_conv,
    "cross": cross,
    "mlp": nothing,
    "moe": nothing,
    "csa": compressed,
    "hca": compressed,
    "plain": compressed,
}
