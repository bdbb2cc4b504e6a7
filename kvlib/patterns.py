"""Which kind each layer of a model is: from a list in its config, or by the rule of its family.

The rules are those of the families' configuration code in transformers 5.23.0; `families.toml` says which one a family
follows (`pattern`), `tests/reference` builds the real modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvlib.fields import Fields

MOST_LAYERS = 10_000
_KINDS = {
    "full_attention": "full",
    "attention": "full",
    "indexed_attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
    "mamba": "linear",
    "conv": "conv",
    "mlp": "mlp",
    "moe": "moe",
    "compressed_sparse_attention": "csa",
    "heavily_compressed_attention": "hca",
    "minimax_m3_sparse": "sparse",
    "hybrid": "before mamba",
}


def layer_kinds(f: Fields) -> list[str]:
    """The kind of each layer: from a list in the config, or by the family's rule."""
    pattern = dict(f.trait("pattern", {"rule": "full"}))
    rule = pattern.pop("rule")
    if rule == "letters":  # Nemotron-H: the length of the list is the number of layers
        spelled = f.get("layer_types", None) or f.get("hybrid_override_pattern")
        if not isinstance(spelled, str | list):
            raise f.error("hybrid_override_pattern", spelled, "letters, one per layer")
        f.config = {"num_hidden_layers": len(spelled), **f.config}
    layers = f.whole("num_hidden_layers", most=MOST_LAYERS)
    listed = f.get("layer_types", None)
    if listed is None:
        return RULES[rule](f, layers, **pattern)
    f.items("layer_types", layers)
    for item in listed:
        if not isinstance(item, str) or item not in _KINDS:
            raise f.error("layer_types", item, f"a list of {', '.join(_KINDS)}")
    for field in (
        "sliding_window",
        "sliding_window_pattern",
        "use_sliding_window",
        "attention_chunk_size",
        pattern.get("field", ""),
    ):
        f.get(field, None)  # the list has said it; these say it again
    kinds = [_KINDS[item] for item in listed]
    if pattern.get("last"):  # Gemma 4's code makes the last layer full, whatever the list says
        kinds[-1] = pattern["last"]
    if rule == "ratios":  # DeepSeek-V4 without a compressor
        kinds = ["plain" if kind == "sliding" else kind for kind in kinds]
    wrong = [item for item, kind in zip(listed, kinds, strict=True) if kind not in f.trait("kinds", kinds)]
    if wrong:
        raise f.error("layer_types", wrong[0], f"a list of kinds that kvlib knows in {f.name}: {f.trait('kinds', [])}")
    if "linear" in kinds and "linear" not in f.family:
        raise f.error("layer_types", "linear_attention", f"a list of attention kinds: {f.name} has no recurrent layers")
    return kinds


def _full(f: Fields, layers: int, kind: str = "full") -> list[str]:
    return [kind] * layers


def _after_prefix(f: Fields, layers: int) -> list[str]:
    """Command A MoE: the dense layers at the start and the ones with experts each count their full layers anew."""
    first = f.whole("first_k_dense_replace", least=0, most=layers, default=0)
    if f.maybe("sliding_window") is None:
        return ["full"] * layers
    counts = [(i + 1, f.whole("prefix_dense_sliding_window_pattern")) for i in range(first)]
    counts += [(i + 1, f.whole("sliding_window_pattern")) for i in range(layers - first)]
    return ["sliding" if number % step else "full" for number, step in counts]


def _repeated(f: Fields, layers: int) -> list[str]:
    """RecurrentGemma repeats a short list of "recurrent" and "attention"."""
    names = {"recurrent": "linear", "attention": "sliding"}
    blocks = f.get("block_types", list(names)[:1] * 2 + ["attention"])
    if not isinstance(blocks, list) or not blocks or any(block not in ("recurrent", "attention") for block in blocks):
        raise f.error("block_types", blocks, "a list of 'recurrent' and 'attention'")
    return [names[blocks[i % len(blocks)]] for i in range(layers)]


def _sparse(f: Fields, layers: int) -> list[str]:
    """MiniMax-M3: a 1 for each layer with an indexer, in `sparse_attention_config`."""
    inner = f.get("sparse_attention_config", None) or {}
    flags = inner.get("sparse_attention_freq", [0] * layers) if isinstance(inner, Mapping) else None
    if not isinstance(flags, list) or len(flags) != layers or any(flag not in (0, 1) for flag in flags):
        wanted = f"an object whose sparse_attention_freq is {layers} times 0 or 1"
        raise f.error("sparse_attention_config", inner, wanted)
    for name, own in (("index_n_heads", "sparse_num_index_heads"), ("index_head_dim", "sparse_index_dim")):
        if own in inner:
            f.config = {**f.config, name: inner[own]}
    return ["sparse" if flag else "full" for flag in flags]


def _listed(f: Fields, layers: int) -> list[str]:
    return f.items("layer_types", layers)  # there is no rule: the config must list them


def _linear(f: Fields, layers: int) -> list[str]:
    return ["linear"] * layers


def _window(f: Fields, layers: int, gate: str = "", first: str = "") -> list[str]:
    """All layers from number `first` on slide, if there is a window and the switch `gate` is on."""
    start = f.maybe(first, least=0) if first else 0
    if gate and not f.flag(gate, False):
        f.get("sliding_window", None)  # stated, and switched off
        return ["full"] * layers
    on = f.maybe("sliding_window") is not None
    return ["sliding" if on and i >= (start or 0) else "full" for i in range(layers)]


def _every(
    f: Fields, layers: int, other: str, step: int, field: str = "", offset: int = 1, last: str = ""
) -> list[str]:
    """Every `step`-th layer is full attention, the rest are `other`; some families end on a full one."""
    step = f.whole(field, default=step) if field else step
    kinds = ["full" if (i + offset) % step == 0 else other for i in range(layers)]
    if other == "sliding" and f.maybe("sliding_window") is None:
        return ["full"] * layers
    return [*kinds[:-1], last] if last else kinds


def _flags(f: Fields, layers: int, field: str, kinds: list[str], step: int, first: str = "") -> list[str]:
    """A list of 0 and 1 in the config chooses between two kinds; else every `step`-th layer is of kind 0."""
    default = [int((i + 1) % step != 0 and not (first and i == 0)) for i in range(layers)]
    return [kinds[flag] for flag in f.switches(field, layers, default)]


def _indices(f: Fields, layers: int, field: str, inside: str, outside: str, default: str = "") -> list[str]:
    """The config lists the numbers of the layers of one kind."""
    numbers = f.layer_numbers(field, layers)
    numbers = f.defaults.get(field) if numbers is None else numbers
    if numbers is None:
        return [default or outside] * layers
    return [inside if i in numbers else outside for i in range(layers)]


def _period(f: Fields, layers: int) -> list[str]:
    """Jamba: attention every `attn_layer_period` layers from an offset, Mamba elsewhere."""
    period = f.whole("attn_layer_period")
    offset = f.whole("attn_layer_offset", least=0, most=period - 1)
    return ["full" if i % period == offset else "linear" for i in range(layers)]


def _letters(f: Fields, layers: int) -> list[str]:
    """Nemotron-H spells its layers: M is Mamba-2, * attention, E experts, - a plain feed-forward block."""
    names = {"M": "linear", "*": "full", "E": "moe", "-": "mlp"}
    letters = f.get("hybrid_override_pattern")
    if not isinstance(letters, str) or len(letters) != layers or not set(letters) <= set(names):
        raise f.error("hybrid_override_pattern", letters, f"{layers} letters out of {''.join(names)}")
    return [names[letter] for letter in letters]


def _kimi(f: Fields, layers: int) -> list[str]:
    """Kimi Linear lists its layers, counted from 1, in `linear_attn_config`."""
    inner = f.get("linear_attn_config", None)
    if inner is None:
        return ["full" if i and i % 4 == 0 else "linear" for i in range(layers)]
    full = inner.get("full_attn_layers") if isinstance(inner, Mapping) else None
    linear = inner.get("kda_layers") if isinstance(inner, Mapping) else None
    named = [*full, *linear] if isinstance(full, list) and isinstance(linear, list) else []
    if len(named) != layers or any(number not in named for number in range(1, layers + 1)):
        raise f.error("linear_attn_config", inner, f"full_attn_layers and kda_layers that name 1 to {layers} once each")
    return ["full" if i + 1 in (full or []) else "linear" for i in range(layers)]


def _ratios(f: Fields, layers: int) -> list[str]:
    """DeepSeek-V4: one compression ratio per layer (4, 128 or 0); a further one belongs to the draft layer."""
    names, ratios = {4: "csa", 128: "hca", 0: "plain"}, f.items("compress_ratios")
    if len(ratios) < layers or not all(type(ratio) is int and ratio in names for ratio in ratios):
        raise f.error("compress_ratios", ratios, f"at least {layers} times 0, 4 or 128")
    return [names[ratio] for ratio in ratios[:layers]]


RULES: dict[str, Callable[..., list[str]]] = {
    "full": _full,
    "linear": _linear,
    "listed": _listed,
    "window": _window,
    "every": _every,
    "after_prefix": _after_prefix,
    "block_types": _repeated,
    "sparse_freq": _sparse,
    "flags": _flags,
    "indices": _indices,
    "period": _period,
    "letters": _letters,
    "kimi": _kimi,
    "ratios": _ratios,
}
