"""Reading a Hugging Face `config.json` field by field, with the documented default where a field is missing.

Families call the same thing by different names (`n_embd`, `d_model`, `hidden_size`), and leave out what their code
takes for granted. Both are facts, so they stand in data files: `families.toml` says how a family names its fields and
which weights it has, `family_defaults.json` holds the defaults of transformers' own config classes.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

# A top-level config states its sizes. A nested text_config may leave them out: transformers saves of a nested config
# only what differs from the defaults of its class.
SIZES = {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"}
MOST = 10**9  # no size in a config comes near; a larger one is a slip, such as bytes for elements
_ABSENT = object()


class ConfigError(ValueError):
    """A config.json that cannot be read exactly: the message names the field, the value and what would be right."""


@cache
def tables() -> dict[str, Any]:
    """The families and their defaults, read once: {"aliases", "model_types", "guarded", "family", "defaults"}."""
    data = files("kvlib") / "data"
    families: dict[str, Any] = tomllib.loads((data / "families.toml").read_text(encoding="utf-8"))
    families["defaults"] = json.loads((data / "family_defaults.json").read_text(encoding="utf-8"))["families"]
    return families


class Fields:
    """The fields of one config, under their common names, checked as they are read.

    `read` collects the names that were looked at, so that a field which changes the cache and which nobody asked for
    can be refused instead of ignored (`refuse_unread`).
    """

    def __init__(self, config: Mapping[str, Any], nested: bool = False) -> None:
        data = tables()
        self.config, self.nested, self.read = config, nested, {"model_type"}
        self.model_type = _model_type(config)
        chain = [self.model_type]  # a multimodal model -> its text part -> the family whose code that has
        while chain[-1] in data["model_types"]:
            chain.append(data["model_types"][chain[-1]])
        self.name = chain[-1]
        if self.name not in data["family"]:
            raise ConfigError(
                f"model_type {self.model_type!r} is not a family that kvlib understands; it reads "
                f"{', '.join(sorted(data['family']))}"
            )
        self.family: dict[str, Any] = data["family"][self.name]
        own_class = next((name for name in chain if name in data["defaults"]), self.name)
        self.defaults = {**data["defaults"].get(own_class, {}), **self.family.get("defaults", {})}
        common: dict[str, list[str]] = data["aliases"]
        own: dict[str, str] = self.family.get("names", {})
        for key in ("attn_config", "ffn_config"):  # MPT and DBRX keep the fields of a part in an object
            if isinstance(inner := config.get(key), Mapping):
                self.config = {**{name: inner[name] for name in inner if name != "hidden_size"}, **self.config}
        self.names = {name: [name, *others] for name, others in common.items()}
        for key, name in own.items():
            self.names[name] = [key, *self.names.get(name, [name])]

    def get(self, name: str, default: Any = _ABSENT) -> Any:
        """The value of a field under any of its names; else its class default; else `default`; else an error."""
        keys = self.names.get(name, [name])
        self.read.update(keys)
        found = {key: self.config[key] for key in keys if key in self.config}
        if len({json.dumps(value, sort_keys=True, default=str) for value in found.values()}) > 1:
            raise ConfigError(f"these fields mean the same and differ: {found}")
        for value in found.values():
            return value
        if self.nested or name not in SIZES or name in self.family.get("defaults", {}):
            for key in keys:
                if key in self.defaults:
                    return self.defaults[key]
        if default is _ABSENT:
            raise ConfigError(f"{' or '.join(keys)} is missing, and a {self.model_type} config needs it")
        return default

    def whole(self, name: str, least: int = 1, most: int = MOST, default: Any = _ABSENT) -> int:
        """A field that is a whole number from `least` to `most`."""
        return self._whole(name, self.get(name, default), least, most)

    def maybe(self, name: str, least: int = 1) -> int | None:
        """A whole number, or None where the field is null or missing."""
        value = self.get(name, None)
        return None if value is None else self._whole(name, value, least)

    def flag(self, name: str, default: Any = _ABSENT) -> bool:
        """A field that is true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, value, "true or false")
        return value

    def items(self, name: str, length: int | None = None, default: Any = _ABSENT) -> list[Any]:
        """A field that is a list, of `length` items where that is given."""
        value = self.get(name, default)
        if not isinstance(value, list) or length not in (None, len(value)):
            raise self.error(name, value, "a list" if length is None else f"a list of {length} items, one per layer")
        return value

    def layer_numbers(self, name: str, layers: int) -> list[int] | None:
        """A field that lists some of the layers, counted from 0; None where it is null or missing."""
        numbers = self.get(name, None)
        if numbers is None:
            return None
        if not isinstance(numbers, list) or any(type(n) is not int or not 0 <= n < layers for n in numbers):
            raise self.error(name, numbers, f"a list of layer numbers from 0 to {layers - 1}")
        return numbers

    def switches(self, name: str, layers: int, default: list[int]) -> list[int]:
        """A field with a 0 or 1 for each layer; `default` where it is null or missing."""
        found = self.get(name, None)
        found = default if found is None else found
        ok = isinstance(found, list) and len(found) == layers and all(type(n) is int and n in (0, 1) for n in found)
        if not ok:
            raise self.error(name, found, f"a list of {layers} times 0 or 1, one per layer")
        return found

    def at(self, name: str, layer: int, layers: int, least: int = 1) -> int:
        """A whole number for one layer: the field is one number for all, or a list with one for each."""
        value = self.get(name)
        value = self.items(name, layers)[layer] if isinstance(value, list) else value
        return self._whole(name, value, least)

    def trait(self, name: str, default: Any = False) -> Any:
        """What `families.toml` says about the family's weights; the name of a field stands for that field's value."""
        value = self.family.get(name, default)
        return self.flag(value, False) if isinstance(value, str) and isinstance(default, bool) else value

    def error(self, name: str, value: Any, wanted: str) -> ConfigError:
        """The one form of message: field, value, and what would be right."""
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        keys = self.names.get(name, [name])
        field = next((key for key in keys if key in self.config), keys[0])
        return ConfigError(f"{field} must be {wanted}; this {self.model_type} config says {shown}")

    def refuse_unread(self) -> None:
        """Refuse a config with a field that can change the cache or the weights and that its family does not read."""
        for field, value in self.family.get("only", {}).items():
            if self.get(field, value) not in (value, None):
                raise self.error(field, self.get(field), f"{value!r}, or missing")
        for field in tables()["guarded"]["fields"]:
            value = self.config.get(field)
            if value and field not in self.read and field not in self.family.get("ignores", []):
                raise self.error(field, value, f"left out: kvlib does not know what it does in a {self.name} model")

    def _whole(self, name: str, value: Any, least: int, most: int = MOST) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(name, value, f"a whole number from {least:,} to {most:,}")
        return value


def head_dim(f: Fields, heads: int) -> int:
    """The width of a head where the config does not state it: hidden_size / num_attention_heads."""
    hidden = f.whole("hidden_size")
    if hidden % heads:
        raise f.error("num_attention_heads", heads, f"a divisor of hidden_size {hidden:,}, since there is no head_dim")
    return hidden // heads


def text_part(config: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The config of the language model inside a multimodal config, and whether it was nested."""
    text, nested = dict(config), False
    for _ in range(3):  # Qwen Omni: thinker_config, and text_config in that
        key = next((key for key in tables()["guarded"]["nested"] if text.get(key) is not None), None)
        if key is None:
            return text, nested
        text, nested = _inner(text, key), True
    raise ConfigError("text_config must not lie more than two objects deep")


def _inner(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The text part under `key`, with what the outer config says about it.

    The `tie_word_embeddings` beside a text_config wins, as in transformers, where the outer model has the head; some
    outer classes let a true one of the text part stand.
    """
    guarded, outer, tied = tables()["guarded"], config.get("model_type"), config.get("tie_word_embeddings")
    if not isinstance(config[key], Mapping):
        raise ConfigError(f"{key} must be an object with the language model's fields; it is {config[key]!r}")
    text = dict(config[key])
    if not text.get("model_type") and isinstance(outer, str) and outer not in tables()["family"]:
        text["model_type"] = f"{outer}_thinker" if key == "thinker_config" else outer
    inner_decides = outer in guarded["inner_ties"] or (tied is False and outer in guarded["either_ties"])
    if key == "text_config" and isinstance(tied, bool) and not inner_decides:
        text["tie_word_embeddings"] = tied
    return text


def _model_type(config: Mapping[str, Any]) -> str:
    """The family's name as the config gives it; encoder-decoders are refused here, before anything is counted."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise ConfigError(f"model_type must name a model family, such as 'llama'; the config says {model_type!r}")
    if config.get("is_encoder_decoder") or model_type in tables()["guarded"]["encoder_decoders"]:
        raise ConfigError(
            f"model_type {model_type!r} is an encoder-decoder: its cross-attention cache depends on a second length, "
            "and kvlib counts decoders only"
        )
    return model_type
