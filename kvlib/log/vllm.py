"""Explains a vLLM log: the split of the memory, and the pool that follows from it, beside what the engine printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvlib.log.figures import Figures
from kvlib.log.fit import EXACT, RANKS, Evidence, Fit, fit
from kvlib.log.parse import ParsedLog
from kvlib.log.report import Check, Explanation, Term, check
from kvlib.log.split import split
from kvlib.model import Model, Recurrent
from kvlib.pages import kv_format
from kvlib.units import GiB, size

_STATE_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "fp32": "fp32", "bf16": "bf16"}
_WHY_RANKS = "every rank takes the smallest block count of all ranks; the printed GiB are one rank's"


def explain_vllm(log: ParsedLog, model: Model | Sequence[Model] | None, given: dict[str, Any]) -> Explanation:
    """Split, pool and checks of the last start in a vLLM log."""
    f = Figures(log)
    parts = split(f)
    checks, notes, missing = list(parts.checks), list(parts.notes), list(parts.missing)
    evidence = _evidence(f)
    stated, options = _settings(f, model, given, notes)
    fitted = None
    if model is not None:
        fitted = _fit(f, model, evidence, stated, options, notes)
        checks += _pool_checks(f, fitted, evidence) if fitted else []
        notes += _pool_notes(fitted, evidence) if fitted else []
    checks += _without_model(f, notes) if fitted is None else []
    terms = [*parts.terms, *_held(fitted, evidence)]
    if log.refused:
        notes.append("the engine refused to start: nothing was left for the cache blocks")
    missing += _missing_pool(f)
    return Explanation(
        engine="vllm",
        model=model if isinstance(model, Model) or model is None else model[0],
        terms=tuple(terms),
        checks=tuple(checks),
        pool=fitted.pool if fitted else None,
        settings=fitted.settings if fitted else stated,
        missing=tuple(missing),
        notes=(*notes, *f.notes),
        used_lines=tuple(sorted(f.used.items())),
        starts=log.starts,
    )


def _evidence(f: Figures) -> Evidence:
    """The figures that a pool must reproduce."""
    anchor = "needed" if f.reading("needed") else "concurrency"
    exact = f("kv_exact")
    pads = [item.value for item in f.log.readings.get("padding_layers", ())]
    length = f.beside("length", anchor)
    tokens, blocks = f("tokens"), f("blocks")
    return Evidence(
        kv_bytes=(exact, exact) if exact is not None else f.span("kv"),
        blocks=blocks,
        tokens=tokens,
        concurrency=f("concurrency"),
        length=length or None,
        block=f("block"),
        state_padding=f("state_padding"),
        padding_layers=pads[-1] if pads else None,
        needed=f.span("needed"),
        estimated=f("estimated"),
        many_ranks=len(f.distinct("kv")) > 1 or len(f.distinct("tokens")) > 1,
    )


def _settings(
    f: Figures, model: Model | Sequence[Model] | None, given: dict[str, Any], notes: list[str]
) -> tuple[dict[str, tuple[Any, str]], dict[str, tuple[Any, ...]]]:
    """What the log states about the engine, and what it hints at, as arguments of `pool`."""
    stated: dict[str, tuple[Any, str]] = {}
    for name in ("tp", "pp", "dcp"):
        if f(name):
            stated[name] = (f(name), "log")
    if f("spec_tokens") is not None:
        stated["spec_tokens"] = (f("spec_tokens"), "log")
    anchor = "needed" if f.reading("needed") else "concurrency"
    if length := f.beside("length", anchor):
        stated["max_model_len"] = (length, "log")
    if mode := _mode(f):
        stated["state_mode"] = (mode, "log")
    if (state := _STATE_DTYPES.get(f("state_dtype") or "")) is not None:
        stated["state_dtype"] = (state, "log")
    printed = f("kv_dtype")
    if printed and printed not in ("auto", "None"):
        try:
            stated["kv_dtype"] = (kv_format(printed), "log")
        except ValueError:
            notes.append(f"the KV dtype {printed!r:.60} of the log is not one that kvlib knows")
    models = () if model is None else (model,) if isinstance(model, Model) else tuple(model)
    if f("block_size") and not any(isinstance(layer, Recurrent) for item in models for layer in item.layers):
        stated["block"] = (f("block_size"), "log")
    options: dict[str, tuple[Any, ...]] = {}
    if batched := f("batched"):
        twice = (2 * batched, batched) if f.log.asynchronous else (batched, 2 * batched)
        options["in_flight"] = twice
    if (version := str(f("version") or "").lstrip("v")).startswith("0."):
        minor = version.split(".")[1]
        options["definition"] = ("old", "new") if minor.isdigit() and int(minor) <= 20 else ("new", "old")
    return stated | {name: (value, "given") for name, value in given.items()}, options


def _mode(f: Figures) -> str | None:
    """The mode of recurrent states: as printed, else none when prefix caching is off."""
    if (mode := f("state_mode")) in ("none", "align", "all"):
        return str(mode)
    return {"False": "none", "True": "align"}.get(f("prefix_caching") or "")


def _fit(
    f: Figures, model: Any, evidence: Evidence, stated: dict[str, Any], options: dict[str, Any], notes: list[str]
) -> Fit | None:
    """The settings that reproduce the log, trying what logs are known to do differently when the plain way fails."""
    if not (evidence.tokens or evidence.concurrency or evidence.blocks or evidence.needed or evidence.kv_bytes):
        return None
    best = fit(model, evidence, stated, options)
    printed = f.reading("kv")
    if (best is None or best.agreement != EXACT) and printed and printed.decimals <= 1 and evidence.kv_bytes:
        wide = Evidence(**{**vars(evidence), "kv_bytes": (printed.value - 0.05 * GiB, printed.value + 0.05 * GiB)})
        best = _better(
            best, fit(model, wide, stated, options), notes, "the KV memory seems to be rounded to one decimal"
        )
    if (best is None or best.agreement != EXACT) and evidence.needed and "pp" in stated:
        whole = {name: item for name, item in stated.items() if name != "pp"}
        note = "the needed memory counts the layers of all pipeline stages, not of one (vllm-project/vllm#34076)"
        best = _better(best, fit(model, evidence, whole, options), notes, note)
    if best is None:
        notes.append("the engine could not lay this model out with the settings of the log, so no pool is predicted")
    return best


def _better(best: Fit | None, other: Fit | None, notes: list[str], note: str) -> Fit | None:
    """The other fit if it is exact, with the note that says what it took."""
    if other is None or other.agreement != EXACT:
        return best
    notes.append(note)
    return other


def _pool_checks(f: Figures, fitted: Fit, evidence: Evidence) -> list[Check]:
    """The pool's numbers beside the printed ones."""
    made, checks = fitted.pool, []
    if evidence.block is not None and made.state_page_bytes:
        checks.append(check("block size", made.block_tokens, evidence.block, why="another dtype, tp or kernel block"))
    if evidence.state_padding is not None and made.state_page_bytes:
        checks.append(check("state padding", 100 * made.state_padding, evidence.state_padding, half=0.00501, unit="%"))
    if evidence.padding_layers is not None:
        checks.append(check("padding layers", made.padding_layers, evidence.padding_layers))
    predicted = _from_bytes(fitted, evidence)
    span = fitted.blocks_range
    if evidence.blocks is not None and evidence.kv_bytes is not None:
        low, high = (int(edge // made.block_bytes) for edge in evidence.kv_bytes)
        checks.append(_ranked(check("blocks", predicted.blocks, evidence.blocks, span=(low, high)), fitted))
    if evidence.tokens is not None:
        made_of = made if evidence.blocks is not None else predicted
        edges = [_tokens(_with(made, count), evidence) for count in span or (made_of.blocks, made_of.blocks)]
        tokens = _tokens(made_of, evidence)
        checks.append(_ranked(check("tokens", tokens, evidence.tokens, span=(min(edges), max(edges))), fitted))
    if evidence.concurrency is not None:
        older = made.tokens_old / made.max_model_len
        ratio = made.max_concurrency
        if len(made.groups) == 1 and abs(older - evidence.concurrency) < abs(ratio - evidence.concurrency):
            ratio = older
        low_x, high_x = ratio, ratio
        if span and fitted.agreement != EXACT:
            low_x, high_x = (count / made.per_request for count in span)
        item = check("concurrency", ratio, evidence.concurrency, span=(low_x, high_x), half=0.00501, unit="x")
        checks.append(_ranked(item, fitted))
    if evidence.needed is not None:
        needed, half = (evidence.needed[0] + evidence.needed[1]) / 2, f.half("needed")
        checks.append(check("needed memory", made.needed_bytes, needed, half=half, unit="bytes"))
    if evidence.estimated is not None and span:
        low, high = (_with(made, count).longest for count in span)
        checks.append(check("longest length", predicted.longest, evidence.estimated, span=(low, high)))
    return checks


def _held(fitted: Fit | None, evidence: Evidence) -> list[Term]:
    """The KV cache as blocks x bytes per block, where the log prints blocks or tokens but no bytes."""
    if fitted is None or evidence.kv_bytes is not None or fitted.agreement != EXACT or not fitted.pool.blocks:
        return []
    return [Term("KV cache", fitted.pool.blocks * fitted.pool.block_bytes, "blocks x bytes per block")]


def _from_bytes(fitted: Fit, evidence: Evidence) -> Any:
    """The pool as the printed bytes alone predict it; as fitted where no bytes are printed."""
    if evidence.kv_bytes is None:
        return fitted.pool
    return _with(fitted.pool, int(sum(evidence.kv_bytes) / 2 // fitted.pool.block_bytes))


def _with(made: Any, blocks: int) -> Any:
    return type(made)(made.layout, max(0, blocks), made.max_model_len, made.definition)


def _tokens(made: Any, evidence: Evidence) -> int:
    """The tokens this pool prints; of a uniform pool whichever of the two definitions comes nearer."""
    shown = (made.reported_tokens, made.tokens_new) if len(made.groups) == 1 else (made.reported_tokens,)
    return int(min(shown, key=lambda tokens: abs(tokens - (evidence.tokens or 0))))


def _ranked(item: Check, fitted: Fit) -> Check:
    """A shortfall that the poorest of several ranks explains gets that name."""
    if item.verdict == "off" and fitted.agreement == RANKS:
        return Check(**{**vars(item), "verdict": RANKS, "why": _WHY_RANKS})
    return item


def _pool_notes(fitted: Fit, evidence: Evidence) -> list[str]:
    """What the reader must know about the settings, and about the word "tokens"."""
    notes = []
    for name in fitted.contradictions:
        notes.append(
            f"the log states another {name}, but only {fitted.settings[name][0]} gives its tokens: "
            "look at what the checkpoint really uses"
        )
    found = [
        f"{name} {value}" for name, (value, how) in fitted.settings.items() if how == "found" and value is not None
    ]
    if found:
        notes.append("the log does not state these; they reproduce its figures best: " + ", ".join(found))
    if evidence.tokens is not None and len(fitted.pool.groups) > 1:
        if fitted.pool.definition == "new":
            notes.append(
                "tokens here means concurrency x max_model_len: it changes with that flag, the memory does not"
            )
        else:
            notes.append("tokens here means blocks // groups x block: as if every group had to keep everything")
    return notes


def _without_model(f: Figures, notes: list[str]) -> list[Check]:
    """What can be said without the model: ratios of the printed figures."""
    notes.append("no model is known, so the pool is not predicted: give explain_log a model")
    checks = []
    tokens, blocks, length = f("tokens"), f("blocks"), f.beside("length", "concurrency")
    kv, concurrency = f("kv"), f("concurrency")
    if tokens and blocks:
        notes.append(f"tokens / blocks = {tokens / blocks:,.2f} tokens per block")
    if tokens is None and blocks:
        tokens = 16 * blocks
        notes.append(f"{blocks:,} blocks are {tokens:,} tokens if a block has the usual 16")
    if tokens and length and concurrency is not None:
        why = "a hybrid model whose tokens are counted the old way, or blocks that do not divide the length"
        checks.append(check("concurrency", tokens / length, concurrency, half=0.00501, unit="x", why=why))
    if tokens and kv and kv > 0:
        notes.append(f"KV bytes / tokens = {size(round(kv / tokens))}, which is no rate if the model is a hybrid")
    return checks


def _missing_pool(f: Figures) -> list[str]:
    """Which lines about the pool the log lacks."""
    missing = []
    if f("tokens") is None and f("blocks") is None and f("needed") is None:
        missing.append("the size of the pool (`GPU KV cache size` or `# GPU blocks`)")
    if f("concurrency") is None and f("needed") is None:
        missing.append("the concurrency line")
    if not f("length"):
        missing.append("max_model_len")
    return missing
