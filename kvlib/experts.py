"""The feed-forward part of a layer, dense or a mixture of experts: which layers have experts, and the weights of both.

A router chooses a few experts for each token (arXiv 1701.06538); only those are active. Shapes are those of the
family's code in transformers 5.23.0 (`modeling_*.py`); `make test-reference` compares every count with real modules.
"""

from __future__ import annotations

from collections import Counter

from kvlib.fields import Fields
from kvlib.weights import dense_width, mlp


def feed_forward(f: Fields, i: int, kind: str, is_moe: bool) -> Counter[str]:
    """Weights of the feed-forward part of layer `i`: {"mlp": n} or {"experts": n, "router": n, "shared experts": n}."""
    parts: Counter[str] = Counter()
    if kind == "moe" or (is_moe and not f.trait("only_in_moe_layers")):
        parts.update(experts(f, i))
    if kind == "mlp" or f.trait("mlp_beside_experts") or not (is_moe or f.trait("only_in_moe_layers")):
        blocks = max(1, int(f.trait("mlp_beside_experts")))  # LongCat has two
        parts["mlp"] += blocks * mlp(f, dense_width(f, i), bool(f.trait("mlp_bias")))
    return parts


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
    inner += hidden if f.trait("norm_after_experts") else 0
    choices = count + (f.maybe(f.family["empty_experts"], least=0) or 0 if "empty_experts" in f.family else 0)
    router = choices * hidden + (choices if f.trait("router_bias") else 0)
    if f.trait("router_scales"):  # Gemma 4: learned scales of the router, three more norms around the experts
        router, inner = router + hidden + count, 3 * hidden

    shared_field, shared = f.trait("shared_width", ""), 0
    if shared_field:
        shared = f.at(shared_field, i, layers, least=0)
    elif f.trait("shared_count"):
        shared = (f.maybe("num_shared_experts", least=0) or 0) * width
    if not shared and f.trait("needs_shared"):
        raise f.error(shared_field or "num_shared_experts", 0, "1 or more: the family's code has shared experts")
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
    f.get("num_experts", None)  # stated, even where it is switched off or every layer is listed as dense
    if not f.trait("moe_if", True):
        return [False] * layers
    if f.trait("lists_mlp") and (listed := f.get("mlp_layer_types", None)) is not None:
        ok = isinstance(listed, list) and len(listed) == layers
        if not ok or any(item not in ("dense", "sparse") for item in listed):
            raise f.error("mlp_layer_types", listed, f"a list of {layers} times 'dense' or 'sparse'")
        return [item == "sparse" for item in listed]
    return _RULES[rule](f, layers)


def _all(f: Fields, layers: int) -> list[bool]:
    return [f.whole("num_experts") > 0] * layers


def _all_if_any(f: Fields, layers: int) -> list[bool]:
    """Granite 4: no experts means dense layers."""
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


def _enumerated(f: Fields, layers: int) -> list[bool]:
    """Step 3 lists the numbers of the layers with experts, as a list or as text with commas."""
    listed = f.get("moe_layers_enum")
    if isinstance(listed, str) and all(number.strip().isdecimal() for number in listed.split(",")):
        listed = [int(number) for number in listed.split(",")]
    if not isinstance(listed, list) or any(type(n) is not int or not 0 <= n < layers for n in listed):
        raise f.error("moe_layers_enum", listed, f"the numbers of layers, from 0 to {layers - 1}")
    return [i in listed for i in range(layers)]


def _periodic(f: Fields, layers: int) -> list[bool]:
    """Every `expert_layer_period`-th layer from an offset (Jamba)."""
    period = f.whole("expert_layer_period")
    offset = f.whole("expert_layer_offset", least=0, most=period - 1)
    return [f.whole("num_experts") > 1 and i % period == offset for i in range(layers)]


def _between(f: Fields, layers: int) -> list[bool]:
    """Every n-th layer between a first and a last (Ernie 4.5)."""
    step, first = f.whole("moe_layer_interval"), f.whole("moe_layer_start_index", least=0)
    last = f.whole("moe_layer_end_index", least=-1)
    last = layers - 1 if last == -1 else last
    return [(i + 1) % step == 0 and first <= i <= last for i in range(layers)]


_RULES = {
    "all": _all,
    "all_if_any": _all_if_any,
    "after_first": _after_first,
    "sparse_step": _sparse_step,
    "listed": _listed,
    "interleaved": _interleaved,
    "enumerated": _enumerated,
    "periodic": _periodic,
    "between": _between,
}
