"""The questions of a needle experiment on your own model, and what asking them can cost, before anything is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from random import Random
from types import MappingProxyType
from typing import Any

from kvlib.bills import Price, Rates
from kvlib.hardware import Source
from kvlib.lab.access import Endpoint
from kvlib.lab.english import asked, opening, prose, words_and_marks
from kvlib.lab.needle import Haystack, needles
from kvlib.lab.words import WORDS
from kvlib.units import whole

Arms = Mapping[str, Mapping[str, Any]]
ARMS: Arms = MappingProxyType(
    {"plain filler": {"numeric": 0.0, "topical": 0.0}, "facts only": {"facts": 1.0, "numeric": 0.0, "topical": 0.0}}
)


@dataclass(frozen=True)
class Item:
    """One question: what is sent, what is right, and where it belongs in the experiment."""

    id: str  # of the request: model, prompt and settings, but not the address
    model: str
    arm: str
    tokens: int
    depth: float
    haystack: int
    value: int
    words: int  # and marks, of the whole prompt
    bytes: int
    context: str = field(repr=False)  # one string, shared by all questions of a haystack
    question: str
    opening: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat: context, question, and, if asked for, how the answer begins."""
        return _messages(self.context, self.question, self.opening)


@dataclass(frozen=True, repr=False)
class Plan:
    """The questions, grouped by haystack, and the price list they are reckoned with. Its repr is the estimate."""

    to: Endpoint
    price: Price
    groups: tuple[tuple[Item, ...], ...]
    template_tokens: int

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """All questions in the order in which they are asked."""
        return tuple(item for group in self.groups for item in group)

    def worst(self, item: Item) -> Decimal:
        """USD that one request can cost at most.

        No tokenizer in use makes more tokens than there are bytes (byte-level BPE, or pieces with a byte fallback). A
        server that counts more than this, and `template_tokens`, ends the run.
        """
        prompt = item.bytes + self.template_tokens
        new, cached = (self.price.bill(prompt, self.to.max_tokens, cached_tokens=many).high for many in (0, prompt))
        return max(new, cached)

    def estimate(self, items: Sequence[Item] | None = None) -> tuple[Decimal, Decimal]:
        """USD from one token per word, without an error or a cached token, to the worst case of one request each."""
        every = self.items if items is None else items
        low = (self.price.bill(item.words, 1).usd for item in every)
        return sum(low, Decimal(0)), sum(map(self.worst, every), Decimal(0))

    def __repr__(self) -> str:
        words = sum(item.words for item in self.items)
        bytes_ = sum(item.bytes for item in self.items)
        low, high = self.estimate()
        arms = ", ".join(dict.fromkeys(item.arm for item in self.items))
        where = "this machine" if self.to.local else self.to.base_url
        return "\n".join(
            (
                f"questions: {len(self.items):,}, about {len(self.groups):,} haystacks ({arms})",
                f"to {self.to.model} at {where}, {self.to.key!r}",
                f"prompts of {words:,} words and marks, {bytes_:,} bytes in all: a token lies in between",
                f"at the prices of {self.price.model}: {dollars(low)} to {dollars(high)}; a retry can cost once more",
                "nothing is sent before run(plan, path, spend_at_most_usd=...)",
            )
        )


def tariff(input: float | str, output: float | str, cached_input: float | str | None = None) -> Price:
    """A price list of your own, in USD per million tokens, where `kv.price` has none; a local server costs (0, 0)."""
    given = {"input": input, "output": output, "cached_input": cached_input}
    rates: dict[str, Any] = {name: in_usd(name, value) for name, value in given.items() if value is not None}
    today = date.today()
    return Price("yours", "your own tariff", Rates(**rates), Source("given in the call", today), str(today))


def plan(
    to: Endpoint,
    price: Price,
    *,
    arms: Arms = ARMS,
    tokens: Sequence[int] = (256, 1_024, 4_096),
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    haystacks: int = 4,
    seed: int = 1,
    begin_answer: bool = False,
    template_tokens: int = 256,
) -> Plan:
    """What will be asked, and what it will cost. Sends nothing.

    Args:
        to: from `endpoint(...)`.
        price: from `kv.price(...)` or `tariff(...)`.
        arms: name -> keywords of `kvlib.lab.needle.needles`: which hay, which rivals.
        tokens: lengths of the prompts in words of the task. The server's own count stands in the records.
        depths: one needle and one question each; every needle is one more fact beside the others.
        haystacks: how many, for each arm and length. An arm and length gets haystacks x depths answers.
        seed: draws the haystacks; the same for every arm.
        begin_answer: end the chat with the assistant's words "The seat of keen actor is". Some servers go on from
            there, some need a setting for it (vLLM: add_generation_prompt and continue_final_message), some refuse.
        template_tokens: room in the worst case for a chat template and a system prompt that the server adds.

    Raises:
        ValueError: if the settings make no haystack, or the same question twice.
    """
    whole("haystacks", haystacks, 1)
    if not arms or not tokens:
        raise ValueError(f"arms and tokens must not be empty; got {dict(arms)!r} and {tokens!r}")
    groups = tuple(
        _group(
            to,
            (arm, length, number),
            depths,
            needles(Random(f"{seed}/{length}/{number}"), length, depths, **hay),
            begin_answer,
        )
        for number in range(haystacks)  # outermost, so that a run that ends early has asked all arms alike
        for length in tokens
        for arm, hay in arms.items()
    )
    ids = [item.id for group in groups for item in group]
    if len(set(ids)) < len(ids):
        raise ValueError("arms, tokens and depths must make every question different; two of them are the same")
    return Plan(to, price, groups, whole("template_tokens", template_tokens))


def _group(
    to: Endpoint, where: tuple[str, int, int], depths: Sequence[float], hay: Haystack, begin_answer: bool
) -> tuple[Item, ...]:
    """The questions about one haystack; `where` is its arm, its length and its number."""
    arm, tokens, number = where
    context = prose(hay.ids)
    words, size = words_and_marks(context), len(context.encode())
    items = []
    for depth, question in zip(depths, hay.questions, strict=True):
        ask, start = asked(question), opening(question) if begin_answer else ""
        body = json.dumps(to.body(_messages(context, ask, start)), sort_keys=True)
        item = Item(
            id=hashlib.sha256(body.encode()).hexdigest()[:16],
            model=to.model,
            arm=arm,
            tokens=whole("tokens", tokens, 1),
            depth=float(depth),
            haystack=number,
            value=int(WORDS[question.answer]),
            words=words + words_and_marks(ask + start),
            bytes=size + len(f"\n\n{ask}{start}".encode()),
            context=context,
            question=ask,
            opening=start,
        )
        items.append(item)
    return tuple(items)


def _messages(context: str, question: str, opening: str) -> list[dict[str, str]]:
    user = {"role": "user", "content": f"{context}\n\n{question}"}
    return [user, {"role": "assistant", "content": opening}] if opening else [user]


def in_usd(name: str, value: float | str | Decimal) -> Decimal:
    """An amount as it was written, exactly."""
    try:
        amount = Decimal(str(value))
        if amount >= 0 and amount.is_finite():
            return amount
    except ArithmeticError:
        pass
    raise ValueError(f"{name} must be an amount of USD, 0 or more; got {value!r}")


def dollars(amount: Decimal) -> str:
    """USD with two significant digits or cents, whichever says more: $12.50, $0.013, $0.0000085."""
    digits = 2 if not amount or amount >= 1 else 1 - amount.adjusted()
    return f"${amount:,.{digits}f}"
