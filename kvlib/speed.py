"""How fast: prefill and decode of a model on GPUs, as a ceiling that physics sets and as an estimate with an interval.

The ceiling takes the datasheet at its word: every byte at full bandwidth, every FLOP at full peak, both at the same
time, no communication, memory filled to the last byte. Nothing published is above it. The estimate multiplies in what
serving engines reached (`kvlib.efficiency`), and says how far off it was where it was tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvlib.dtypes import DType, dtype
from kvlib.efficiency import calibration
from kvlib.hardware import Accelerator
from kvlib.hardware import gpu as known_gpu
from kvlib.model import Model
from kvlib.placement import place
from kvlib.precision import peak_unit
from kvlib.serving import Throughput, serve
from kvlib.steps import Step, larger
from kvlib.units import whole

Formats = str | DType | Mapping[str, str | DType]


@dataclass(frozen=True)
class Seconds:
    """A time: `ideal` is the floor that no engine beats, `estimate` what to expect, between `low` and `high`.

    `bound` names what sets the floor: "memory" or "compute". The interval is that of published throughput, inverted.
    """

    ideal: Any
    estimate: Any
    low: Any
    high: Any
    bound: Any

    def __repr__(self) -> str:
        if hasattr(self.ideal, "shape"):
            return f"Seconds(ideal={self.ideal!r}, estimate={self.estimate!r})"
        span = f"{_time(self.low)} to {_time(self.high)}"
        return f"about {_time(self.estimate)} ({span}); {self.bound} allows no less than {_time(self.ideal)}"


def ridge(gpu: str | Accelerator, weight_dtype: str | DType = "bf16") -> float:
    """FLOPs per byte at which reading and computing take equally long: peak / bandwidth.

    A decode step uses each weight once per sequence, 2 FLOPs for `bits / 8` bytes, so weights alone become compute
    bound at a batch of ridge x bits / 16: 295 on an H100 in bf16, and as many in fp8.

    Source: Williams, Waterman and Patterson 2009, Roofline (doi 10.1145/1498765.1498785).
    """
    card = known_gpu(gpu)
    return card.flops[peak_unit(card, dtype(weight_dtype))] / card.bandwidth


def prefill_seconds(
    model: Model | str,
    gpu: str | Accelerator,
    tokens: Any,
    *,
    cached: Any = 0,
    batch: Any = 1,
    tp: int = 1,
    pp: int = 1,
    weight_dtype: Formats = "bf16",
    kv_dtype: str | DType | None = None,
    compute: str | None = None,
) -> Seconds:
    """Time to read a prompt: the time to the first token (TTFT) if nobody is in the way.

    Args:
        model: a Model, or a name from `kv.models()`.
        gpu: an accelerator or its name.
        tokens: new tokens of each prompt, a whole number or an array.
        cached: tokens before them whose keys and values are in the cache.
        batch: prompts that are read together.
        tp: tensor parallelism.
        pp: pipeline stages.
        weight_dtype: format of the weights, or formats by part with "other" for the rest.
        kv_dtype: format of the cache; None: fp8 beside FP8 or 4-bit float weights on a GPU with FP8, else bf16.
        compute: precision of the matrix units; None: the fastest that takes the weights.

    Returns:
        Seconds, with arrays where `tokens`, `cached` or `batch` is one.

    Raises:
        ValueError: if an argument is out of range, or no engine could start the layout.

    Sources: FLOPs, flops.py; communication, links.py; losses, data/efficiency.toml.
    """
    placed = place(model, gpu, tp=tp, pp=pp, weight_dtype=weight_dtype, kv_dtype=kv_dtype, compute=compute)
    tokens, cached, batch = whole("tokens", tokens, 1), whole("cached", cached), whole("batch", batch, 1)
    return _seconds(placed.prefill(tokens, cached, batch, native=False), placed.prefill(tokens, cached, batch))


def decode_seconds(
    model: Model | str,
    gpu: str | Accelerator,
    context: Any,
    batch: Any = 1,
    *,
    tp: int = 1,
    pp: int = 1,
    gpus: int | None = None,
    weight_dtype: Formats = "bf16",
    kv_dtype: str | DType | None = None,
    compute: str | None = None,
) -> Seconds:
    """Time of one decode step, in which each of `batch` sequences of `context` tokens gets one token: the TPOT.

    Arguments as in `prefill_seconds`; `gpus` above tp x pp makes copies, over which the batch is spread (copies of a
    mixture of experts share the experts out). Whether the caches fit into memory is not looked at.

    Returns:
        Seconds, with arrays where `context` or `batch` is one.

    Raises:
        ValueError: if an argument is out of range, or no engine could start the layout.
    """
    placed = place(model, gpu, tp=tp, pp=pp, gpus=gpus, weight_dtype=weight_dtype, kv_dtype=kv_dtype, compute=compute)
    context, batch = whole("context", context, 1), whole("batch", batch, 1)
    return _seconds(placed.decode(batch, context, native=False), placed.decode(batch, context))


def throughput(
    model: Model | str,
    gpu: str | Accelerator,
    input_tokens: Any,
    output_tokens: Any,
    tp: int = 1,
    gpus: int = 1,
    concurrency: Any = None,
    weight_dtype: Formats = "bf16",
    kv_dtype: str | DType | None = None,
    *,
    pp: int = 1,
    compute: str | None = None,
) -> Throughput:
    """Output tokens/s of `gpus` GPUs that serve requests of `input_tokens` in and `output_tokens` out without a pause.

    Args:
        model: a Model, or a name from `kv.models()`.
        gpu: an accelerator or its name.
        input_tokens: tokens of a prompt, none of them cached; a whole number or an array.
        output_tokens: tokens of an answer.
        tp: tensor parallelism.
        gpus: GPUs in all; 1 stands for tp x pp, more than that make copies, which share the experts of an MoE.
        concurrency: requests in flight on all GPUs; None: as many as fit into memory. More than fit wait.
        weight_dtype: format of the weights, or formats by part with "other" for the rest.
        kv_dtype: format of the cache; None: fp8 beside FP8 or 4-bit float weights on a GPU with FP8, else bf16.
        pp: pipeline stages.
        compute: precision of the matrix units; None: the fastest that takes the weights.

    Returns:
        Throughput; its fields are arrays where an argument is one.

    Raises:
        ValueError: if an argument is out of range, no engine could start the layout, or not one request fits.
    """
    total = None if gpus == 1 else gpus  # one GPU, the default, means one copy
    placed = place(model, gpu, tp=tp, pp=pp, gpus=total, weight_dtype=weight_dtype, kv_dtype=kv_dtype, compute=compute)
    tokens_in, tokens_out = whole("input_tokens", input_tokens, 1), whole("output_tokens", output_tokens, 1)
    most = None if concurrency is None else whole("concurrency", concurrency, 1)
    if not any(hasattr(given, "shape") for given in (tokens_in, tokens_out, most)):
        return serve(placed, tokens_in, tokens_out, most, calibration())
    import numpy as np

    grid = np.broadcast_arrays(*(np.asarray(given, dtype=object) for given in (tokens_in, tokens_out, most)))
    points = zip(*(axis.flat for axis in grid), strict=True)
    results = [serve(placed, one_in, one_out, one_most, calibration()) for one_in, one_out, one_most in points]

    def column(name: str) -> Any:
        return np.array([getattr(result, name) for result in results]).reshape(grid[0].shape)

    names = ("ceiling", "estimate", "low", "high", "batch", "ceiling_batch", "ttft", "tpot", "bound")
    return Throughput(gpus=placed.gpus, **{name: column(name) for name in names})


def _seconds(ideal: Step, expected: Step) -> Seconds:
    """The floor, the estimate with its interval, and what sets the floor."""
    fitted = calibration()
    floor, estimate = _plain(ideal.floor), _plain(expected.seconds(fitted.efficiency))
    estimate = larger(estimate, floor)
    bound: Any = "compute" if not hasattr(floor, "flat") and ideal.work >= ideal.read else "memory"
    if hasattr(floor, "flat"):
        work, bound = (ideal.work + 0 * floor).flat, floor.astype(object)
        bound.flat = ["compute" if at >= least else "memory" for at, least in zip(work, floor.flat, strict=True)]
    return Seconds(floor, estimate, larger(estimate / fitted.high, floor), estimate / fitted.low, bound)


def _plain(x: Any) -> Any:
    """A float, or an array of floats."""
    return x.astype(float) if hasattr(x, "astype") else float(x)


def _time(seconds: float) -> str:
    """Seconds as people read them: 6.4 ms, 20 s."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:,.3g} {unit}"
    return f"{seconds * 1e6:,.3g} µs"
