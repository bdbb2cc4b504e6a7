"""Intervals, effective lengths and p-values against published tables and counting by hand."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.lab.score import effective_length, mcnemar, wilson

# Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3 (score interval without continuity correction).
NEWCOMBE = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]


@pytest.mark.parametrize(("right", "n", "low", "high"), NEWCOMBE)
def test_wilson_is_newcombes_table(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_are_the_shares_from_which_the_count_lies_z_errors_away(counts):
    right, n = counts
    for end in wilson(right, n):
        assert 0 <= end <= 1
        if 0 < end < 1:
            error = (end * (1 - end) / n) ** 0.5
            assert abs(right / n - end) / error == pytest.approx(1.959963984540054, rel=1e-6)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_of_the_wrong_answers_is_the_mirror_image(counts):
    right, n = counts
    low, high = wilson(right, n)
    assert wilson(n - right, n) == pytest.approx((1 - high, 1 - low))
    assert low <= right / n <= high


@pytest.mark.parametrize(("right", "n"), [(1, 0), (-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_counts_that_cannot_be(right, n):
    with pytest.raises(ValueError, match=f"right={right}, n={n}"):
        wilson(right, n)


# adobe-research/NoLiMa, README.md (2025): base score, then 1K to 32K, and the effective length the table gives.
NOLIMA = [
    ((99.3, 98.1, 98.0, 95.7, 89.2, 81.6, 69.7), 8_000),  # GPT-4o
    ((97.3, 94.2, 87.4, 81.5, 72.1, 59.5, 42.7), 2_000),  # Llama 3.3 70B
    ((87.6, 85.4, 84.0, 77.6, 61.7, 45.7, 29.8), 4_000),  # Claude 3.5 Sonnet
    ((76.7, 65.7, 54.4, 44.1, 31.9, 22.6, 14.2), 1_000),  # Llama 3.1 8B
    ((92.4, 76.3, 74.1, 70.8, 62.2, 52.7, 43.6), 250),  # Jamba 1.5 Mini: below 1K
]


@pytest.mark.parametrize(("scores", "length"), NOLIMA)
def test_effective_length_is_nolimas(scores, length):
    lengths = (250, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
    assert effective_length(dict(zip(lengths, scores, strict=True))) == length


def test_a_length_that_recovers_does_not_count():
    assert effective_length({4: 1.0, 64: 1.0, 8: 0.5, 16: 0.9}) == 4
    assert effective_length({64: 1.0, 128: 0.85}) == 128  # 85 % itself is still good
    assert effective_length({64: 1.0, 128: 0.5}, share=0.5) == 128
    assert effective_length({64: 0.0}) == 64


@pytest.mark.parametrize(("accuracy", "share"), [({}, 0.85), ({1: 1.0}, 0), ({1: 1.0}, 1.5)])
def test_effective_length_refuses_nonsense(accuracy, share):
    with pytest.raises(ValueError, match="accuracy must hold a length"):
        effective_length(accuracy, share)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1), (3, 3, 1), (0, 5, 2 / 32), (5, 0, 2 / 32), (1, 5, 2 * (1 + 6) / 64), (2, 3, 1), (1, 7, 2 * 9 / 256)],
)
def test_mcnemar_by_hand(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p)


def test_mcnemar_counts_the_flips_of_a_coin_that_are_as_far_from_even():
    for first, second in itertools.product(range(5), range(5)):
        flips = list(itertools.product((0, 1), repeat=first + second))
        as_far = [abs(2 * sum(one) - len(one)) >= abs(first - second) for one in flips]
        assert mcnemar(first, second) == pytest.approx(sum(as_far) / len(flips))


def test_mcnemar_of_many_pairs_neither_overflows_nor_goes_negative():
    assert 0 < mcnemar(800, 1200) < 1e-10 and mcnemar(1000, 1000) == 1
    with pytest.raises(ValueError, match="0 or more; got -1, 3"):
        mcnemar(-1, 3)
