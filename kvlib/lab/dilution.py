"""Why a needle gets lost: attention is shared out, and every sentence of noise takes a little from the needle.

One head gives a needle that scores delta above the other tokens (delta = its score minus the log of the mean power of
theirs) the mass

    m = 1 / (1 + (N - 1) exp(-delta))

of its attention, N tokens in all: an identity of the softmax. The odds of noise against needle, (1 - m) / m, therefore
grow in proportion to N, as long as the noise is of one kind. With several kinds they are a sum: of a constant a (the
question, the rest of the needle's sentence) and a price for each sentence. That bounded scores must be diluted so is
the point of "softmax is not enough" (Veličković et al. 2025, arXiv 2410.01104).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvlib.lab.asking import TRAINED, Trial
from kvlib.lab.score import wilson
from kvlib.lab.tinylm import TinyLM
from kvlib.lab.trials import LENGTHS, REPORTING, Arm, Record, run

Numbers = NDArray[np.float64]


def mass(tokens: ArrayLike, delta: ArrayLike) -> Numbers:
    """Attention on a needle that scores `delta` nats above the other `tokens` - 1: 1 / (1 + (tokens - 1) exp(-delta)).

    Raises:
        ValueError: tokens below 1.
    """
    count = np.asarray(tokens, dtype=np.float64)
    if (count < 1).any():
        raise ValueError(f"tokens must be 1 or more; got {tokens!r}")
    found: Numbers = 1 / (1 + (count - 1) * np.exp(-np.asarray(delta, dtype=np.float64)))
    return found


def delta(tokens: ArrayLike, mass: ArrayLike) -> Numbers:
    """The other way round: how far a needle with this attention scores above the others, in nats.

    Raises:
        ValueError: tokens below 2, or a mass outside 0 to 1, both ends excluded.
    """
    count = np.asarray(tokens, dtype=np.float64)
    if (count < 2).any():
        raise ValueError(f"tokens must be 2 or more; got {tokens!r}")
    found: Numbers = np.log(count - 1) - np.log(noise_odds(mass))
    return found


def noise_odds(mass: ArrayLike) -> Numbers:
    """Attention on everything else per attention on the needle: (1 - mass) / mass.

    Raises:
        ValueError: a mass outside 0 to 1, both ends excluded.
    """
    share = np.asarray(mass, dtype=np.float64)
    if not ((share > 0) & (share < 1)).all():
        raise ValueError(f"mass must lie between 0 and 1, both excluded; got {mass!r}")
    odds: Numbers = (1 - share) / share
    return odds


def after_deleting(share: ArrayLike, gone: float) -> Numbers:
    """A share of one head's attention after sentences with the share `gone` are deleted: share / (1 - gone).

    Raises:
        ValueError: gone outside 0 to 1, or 1.
    """
    if not 0 <= gone < 1:
        raise ValueError(f"gone must be 0 or more and below 1; got {gone!r}")
    grown: Numbers = np.asarray(share, dtype=np.float64) / (1 - gone)
    return grown


def mass_with(constant: float, counts: Mapping[str, float], prices: Mapping[str, float]) -> float:
    """Attention on the needle among `counts` sentences of each kind: 1 / (1 + constant + sum of count x price).

    Raises:
        ValueError: a kind that has no price.
    """
    if missing := sorted(set(counts) - set(prices)):
        raise ValueError(f"prices must have one for each kind; missing {', '.join(missing)}")
    return 1 / (1 + constant + sum(count * prices[kind] for kind, count in counts.items()))


@dataclass(frozen=True)
class OddsLine:
    """Odds of noise as a straight line: a + b x tokens. b is the price of a token, a what is there at any length."""

    a: float
    b: float

    @property
    def delta(self) -> float:
        """How far the needle scores above a token of this noise: -ln b, in nats."""
        return float(-np.log(self.b))

    def odds(self, tokens: ArrayLike) -> Numbers:
        """Odds of noise at a length."""
        found: Numbers = self.a + self.b * np.asarray(tokens, dtype=np.float64)
        return found

    def mass(self, tokens: ArrayLike) -> Numbers:
        """Attention on the needle at a length: 1 / (1 + odds)."""
        found: Numbers = 1 / (1 + self.odds(tokens))
        return found


def fit_odds(tokens: Sequence[float], odds: Sequence[float]) -> OddsLine:
    """The line with the least sum of squared relative errors, so that every length counts alike.

    Raises:
        ValueError: fewer than two different lengths, not as many odds as lengths, or odds that are not above 0.
    """
    x, y = np.asarray(tokens, dtype=np.float64), np.asarray(odds, dtype=np.float64)
    if len(set(tokens)) < 2 or x.shape != y.shape or not (y > 0).all():
        raise ValueError(f"tokens and odds must be pairs at two lengths or more, odds above 0; got {tokens}, {odds}")
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones_like(y), rcond=None)
    return OddsLine(float(a), float(b))


def dilution(
    model: TinyLM,
    arm: Arm,
    lengths: Sequence[int] = LENGTHS,
    *,
    frozen_at: int = TRAINED,
    trials: int | None = None,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Attention on the needle by length, and what the theory says of it.

    Args:
        model: the model to ask.
        arm: what the haystacks are made of.
        lengths: tokens of the prompts; `frozen_at` must be one of them.
        frozen_at: the length at which delta is measured, per trial and head.
        trials: questions per length; None: `trials.TRIALS`.
        seeds: which haystacks.
        executor: works on the trials; None: this process does.
        progress: whether to show a bar on what takes over 2 s; None: on a terminal only.

    Returns:
        A record per length: tokens, n, accuracy with low and high; mass (mean of trials and heads), odds (median over
        trials of noise against needle, for `fit_odds`), delta (median of trials and heads), theory (mean mass if every
        delta stayed what it was at `frozen_at`).

    Raises:
        ValueError: as `trials.measure`, or if frozen_at is not among the lengths.
    """
    if frozen_at not in lengths:
        raise ValueError(f"frozen_at must be one of the lengths {list(lengths)}; got {frozen_at!r}")
    found = run(model, [arm], lengths, trials=trials, seeds=seeds, executor=executor, progress=progress)
    by_length: dict[int, list[Trial]] = {tokens: outcomes for (_, _, tokens), outcomes in found.items()}
    frozen = [one for outcome in by_length[frozen_at] for one in outcome.deltas]
    return [_diluted(tokens, outcomes, frozen) for tokens, outcomes in by_length.items()]


def _diluted(tokens: int, outcomes: Sequence[Trial], frozen: Sequence[float]) -> Record:
    right, n = sum(outcome.right for outcome in outcomes), len(outcomes)
    low, high = wilson(right, n)
    return {
        "tokens": tokens,
        "n": n,
        "accuracy": right / n,
        "low": low,
        "high": high,
        "mass": fmean(outcome.mass for outcome in outcomes),
        "odds": median(1 / outcome.mass - 1 for outcome in outcomes),
        "delta": median(one for outcome in outcomes for one in outcome.deltas),
        "theory": float(mass(tokens, frozen).mean()),
    }
