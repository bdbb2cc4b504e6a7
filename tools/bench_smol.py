"""How close SmolLM2 in numpy comes to what this machine can do: decode against memory, prefill against matrix products.

Decode has to read every weight for each token, so the yardstick is the fastest that this machine was seen to read or
copy memory; prefill has to multiply, so it is a square matrix product. Both on one core, in turns with the model and
for about as long, because other programs slow a long run more than a short one. A share of 100 % would leave no time
for anything else. Without the optional weights (`make smol`) random ones of the same shape run: they cost the same.

    python tools/bench_smol.py            print the shares
    python tools/bench_smol.py --check    ... and fail if one is lower than wanted
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import median

import numpy as np
from tqdm import tqdm

from kvlib.flops import prefill_flops
from kvlib.lab import smol
from kvlib.lab.machine import Clock, Probe, one_core, probes
from kvlib.lab.smol_llama import Llama
from kvlib.traffic import cache_read, weights_read
from kvlib.units import GB, size

PROMPT, CONTEXTS = 512, (64, 1024)
DECODE, PREFILL = 0.50, 0.40  # the shares that are wanted


@dataclass(frozen=True)
class Race:
    """The model's `run`, which moves `amount` bytes or FLOP, against the fastest of some probes of the machine."""

    name: str
    unit: str
    amount: int
    run: Callable[[], object]
    probes: tuple[Probe, ...]
    wanted: float
    besides: int = 0  # bytes that it reads, too, and that `amount` leaves out


@dataclass(frozen=True)
class Result:
    """Rates per second of the machine and of the model, a pair for each round."""

    race: Race
    machine: list[float]
    model: list[float]

    @property
    def share(self) -> float:
        """The fastest round of the model over the fastest of the machine: other programs only ever add time."""
        return max(self.model) / max(self.machine)

    @property
    def pairs(self) -> list[float]:
        """The share in each round."""
        return sorted(ours / yardstick for ours, yardstick in zip(self.model, self.machine, strict=True))

    @property
    def reached(self) -> bool:
        return self.share >= self.race.wanted

    def lines(self) -> Iterator[str]:
        """What was measured, as text."""
        ours, yardstick, unit = max(self.model) / GB, max(self.machine) / GB, f"G{self.race.unit}/s"
        verdict = f"{self.race.wanted:.0%} {'reached' if self.reached else 'MISSED'}"
        yield f"{self.race.name}: {ours:.1f} of {yardstick:.1f} {unit} = {self.share:.0%}; {verdict}"
        low, middle, high = self.pairs[0], median(self.pairs), self.pairs[-1]
        yield f"    round by round {middle:.0%} ({low:.0%} to {high:.0%} in {len(self.pairs)} rounds)"
        if self.race.besides:
            both = (self.race.amount + self.race.besides) / self.race.amount * self.share
            yield f"    it reads {size(self.race.besides)} of cache as well: with these {both:.0%}"


def races(llama: Llama, prompt: int = PROMPT, contexts: Sequence[int] = CONTEXTS) -> list[Race]:
    """Decode after each of `contexts` tokens, and a prefill of `prompt` tokens."""
    copy, matvec, matmul = probes()
    ids = np.random.default_rng(0).integers(0, llama.head.shape[1], max(prompt, *contexts))
    found = []
    for context in contexts:
        filled = llama.new_cache(context)
        llama.forward(ids[: context - 1], filled)

        def step(filled=filled, context=context) -> None:
            filled.tokens = context - 1  # the same step again, over the row that it wrote
            llama.forward(ids[:1], filled)

        weights = int(weights_read(llama.model, 1, filled.dtype))
        cache = cache_read(llama.model, context, filled.dtype)
        found.append(Race(f"decode at {context:,} tokens", "B", weights, step, (copy, matvec), DECODE, cache))
    room = llama.new_cache(prompt)

    def prefill() -> None:
        room.tokens = 0
        llama.forward(ids[:prompt], room)

    work = prefill_flops(llama.model, prompt)
    return [*found, Race(f"prefill of {prompt:,} tokens", "FLOP", work, prefill, (matmul,), PREFILL)]


def run(found: Sequence[Race], rounds: int, clock: Clock = time.perf_counter) -> list[Result]:
    """Time machine and model in turns, `rounds` times after one round that does not count."""
    results = [Result(race, [], []) for race in found]
    with one_core():
        for turn in tqdm(range(rounds + 1), desc="smol", leave=False):
            for result in results:
                race = result.race
                machine = max(_rate(probe.run, probe.amount, race.amount, clock) for probe in race.probes)
                model = _rate(race.run, race.amount, race.amount, clock)
                if turn:
                    result.machine.append(machine)
                    result.model.append(model)
    return results


def _rate(run: Callable[[], object], amount: int, as_much_as: int, clock: Clock) -> float:
    """Amount per second of as many runs as move about `as_much_as`."""
    times = max(1, round(as_much_as / amount))
    start = clock()
    for _ in range(times):
        run()
    return times * amount / (clock() - start)


def stand_in() -> Llama:
    """Random weights in the shape of SmolLM2, by its published config."""
    text = (files("kvlib") / "data" / "models" / "smollm2-135m.json").read_text(encoding="utf-8")
    return Llama.random(np.random.default_rng(0), json.loads(text)["config"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="rounds of machine and model in turns (default: 8)")
    parser.add_argument("--check", action="store_true", help="fail if a share is lower than wanted")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error(f"--rounds must be 1 or more; got {chosen.rounds}")
    llama = smol.load().llama if smol.available() else stand_in()
    kind = "SmolLM2" if smol.available() else "random weights in the shape of SmolLM2 (`make smol` gets the real ones)"
    print(f"{kind}: {size(llama.nbytes)} of float32 weights, one core")
    results = run(races(llama), chosen.rounds)
    for result in results:
        print(*result.lines(), sep="\n")
    return int(chosen.check and not all(result.reached for result in results))


if __name__ == "__main__":
    sys.exit(main())
