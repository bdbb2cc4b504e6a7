"""From right and wrong answers to a number that may be quoted: a share with its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

Z = 1.959963984540054  # 95 % of a normal distribution lies within Z standard deviations


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `right` of `n` trials were seen (Wilson 1927).

    Unlike right/n ± 2 standard errors it stays within 0 to 1 and does not shrink to nothing at 0 or n.

    Raises:
        ValueError: n below 1, or right outside 0 to n.
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"right must lie between 0 and n, and n be 1 or more; got right={right!r}, n={n!r}")
    share, z2 = right / n, Z * Z / n
    centre = (share + z2 / 2) / (1 + z2)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def effective_length(accuracy: Mapping[int, float], share: float = 0.85) -> int:
    """The longest prompt up to which accuracy stays at `share` of its base or above; the base is the shortest prompt.

    Lengths are tokens. The first length that falls short ends the count, even if a longer one recovers. The measure is
    that of NoLiMa (Modarressi et al. 2025, arXiv 2502.05167), which takes the same 85 %.

    Raises:
        ValueError: no length at all, or a share outside 0 to 1.
    """
    if not accuracy or not 0 < share <= 1:
        raise ValueError(f"accuracy must hold a length, and share lie above 0 up to 1; got {accuracy!r}, {share!r}")
    lengths = sorted(accuracy)
    reached = lengths[0]
    for length in lengths:
        if accuracy[length] < share * accuracy[lengths[0]]:
            break
        reached = length
    return reached


def mcnemar(only_first: int, only_second: int) -> float:
    """How likely two treatments of the same trials differ this much by luck (McNemar 1947, exact two-sided).

    Trials that both got right, or both wrong, say nothing about the difference; the others are flips of a fair coin.

    Raises:
        ValueError: a negative count.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"only_first and only_second must be 0 or more; got {only_first!r}, {only_second!r}")
    n = only_first + only_second
    rarer = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * Fraction(rarer, 2**n)))
