"""What GPUs tell each other: all-reduce of tensor parallelism, all-to-all of expert parallelism, bubbles of pipelines.

Time = latency + bytes / bandwidth of one direction. Datasheets print both directions together: NVLink's "900 GB/s" are
450 each way (`Accelerator.link.per_direction`). A decode step moves little and waits often, so latency decides; a
prefill moves much, so bandwidth decides.
"""

from __future__ import annotations

import math
from typing import Any

from kvlib.hardware import Accelerator
from kvlib.units import whole

# Ring all-reduce of a small message: a start and a hop for each of its 2 (n - 1) steps, as NCCL's own tuning model has
# it for NVLink and protocol LL (NVIDIA/nccl, src/graph/tuning.cc; quoted in nccl#1334, 2024-07-01). That makes 7.8 us
# for 2 GPUs and 15 us for 8; measured were about 6 us for 2 H100 (nccl#1259) and 20-25 us for 8 (marin#6736).
START, HOP = 6.6e-6, 0.6e-6
# An exchange of experts' tokens starts once and then goes at the speed of the link: 128 tokens to 8 experts each take
# 149 us so counted over 32 GPUs, and 155 us were measured (DeepEP, docs/legacy.md, low-latency kernels).
NETWORK = 50_000_000_000  # bytes/s of each GPU's own 400 Gb/s network card (DeepEP, docs/legacy.md)
ACTIVATION_BYTES = 2  # activations travel in bf16
SENT_BYTES, RETURNED_BYTES = 1, 2  # experts' tokens are sent in fp8 and come back in bf16 (DeepSeek-V3, section 3.2.2)


def link_bandwidth(gpu: Accelerator, gpus: int) -> int:
    """Bytes/s that one GPU sends while `gpus` of them talk: its link inside one domain, its network card beyond.

    Raises:
        ValueError: if no link is recorded for this GPU.
    """
    if gpu.link is None:
        raise ValueError(f"gpu must have a recorded link to work with others; {gpu.name} has none")
    inside = gpu.link.domain is None or gpus <= max(8, gpu.link.domain)
    return gpu.link.per_direction if inside else min(NETWORK, gpu.link.per_direction)


def all_reduce_seconds(nbytes: float, gpus: int, bandwidth: float, latency: bool = True) -> float:
    """Seconds until each of `gpus` GPUs has the sum of their arrays of `nbytes` bytes: the ring algorithm.

    Every GPU sends 2 (n - 1) / n of the array, in 2 (n - 1) steps; 0 for one GPU.

    Args:
        nbytes: bytes of the array.
        gpus: GPUs in the ring.
        bandwidth: bytes/s that a GPU sends, one direction.
        latency: whether to count the start and the hops.

    Raises:
        ValueError: if nbytes is negative, gpus not a positive whole number, or bandwidth not positive.

    Source: Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of workstations.
    """
    n = whole("gpus", gpus, 1)
    _check(nbytes, bandwidth)
    if n == 1:
        return 0.0
    steps = 2 * (n - 1)
    return float(steps / n * nbytes / bandwidth + latency * (START + steps * HOP))


def all_to_all_seconds(nbytes: float, gpus: int, bandwidth: float, latency: bool = True) -> float:
    """Seconds until each of `gpus` GPUs has sent its `nbytes` bytes, cut evenly, to all of them: (n - 1) / n travel."""
    n = whole("gpus", gpus, 1)
    _check(nbytes, bandwidth)
    return 0.0 if n == 1 else float((n - 1) / n * nbytes / bandwidth + latency * START)


def bubble(stages: int, microbatches: Any) -> Any:
    """Share of the time that a pipeline stands idle: (p - 1) / (m + p - 1).

    Source: Huang et al. 2019, GPipe (arXiv 1811.06965), section 2.3.
    """
    p, m = whole("stages", stages, 1), whole("microbatches", microbatches, 1)
    return (p - 1) / (m + p - 1)


def _check(nbytes: float, bandwidth: float) -> None:
    if not 0 <= nbytes < math.inf:
        raise ValueError(f"nbytes must be a number of bytes, 0 or more; got {nbytes!r}")
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be bytes per second above 0; got {bandwidth!r}")
