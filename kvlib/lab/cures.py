"""What helps against a lost needle? Sending less (retrieval), looking harder (temperature, fewer keys); with the bill.

All treatments meet the same haystacks, and each is compared with sending everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from kvlib.bills import MILLION, Price
from kvlib.lab.asking import Way
from kvlib.lab.retrievers import BM25, THESAURUS, Embeddings, OwnAttention
from kvlib.lab.tinylm import TinyLM
from kvlib.lab.trials import REPORTING, TUNING, Arm, Record, compare, measure, run, summary

HARD = Arm("100 % facts, 2 rivals", facts=1.0, rivals=2)
CLAIMED = (
    Way(),
    Way("BM25, top 1", BM25(1)),
    Way("BM25 + synonyms, top 1", BM25(1, THESAURUS)),
    Way("temperature, slope 1", slope=1.0),
)  # what the lesson's claims are about
SLOPES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0)


def treatments(model: TinyLM, slope: float | None = None) -> tuple[Way, ...]:
    """The ways that `cures` compares; the first sends everything. `slope`: that of `best_slope`, besides slope 1."""
    ways = [
        Way(),
        *(Way(f"BM25, top {best}", BM25(best)) for best in (1, 3, 8)),
        *(Way(f"BM25 + synonyms, top {best}", BM25(best, THESAURUS)) for best in (1, 3)),
        *(Way(f"own embeddings, top {best}", Embeddings(model, best)) for best in (1, 8)),
        Way("own attention, top 1", OwnAttention(model), first_pass=True),
        Way("temperature, slope 1", slope=1.0),
        *(Way(f"{keys} keys per head", top_keys=keys) for keys in (4, 256)),
    ]
    if slope is not None and slope != 1:
        ways.append(Way(f"temperature, slope {slope:g}", slope=slope))
    return tuple(ways)


def cures(
    model: TinyLM,
    lengths: Sequence[int] = (1024, 4096),
    ways: Sequence[Way] | None = None,
    arm: Arm = HARD,
    *,
    trials: int | Mapping[int, int] | None = None,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Every treatment of the same haystacks, asked in the needle's words and in other words.

    Args:
        model: the model to ask.
        lengths: tokens of the full prompts.
        ways: treatments, the first of which the others are compared with; None: `treatments(model)`. A retriever of
            your own is `Way("mine", retriever)`.
        arm: what the haystacks are made of.
        trials: questions per length; None: `trials.TRIALS`.
        seeds: which haystacks.
        executor: works on the trials; None: this process does.
        progress: whether to show a bar on what takes over 2 s; None: on a terminal only.

    Returns:
        A record per question style (arm: literal or synonym), way and length, as `trials.summary` makes them, with
        better, worse and p: trials that only this way got right, that only the first way got right, and McNemar's p.

    Raises:
        ValueError: as `trials.measure`.
    """
    ways = treatments(model) if ways is None else tuple(ways)
    styles = [replace(arm, name="literal", synonym=False), replace(arm, name="synonym", synonym=True)]
    found = run(model, styles, lengths, ways, trials=trials, seeds=seeds, executor=executor, progress=progress)
    records = []
    for (style, way, tokens), outcomes in found.items():
        pairs = compare(outcomes, found[style, ways[0].name, tokens])
        record = {"arm": style, "way": way, "tokens": tokens} | summary(outcomes)
        records.append(record | {"better": pairs["only_first"], "worse": pairs["only_second"], "p": pairs["p"]})
    return records


def tune_slope(
    model: TinyLM,
    tokens: int = 4096,
    slopes: Sequence[float] = SLOPES,
    arm: Arm = HARD,
    *,
    trials: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Accuracy of each slope of the temperature on the tuning haystacks, which no report uses. Records with slope."""
    ways = [Way(f"{slope:g}", slope=slope) for slope in slopes]
    rows = measure(model, [arm], [tokens], ways, trials=trials, seeds=TUNING, executor=executor, progress=progress)
    return [{"slope": slope} | row for slope, row in zip(slopes, rows, strict=True)]


def best_slope(records: Sequence[Record]) -> float:
    """The slope with the most right answers in records of `tune_slope`; of several, the smallest."""
    return float(min(records, key=lambda record: (-record["right"], record["slope"]))["slope"])


def billed(records: Sequence[Record], price: Price) -> list[Record]:
    """The records with their bill under a tariff: what was sent as new input tokens, and one output token an answer.

    Adds usd: per request. tokens_per_right and usd_per_right: everything that was sent, and paid, per right answer;
    None where there is none. usd_per_right_low and _high: the same at the ends of the accuracy's interval, the high one
    None if accuracy may be 0. What the retriever's own work costs is not in it.

    Raises:
        ValueError: if the prompts are so long that another price may hold.
    """
    found = []
    for record in records:
        if price.threshold is not None and record["tokens"] > price.threshold:
            raise ValueError(
                f"tokens must be at most the tariff's threshold {price.threshold:,}; got {record['tokens']:,}"
            )
        rates, n, right = price.rates, record["n"], record["right"]
        usd = float((record["sent"] * rates.input + n * rates.output) / MILLION)
        ends = [usd / n / share if share else None for share in (record["high"], record["low"])]
        bill = {
            "usd": usd / n,
            "tokens_per_right": record["sent"] / right if right else None,
            "usd_per_right": usd / right if right else None,
            "usd_per_right_low": ends[0],
            "usd_per_right_high": ends[1],
        }
        found.append(record | bill)
    return found


def noise_fee(record: Record, clean: Record) -> Record:
    """What noise cost: the bill of a record of `billed` beyond that of a clean one, per request and per right answer.

    per_right is None if one of the two has no right answer.
    """
    rights = (record["usd_per_right"], clean["usd_per_right"])
    return {
        "per_request": record["usd"] - clean["usd"],
        "per_right": None if None in rights else rights[0] - rights[1],
    }
