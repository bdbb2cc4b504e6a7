"""From a Hugging Face `config.json` to a Model: which kind each layer is, what it caches, what it weighs.

This is the only place that knows what config.json calls things. `fields.py` reads them, `patterns.py` says which kind
each layer is, `mixers.py`, `recurrent.py`, `experts.py` and `weights.py` turn that into layers and counts. A family
that is not in `data/families.toml` is refused, never guessed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvlib.experts import feed_forward, moe_layers
from kvlib.fields import ConfigError, Fields, text_part
from kvlib.mixers import MIXERS, PAIRS
from kvlib.model import Layer, Model
from kvlib.patterns import layer_kinds
from kvlib.weights import extras, norm, norms_per_layer, outside_layers

__all__ = ["ConfigError", "from_config"]


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
        for mixer in PAIRS.get(kind, (kind,)):
            layer, attention = MIXERS[mixer](f, i, mixer)
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
        max_context=_max_context(f),
    )
    f.refuse_unread()
    return model


def _max_context(f: Fields) -> int | None:
    """The length that a config states first; others beside it, such as the length in training, may be shorter."""
    for key in f.names["max_position_embeddings"]:
        if f.config.get(key) is not None:
            return f._whole(key, f.config[key], 1)
    return f.maybe("max_position_embeddings") if f.nested else None  # a class default says nothing about this model


def _experts_per_token(f: Fields, experts: int) -> int:
    value = f.get("num_experts_per_tok")
    if isinstance(value, list) and value and all(item == value[0] for item in value):
        value = value[0]
    empty = f.maybe(f.family["empty_experts"], least=0) or 0 if "empty_experts" in f.family else 0
    value = f._whole("num_experts_per_tok", value, 1, experts + empty)
    return max(1, value * experts // (experts + empty))  # LongCat: the average, since some choices are empty experts


def _load(config: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """The parsed config, from an object, a path, or the text itself."""
    if isinstance(config, Mapping):
        return dict(config)
    if not isinstance(config, str | Path):
        raise ConfigError(f"config must be a dict, a path or JSON text; got {type(config).__name__}")
    text = config if isinstance(config, str) and config.lstrip().startswith(("{", "[")) else None
    try:
        content = text if text is not None else Path(config).read_text(encoding="utf-8")
        parsed = json.loads(content, object_pairs_hook=_once_each)
    except ConfigError:
        raise
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"config must be a readable file or JSON text: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"config is not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"config must be a JSON object; this is a {type(parsed).__name__}")
    return parsed


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that stands twice with two values is refused: readers differ in which one they take."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ConfigError(f"{key} stands twice, with {found[key]!r} and {value!r}")
        found[key] = value
    return found
