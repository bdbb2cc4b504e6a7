"""What a sentence of noise costs: not in memory, where all cost the same, but in attention taken from the needle.

The price of a sentence is its share of the answer's attention per share on the value to copy. In one head it is a
ratio of two softmax weights, which does not depend on what else stands there: a price list from prompts of one length
foretells the attention at another. The model mixes four heads, and its local layer mixes neighbours (filler beside a
loud fact costs more than filler beside filler), so it foretells roughly; how roughly is what `price_check` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from statistics import fmean, median

import numpy as np

from kvlib.lab.asking import shares
from kvlib.lab.dilution import mass_with
from kvlib.lab.needle import Haystack
from kvlib.lab.sentences import Key, Sentence
from kvlib.lab.tinylm import TinyLM
from kvlib.lab.trials import REPORTING, Arm, Record, Task, each, tasks

KINDS = ("plain", "numeric", "topical", "fact 0 of 3", "fact 1 of 3", "fact 2 of 3")
CONSTANT = "question and padding"
MIXED = Arm("a bit of everything", facts=0.3, rivals=4)
_RESAMPLES = 1000


def kind(sentence: Sentence, asked: Key) -> str:
    """The kind of a sentence on the price list; a fact's depends on what it shares with the key that is asked for."""
    if sentence.kind == "fact" and sentence.key:
        return f"fact {sentence.key.shared(asked)} of 3"
    return sentence.kind if sentence.kind in KINDS else CONSTANT


def price_list(
    model: TinyLM,
    tokens: int = 1024,
    arm: Arm = MIXED,
    *,
    trials: int = 240,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """The price of a sentence of each kind, as odds taken from the needle.

    Args:
        model: the model to ask.
        tokens: length of the prompts.
        arm: what they are made of; it should hold sentences of every kind.
        trials: how many prompts.
        seeds: which prompts.
        executor: works on the prompts; None: this process does.
        progress: whether to show a bar on what takes over 2 s; None: on a terminal only.

    Returns:
        A record per kind: kind, n (sentences), median, mean, and low and high, the mean's 95 % bootstrap interval over
        prompts. The last is the constant: question, padding, and the needle's own words but the value.

    Raises:
        ValueError: as `trials.measure`, or if the prompts hold no sentence of a kind.
    """
    found = _prices_seen(model, arm, [tokens], trials, seeds, executor, progress)[tokens]
    records = []
    for name in (*KINDS, CONSTANT):
        per_prompt = [seen[name] for seen in found]
        prices = [price for prompt in per_prompt for price in prompt]
        if not prices:
            raise ValueError(f"arm must hold every kind of sentence; {arm.name!r} has none of {name!r}")
        low, high = _bootstrap([sum(prompt) for prompt in per_prompt], [len(prompt) for prompt in per_prompt])
        row = {"kind": name, "n": len(prices), "median": median(prices), "mean": fmean(prices)}
        records.append(row | {"low": low, "high": high})
    return records


def price_check(
    model: TinyLM,
    prices: Sequence[Record],
    arm: Arm,
    lengths: Sequence[int],
    *,
    trials: int = 60,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """A price list put to the test at other lengths: 1 / (1 + a + sum of sentences x mean price) against what is seen.

    Returns:
        A record per length: tokens, n; counts: sentences of each kind per prompt, on average; predicted and
        predicted_median: mass from the mean and from the median prices; mass: mean mass that was seen; odds_predicted
        and odds: odds of noise, the latter's median over prompts; odds_mean: their mean, which a few lost needles make.

    Raises:
        ValueError: as `price_list`. The other arguments are its arguments, too.
    """
    by_price = {which: {row["kind"]: row[which] for row in prices} for which in ("mean", "median")}
    records = []
    for tokens, seen in _prices_seen(model, arm, lengths, trials, seeds, executor, progress).items():
        counts = {name: fmean(len(prompt[name]) for prompt in seen) for name in KINDS}
        odds = [sum(sum(found) for found in prompt.values()) for prompt in seen]
        foretold, timid = (mass_with(which[CONSTANT], counts, which) for which in by_price.values())
        records.append(
            {
                "tokens": tokens,
                "n": len(seen),
                "predicted": foretold,
                "predicted_median": timid,
                "mass": fmean(1 / (1 + one) for one in odds),
                "odds_predicted": 1 / foretold - 1,
                "odds": median(odds),
                "odds_mean": fmean(odds),
                **counts,
            }
        )
    return records


def sentence_prices(hay: Haystack, model: TinyLM) -> dict[str, list[float]]:
    """The price of every sentence of a prompt, by kind; all of them together are the odds (1 - m) / m."""
    asked = hay.questions[0]
    cache = model.prefill(hay.ids)
    reading = model.read(cache, asked.ids)
    value = hay.needle_position()
    spans = [*hay.spans, (hay.spans[-1][1], cache.tokens), (value, value + 1)]
    *parts, question, needle = shares(reading, spans).tolist()
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    constant = question - needle  # the needle's sentence is added below, with its value
    for sentence, share in zip(hay.sentences, parts, strict=True):
        name = kind(sentence, asked.key)
        if name in found:
            found[name].append(share / needle)
        else:
            constant += share
    return found | {CONSTANT: [constant / needle]}


def _prices_seen(
    model: TinyLM,
    arm: Arm,
    lengths: Sequence[int],
    trials: int,
    seeds: str,
    executor: Executor | None,
    progress: bool | None,
) -> dict[int, list[dict[str, list[float]]]]:
    work = list(tasks(model, [arm], lengths, (), trials, seeds))
    found: dict[int, list[dict[str, list[float]]]] = {}
    for task, seen in zip(work, each(_task_prices, work, executor, progress), strict=True):
        found.setdefault(task.tokens, []).extend(seen)
    return found


def _task_prices(task: Task) -> list[dict[str, list[float]]]:
    return [sentence_prices(hay, task.model) for hays in task.batches() for hay in hays]


def _bootstrap(sums: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """95 % interval of sum / count, if whole prompts are drawn again: sentences of one prompt share its needle."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = np.asarray(sums)[drawn].sum(axis=1) / np.maximum(1, np.asarray(counts)[drawn].sum(axis=1))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
