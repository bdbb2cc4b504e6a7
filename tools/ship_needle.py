"""Score the trained seeds of the needle model, and ship the one that the rule picks.

    score   every run in build/needle on the reporting contexts (about half a minute each), into runs.json
    ship    the picked seed of each scheme as 16-bit weights, their checksums, the golden answers and the model card

The rule, written down before any seed was trained: of the five seeds of a scheme, trained for 1,600 steps, ship the one
with the median effective length on haystacks of facts alone (the last tested length with 85 % of the accuracy at 64
tokens); of several, the one with the median accuracy at 4,096 tokens, the lower middle one if they are even in number.
No seed is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from needle_card import card
from tqdm import tqdm
from train_needle import Training

from kvlib.lab.drift import score_run
from kvlib.lab.needle import haystack
from kvlib.lab.tinylm import SCHEMES, TinyLM, load_weights, save_weights

ROOT = Path(__file__).parents[1]
HOME = ROOT / "kvlib" / "data" / "needle"
RUNS = HOME / "runs.json"
GOLDEN = ROOT / "tests" / "data" / "needle_golden.npz"
STEPS = 1600
DROPPED = ("sent", "kv_bytes")  # of a row in runs.json: they follow from the prompts
Run = dict[str, Any]


def accuracy(run: Run, tokens: int, arm: str = "100 % facts") -> float:
    """Share of right answers that a run reached in one arm at one length."""
    return next(row["accuracy"] for row in run["rows"] if (row["arm"], row["tokens"]) == (arm, tokens))


def pick(runs: Sequence[Run]) -> Run:
    """The run to ship: the median effective length, and of those the (lower) median accuracy at 4,096 tokens."""
    lengths = sorted(run["effective_length"] for run in runs)
    typical = [run for run in runs if run["effective_length"] == lengths[(len(runs) - 1) // 2]]
    return sorted(typical, key=lambda run: (accuracy(run, 4096), run["seed"]))[(len(typical) - 1) // 2]


def run_record(name: tuple[str, int, int], log: Sequence[Run], scores: Run) -> Run:
    """What runs.json keeps of a run: how it was learned, every hundredth step, and its counts with their intervals."""
    record = dict(zip(("scheme", "steps", "seed"), name, strict=True)) | {"log": [dict(row) for row in log[4::5]]}
    for key, value in scores.items():
        several = isinstance(value, list)
        record[key] = [_short(row) for row in value] if several else value
    return record


def _short(row: Run) -> Run:
    kept = {name: value for name, value in row.items() if name not in DROPPED}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in kept.items()}


def one_line_each(record: Run) -> str:
    """JSON with one line per measured row, so that a change of one figure is a change of one line."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\{\s+([^{}\[\]]+?)\s+\}", lambda row: "{" + re.sub(r"\s*\n\s*", " ", row[1]) + "}", text) + "\n"


def as_shipped(training: Training, path: Path) -> TinyLM:
    """The model of a run, its weights rounded to 16 bits by a file at `path`."""
    save_weights(path, training.weights)
    return TinyLM(load_weights(path), training.scheme)


def score(folder: Path) -> None:
    """Score what has no score yet, and write runs.json anew after each."""
    before = json.loads(RUNS.read_text(encoding="utf-8")) if RUNS.exists() else {"runs": [], "shipped": {}}
    known: list[Run] = before["runs"]
    done = {(run["scheme"], run["steps"], run["seed"]) for run in known}
    for path in tqdm(sorted(folder.glob("*-*-*.npz")), unit="run"):
        training = Training.load(path)
        name = (training.scheme, training.steps, training.seed)
        if training.step < training.steps or name in done:
            continue
        model = as_shipped(training, folder / "rounded.npz.part.npz")
        known.append(
            dict(zip(("scheme", "steps", "seed"), name, strict=True)) | {"log": training.log[4::5]} | score_run(model)
        )
        known.sort(key=lambda run: (SCHEMES.index(run["scheme"]), run["steps"], run["seed"]))
        write_runs(known, before["shipped"])


def write_runs(runs: Sequence[Run], shipped: Mapping[str, int]) -> None:
    """Write runs.json: every run, and the seed shipped of each scheme."""
    source = "tools/train_needle.py, one run per seed, scored by tools/ship_needle.py"
    record = {"source": source, "as_of": date.today().isoformat(), "shipped": shipped, "runs": runs}
    RUNS.write_text(one_line_each(record), encoding="utf-8")


def golden_prompts() -> list[tuple[int, np.ndarray[Any, Any]]]:
    """200 prompts of 64 to 1,024 tokens with their right answers."""
    prompts = []
    for number in range(200):
        rng = Random(f"golden {number}")
        asked = haystack(rng, (64, 128, 256, 512, 1024)[number % 5], facts=(0.0, 0.3, 1.0)[number % 3])
        prompts.append((asked.questions[0].answer, asked.prompt()))
    return prompts


def ship(folder: Path) -> None:
    """Write the picked weights, their checksums, the golden file and the model card."""
    runs = json.loads(RUNS.read_text(encoding="utf-8"))["runs"]
    prompts = golden_prompts()
    longest = max(len(ids) for _, ids in prompts)
    golden: dict[str, Any] = {
        "prompts": np.array([np.pad(ids, (0, longest - len(ids))) for _, ids in prompts], dtype=np.uint16),
        "lengths": np.array([len(ids) for _, ids in prompts]),
        "right": np.array([answer for answer, _ in prompts]),
    }
    sums, picked = {}, {}
    for scheme in SCHEMES:
        trained = [run for run in runs if (run["scheme"], run["steps"]) == (scheme, STEPS)]
        if not trained:
            continue
        chosen = pick(trained)
        path = HOME / f"{scheme}.npz"
        model = as_shipped(Training.load(folder / f"{scheme}-{STEPS}-{chosen['seed']}.npz"), path)
        sums[scheme] = hashlib.sha256(path.read_bytes()).hexdigest()
        picked[scheme] = chosen["seed"]
        logits = np.stack([model.read(model.prefill(ids[:-1]), ids[-1:]).logits[0] for _, ids in prompts])
        golden[f"{scheme}_answers"], golden[f"{scheme}_logits"] = logits.argmax(axis=-1), logits[:20].astype(np.float32)
    lines = (f"{digest}  {scheme}.npz\n" for scheme, digest in sums.items())
    (HOME / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    np.savez_compressed(GOLDEN, **golden)
    write_runs(runs, picked)
    (HOME / "MODEL_CARD.md").write_text(card(runs, picked), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("score", "ship"))
    parser.add_argument("--folder", type=Path, default=Path("build/needle"), help="where the trained runs lie")
    args = parser.parse_args()
    (score if args.command == "score" else ship)(args.folder)


if __name__ == "__main__":
    main()
