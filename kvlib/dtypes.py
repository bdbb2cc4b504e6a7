"""How many bytes a number takes, scales included.

A block format stores a handful of numbers and one shared scale together. GGUF's q8_0 packs 32 int8 values and a
2-byte scale into 34 bytes: 8.5 bits per number, not 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class DType:
    """A number format: `block` numbers are stored in `block_bytes` bytes, scales included."""

    name: str
    block: int
    block_bytes: int
    source: str

    @property
    def bits(self) -> Fraction:
        """Bits per number, scales included."""
        return Fraction(8 * self.block_bytes, self.block)

    def nbytes(self, elements: Any) -> Any:
        """Bytes of `elements` numbers (int or array of ints), rounded up to a whole byte."""
        return -(-elements * self.block_bytes // self.block)


_IEEE = "IEEE 754-2019"
_OCP = "OCP Microscaling Formats (MX) specification v1.0, table 1"
_GGML = "ggml-org/llama.cpp, ggml/src/ggml-common.h, struct block_"
_KNOWN = [
    DType("fp32", 1, 4, _IEEE),
    DType("fp16", 1, 2, _IEEE),
    DType("bf16", 1, 2, "Google Cloud TPU documentation, bfloat16"),
    DType("fp8", 1, 1, "Micikevicius et al. 2022, FP8 formats for deep learning (arXiv 2209.05433)"),
    DType("int8", 1, 1, "two's complement"),
    DType("int4", 2, 1, "two's complement, two to a byte, scales not counted"),
    # 128 weights of 4 bits, one fp16 scale, one 4-bit zero point: 66.5 bytes, so two groups make 133.
    DType("int4_g128", 256, 133, "Lin et al. 2023, AWQ (arXiv 2306.00978), group size 128"),
    DType("mxfp8", 32, 33, _OCP),
    DType("mxfp4", 32, 17, _OCP),
    # Its one fp32 scale for the whole tensor is not counted.
    DType("nvfp4", 16, 9, "NVIDIA, Introducing NVFP4, 2025-06: one fp8 scale per 16 values"),
    DType("q8_0", 32, 34, _GGML + "q8_0"),
    DType("q6_k", 256, 210, _GGML + "q6_K"),
    DType("q5_1", 32, 24, _GGML + "q5_1"),
    DType("q5_0", 32, 22, _GGML + "q5_0"),
    DType("q4_1", 32, 20, _GGML + "q4_1"),
    DType("q4_k", 256, 144, _GGML + "q4_K"),
    DType("q4_0", 32, 18, _GGML + "q4_0"),
]
DTYPES = {known.name: known for known in _KNOWN}
_ALIASES = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "f32": "fp32",
    "f16": "fp16",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "float8_e4m3fn": "fp8",
}


def dtype(name: str | DType) -> DType:
    """The format called `name` (`bf16`, `fp8`, `int8`, `mxfp4`, `q8_0`, ...); a ValueError lists what there is."""
    if isinstance(name, DType):
        return name
    known = DTYPES.get(_ALIASES.get(name, name)) if isinstance(name, str) else None
    if known is None:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {name!r}")
    return known
