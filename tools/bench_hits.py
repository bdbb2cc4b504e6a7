"""How long the hit curve of a trace takes on this machine, for a plain stream and for requests of agents."""

from __future__ import annotations

import argparse
import time

import numpy as np

from kvlib.sessions import block_references
from kvlib.stack import hit_curve
from kvlib.synthetic import agents


def main() -> None:
    """Print one line per kind of trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=10**6, help="block references (default: a million)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    stream = rng.zipf(1.2, given.references) % (given.references // 5 + 1)
    rows = block_references(agents(rng, 1 + given.references // 60_000), 16)  # some 60,000 references an agent
    for name, trace in (("plain stream", stream), ("requests of agents", rows)):
        start = time.perf_counter()
        curve = hit_curve(trace)
        seconds = time.perf_counter() - start
        print(f"{name}: {curve.references:,} references, {curve.distinct:,} blocks, {seconds:.2f} s for all capacities")


if __name__ == "__main__":
    main()
