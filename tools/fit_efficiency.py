"""Fit kvlib/data/efficiency.toml: how much of the datasheet serving engines get, by regime, with error bars.

Eight numbers are fitted to one half of the published speeds that state enough (kvlib/data/throughput.toml): layout,
tokens in and out. The halves are decided by the row's id alone: an even CRC-32 is fitted, an odd one is scored. The
fit minimises the mean of |log(estimate / measured)| by going through the numbers one by one on a fixed grid, finer in
each round, so that it gives the same file on every machine. The interval is the middle four fifths of
measured / estimate in the fitted half; how many rows of the other half fall inside is printed, and written down.

    python tools/fit_efficiency.py            fit, print both halves, write the file
    python tools/fit_efficiency.py --check    fit, and fail if the committed file differs
    python tools/fit_efficiency.py --rows     also print every row
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from kvlib.efficiency import Efficiency, PublishedSpeed, published_speeds
from kvlib.placement import Placement, place
from kvlib.serving import ceiling_speed, engine_batch, engine_speed, engine_steps
from kvlib.steps import Step

TARGET = Path(__file__).resolve().parent.parent / "kvlib/data/efficiency.toml"
# name: (least, most, digits kept). Seconds for the last two.
GRID = {
    "memory_alone": (0.3, 1.0, 2),
    "memory_group": (0.3, 1.0, 2),
    "compute": (0.3, 1.0, 2),
    "fp4": (0.2, 1.0, 2),
    "experts": (0.1, 1.0, 2),
    "link": (0.1, 1.0, 2),
    "layer": (0.0, 100e-6, 6),
    "sequence": (0.0, 30e-6, 6),
}
START = Efficiency(0.8, 0.6, 0.7, 0.6, 0.5, 0.6, 20e-6, 4e-6)
ROUNDS, POINTS = 12, 21
INSIDE = 0.8


@dataclass(frozen=True)
class Row:
    """A published row with everything that does not depend on the efficiency."""

    speed: PublishedSpeed
    placed: Placement
    batch: float
    step: Step
    prompts: Step
    ceiling: float

    def estimate(self, shares: Efficiency) -> float:
        """Tokens/s of all GPUs."""
        tokens = int(self.speed.input or 0), round(self.speed.output or 0)
        speed = engine_speed(self.placed.copies, self.batch, *tokens, self.step, self.prompts, shares)
        return min(self.ceiling, speed)

    def ratio(self, shares: Efficiency) -> float:
        """Measured over estimated."""
        return self.speed.total / self.estimate(shares)


def rows() -> list[Row]:
    """The published rows that state enough, taken apart."""
    found = []
    for speed in published_speeds():
        if speed.complete:
            tokens = int(speed.input or 0), round(speed.output or 0)
            placed = place(
                speed.model, speed.gpu, tp=speed.tp or 1, gpus=speed.gpus, weight_dtype=speed.weights, kv_dtype=speed.kv
            )
            batch = engine_batch(placed, *tokens, speed.concurrency)
            ceiling = ceiling_speed(placed, *tokens, speed.concurrency)[0]
            found.append(Row(speed, placed, batch, *engine_steps(placed, batch, *tokens), ceiling))
    return found


def loss(some: Sequence[Row], shares: Efficiency) -> float:
    """The mean of |log(estimate / measured)|."""
    return sum(abs(math.log(row.ratio(shares))) for row in some) / len(some)


def fit(some: Sequence[Row]) -> Efficiency:
    """The shares with the least loss: one number at a time, on a grid that gets finer, rounded to the digits kept."""
    shares, best = START, loss(some, START)
    for round_ in range(ROUNDS):
        before = best
        for name, (least, most, digits) in GRID.items():
            width = (most - least) / 2**round_
            centre = getattr(shares, name) if round_ else (least + most) / 2
            points = (centre + width * (i / (POINTS - 1) - 0.5) for i in range(POINTS))
            for value in sorted({round(min(most, max(least, point)), digits) for point in points}):
                candidate = replace(shares, **{name: value})
                found = loss(some, candidate)
                if found < best - 1e-9:
                    shares, best = candidate, found
        if round_ > 6 and before - best < 1e-6:
            break
    return shares


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, by linear interpolation."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def summary(some: Sequence[Row], shares: Efficiency, low: float, high: float) -> dict[str, float]:
    """How good the estimates are: see `kvlib.efficiency.Calibration`."""
    errors = [1 / row.ratio(shares) - 1 for row in some]
    sizes = [abs(error) for error in errors]
    return {
        "rows": len(some),
        "median": round(median(sizes), 3),
        "nine_tenths": round(quantile(sizes, 0.9), 3),
        "signed": round(median(errors), 3),
        "inside": round(sum(low <= row.ratio(shares) <= high for row in some) / len(some), 3),
    }


def calibrate() -> tuple[str, Efficiency, list[Row]]:
    """(the text of efficiency.toml, the fitted shares, all rows)."""
    every = rows()
    halves = [[row for row in every if row.speed.fitted is fitted] for fitted in (True, False)]
    shares = fit(halves[0])
    ratios = [row.ratio(shares) for row in halves[0]]
    low, high = (round(quantile(ratios, share), 2) for share in ((1 - INSIDE) / 2, (1 + INSIDE) / 2))
    newest = max(row.speed.as_of for row in every)
    lines = [
        "# How much of the datasheet serving engines get: written by tools/fit_efficiency.py, which says how.",
        "[source]",
        'source = "fitted to the rows of throughput.toml that state enough and whose id has an even CRC-32"',
        f"as_of = {newest}  # the newest row",
        "",
        "# Shares of bandwidth, FLOP/s and link speed; seconds per layer and per sequence of each step.",
        "[efficiency]",
        *(f"{name} = {getattr(shares, name):g}" for name in GRID),
        "",
        "# The middle four fifths of measured / estimate in the fitted half.",
        "[interval]",
        f"low = {low:g}",
        f"high = {high:g}",
    ]
    for name, half in zip(("fit", "score"), halves, strict=True):
        lines += ["", f"[{name}]", *(f"{key} = {value:g}" for key, value in summary(half, shares, low, high).items())]
    return "\n".join(lines) + "\n", shares, every


def regime(row: Row) -> str:
    """Dense or experts, one GPU or a group."""
    return f"{'experts' if row.step.experts else 'dense'}, {'a group of GPUs' if row.step.group else 'one GPU'}"


def describe(text: str, shares: Efficiency, every: Sequence[Row], show_rows: bool) -> None:
    """Print the file, the errors by source, the rows nearest to the ceiling and the estimates that are furthest off."""
    print(text)
    groups: list[tuple[str, Callable[[Row], str]]] = [
        ("source", lambda row: row.speed.source.title.split(" at ")[0][-60:]),
        (
            "regime",
            lambda row: ("experts" if row.step.experts else "dense") + (", group" if row.step.group else ", alone"),
        ),
    ]
    for title, key in groups:
        for name in sorted({key(row) for row in every}):
            sizes = [abs(1 / row.ratio(shares) - 1) for row in every if key(row) == name]
            print(f"{title}: {name}: {len(sizes)} rows, median error {median(sizes):.0%}")
    near = sorted(every, key=lambda row: -row.speed.total / row.ceiling)
    print("nearest to the ceiling:", ", ".join(f"{r.speed.id} {r.speed.total / r.ceiling:.2f}" for r in near[:5]))
    off = sorted(every, key=lambda row: -abs(math.log(row.ratio(shares))))
    print("furthest off (measured / estimate):", ", ".join(f"{r.speed.id} {r.ratio(shares):.2f}" for r in off[:8]))
    for row in every if show_rows else ():
        s = row.speed
        half, setup = "fit  " if s.fitted else "score", f"{s.model} {s.weights} {s.gpus} x {s.gpu} TP {s.tp}"
        speeds = f"{s.total:,.0f} measured, {row.estimate(shares):,.0f} estimated, ceiling {row.ceiling:,.0f}"
        print(f"{s.id} {half} {setup} {s.input}/{s.output} batch {row.batch:,.0f}: {speeds}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print, and write or check the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the committed file differs")
    parser.add_argument("--rows", action="store_true", help="print every row")
    chosen = parser.parse_args(arguments)
    text, shares, every = calibrate()
    describe(text, shares, every, chosen.rows)
    if chosen.check:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
