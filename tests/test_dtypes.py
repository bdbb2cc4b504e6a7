"""kvlib.dtypes: scales are part of a number's size."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.dtypes import DTYPES, dtype

# Bits per number as the formats' own documents state them.
STATED = {
    "fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4,
    "mxfp4": Fraction(17, 4), "mxfp8": Fraction(33, 4), "nvfp4": Fraction(9, 2),
    "q8_0": Fraction(17, 2), "q6_k": Fraction(105, 16), "q5_0": Fraction(11, 2), "q5_1": 6,
    "q4_0": Fraction(9, 2), "q4_1": 5, "q4_k": Fraction(9, 2), "int4_g128": Fraction(133, 32),
}  # fmt: skip


@pytest.mark.parametrize("name", DTYPES)
def test_bits_are_the_stated_ones(name):
    assert dtype(name).bits == STATED[name]
    assert dtype(name).source


def test_a_q8_0_block_is_34_bytes():
    assert [dtype("q8_0").nbytes(n) for n in (0, 1, 32, 33)] == [0, 2, 34, 36]


@given(st.sampled_from(sorted(DTYPES)), st.integers(0, 10**18))
def test_bytes_are_the_exact_bits_rounded_up(name, elements):
    exact = elements * dtype(name).bits / 8
    assert exact <= dtype(name).nbytes(elements) < exact + 1


def test_names():
    assert dtype("bfloat16") is dtype("bf16") and dtype(dtype("fp8")) is dtype("fp8_e4m3")
    for bad in ("fp7", None, 16, ["bf16"]):
        with pytest.raises(ValueError, match="dtype must be one of"):
            dtype(bad)
