"""Where one GPU's memory went, by the lines of a vLLM log: every GiB attributed, or said to be unprinted."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvlib.log.figures import Figures
from kvlib.log.report import Check, Term, check
from kvlib.units import GiB, MiB

_MARGIN = 150 * MiB  # what the engine keeps free when it advises a --kv-cache-memory (gpu_worker.py)
_NEEDED = {
    "weights": "the size of the weights (`Model loading took`)",
    "non-torch": "non-torch memory, that is CUDA context, NCCL and other processes",
    "activation": "the activation peak of the profiling run",
    "KV cache": "the KV cache memory (`Available KV cache memory`)",
}


@dataclass
class Split:
    """Terms that add up to the card, checks of the sum, and what the log does not print."""

    terms: list[Term] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def split(f: Figures) -> Split:
    """Attribute the memory of one rank: limit = weights + non-torch + activation [+ graphs] + KV, rest outside it."""
    out = Split()
    parts = _parts(f)
    limit = _limit(f)
    kv = f("kv")
    inside = {name: term for name, term in parts.items() if name != "graphs"}
    complete = _complete(inside)
    rest = None if limit is None or kv is None else limit - sum(t.bytes for t in inside.values()) - kv
    subtracted = _graphs_subtracted(f, rest if complete else None)
    graphs = _graphs(f, subtracted)
    out.terms += inside.values()
    if graphs:
        out.terms.append(graphs)
    if kv is not None:
        out.terms.append(Term("KV cache", round(kv), "as printed", f.line("kv")))
    if rest is not None:
        rest -= graphs.bytes if graphs and subtracted else 0
        out.terms += _rest(rest, inside, complete)
    total = f("total")
    if limit is not None and total is not None:
        on_top = graphs.bytes if graphs and not subtracted else 0
        out.terms.append(Term("outside the utilisation limit", round(total - limit - on_top), "total - limit"))
    if complete and limit is not None and kv is not None:
        taken = sum(t.bytes for t in inside.values()) + (graphs.bytes if graphs and subtracted else 0)
        out.checks.append(_budget_check(f, limit, limit - taken, kv, subtracted))
    out.checks += _equivalence(f) + _advice(f, limit)
    _say_missing(f, out, inside)
    _say_graphs(f, out, subtracted)
    return out


def _parts(f: Figures) -> dict[str, Term]:
    """The parts that the log prints, under the name of what they cover."""
    weights, other, peak = f("weights"), f("non_torch"), f("peak_torch")
    consumed, activation = f("consumed"), f("activation")
    parts: dict[str, Term] = {}
    if weights is not None:
        parts["weights"] = Term("weights", round(weights), "as printed", f.line("weights"))
    if consumed is not None and weights is None:
        parts["weights + non-torch"] = Term("weights + non-torch", round(consumed), "as printed", f.line("consumed"))
    elif consumed is not None and other is None:
        parts["non-torch"] = Term(
            "non-torch", round(consumed - (weights or 0)), "consumed - weights", f.line("consumed")
        )
    if other is not None:
        parts["non-torch"] = Term("non-torch", round(other), "as printed", f.line("non_torch"))
    if activation is not None:
        parts["activation"] = Term("activation peak", round(activation), "as printed", f.line("activation"))
    elif peak is not None and weights is not None:
        how = "peak torch memory - weights"
        parts["activation"] = Term("activation peak", round(peak - weights), how, f.line("peak_torch"))
    elif peak is not None:
        name = "weights + activation"
        parts[name] = Term(f"{name} (peak torch)", round(peak), "as printed", f.line("peak_torch"))
    return parts


def _complete(parts: dict[str, Term]) -> bool:
    """Whether weights, non-torch and activation are all covered."""
    covered = {word for name in parts for word in name.split(" + ")}
    return {"weights", "non-torch", "activation"} <= covered


def _limit(f: Figures) -> float | None:
    """Bytes the engine may use: as printed, else utilisation x total."""
    printed, total, share = f("limit"), f("total"), f("utilisation")
    if printed is not None:
        return float(printed)
    return None if total is None or share is None else float(total * share)


def _graphs_subtracted(f: Figures, rest: float | None) -> bool:
    """Whether the estimate was taken off the KV cache: by the sum if there is one, else by the line that says so."""
    estimate = f("graphs_estimated")
    if estimate is None:
        graphs = f("graphs_actual")
        return rest is not None and graphs is not None and graphs > 0.1 * GiB and abs(rest - graphs) < abs(rest) / 4
    if rest is not None:
        return bool(abs(rest - estimate) < abs(rest))
    return f("equivalent") is not None


def _graphs(f: Figures, subtracted: bool) -> Term | None:
    """CUDA graphs: what was reserved if they are subtracted, what they took if they come on top."""
    estimate, actual = f("graphs_estimated"), f("graphs_actual")
    if subtracted and estimate is not None:
        return Term(
            "CUDA graphs (estimate, reserved)",
            round(estimate),
            "subtracted from the KV cache",
            f.line("graphs_estimated"),
        )
    if actual is None:
        return None
    how = "subtracted from the KV cache" if subtracted else "on top of the limit"
    return Term("CUDA graphs", round(actual), how, f.line("graphs_actual"))


def _rest(rest: float, parts: dict[str, Term], complete: bool) -> list[Term]:
    """What the printed parts leave: rounding if all are printed, else the unprinted ones together."""
    if complete:
        return [Term("difference of the printed parts", round(rest), "limit - all parts")] if abs(rest) > MiB else []
    covered = {word for name in parts for word in name.split(" + ")}
    absent = [word for word in ("weights", "non-torch", "activation") if word not in covered]
    return [Term(" + ".join(absent), round(rest), "not printed: limit - the printed parts")]


def _budget_check(f: Figures, limit: float, predicted: float, kv: float, subtracted: bool) -> Check:
    """The limit without the parts, beside the logged KV memory; the printed utilisation may itself be rounded."""
    names = ["weights", "non_torch", "activation", "peak_torch", "consumed"]
    half = f.half(*names, *(["graphs_estimated"] if subtracted else []), "limit" if f("limit") is not None else "total")
    why = "an unknown term: another process, another rank, or memory that no line names"
    total, share = f("total"), f.reading("utilisation")
    if f("limit") is None and total is not None and share is not None and share.decimals <= 2:
        implied = (kv - predicted) / total + share.value
        if half < abs(kv - predicted) <= 0.005 * total + half:
            half, why = 0.005 * total, f"the utilisation is printed rounded; the parts imply {implied:.4f}"
            return Check("KV memory", predicted, kv, predicted - half, predicted + half, "bytes", "rounding", why)
    span = (predicted - half, predicted + half)
    return check("KV memory", predicted, kv, span=span, half=f.half("kv"), unit="bytes", why=why)


def _equivalence(f: Figures) -> list[Check]:
    """The message on graph profiling: u - estimate / total must be the equivalent utilisation it names."""
    share, equal, estimate, total = (f(name) for name in ("utilisation", "equivalent", "graphs_estimated", "total"))
    if None in (share, equal, estimate, total) or total <= 0:
        return []
    half = 100 * f.half("graphs_estimated") / total
    predicted = 100 * (share - estimate / total)
    return [
        check(
            "equivalent utilisation",
            predicted,
            100 * equal,
            span=(predicted - half, predicted + half),
            half=0.005,
            unit="%",
        )
    ]


def _advice(f: Figures, limit: float | None) -> list[Check]:
    """The advised --kv-cache-memory: limit - consumed - activation - graphs - 150 MiB."""
    advised, consumed, activation = f("advised_fit"), f("consumed"), f("activation")
    if limit is None or advised is None or consumed is None or activation is None:
        return []
    graphs = f("graphs_actual") or 0
    predicted = limit - consumed - activation - graphs - _MARGIN
    half = f.half("limit", "consumed", "activation", "graphs_actual")
    why = "the advice leaves a margin of 150 MiB in current builds; this build may differ"
    span = (predicted - half, predicted + half)
    return [check("advised --kv-cache-memory", predicted, advised, span=span, unit="bytes", why=why)]


def _say_missing(f: Figures, out: Split, parts: dict[str, Term]) -> None:
    covered = {word for name in parts for word in name.split(" + ")} | ({"KV cache"} if f("kv") is not None else set())
    out.missing += [text for word, text in _NEEDED.items() if word not in covered]
    if f("total") is None:
        out.missing.append("the card's total memory, so the limit cannot be checked")
    elif f("limit") is None and f("utilisation") is None:
        out.missing.append("the utilisation, so the limit cannot be formed")
    share, equal, estimate = f("utilisation"), f("equivalent"), f("graphs_estimated")
    if f("total") is None and share and equal and estimate and share > equal:
        low, high = estimate / (share - equal + 1e-4), estimate / max(1e-4, share - equal - 1e-4)
        out.notes.append(
            f"the card is not named, but the graph message implies a total of {low / GiB:.0f} to {high / GiB:.0f} GiB"
        )


def _say_graphs(f: Figures, out: Split, subtracted: bool) -> None:
    if f("graphs_estimated") is None and f("graphs_actual") is None:
        out.missing.append("the size of the CUDA graphs")
    elif subtracted:
        out.notes.append("this build subtracts the estimate of the CUDA graphs from the KV cache")
    elif f("graphs_estimated") is not None and f("consumed") is not None:
        out.notes.append(
            "the printed parts add up without the graph estimate: it is part of the consumed memory, or on top"
        )
    else:
        out.notes.append("the CUDA graphs come on top of the utilisation limit in this log")
