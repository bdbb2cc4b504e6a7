"""Which arithmetic goes with which format: matrix units for weights, a cache format beside them."""

from __future__ import annotations

from kvlib.dtypes import DType, dtype
from kvlib.hardware import Accelerator

# Which matrix units can take weights of a format, the fastest first. Other formats are unpacked and multiplied in bf16.
UNITS = {"fp8": ("fp8",), "mxfp8": ("fp8",), "nvfp4": ("fp4", "fp8"), "mxfp4": ("fp4", "fp8"), "int8": ("int8",)}


def peak_unit(gpu: Accelerator, stored: DType, native: bool = False) -> str:
    """The matrix units that multiply numbers of this format: "bf16", "fp8", "fp4" or "int8", the fastest possible.

    `native` asks for what engines do: 4-bit weights on a GPU without FP4 units are unpacked to bf16.
    """
    wanted = UNITS.get(stored.name, ())
    if native and "fp4" in wanted and "fp4" not in gpu.flops:
        wanted = ()
    return next((unit for unit in wanted if unit in gpu.flops), "bf16")


def cache_format(gpu: Accelerator, weights: DType) -> DType:
    """The cache format that goes with a weight format: FP8 for FP8 and 4-bit float weights where the GPU has it.

    That is what the vendors' quantised checkpoints ask for (`kv_cache_quant_algo` in NVIDIA's); vLLM keeps bf16 unless
    told. Name `kv_dtype` where it matters: the two differ by a factor of two in cache.
    """
    eight = weights.name in ("fp8", "mxfp8", "nvfp4", "mxfp4") and "fp8" in gpu.flops
    return dtype("fp8" if eight else "bf16")
