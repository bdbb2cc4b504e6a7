"""Exercises 1 and 2: what a card shows, and what it leaves for the cache. Sizes are whole MiB, as nvidia-smi prints."""

from __future__ import annotations

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex02 import counted
from kvlib.units import GB, GiB, KiB, MiB

# ---------------------------------------------------------------- exercise 1: label and driver

SHOWN_BYTES = Question(
    "shown_bytes",
    "bytes",
    cases=(
        Case("H100", {"label_gb": 80, "mib": 81_559}),
        Case("RTX 5090", {"label_gb": 32, "mib": 32_607}),
        Case("H200", {"label_gb": 141, "mib": 143_771}),
        Case("B300", {"label_gb": 288, "mib": 275_040}),
    ),
    truth=counted.shown_bytes,
    slips=(
        Slip("label in GB", lambda label, mib: label * GB, "that is the label, {label_gb} GB; the driver shows more"),
        Slip(
            "label in GiB",
            lambda label, mib: label * GiB,
            "that is the label, read as GiB; the driver shows {mib:,} MiB",
        ),
        Slip("MB for MiB", lambda label, mib: mib * 10**6, "you took MB; a MiB is 1,024 x 1,024 bytes, 4.9 % more"),
        Slip("KiB for MiB", lambda label, mib: mib * KiB, "these are KiB; multiply by 1,024 once more"),
        Slip("GiB for MiB", lambda label, mib: mib * GiB, "you took GiB; that is once 1,024 too often"),
        Slip("bits for bytes", lambda label, mib: mib * MiB * 8, "these are bits; a byte has 8 of them"),
    ),
)

# ---------------------------------------------------------------- exercise 2: the budget of each GPU


def _server(label: str, *values: int) -> Case:
    names = ("total", "percent", "weights", "tp", "non_torch", "activation")
    return Case(label, dict(zip(names, values, strict=True)))


ROOM_FOR_CACHE = Question(
    "room_for_cache",
    "MiB",
    cases=(
        _server("Llama 3.1 8B on one H100", 81_080, 90, 15_350, 1, 133, 4_874),
        _server("Llama 3.3 70B in 4 bits on two H100", 81_080, 90, 37_500, 2, 563, 4_956),
        _server("Qwen2.5 14B on two L40S", 45_500, 90, 28_100, 2, 307, 1_290),
        _server("made up, four cards", 80_000, 50, 16_000, 4, 100, 1_000),
    ),
    truth=counted.room_for_cache,
    slips=(
        Slip(
            "utilisation forgotten",
            lambda total, percent, weights, tp, other, peak: total - weights / tp - other - peak,
            "you used the whole card; the engine takes at most {percent} % of it",
        ),
        Slip(
            "utilisation of what is left",
            lambda total, percent, weights, tp, other, peak: (total - weights / tp - other - peak) * percent / 100,
            "you took {percent} % of the remainder; it is {percent} % of the whole card, and then the parts go off",
        ),
        Slip(
            "weights not shared out",
            lambda total, percent, weights, tp, other, peak: total * percent / 100 - weights - other - peak,
            "you took all weights off one GPU; each of the {tp} holds its share",
        ),
        Slip(
            "activation shared out",
            lambda total, percent, weights, tp, other, peak: total * percent / 100 - weights / tp - other - peak / tp,
            "you divided the activation by {tp}; every GPU needs all of it",
        ),
        Slip(
            "non-torch shared out",
            lambda total, percent, weights, tp, other, peak: total * percent / 100 - weights / tp - other / tp - peak,
            "you divided the non-torch memory by {tp}; every GPU has its own",
        ),
        Slip(
            "everything shared out",
            lambda total, percent, weights, tp, other, peak: total * percent / 100 - (weights + other + peak) / tp,
            "you divided everything by {tp}; only the weights are shared out",
        ),
        Slip(
            "activation forgotten",
            lambda total, percent, weights, tp, other, peak: total * percent / 100 - weights / tp - other,
            "the activation peak, {activation:,} MiB, is still in it",
        ),
        Slip(
            "non-torch forgotten",
            lambda total, percent, weights, tp, other, peak: total * percent / 100 - weights / tp - peak,
            "the non-torch memory, {non_torch:,} MiB, is still in it",
        ),
        Slip(
            "weights forgotten",
            lambda total, percent, weights, tp, other, peak: total * percent / 100 - other - peak,
            "the weights are still in it",
        ),
        Slip(
            "room of all GPUs",
            lambda total, percent, weights, tp, other, peak: (total * percent / 100 - weights / tp - other - peak) * tp,
            "that is the room on all {tp} GPUs together; the question is one of them",
        ),
    ),
)
