"""kvlib.units: both units, always, and whole numbers that stay exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.units import GB, GiB, size, tokens, usd, whole


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (131_072, "131 kB (128 KiB)"),
        (80 * GB, "80 GB (74.5 GiB)"),
        (80 * GiB, "85.9 GB (80 GiB)"),
        (6_710_886_400, "6.71 GB (6.25 GiB)"),
        (1_342 * GB, "1.34 TB (1.22 TiB)"),
        (-3 * GB, "-3 GB (-2.79 GiB)"),
    ],
)
def test_size_gives_decimal_and_binary(n, text):
    assert size(n) == text


@given(st.integers(10**3, 10**18))
def test_both_numbers_of_a_size_mean_the_same(n):
    decimal, binary = size(n).replace(",", "").replace("(", "").replace(")", "").split()[::2]
    scales = {
        "kB": 10**3,
        "MB": 10**6,
        "GB": 10**9,
        "TB": 10**12,
        "KiB": 2**10,
        "MiB": 2**20,
        "GiB": 2**30,
        "TiB": 2**40,
    }
    units = size(n).replace(")", "").split()[1::2]
    for number, unit in zip((decimal, binary), units, strict=True):
        assert float(number) * scales[unit] == pytest.approx(n, rel=0.0055)


def test_tokens_and_money():
    assert tokens(200_000) == "200,000 tokens (200K)"
    assert tokens(2_000_000) == "2,000,000 tokens (2M)"
    assert tokens(512) == "512 tokens"
    assert (usd(87_072), usd(0.0031), usd(0)) == ("$87,072.00", "$0.0031", "$0.00")


@pytest.mark.parametrize("bad", [-1, 1.5, 2.0, "3", None, float("nan"), True, [1]])
def test_whole_names_the_argument_and_the_value(bad):
    with pytest.raises(ValueError, match="tokens must be a whole number") as error:
        whole("tokens", bad)
    assert repr(bad) in str(error.value)


def test_whole_arrays_hold_exact_ints():
    np = pytest.importorskip("numpy")
    kept = whole("tokens", np.array([1, 2**40]))
    assert kept.dtype == object and kept[1] ** 3 == 2**120
    for bad in (np.array([1.5]), np.array([1, -1]), np.array(["a"])):
        with pytest.raises(ValueError, match="tokens must be a whole number"):
            whole("tokens", bad)
