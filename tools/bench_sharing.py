"""How fast the car sharing is simulated: requests per second of this machine, at a low and at a high load."""

from __future__ import annotations

import argparse
import time

import numpy as np

from kvlib.demand import poisson_demand
from kvlib.pooling import published_lengths
from kvlib.replica import replica
from kvlib.sharing import share


def main() -> None:
    """Simulate as many requests as asked for, three times, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="requests of each simulation (default: 100,000)")
    requests = parser.parse_args().requests
    car = replica("llama-3.1-8b", "h100-sxm")
    for rate, replicas in ((2.0, 1), (15.0, 1), (120.0, 8)):
        demand = poisson_demand(rate, requests, *published_lengths(), np.random.default_rng(1))
        began = time.perf_counter()
        seen = share(demand, car, replicas)
        took = time.perf_counter() - began
        busy = f"{rate:g} requests/s on {replicas} x H100, {seen.in_system / replicas:.0f} in flight on each"
        print(f"{requests:,} requests ({busy}): {took:.1f} s, {requests / took:,.0f} requests a second")


if __name__ == "__main__":
    main()
