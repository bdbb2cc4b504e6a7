"""Everything in a model that is not attention: feed-forward blocks, experts, norms, embeddings. Weights by part.

Shapes are those of the family's code in transformers 5.23.0 (`modeling_*.py`); `make test-reference` compares every
count with the real modules.
"""

from __future__ import annotations

from collections import Counter

from kvlib.fields import Fields


def feed_forward(f: Fields, i: int, kind: str, is_moe: bool) -> Counter[str]:
    """Weights of the feed-forward part of layer `i`: {"mlp": n} or {"experts": n, "router": n, "shared experts": n}."""
    parts: Counter[str] = Counter()
    if kind == "moe" or (is_moe and not f.trait("only_in_moe_layers")):
        parts.update(experts(f, i))
    if kind == "mlp" or f.trait("mlp_beside_experts") or not (is_moe or f.trait("only_in_moe_layers")):
        parts["mlp"] += mlp(f, dense_width(f, i), bool(f.trait("mlp_bias")))
    return parts


def mlp(f: Fields, width: int, bias: bool, hidden: int | None = None) -> int:
    """Two matrices, hidden to width and back; a gated block (SwiGLU, arXiv 2002.05202) has one more on the way in."""
    hidden = hidden or f.whole("hidden_size")
    ways_in = 1 if f.trait("mlp", "gated") == "plain" else 2
    extra = 2 if f.trait("activation_has_weights") else 0
    return (ways_in + 1) * hidden * width + (ways_in * width + hidden if bias else 0) + extra


def dense_width(f: Fields, i: int) -> int:
    """Width of the dense feed-forward block of layer `i`."""
    layers, hidden = f.whole("num_hidden_layers"), f.whole("hidden_size")
    field = f.trait("dense_width", "intermediate_size")
    ratio = f.trait("dense_ratio", 0)
    if ratio and f.get(field, None) is None:  # GPT-2, Bloom, Falcon, MPT: a multiple of the model's width
        return hidden * (f.whole(ratio) if isinstance(ratio, str) else int(ratio))
    width = f.at(field, i, layers)
    if f.trait("widened") and f.flag("block_auto_adjust_ff_dim", True):
        width, step = 2 * width // 3, f.whole("block_multiple_of")
        factor = f.get("block_ffn_dim_multiplier", None)
        if factor is not None and (type(factor) not in (int, float) or not 0 < factor < 100):
            raise f.error("block_ffn_dim_multiplier", factor, "a number from 0 to 100, or null")
        return width if factor is None else -(-int(factor * width) // step) * step
    shared = f.whole("num_kv_shared_layers", least=0, default=0) if f.trait("shares_kv") else 0
    return 2 * width if f.trait("double_wide") and i >= layers - shared else width


def experts(f: Fields, i: int) -> dict[str, int]:
    """A router, routed experts, and experts that every token uses."""
    hidden, layers = f.whole("hidden_size"), f.whole("num_hidden_layers")
    count, width = f.whole("num_experts"), expert_width(f, i)
    bias = bool(f.trait("expert_bias"))
    routed, inner = count * mlp(f, width, bias), 0
    low = f.maybe("moe_latent_size") if f.trait("latent_experts") else None
    if low:  # Nemotron 3 Super: experts work on a narrower vector
        routed, inner = count * mlp(f, width, bias, low), 2 * hidden * low
        inner += hidden + low if f.trait("mlp_bias") else 0
    router = count * hidden + (count if f.trait("router_bias") else 0)
    if f.trait("router_scales"):  # Gemma 4: learned scales of the router, three more norms around the experts
        router, inner = router + hidden + count, 3 * hidden

    shared_field, shared = f.trait("shared_width", ""), 0
    if shared_field:
        shared = f.at(shared_field, i, layers, least=0)
    elif f.trait("shared_count"):
        shared = (f.maybe("num_shared_experts", least=0) or 0) * width
    together = mlp(f, shared, bool(f.trait("shared_bias"))) if shared else 0
    together += hidden if f.trait("shared_gate") else 0
    return {"experts": routed, "router": router, "shared experts": together, "mlp": inner}


def expert_width(f: Fields, i: int) -> int:
    """Width of one routed expert."""
    return f.at(f.trait("expert_width", "intermediate_size"), i, f.whole("num_hidden_layers"))


def moe_layers(f: Fields, kinds: list[str]) -> list[bool]:
    """Which layers have experts. The rule is a trait of the family; a list in the config goes first."""
    layers = len(kinds)
    rule = f.trait("moe", "")
    if not rule:
        return [False] * layers
    if not f.trait("moe_if", True):
        f.get("num_experts", None)  # stated, and switched off
        return [False] * layers
    if f.trait("lists_mlp") and (listed := f.get("mlp_layer_types", None)) is not None:
        ok = isinstance(listed, list) and len(listed) == layers
        if not ok or any(item not in ("dense", "sparse") for item in listed):
            raise f.error("mlp_layer_types", listed, f"a list of {layers} times 'dense' or 'sparse'")
        return [item == "sparse" for item in listed]
    return _RULES[rule](f, layers)


def _all(f: Fields, layers: int) -> list[bool]:
    return [f.whole("num_experts", least=0) > 0] * layers


def _after_first(f: Fields, layers: int) -> list[bool]:
    """The first few layers are dense (DeepSeek, GLM-4.5, dots)."""
    dense = f.whole("first_k_dense_replace", least=0, default=0)
    return [i >= dense for i in range(layers)]


def _sparse_step(f: Fields, layers: int) -> list[bool]:
    """Every `decoder_sparse_step`-th layer, except those listed as dense (Qwen)."""
    dense, step = f.layer_numbers("mlp_only_layers", layers) or [], f.whole("decoder_sparse_step", default=1)
    return [f.whole("num_experts", least=0) > 0 and i not in dense and (i + 1) % step == 0 for i in range(layers)]


def _listed(f: Fields, layers: int) -> list[bool]:
    """One 0 or 1 per layer; all but the first where the config has no list (MiMo)."""
    return [item == 1 for item in f.switches("moe_layer_freq", layers, [0] + [1] * (layers - 1))]


def _interleaved(f: Fields, layers: int) -> list[bool]:
    """Every `interleave_moe_layer_step`-th layer, or a list of layer numbers (Llama 4)."""
    step, listed = f.whole("interleave_moe_layer_step", default=1), f.layer_numbers("moe_layers", layers)
    return [(i + 1) % step == 0 if listed is None else i in listed for i in range(layers)]


def _periodic(f: Fields, layers: int) -> list[bool]:
    """Every `expert_layer_period`-th layer from an offset (Jamba)."""
    period, offset = f.whole("expert_layer_period"), f.whole("expert_layer_offset", least=0)
    return [f.whole("num_experts") > 1 and i % period == offset for i in range(layers)]


def _between(f: Fields, layers: int) -> list[bool]:
    """Every n-th layer between a first and a last (Ernie 4.5)."""
    step, first = f.whole("moe_layer_interval"), f.whole("moe_layer_start_index", least=0)
    last = f.whole("moe_layer_end_index", least=-1)
    last = layers - 1 if last == -1 else last
    return [(i + 1) % step == 0 and first <= i <= last for i in range(layers)]


_RULES = {
    "all": _all,
    "after_first": _after_first,
    "sparse_step": _sparse_step,
    "listed": _listed,
    "interleaved": _interleaved,
    "periodic": _periodic,
    "between": _between,
}


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
    return count


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
    return {"": lambda _: 0, "per_layer_input": _per_layer_input, "altup": _altup, "hyper": _hyper_connections}[
        f.trait("extras", "")
    ](f)


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
