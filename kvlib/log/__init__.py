"""Explains an engine's start-up log: where every GiB went, and why it holds as many tokens as it says.

    parse -> figures -> split of the memory -> pool that reproduces the figures -> prediction beside the log

`explain_log` reads what the log states, tries what it leaves out, and names what explains each difference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvlib.catalogue import model as catalogue_model
from kvlib.catalogue import models as catalogue
from kvlib.engine import pool
from kvlib.log.figures import Figures
from kvlib.log.others import explain_llama_cpp, explain_sglang
from kvlib.log.parse import LogError, ParsedLog, parse
from kvlib.log.report import Check, Explanation, Term
from kvlib.log.vllm import explain_vllm
from kvlib.model import Model

__all__ = ["Check", "Explanation", "LogError", "Term", "explain_log"]

_ENGINES = {"vllm": explain_vllm, "sglang": explain_sglang, "llama.cpp": explain_llama_cpp}
_SETTINGS = (
    "max_model_len", "kv_dtype", "tp", "pp", "dcp", "block", "in_flight", "spec_tokens", "state_mode", "state_dtype",
    "definition", "hybrid",
)  # fmt: skip


def explain_log(text: str | bytes, model: Model | str | Sequence[Model] | None = None, **settings: Any) -> Explanation:
    """Where the memory of one GPU went, and how many tokens that is, by the engine's own start-up log.

    Args:
        text: the log, or the lines of it that you have, of vLLM (0.4 to 0.30), SGLang or llama.cpp. Other lines do no
            harm; of several starts the last one counts.
        model: the model, its name in the catalogue, or (target, draft). None looks for a catalogue name in the log.
        settings: arguments of `kvlib.engine.pool` that you know and the log does not say, such as tp=2.

    Returns:
        An Explanation: `terms` (every GiB), `checks` (prediction, log, difference, reason), `missing`, `used_lines`.

    Raises:
        LogError: a ValueError, if text is not text or holds no figure of a start-up log, or if model or a setting is
            not one. Incomplete and contradictory logs give a partial explanation that says so.
    """
    unknown = set(settings) - set(_SETTINGS)
    if unknown:
        raise LogError(f"settings must be among {', '.join(_SETTINGS)}; got {', '.join(sorted(unknown))}")
    named = _given(model)
    _check_settings(named, settings)
    log = parse(text)
    if named is not None:
        return _ENGINES[log.engine](log, named, settings)
    found = _by_name(log)
    explained = _ENGINES[log.engine](log, found, settings)
    if found is None:
        return explained
    note = f"the model {found.name} was recognised by the name in the log"
    return replace(explained, notes=(note, *explained.notes))


def _given(model: Any) -> Model | tuple[Model, ...] | None:
    """The model argument as a Model (or target and draft); a LogError says what it should be."""
    if model is None:
        return None
    if isinstance(model, Model):
        return model
    try:
        if isinstance(model, str):
            return catalogue_model(model)
        pair = tuple(model)
    except (ValueError, TypeError) as error:
        raise LogError(f"model must be a Model, a name in the catalogue, or (target, draft): {error}") from None
    if not pair or not all(isinstance(item, Model) for item in pair):
        raise LogError(f"model must be a Model, a name in the catalogue, or (target, draft); got {model!r:.80}")
    return pair


def _check_settings(model: Model | tuple[Model, ...] | None, settings: dict[str, Any]) -> None:
    """Refuse settings under which the engine could not start at all, in the words of `pool`."""
    if model is None or not settings:
        return
    try:
        pool(model, blocks=0, **{"max_model_len": 1, **settings})
    except ValueError as error:
        raise LogError(str(error)) from None


def _by_name(log: ParsedLog) -> Model | None:
    """The catalogue's model whose name begins the name in the log, if there is exactly one longest."""
    for printed in reversed(Figures(log).distinct("model")):
        base = _squeeze(str(printed).rstrip("/").rpartition("/")[2])
        fitting = [name for name in catalogue() if base.startswith(_squeeze(name))]
        if fitting:
            return catalogue_model(max(fitting, key=len))
    return None


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.casefold())
