"""The models that come with kvlib: published configs, each with its source, in `data/models/`."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib.resources import files

from kvlib.configs import from_config
from kvlib.model import Model

_FOLDER = files("kvlib") / "data" / "models"


def models() -> list[str]:
    """The names of the models in the catalogue, in alphabetical order."""
    return sorted(entry.name.removesuffix(".json") for entry in _FOLDER.iterdir() if entry.name.endswith(".json"))


@cache
def model(name: str) -> Model:
    """The model called `name`, such as "llama-3.1-8b"; a ValueError lists what there is."""
    if name not in models():
        raise ValueError(f"model must be one of {', '.join(models())}; got {name!r}")
    entry = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    built = from_config(entry["config"], name)
    return replace(built, title=entry["title"], source=entry["source"], as_of=entry["as_of"])
