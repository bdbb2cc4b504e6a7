"""Bytes, tokens and money as people read them; base units (bytes, tokens, USD) everywhere else.

A GB is 10**9 bytes, a GiB is 2**30. They differ by 7 %, which is 6 GB on an "80 GB" card, so kvlib always prints both.
"""

from __future__ import annotations

import operator
from typing import Any

KB, MB, GB, TB = 10**3, 10**6, 10**9, 10**12
KiB, MiB, GiB, TiB = 2**10, 2**20, 2**30, 2**40

_SCALES = (("TB", TB, "TiB", TiB), ("GB", GB, "GiB", GiB), ("MB", MB, "MiB", MiB), ("kB", KB, "KiB", KiB))


def size(n: float) -> str:
    """A number of bytes in decimal and binary units, three digits each: `size(131_072)` is "131 kB (128 KiB)"."""
    for decimal, ten, binary, two in _SCALES:
        if abs(n) >= ten:
            return f"{_three_digits(n / ten)} {decimal} ({_three_digits(n / two)} {binary})"
    return f"{n:,} B"


def tokens(n: int) -> str:
    """A number of tokens in full, with the short form people use: `tokens(200_000)` is "200,000 tokens (200K)"."""
    for letter, scale in (("M", 10**6), ("K", 10**3)):
        if n >= scale:
            return f"{n:,} tokens ({_three_digits(n / scale)}{letter})"
    return f"{n:,} tokens"


def usd(amount: float) -> str:
    """Dollars with cents, or with four decimals where cents would hide the price: `usd(0.0031)` is "$0.0031"."""
    return f"${amount:,.2f}" if amount == 0 or abs(amount) >= 0.1 else f"${amount:,.4f}"


def whole(name: str, value: Any, least: int = 0) -> Any:
    """`value` as an exact int (or an array of exact ints), at least `least`; a ValueError naming it otherwise.

    Numpy arrays come back with Python ints inside, so that no product can overflow in silence.
    """
    wanted = f"{name} must be a whole number, {least:,} or more"
    if hasattr(value, "dtype") and getattr(value, "ndim", None):
        if value.dtype.kind not in "iuO" or any(whole(name, item, least) != item for item in value.flat):
            raise ValueError(f"{wanted}; got an array of {value.dtype}")
        return value.astype(object)
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{wanted}; got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{wanted}; got {value!r}")
    return number


def _three_digits(x: float) -> str:
    """Three significant digits, never in exponent form: 26.2, 1.05, 4,719."""
    digits = 2 if abs(x) < 9.995 else 1 if abs(x) < 99.95 else 0
    return f"{x:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{x:,.0f}"
