"""The part of a layer that looks at other tokens: what it caches, and how many weights it has.

Each function takes the fields, the layer's number and its kind, and returns (Layer, weights). Shapes are those of the
family's code in transformers 5.23.0 (`modeling_*.py`); `make test-reference` compares the counts with the real modules.
"""

from __future__ import annotations

from kvlib.fields import Fields, head_dim
from kvlib.model import Chunked, Compressed, Full, Latent, Layer, NoCache, Shared, Sliding
from kvlib.recurrent import linear, short_conv


def attention(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """Softmax attention with keys and values per KV head: MHA, GQA, MQA, sliding or chunked."""
    if f.trait("mixer", "") == "mla":
        if kind != "full":
            raise f.error("layer_types", kind, "without windows: a latent keeps every token")
        return latent(f)
    layers, hidden = f.whole("num_hidden_layers"), f.whole("hidden_size")
    one_projection = kind == "full" and f.trait("k_is_v")  # Gemma 4: values are the keys, but both are cached
    heads, kv_heads, key_dim, value_dim = head_shape(f, i, kind, one_projection)
    shared = i >= layers - shared_layers(f) or reads_earlier(f, i)
    queries, keys, values = heads * key_dim, kv_heads * key_dim, kv_heads * value_dim

    projected = queries * (2 if f.trait("gated_queries") else 1)
    if not shared:
        projected += keys + (0 if one_projection else values)
    weights = hidden * projected + heads * value_dim * hidden
    weights += projected if f.trait("qkv_bias") else 0
    weights += hidden if f.trait("o_bias") else 0
    weights += hidden * queries if f.trait("output_gate") else 0
    weights += hidden * gates(f, heads, key_dim) if "head_gate" in f.family else 0
    if f.trait("qk_norm_if", True):
        norms = {"": 0, "head": 2 * key_dim, "head_with_bias": 4 * key_dim, "full": queries + keys}
        weights += norms[f.trait("qk_norm", "")] // (2 if shared and f.trait("shares_kv") else 1)
    if f.trait("sinks_on", "") == "all" or kind in f.trait("sinks_on", ""):
        weights += heads
    if rank := f.whole(f.family["query_rank"]) if "query_rank" in f.family else 0:  # Step 3: narrow, then wide
        weights += hidden * rank + rank + rank * queries - hidden * queries
    weights += f.trait("head_vectors", 0) * key_dim + (hidden if f.trait("inner_norms") else 0)
    return (Shared() if shared else cached(f, kind, kv_heads, key_dim, value_dim)), weights


def head_shape(f: Fields, i: int, kind: str, one_projection: bool) -> tuple[int, int, int, int]:
    """(query heads, KV heads, key width, value width) of layer `i`; some families have other shapes for some kinds."""
    layers, other = f.whole("num_hidden_layers"), dict(f.trait("shapes", {}).get(kind, {}))
    if one_projection and f.get("num_global_key_value_heads", None) is not None:
        other["num_key_value_heads"] = "num_global_key_value_heads"

    by_layer = f.trait("heads_by_layer", "")
    if by_layer and f.get(by_layer, None) is not None:  # Laguna: a list of its own
        other["num_attention_heads"] = by_layer
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
    if f.trait("square_output") and heads * key_dim != f.whole("hidden_size"):
        raise f.error("head_dim", key_dim, f"hidden_size / {heads} heads: the output projection is square")
    return heads, kv_heads, key_dim, value_dim


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


def reads_earlier(f: Fields, i: int) -> bool:
    """Cross-layer attention (arXiv 2405.12981): the first of every few layers has keys and values, the others read."""
    if not f.trait("cross_layer"):
        return False
    return i % f.whole("cla_share_factor") != 0


def gates(f: Fields, heads: int, dim: int) -> int:
    """Width of a gate on the attention's output: one number per head, or one per element."""
    value = f.get(f.family["head_gate"])
    if value not in (True, "per-head", "per-element"):
        raise f.error(f.family["head_gate"], value, "true, 'per-head' or 'per-element'")
    return heads * (dim if value == "per-element" else 1)


def index_key(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """MiniMax-M3's indexer: one more key per token, without a value, to choose the blocks that attention reads."""
    hidden, width, heads = f.whole("hidden_size"), f.whole("index_head_dim"), f.whole("index_n_heads")
    return Full(1, width, 0), hidden * (heads + 1) * width + 2 * width


def shared_weights(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """Zamba2 (arXiv 2411.15242): a cache per layer, the weights shared (`weights.py`) but for a map and adapters."""
    hidden, heads, rank = f.whole("hidden_size"), f.whole("num_attention_heads"), f.whole("adapter_rank")
    dim = 2 * hidden // heads  # it sees the embedding beside the stream: twice the width
    adapters = rank * (hidden + 2 * (f.maybe("intermediate_size") or 4 * hidden))
    adapters += 3 * rank * 4 * hidden if f.flag("use_shared_attention_adapter") else 0
    return Full(f.maybe("num_key_value_heads") or heads, dim, dim), hidden**2 + adapters


def latent(f: Fields) -> tuple[Layer, int]:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), with V3.2's indexer if there is one."""
    hidden, heads = f.whole("hidden_size"), f.whole("num_attention_heads")
    rank, rope, nope = f.whole("kv_lora_rank"), f.whole("qk_rope_head_dim"), f.whole("qk_nope_head_dim")
    value_dim, query_rank = f.whole("v_head_dim"), f.maybe("q_lora_rank")
    for ignored in ("num_key_value_heads", "head_dim"):
        f.get(ignored, None)  # stated by these configs, meaningless for a latent
    if f.get("qk_head_dim", None) not in (None, nope + rope):
        raise f.error("qk_head_dim", f.get("qk_head_dim"), f"qk_nope_head_dim + qk_rope_head_dim = {nope + rope}")

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
    "index": index_key,
    "shared weights": shared_weights,
}
# Layers with two mixers, each with a cache of its own: LongCat, Falcon-H1, MiniMax-M3, Zamba2.
PAIRS = {
    "twice": ("full", "full"),
    "side by side": ("full", "linear"),
    "sparse": ("full", "index"),
    "before mamba": ("shared weights", "linear"),
}
