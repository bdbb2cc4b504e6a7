"""Which settings of the engine reproduce the figures of a log? What the log states is kept; the rest is tried in order.

A log rarely says everything: the KV dtype, the tensor parallelism or the mode of recurrent states may be missing. There
are few candidates for each, and tokens, concurrency and block size together leave little room, so the settings can be
found by trying. A result always says which settings were read and which were found.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kvlib.engine import Pool, pool
from kvlib.model import Chunked, Latent, Model, Recurrent, Sliding

# How well a candidate agrees, best first.
EXACT, RANKS, NEAR, OFF = "exact", "minimum over ranks", "near", "off"
_ORDER = {EXACT: 0, RANKS: 1, NEAR: 2, OFF: 3}
_TRIED = 3_000  # candidates, from the likeliest on
_NEAR = 0.005  # a uniform pool within half a percent
# The poorest rank may have this much less than the one whose line was printed; less if the ranks are only inferred.
_RANKS, _INFERRED_RANKS = 0.05, 0.015
# How odd a candidate is for each place further down the list.
_ODD = {
    "max_model_len": 3.0,
    "kv_dtype": 2.0,
    "tp": 2.5,
    "definition": 0.5,
    "block": 2.2,
    "state_mode": 1.0,
    "spec_tokens": 1.5,
    "state_dtype": 4.0,
    "in_flight": 1.0,
}
_LENGTHS = (262_144, 131_072, 65_536, 32_768, 40_960, 16_384, 8_192, 4_096)


@dataclass(frozen=True)
class Evidence:
    """What the log prints, in base units; None where it prints nothing. (low, high) are the ends of the rounding."""

    kv_bytes: tuple[float, float] | None = None
    blocks: int | None = None
    tokens: int | None = None
    concurrency: float | None = None
    length: int | None = None
    block: int | None = None
    state_padding: float | None = None
    padding_layers: int | None = None
    needed: tuple[float, float] | None = None
    estimated: int | None = None
    many_ranks: bool = False


@dataclass(frozen=True)
class Fit:
    """A pool and its settings: name -> (value, how it is known: "log", "given", "found" or "contradicts log")."""

    pool: Pool
    agreement: str
    settings: dict[str, tuple[Any, str]] = field(default_factory=dict)
    blocks_range: tuple[int, int] | None = None

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Settings that the log states otherwise than its own figures allow."""
        return tuple(name for name, (_, how) in self.settings.items() if how == "contradicts log")


Known = dict[str, tuple[Any, str]]  # setting -> (value, how it is known)
Options = dict[str, tuple[Any, ...]]  # setting -> candidates, the likeliest first


def fit(
    model: Model | Sequence[Model], evidence: Evidence, stated: Known, options: Options | None = None
) -> Fit | None:
    """The likeliest settings under which `model` gives the figures of a log; None if the engine cannot lay it out.

    Settings in `stated` are kept. If nothing agrees then, the KV dtype is tried against what the log states, because
    that is the setting that logs get wrong: a recipe says fp8, the checkpoint falls back to bf16.

    Args:
        model: the model, or target and draft.
        evidence: the figures.
        stated: arguments of `kvlib.engine.pool` that are known, each with where it is known from.
        options: candidates for arguments of which the log gives a hint.
    """
    hints = options or {}
    choices = {name: hints.get(name, values) for name, values in _choices(model).items()}
    best = _best(model, evidence, stated, choices)
    if (best is None or best.agreement == OFF) and stated.get("kv_dtype", ("", ""))[1] == "log":
        kept = {name: item for name, item in stated.items() if name != "kv_dtype"}
        other = _best(model, evidence, kept, choices)
        if other is not None and other.agreement in (EXACT, RANKS):
            found = {**other.settings, "kv_dtype": (other.settings["kv_dtype"][0], "contradicts log")}
            return Fit(other.pool, other.agreement, found, other.blocks_range)
    return best


def _best(model: Model | Sequence[Model], evidence: Evidence, stated: Known, options: Options) -> Fit | None:
    """Try candidates from the likeliest to the oddest, and stop at the first exact one."""
    best: Fit | None = None
    choices = {name: values for name, values in options.items() if name not in stated}
    combinations = itertools.product(*(list(enumerate(values)) for values in choices.values()))
    weights = [_ODD[name] for name in choices]
    ranked = sorted(
        (sum(w * place for w, (place, _) in zip(weights, picks, strict=True)), index, picks)
        for index, picks in enumerate(combinations)
    )
    layouts: dict[tuple[Any, ...], Pool | None] = {}
    for _, _, picks in ranked[:_TRIED]:
        tried = {name: value for name, (_, value) in zip(choices, picks, strict=True)}
        known = {name: value for name, (value, _) in stated.items()}
        candidate = _try(model, evidence, {**tried, **known}, _slack(evidence, tried, known), layouts)
        if candidate is None or (best is not None and _ORDER[candidate.agreement] >= _ORDER[best.agreement]):
            continue
        settings = {name: (value, "found") for name, value in tried.items()} | stated
        best = Fit(candidate.pool, candidate.agreement, settings, candidate.blocks_range)
        if best.agreement == EXACT:
            break
    return best


def _choices(model: Model | Sequence[Model]) -> Options:
    """Candidates for everything that matters to this model's pool."""
    models = tuple(model) if isinstance(model, Sequence) else (model,)
    layers = {layer for item in models for layer in item.layers}
    states = any(isinstance(layer, Recurrent) for layer in layers)
    windows = any(isinstance(layer, Sliding | Chunked) for layer in layers)
    latent = any(isinstance(layer, Latent) for layer in layers)
    grouped = states or (windows and len({type(layer) for layer in layers}) > 1)
    lengths = tuple(dict.fromkeys(length for length in (models[0].max_context, *_LENGTHS) if length))
    choices: Options = {
        "max_model_len": lengths if grouped else lengths[:1],
        "kv_dtype": ("bf16", "fp8", "fp8_ds_mla") if latent else ("bf16", "fp8", "int8_pth", "nvfp4", "int4_pth"),
        "tp": (1, 2, 4, 8),
        "block": _blocks(latent, states),
    }
    if grouped:
        choices["definition"] = ("new", "old")
    if states:
        choices |= {
            "state_mode": ("align", "none", "all"),
            "spec_tokens": (0, 3, 2, 1, 4, 5),
            "state_dtype": ("fp32", "bf16"),
        }
    if windows:
        choices["in_flight"] = (8_192, 16_384, 2_048, 4_096, 1_024, 32_768)
    return choices


def _blocks(latent: bool, states: bool) -> tuple[int | None, ...]:
    """Block sizes to try, the engine's default first."""
    if states:
        return (None, 128) if latent else (None, 32)
    return (None, 128, 16, 32, 256) if latent else (None, 32, 64, 128)


def _try(
    model: Any,
    evidence: Evidence,
    settings: dict[str, Any],
    slack: float,
    layouts: dict[tuple[Any, ...], Pool | None],
) -> Fit | None:
    """How well one set of settings agrees; None if the engine could not start with it."""
    key = tuple(value for name, value in settings.items() if name != "definition")
    if key not in layouts:
        try:
            layouts[key] = pool(model, blocks=0, **settings)
        except ValueError:
            layouts[key] = None
    known = layouts[key]
    if known is None:
        return None
    empty = replace(known, definition=settings.get("definition", known.definition))
    span = _blocks_range(empty, evidence)
    matches = _matching_blocks(empty, evidence)
    guess = span[0] + (span[1] - span[0] + 1) // 2 if span else 0
    if evidence.kv_bytes and not evidence.blocks:
        guess = max(0, int(sum(evidence.kv_bytes) / 2 // empty.block_bytes))
    agreement = OFF
    if _layout_agrees(empty, evidence) and _refusal_agrees(empty, evidence, span):
        if matches is None:
            agreement = EXACT if evidence.needed or evidence.block or evidence.estimated else NEAR
        else:
            agreement, guess = _place(matches, span, guess, slack)
    return Fit(_with(empty, guess), agreement, {}, span)


def _slack(evidence: Evidence, tried: dict[str, Any], known: dict[str, Any]) -> float:
    """By how much the poorest rank may fall short: nothing on one rank, little where the ranks are only inferred."""
    if evidence.many_ranks or known.get("tp", 1) * known.get("pp", 1) > 1:
        return _RANKS
    return _INFERRED_RANKS if tried.get("tp", 1) > 1 else 0.0


def _place(matches: Sequence[int], span: tuple[int, int] | None, guess: int, slack: float) -> tuple[str, int]:
    """Where the block counts that print the logged figures lie, seen from those that the printed bytes allow."""
    if not matches:
        return OFF, guess
    if span is None:
        return EXACT, matches[0]
    inside = [count for count in matches if span[0] <= count <= span[1]]
    if inside:
        return EXACT, min(inside, key=lambda count: abs(count - guess))
    nearest = min(matches, key=lambda count: min(abs(count - span[0]), abs(count - span[1])))
    miss = min(abs(nearest - span[0]), abs(nearest - span[1])) / max(1, nearest)
    if nearest < span[0] and miss <= slack:
        return RANKS, guess
    return (NEAR if miss <= _NEAR else OFF), guess


def _with(empty: Pool, blocks: int) -> Pool:
    return Pool(empty.layout, max(0, blocks), empty.max_model_len, empty.definition)


def _blocks_range(empty: Pool, evidence: Evidence) -> tuple[int, int] | None:
    """Block counts that the log allows: the printed one, or those that the rounding of the bytes leaves open."""
    if evidence.blocks is not None:
        return evidence.blocks, evidence.blocks
    if evidence.kv_bytes is None:
        return None
    low, high = evidence.kv_bytes
    return max(0, int(low // empty.block_bytes)), max(0, int(high // empty.block_bytes))


def _matching_blocks(empty: Pool, evidence: Evidence) -> list[int] | None:
    """Block counts under which the engine prints the logged tokens and concurrency; None if it printed neither."""
    if evidence.tokens is None and evidence.concurrency is None:
        return None if evidence.blocks is None else [evidence.blocks]
    near = _around(empty, evidence)
    return [count for count in near if count >= 0 and _prints(_with(empty, count), evidence)]


def _around(empty: Pool, evidence: Evidence) -> Iterable[int]:
    """A few block counts near the one that the tokens (or the concurrency) imply."""
    if evidence.tokens is None:
        middle = round((evidence.concurrency or 0) * empty.per_request)
        spread = int(0.006 * empty.per_request) + 1
        return range(middle - min(spread, 500), middle + min(spread, 500) + 1)
    groups = len(empty.groups)
    unit = min(group.block_tokens for group in empty.groups) * empty.layout.dcp
    first = evidence.tokens // unit * groups
    by_old = range(first, first + groups)
    implied = round(evidence.tokens * empty.per_request / empty.max_model_len)
    by_new = range(implied - 1, implied + 3)
    if groups == 1:
        return dict.fromkeys([*by_old, *by_new])
    return by_new if empty.definition == "new" else by_old


def _prints(made: Pool, evidence: Evidence) -> bool:
    """Whether this pool prints the logged tokens and the logged concurrency, to its two decimals."""
    shown = (made.reported_tokens, made.tokens_new) if len(made.groups) == 1 else (made.reported_tokens,)
    if evidence.tokens is not None and evidence.tokens not in shown:
        return False
    if evidence.concurrency is None:
        return True
    # older engines divide tokens by the length, newer ones count whole blocks of a request
    ratios = [made.max_concurrency, made.tokens_old / made.max_model_len]
    usable = ratios if len(made.groups) == 1 else ratios[:1]
    return any(abs(ratio - evidence.concurrency) <= 0.00501 for ratio in usable)


def _layout_agrees(empty: Pool, evidence: Evidence) -> bool:
    """Whether block size and padding are those that the log prints."""
    if evidence.block is not None and empty.state_page_bytes and evidence.block != empty.block_tokens:
        return False
    if evidence.state_padding is not None and abs(100 * empty.state_padding - evidence.state_padding) > 0.00501:
        return False
    return evidence.padding_layers is None or evidence.padding_layers == empty.padding_layers


def _refusal_agrees(empty: Pool, evidence: Evidence, span: tuple[int, int] | None) -> bool:
    """Whether the needed bytes and the longest length of a refusal come out."""
    if evidence.needed and not evidence.needed[0] <= empty.needed_bytes <= evidence.needed[1]:
        return False
    if evidence.estimated is None or span is None:
        return True
    low, high = (_with(empty, count).longest for count in span)
    return low <= evidence.estimated <= high
