"""Explains logs of SGLang and llama.cpp: separate pools for attention and for recurrent states, no blocks to speak of.

SGLang prints GiB and calls them GB. llama.cpp allocates the whole cache for `n_ctx` tokens at the start, in MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvlib.dtypes import dtype
from kvlib.log.figures import Figures
from kvlib.log.parse import ParsedLog, Reading
from kvlib.log.report import Check, Explanation, Term, check
from kvlib.model import Chunked, Full, Latent, Layer, Model, Recurrent, Sliding
from kvlib.pages import entry_bytes, kv_format
from kvlib.units import size


def explain_sglang(log: ParsedLog, model: Model | Sequence[Model] | None, given: dict[str, Any]) -> Explanation:
    """Weights, pools and what is left, of one rank; the pool's tokens recomputed for a known model."""
    f = Figures(log)
    pools = _sglang_pools(f)
    slots = f("state_slots")
    states = [(name, f(name)) for name in ("conv_state", "ssm_state")]
    terms = [Term("weights", round(f("weights")), "as printed", f.line("weights"))] if f("weights") is not None else []
    terms += [
        Term(f"KV cache {i}" if len(pools) > 1 else "KV cache", round(b), "as printed", n)
        for i, (b, _, _, n) in enumerate(pools, 1)
    ]
    terms += [Term(name.replace("_", " "), round(b), "as printed", f.line(name)) for name, b in states if b is not None]
    terms += _sglang_rest(f, terms)
    checks, notes = [], ["SGLang prints GiB under the label GB"]
    settings = _known(f, given, notes)
    models = _models(model)
    for number, (held, half, tokens, _) in enumerate(pools, 1):
        label = f"tokens of pool {number}" if len(pools) > 1 else "tokens"
        checks += _pool_check(models, settings, label, held, half, tokens, notes)
    if slots is not None and models:
        checks += _state_checks(models[0], settings, f, slots)
    checks += _sglang_budget(f, terms)
    if (total := f("tokens_total")) is not None and pools:
        smallest = min(pools, key=lambda item: abs(item[2] - total))
        checks.append(check("max_total_num_tokens", smallest[2], total, why="a limit below the pool, or another pool"))
    elif total is not None:
        notes.append(f"the server admits {total:,} tokens; no line says how many bytes they take")
    if not models:
        notes.append("no model is known, so the pools are not predicted: give explain_log a model")
    wanted = (
        ("weights", "the size of the weights (`Load weight end`)"),
        ("tokens", "the KV pool (`KV Cache is allocated`)"),
        ("free_start", "the memory that was free before loading (`Load weight begin`)"),
        ("fraction", "mem_fraction_static, so the split cannot be recomputed"),
    )
    return _explanation(
        "sglang", f, models, terms, checks, settings, notes, [text for name, text in wanted if f(name) is None]
    )


def explain_llama_cpp(log: ParsedLog, model: Model | Sequence[Model] | None, given: dict[str, Any]) -> Explanation:
    """Buffers of a llama.cpp start; the cache recomputed from its cells for a known model."""
    f = Figures(log)
    notes = ["llama.cpp allocates the cache for all cells at the start; sizes are MiB"]
    settings = _known(f, given, notes)
    models = _models(model)
    terms, checks = [], []
    for name, title in (("weights", "weights"), ("activation", "compute buffers")):
        if found := f.log.readings.get(name):
            f.reading(name)
            terms.append(
                Term(title, round(sum(item.value for item in found)), "sum of the printed buffers", f.line(name))
            )
    cells = {item.position: item.value for item in f.log.readings.get("tokens", ())}
    held = f.log.readings.get("kv", ())
    for number, item in enumerate(held, 1):
        line, text = f.log.line(item)
        f.used[line] = text
        label = f"KV cache {number}" if len(held) > 1 else "KV cache"
        terms.append(Term(label, round(item.value), "as printed", line))
        tokens = cells.get(item.position, f("length"))
        if tokens:
            checks += _pool_check(models, settings, f"{label} (cells)", item.value, item.half, tokens, notes)
    if (state := f.reading("state")) is not None:
        terms.append(Term("recurrent state", round(state.value), "as printed", f.line("state")))
        checks += _llama_state(models, f("state_slots") or 1, state)
    missing = [] if held else ["the size of the KV cache (`llama_kv_cache: size = ...`)"]
    return _explanation("llama.cpp", f, models, terms, checks, settings, notes, missing)


def _explanation(
    engine: str,
    f: Figures,
    models: tuple[Model, ...],
    terms: list[Term],
    checks: list[Check],
    settings: dict[str, tuple[Any, str]],
    notes: list[str],
    missing: list[str],
) -> Explanation:
    return Explanation(
        engine=engine,
        model=models[0] if models else None,
        terms=tuple(terms),
        checks=tuple(checks),
        pool=None,
        settings=settings,
        missing=tuple(missing),
        notes=(*notes, *f.notes),
        used_lines=tuple(sorted(f.used.items())),
        starts=f.log.starts,
    )


def _models(model: Model | Sequence[Model] | None) -> tuple[Model, ...]:
    return () if model is None else (model,) if isinstance(model, Model) else tuple(model)


def _known(f: Figures, given: dict[str, Any], notes: list[str]) -> dict[str, tuple[Any, str]]:
    """tp and the KV dtype, as the log states them or the caller gives them."""
    stated: dict[str, tuple[Any, str]] = {"tp": (f("tp"), "log")} if f("tp") else {}
    printed = f("kv_dtype")
    if printed and printed != "auto":
        try:
            stated["kv_dtype"] = (kv_format(printed), "log")
        except ValueError:
            notes.append(f"the KV dtype {printed!r:.60} of the log is not one that kvlib knows")
    return stated | {name: (value, "given") for name, value in given.items()}


def _sglang_pools(f: Figures) -> list[tuple[float, float, int, int]]:
    """(bytes, half a unit, tokens, line) of each different pool line; ranks repeat theirs."""
    by_position: dict[int, dict[str, Reading]] = {}
    for name in ("tokens", "kv", "kv_keys", "kv_values"):
        for item in f.log.readings.get(name, ()):
            by_position.setdefault(item.position, {})[name] = item
    pools: dict[tuple[float, int], tuple[float, float, int, int]] = {}
    for place in by_position.values():
        sides = [place[name] for name in ("kv", "kv_keys", "kv_values") if name in place]
        if "tokens" in place and sides:
            line, text = f.log.line(sides[0])
            f.used[line] = text
            held, half, tokens = sum(s.value for s in sides), sum(s.half for s in sides), place["tokens"].value
            pools.setdefault((held, tokens), (held, half, tokens, line))
    return list(pools.values())


def _sglang_rest(f: Figures, terms: list[Term]) -> list[Term]:
    """What is left free, and what no line names, where the log prints the free memory along the way."""
    start, loaded, after, end = (f(name) for name in ("free_start", "free_loaded", "free_pool", "free_end"))
    weights = f("weights")
    if start is None and loaded is not None and weights is not None:
        start = loaded + weights
    left, name = (end, "free_end") if end is not None else (after, "free_pool")
    rest = [Term("free at the end", round(left), "as printed", f.line(name))] if left is not None else []
    if start is not None and left is not None:
        named = sum(term.bytes for term in terms)
        rest.append(
            Term("other: graphs, workspaces, draft", round(start - left - named), "free at start - named parts")
        )
    return rest


def _sglang_budget(f: Figures, terms: list[Term]) -> list[Check]:
    """Pools = free after loading - (1 - fraction) x free at the start. General knowledge: no log has confirmed it."""
    loaded, weights, fraction = f("free_loaded"), f("weights"), f("fraction")
    start = f("free_start") or (loaded + weights if loaded is not None and weights is not None else None)
    held = sum(term.bytes for term in terms if term.name.startswith(("KV", "conv", "ssm")))
    if None in (loaded, start, fraction) or not held:
        return []
    half = f.half("free_loaded", "weights") + 0.02 * held
    predicted = loaded - (1 - fraction) * start
    why = "the rule for mem_fraction_static is general knowledge and differs by version"
    return [check("pool memory", predicted, held, span=(predicted - half, predicted + half), unit="bytes", why=why)]


def _attention(model: Model) -> list[Layer]:
    return [layer for layer in model.layers if isinstance(layer, Full | Latent)]


def _subsets(models: tuple[Model, ...]) -> list[tuple[str, list[Layer]]]:
    """Sets of layers that an engine may keep in one pool, with their names."""
    every = [layer for model in models for layer in _attention(model)]
    windows: list[Layer] = [layer for layer in every if isinstance(layer, Sliding | Chunked)]
    full = [layer for layer in every if not isinstance(layer, Sliding | Chunked)]
    sets = [("all attention layers", every)]
    sets += [("the full layers", full), ("the window layers", windows)] if windows and full else []
    sets += [(f"the layers of {model.name}", _attention(model)) for model in models] if len(models) > 1 else []
    return [*sets, ("one guessing layer", full[-1:])]


def _pool_check(
    models: tuple[Model, ...],
    settings: dict[str, tuple[Any, str]],
    label: str,
    held: float,
    half: float,
    tokens: int,
    notes: list[str],
) -> list[Check]:
    """Tokens = bytes / bytes per token, for the set of layers, dtype and tp that come nearest."""
    best: tuple[float, int, str, str, int, int] | None = None
    sizes = (settings["tp"][0],) if "tp" in settings else (1, 2, 4, 8)
    formats = (settings["kv_dtype"][0],) if "kv_dtype" in settings else ("bf16", "fp8", "q8_0", "q4_0", "fp8_ds_mla")
    order = 0
    for name, layers in _subsets(models):
        for kv_dtype in formats:
            for tp in sizes:
                width = _width(layers, kv_dtype, tp)
                order += 1
                if width:
                    miss = max(0.0, abs(width * tokens - held) - half) / max(held, 1.0)
                    # half a percent is as good as exact: the simplest of those counts
                    rank = (0.0 if miss <= 0.005 else miss, order, name, kv_dtype, tp, width)
                    best = rank if best is None or rank < best else best
    if best is None:
        return []
    _, _, name, kv_dtype, tp, width = best
    notes.append(f"{label}: {name}, {kv_dtype}, tp {tp}, {width:,} B per token and rank")
    span = ((held - half) / width, (held + half) / width)
    why = "the pool has a page of slots more than the printed tokens" if held > width * tokens else ""
    return [check(label, int(held // width), tokens, span=span, why=why)]


def _width(layers: list[Layer], kv_dtype: str, tp: int) -> int:
    """Bytes of one token in these layers; 0 if the engine could not store them so."""
    try:
        return sum(entry_bytes(layer, kv_dtype, tp) for layer in layers)
    except ValueError:
        return 0


def _state_checks(model: Model, settings: dict[str, tuple[Any, str]], f: Figures, slots: int) -> list[Check]:
    """SGLang keeps one slot more than `max_mamba_cache_size`; state in fp32, convolution window in bf16."""
    layers = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    parts: list[tuple[str, str, Callable[[Recurrent], int]]] = [
        ("ssm_state", "recurrent state", lambda layer: int(dtype("fp32").nbytes(layer.state))),
        ("conv_state", "convolution window", lambda layer: int(dtype("bf16").nbytes(_window(layer)))),
    ]
    tp = settings.get("tp", (1, ""))[0]
    checks = []
    for name, title, part in parts:
        if layers and f(name) is not None:
            predicted = (slots + 1) * sum(part(layer) for layer in layers) / tp
            checks.append(
                check(
                    title,
                    predicted,
                    f(name),
                    half=f.half(name),
                    unit="bytes",
                    why=f"{size(round(predicted))} by the rule",
                )
            )
    return checks


def _window(layer: Recurrent) -> int:
    """Elements of the convolution window: kernel - 1 inputs per channel."""
    return layer.conv // layer.kernel * (layer.kernel - 1) if layer.kernel else 0


def _llama_state(models: tuple[Model, ...], slots: int, state: Reading) -> list[Check]:
    """llama.cpp keeps state and window of each sequence in fp32."""
    layers = [layer for model in models for layer in model.layers if isinstance(layer, Recurrent)]
    if not layers:
        return []
    predicted = slots * sum(4 * (layer.state + _window(layer)) for layer in layers)
    return [check("recurrent state", predicted, state.value, half=state.half, unit="bytes")]
