"""From a Hugging Face `config.json` to a Model: which kind each layer is, what it caches, what it weighs.

This is the only place that knows what config.json calls things. `fields.py` reads them, `mixers.py` and `weights.py`
turn them into layers and counts. A family that is not in `data/families.toml` is refused, never guessed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kvlib.fields import ConfigError, Fields, text_part
from kvlib.mixers import MIXERS
from kvlib.model import Layer, Model
from kvlib.weights import extras, feed_forward, moe_layers, norm, norms_per_layer, outside_layers

__all__ = ["ConfigError", "from_config"]

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
}


def from_config(config: Mapping[str, Any] | str | Path, name: str | None = None) -> Model:
    """The Model that a config.json describes.

    Args:
        config: the parsed config, the path of a config.json, or its text.
        name: what to call the model; by default what the config calls itself.

    Returns:
        Model: its layers and weights. Of a multimodal config, the language model.

    Raises:
        ConfigError: the family is not understood, or a field is missing, of the wrong type, out of range, contradicts
            another one, or could change the cache in a way that kvlib does not know.

    Source: the configuration and modelling code of transformers 5.23.0, checked by `make test-reference`.
    """
    whole = _load(config)
    text, nested = text_part(whole)
    f = Fields(text, nested)
    kinds = layer_kinds(f)
    layers: list[Layer] = []
    parts: Counter[str] = Counter(outside_layers(f))
    routed = moe_layers(f, kinds)
    per_layer_norm = norms_per_layer(f) * norm(f, f.whole("hidden_size"))
    for i, (kind, is_moe) in enumerate(zip(kinds, routed, strict=True)):
        layer, attention = MIXERS[kind](f, i, kind)
        layers.append(layer)
        parts["attention"] += attention
        parts["norms"] += per_layer_norm
        if f.trait("feed_forward", True):
            parts.update(feed_forward(f, i, kind, is_moe))
    parts["extras"] += extras(f)
    experts = "moe" in kinds or any(routed)
    count = f.whole("num_experts") if experts else 0
    model = Model(
        name=name or str(whole.get("_name_or_path") or f.model_type),
        layers=tuple(layers),
        weights=tuple((part, number) for part, number in parts.items() if number),
        hidden_size=f.whole("hidden_size"),
        query_heads=f.maybe("num_attention_heads", least=0) or 0,
        vocab_size=f.whole("vocab_size"),
        experts=count,
        experts_per_token=_experts_per_token(f, count) if experts else 0,
        max_context=f.maybe("max_position_embeddings"),
    )
    f.refuse_unread()
    return model


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
        return _RULES[rule](f, layers, **pattern)
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
    if rule == "ratios":  # DeepSeek-V4 without a compressor
        kinds = ["plain" if kind == "sliding" else kind for kind in kinds]
    if "linear" in kinds and "linear" not in f.family:
        raise f.error("layer_types", "linear_attention", f"a list of attention kinds: {f.name} has no recurrent layers")
    return kinds


def _full(f: Fields, layers: int) -> list[str]:
    return ["full"] * layers


def _listed(f: Fields, layers: int) -> list[str]:
    return f.items("layer_types", layers)  # there is no rule: the config must list them


def _linear(f: Fields, layers: int) -> list[str]:
    return ["linear"] * layers


def _window(f: Fields, layers: int, gate: str = "", first: str = "") -> list[str]:
    """All layers from number `first` on slide, if there is a window and the switch `gate` is on."""
    window, start = f.maybe("sliding_window", least=0), f.maybe(first, least=0) if first else 0
    on = bool(window) and (not gate or f.flag(gate, False))
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
    if numbers is None:
        return [default or outside] * layers
    return [inside if i in numbers else outside for i in range(layers)]


def _period(f: Fields, layers: int) -> list[str]:
    """Jamba: attention every `attn_layer_period` layers from an offset, Mamba elsewhere."""
    period, offset = f.whole("attn_layer_period"), f.whole("attn_layer_offset", least=0)
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


_RULES: dict[str, Callable[..., list[str]]] = {
    "full": _full,
    "linear": _linear,
    "listed": _listed,
    "window": _window,
    "every": _every,
    "flags": _flags,
    "indices": _indices,
    "period": _period,
    "letters": _letters,
    "kimi": _kimi,
    "ratios": _ratios,
}


def _experts_per_token(f: Fields, experts: int) -> int:
    value = f.get("num_experts_per_tok")
    if isinstance(value, list) and value and all(item == value[0] for item in value):
        value = value[0]
    return f._whole("num_experts_per_tok", value, 1, experts)


def _load(config: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """The parsed config, from an object, a path, or the text itself."""
    if isinstance(config, Mapping):
        return dict(config)
    if not isinstance(config, str | Path):
        raise ConfigError(f"config must be a dict, a path or JSON text; got {type(config).__name__}")
    text = config if isinstance(config, str) and config.lstrip().startswith(("{", "[")) else None
    try:
        parsed = json.loads(text if text is not None else Path(config).read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"config must be a readable file or JSON text: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"config is not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"config must be a JSON object; this is a {type(parsed).__name__}")
    return parsed
