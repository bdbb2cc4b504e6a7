"""Weights of everything that is neither attention nor experts: dense blocks, norms, embeddings, a family's extras.

Shapes are those of the family's code in transformers 5.23.0 (`modeling_*.py`); `make test-reference` compares every
count with the real modules.
"""

from __future__ import annotations

from kvlib.fields import Fields


def mlp(f: Fields, width: int, bias: bool, hidden: int | None = None) -> int:
    """Two matrices, hidden to width and back; a gated block (SwiGLU, arXiv 2002.05202) has one more on the way in."""
    hidden = hidden or f.whole("hidden_size")
    ways_in = 1 if f.trait("mlp", "gated") == "plain" else 2
    extra = (2 if f.trait("activation_has_weights") else 0) + (width if f.trait("inner_norms") else 0)
    return (ways_in + 1) * hidden * width + (ways_in * width + hidden if bias else 0) + extra


def dense_width(f: Fields, i: int) -> int:
    """Width of the dense feed-forward block of layer `i`."""
    layers, hidden = f.whole("num_hidden_layers"), f.whole("hidden_size")
    field = f.trait("dense_width", "intermediate_size")
    ratio = f.trait("dense_ratio", 0)
    if ratio and f.get(field, None) is None:  # GPT-2, Bloom, Falcon, MPT: a multiple of the model's width
        return hidden * (f.whole(ratio) if isinstance(ratio, str) else int(ratio))
    if f.trait("dense_width_else", "") and f.get(field, None) is None:
        field = f.trait("dense_width_else", "")
    width = f.at(field, i, layers)
    if f.trait("halved_width"):  # the field counts both ways in, the gate and the rest
        return width // 2
    if f.trait("widened") and f.flag("block_auto_adjust_ff_dim", True):
        width, step = 2 * width // 3, f.whole("block_multiple_of")
        factor = f.get("block_ffn_dim_multiplier", None)
        if factor is not None and (type(factor) not in (int, float) or not 0 < factor < 100):
            raise f.error("block_ffn_dim_multiplier", factor, "a number from 0 to 100, or null")
        return width if factor is None else -(-int(factor * width) // step) * step
    shared = f.whole("num_kv_shared_layers", least=0, default=0) if f.trait("shares_kv") else 0
    return 2 * width if f.trait("double_wide") and i >= layers - shared else width


def norm(f: Fields, width: int) -> int:
    """Weights of one normalisation: RMSNorm has a scale, LayerNorm a scale and a shift, OLMo's has none."""
    return {"rms": 1, "layer": 2, "none": 0}[f.trait("norm", "rms")] * width


def norms_per_layer(f: Fields) -> int:
    """Two as a rule: before attention and before the feed-forward block. Parallel blocks share one; Gemma has four."""
    count: int = f.trait("norms", 2)
    if f.trait("one_norm_if", False):
        return 1
    if f.trait("falcon_norms"):
        stated = f.maybe("num_ln_in_parallel_attn")
        two = stated == 2 or (stated is None and f.flag("new_decoder_architecture", False))
        return 2 if two or not f.flag("parallel_attn", True) else 1
    return count + (2 if f.trait("two_more_norms_if") else 0)


def outside_layers(f: Fields) -> dict[str, int]:
    """Token and position embeddings, the final norm, and the output head (none of its own where it is tied)."""
    vocab, hidden = f.whole("vocab_size"), f.whole("hidden_size")
    width = f.maybe("word_embed_proj_dim") or hidden if f.trait("embedding_projection") else hidden
    embedding = (vocab + f.trait("extra_rows", 0)) * width
    embedding += 2 * width * hidden if width != hidden else 0
    embedding += norm(f, hidden) if f.trait("embedding_norm") else 0
    if f.trait("positions", "") == "learned":
        embedding += (f.whole("max_position_embeddings") + f.trait("extra_positions", 0)) * hidden
    tied = f.flag("tie_word_embeddings", False)
    head = 0 if tied else vocab * width
    head += vocab if f.trait("head_bias") else 0
    final = norm(f, hidden) if f.trait("final_norm", True) else 0
    return {"embedding": embedding, "head": head, "norms": final}


def extras(f: Fields) -> int:
    """Weights that only one family has, of the whole model."""
    name = f.trait("extras", "")
    return _EXTRAS[name](f) if name else 0


def _per_layer_input(f: Fields) -> int:
    """Gemma 3n and 4 E: a small embedding per layer and token, projected into the stream."""
    hidden, layers = f.whole("hidden_size"), f.whole("num_hidden_layers")
    width = f.maybe("hidden_size_per_layer_input", least=0)
    if not width:
        return 0
    table = f.whole("vocab_size_per_layer_input") * layers * width
    return table + layers * width * hidden + width + layers * (2 * hidden * width + hidden)


def _altup(f: Fields) -> int:
    """Gemma 3n: per-layer input, AltUp (arXiv 2301.13310) and LAuReL (arXiv 2411.07501)."""
    hidden, layers = f.whole("hidden_size"), f.whole("num_hidden_layers")
    streams, rank = f.whole("altup_num_inputs"), f.whole("laurel_rank")
    altup = streams**2 + streams**3 + streams * hidden + hidden + (hidden if f.flag("altup_correct_scale", True) else 0)
    return _per_layer_input(f) + layers * (altup + 2 * hidden * rank + hidden) + 2 * (streams - 1) * hidden**2


def _hyper_connections(f: Fields) -> int:
    """DeepSeek-V4: several residual streams (hyper-connections, arXiv 2409.19606), mixed twice a layer."""
    hidden, layers, streams = f.whole("hidden_size"), f.whole("num_hidden_layers"), f.whole("hc_mult")
    mixes = streams**2 + 2 * streams
    per_layer = 2 * (mixes * streams * hidden + mixes + 3)
    return layers * per_layer + streams * streams * hidden + streams + 1


def _shared_blocks(f: Fields) -> int:
    """Zamba2: the transformer blocks (attention twice as wide, a feed-forward) that hybrid layers take turns in."""
    hidden, heads = f.whole("hidden_size"), f.whole("num_attention_heads")
    width, dim = f.maybe("intermediate_size") or 4 * hidden, 2 * hidden // heads
    kv_heads = f.maybe("num_key_value_heads") or heads
    attention = 2 * hidden * dim * (heads + 2 * kv_heads) + heads * dim * hidden
    block = attention + mlp(f, width, f.flag("mamba_proj_bias", False)) + 3 * hidden
    return min(f.whole("num_mem_blocks"), f.items("layer_types").count("hybrid")) * block


_EXTRAS = {
    "per_layer_input": _per_layer_input,
    "altup": _altup,
    "hyper": _hyper_connections,
    "zamba": _shared_blocks,
}
