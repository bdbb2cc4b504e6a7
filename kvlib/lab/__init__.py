"""The lab: small real things to measure. Attention with and without a cache, a trained toy model, this machine."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any


def __getattr__(name: str) -> Any:
    """`kv.lab.needle` without an import of its own: a module of the lab is loaded when it is first named."""
    modules = sorted(module.name for module in iter_modules(__path__))
    if name not in modules:
        raise AttributeError(f"kvlib.lab has no {name!r}; it has {', '.join(modules)}")
    return import_module(f"{__name__}.{name}")
