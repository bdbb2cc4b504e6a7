"""The bills of one session under the context caches of several providers, question by question.

Every provider is sent the same number of tokens, although its tokenizer would count the same text differently.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from importlib import resources
from itertools import accumulate
from typing import Any

from kvlib.bills import Price
from kvlib.cache_rules import CacheRule, Terms, rules_for
from kvlib.prefix import SessionBill, SessionLine, session_bill
from kvlib.prices import price
from kvlib.sessions import Request, conversation, stamped

QUESTION, ANSWER, MOST = 100, 500, 50  # tokens, tokens, questions
MODELS = {
    "gemini-2.5-pro": "Gemini 2.5 Pro",
    "claude-sonnet-5": "Claude Sonnet 5",
    "claude-opus-5-5": "Claude Opus 5.5",
    "gpt-5": "GPT-5",
    "deepseek-v4-flash": "DeepSeek V4 Flash",
}
HOW = {
    "gemini-implicit": "implicit",
    "gemini-explicit": "explicit",
    "anthropic-5m": "5 minutes",
    "anthropic-1h": "1 hour",
    "openai-automatic": "automatic",
    "deepseek-units": "automatic",
}
KINDS = ("write", "read", "storage", "new input", "answers")
Parts = tuple[Decimal, ...]  # USD, one for each of KINDS
_KIND = {
    "tokens written to the cache": "write",
    "tokens written to the cache for an hour": "write",
    "cached input tokens": "read",
    "tokens kept, per hour": "storage",
    "new input tokens": "new input",
    "output tokens": "answers",
}
_ROUNDING = Decimal("1e-15")  # USD: what an hour divided by three may be off


@dataclass(frozen=True)
class Row:
    """One cache of one provider: its bills after 1, 2, 3, ... questions, as many as the model takes.

    Attributes:
        plain, cached: the bills without and with the cache, in parts.
        refusal: why the model takes no further question; empty if it takes them all.
        life: seconds without use after which the cache is gone; None where it is rented.
        assumed: whether that is our assumption, because the provider publishes no number.
        dearer_from: the first question whose prompt is above the price list's threshold.
        note: what the library says of the cache, if it could not be used.
    """

    title: str
    price: Price
    rule: CacheRule
    plain: tuple[Parts, ...]
    cached: tuple[Parts, ...]
    refusal: str
    life: float | None
    assumed: bool
    dearer_from: int | None
    note: str

    @property
    def most(self) -> int:
        """Questions that the model takes before a prompt is too long for it."""
        return len(self.plain)

    def without(self, questions: int) -> Decimal:
        """USD of so many questions without a cache."""
        return sum(self.plain[questions - 1], Decimal(0))

    def bill(self, questions: int) -> Decimal:
        """USD of so many questions with the cache."""
        return sum(self.cached[questions - 1], Decimal(0))

    def ratio(self, questions: int) -> float:
        """The bill with the cache as a share of that without."""
        return float(self.bill(questions) / self.without(questions))

    @cached_property
    def pays_from(self) -> int | None:
        """The number of questions from which on the cached bill is the lower one; None if it is not at the end."""
        first = None
        for many in range(self.most, 0, -1):
            if self.without(many) - self.bill(many) <= _ROUNDING:
                break
            first = many
        return first

    @property
    def terms(self) -> Terms:
        """What the rule means for this model."""
        return self.rule.terms(self.price)


@dataclass(frozen=True)
class Session:
    """A document, questions about it with pauses between them, and the provider that is looked at closely.

    `stamp` puts a new timestamp at the front of every prompt. `life` is how many seconds a cache is taken to live
    without use where its provider publishes no number.
    """

    provider: str
    document: int
    questions: int
    pause: int
    stamp: bool
    life: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """All caches, in a fixed order."""
        return session_rows(self.document, self.pause, self.stamp, self.life)

    @property
    def row(self) -> Row:
        """The cache that is looked at closely."""
        return next(row for row in self.rows if row.title == self.provider)

    def fits(self, row: Row) -> bool:
        """Whether the model takes all questions."""
        return self.questions <= row.most


def titles() -> tuple[str, ...]:
    """The names of all caches, in the order of the rows."""
    return tuple(_title(model, rule) for model in MODELS for rule in _billable(price(model)))


@lru_cache(maxsize=32)
def session_rows(document: int, pause: int, stamp: bool, life: float) -> tuple[Row, ...]:
    """One row for each model and rule. The bills of all numbers of questions are the beginnings of the longest."""
    requests = conversation(document, QUESTION, ANSWER, MOST, pause, mark="both")
    requests = stamped(requests) if stamp else requests
    return tuple(row for model in MODELS for row in _rows_of(model, requests, life))


def _rows_of(model: str, requests: Sequence[Request], life: float) -> Iterator[Row]:
    found, sent, refusal = price(model), [], ""
    for number, request in enumerate(requests, 1):
        if refusal := _refusal(model, number, request):
            break
        sent.append(request)
    over = (n for n, request in enumerate(sent, 1) if found.long and request.tokens > (found.threshold or math.inf))
    dearer = next(over, None)
    plain = _sums(session_bill(sent, found), len(sent))
    for rule in _billable(found):
        assumed = rule.ttl is None
        bill = session_bill(sent, found, rule, ttl=life if assumed else None)
        lives = None if rule.match == "object" else rule.ttl[0] if rule.ttl else life
        cached = _sums(bill, len(sent))
        yield Row(_title(model, rule), found, rule, plain, cached, refusal, lives, assumed, dearer, bill.note)


def _sums(bill: SessionBill, questions: int) -> tuple[Parts, ...]:
    """The bill after each question. An explicit cache is created once and rented from the first to the last one."""
    nothing = (Decimal(0),) * len(KINDS)
    once = [_parts(line) for line in bill.lines if line.what == "create the cache"]
    rent = [_parts(line) for line in bill.lines if line.what == "keep the cache"]
    each = [_parts(line) for line in bill.lines if line.what.startswith("request")]
    sums = list(accumulate(each, _add, initial=once[0] if once else nothing))[1:]
    for whole in rent:  # n questions take n - 1 of the pauses
        sums = [_add(one, tuple(part * n / (questions - 1) for part in whole)) for n, one in enumerate(sums)]
    return tuple(sums)


def _add(one: Parts, other: Parts) -> Parts:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _parts(line: SessionLine) -> Parts:
    """A line of the bill by KINDS. Creating a cache is billed as new input, and is what writing costs."""
    found = dict.fromkeys(KINDS, Decimal(0))
    for item in line.bill.lines:
        found["write" if line.what == "create the cache" else _KIND[item.kind]] += item.usd()
    return tuple(found.values())


def _billable(found: Price) -> list[CacheRule]:
    """The rules under which this model can be billed: rent and a price for an hour must be known where they are due."""
    return [
        rule
        for rule in rules_for(found)
        if not (rule.match == "object" and found.storage is None)
        and not (rule.write == "cache_write_1h" and found.rates.cache_write_1h is None)
    ]


def _title(model: str, rule: CacheRule) -> str:
    return f"{MODELS[model]}, {HOW[rule.name]}"


def _refusal(model: str, number: int, request: Request) -> str:
    """Why a model does not take this prompt; empty if it does."""
    limit, both = _limits()[model], request.tokens + request.output_tokens
    if request.tokens > limit.get("input", math.inf):
        return f"question {number} makes a prompt of {request.tokens:,} tokens, and {limit['input']:,} is the most"
    if both > limit.get("context", math.inf):
        return f"question {number} and its answer make {both:,} tokens, and {limit['context']:,} is the most"
    return ""


@cache
def _limits() -> dict[str, dict[str, Any]]:
    """data/prompt_limits.toml by model."""
    text = (resources.files("kvlib") / "data" / "prompt_limits.toml").read_text(encoding="utf-8")
    return {row["model"]: row for row in tomllib.loads(text)["limits"]}
