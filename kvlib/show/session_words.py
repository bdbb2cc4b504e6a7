"""The bills of a session in words and a table, and what a prediction of one says about its author."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kvlib.cache_rules import CacheRule
from kvlib.show.session_bills import ANSWER, KINDS, MODELS, QUESTION, Row, Session
from kvlib.show.tables import Html, table
from kvlib.units import usd


def duration(seconds: float) -> str:
    """Seconds as people say them: 10 s, 4 min, 2 h."""
    for unit, long in (("h", 3_600), ("min", 60)):
        if seconds >= long:
            return f"{seconds / long:g} {unit}"
    return f"{seconds:g} s"


def percent(share: float) -> str:
    """A share in per cent: 19 %, 5.4 %."""
    return f"{100 * share:,.1f} %" if share < 0.0995 else f"{100 * share:,.0f} %"


def when(row: Row) -> str:
    """From how many questions on the cache pays."""
    return f"from question {row.pays_from}" if row.pays_from else f"never within {row.most}"


def asked(session: Session) -> str:
    """The session in words."""
    many = "1 question" if session.questions == 1 else f"{session.questions} questions"
    stamp = ", a timestamp first" if session.stamp else ""
    return f"{session.document:,} tokens, {many}, {duration(session.pause)} apart{stamp}"


def remarks(session: Session, row: Row) -> list[str]:
    """What else must be known of a bill: a threshold, a cache that is gone, an assumption."""
    said, assumed = [], " (assumed)" if row.assumed else ""
    if row.dearer_from and row.dearer_from <= session.questions:
        said.append(f"all of it dearer from question {row.dearer_from} on (over {row.price.threshold:,} tokens)")
    if session.stamp:
        said.append("no two prompts begin alike")
    elif row.note:
        said.append(row.note)
    elif row.life and session.pause > row.life:
        said.append(f"forgotten after {duration(row.life)}{assumed or _published(row.rule)}")
    elif row.assumed:
        said.append(f"kept for {duration(row.life or 0)}{assumed}")
    if row.price.provider == "deepseek":
        said.append("off-peak price")
    return said


def _published(rule: CacheRule) -> str:
    """The life that a provider publishes, if it is a range."""
    low, high = rule.ttl or (0, 0)
    return "" if low == high else f" ({duration(low)} to {duration(high)} published)"


def session_sentence(session: Session) -> str:
    """The chosen cache, then the others: the lowest bill, those that lose, those that are refused."""
    row = session.row
    words = f"{row.title}: no bill, {row.refusal}. " if not session.fits(row) else f"{_figures(session, row)}. "
    billed = [each for each in session.rows if session.fits(each)]
    if billed:
        best = min(billed, key=lambda each: each.bill(session.questions))
        words += f"The lowest bill: {best.title}, {usd(float(best.bill(session.questions)))}. "
    losers = [each.title for each in billed if each.bill(session.questions) > each.without(session.questions)]
    refused = dict.fromkeys(MODELS[each.price.model] for each in session.rows if not session.fits(each))
    words += f"Dearer with the cache than without: {'; '.join(losers) or 'none'}."
    return words + (f" Too long for {'; '.join(refused)}." if refused else "")


def session_reading(session: Session) -> str:
    """Every row in words."""
    lines = [
        _figures(session, row) if session.fits(row) else f"{row.title}: no bill, {row.refusal}" for row in session.rows
    ]
    return f"Bills of {asked(session)}. {'. '.join(lines)}."


def _figures(session: Session, row: Row) -> str:
    """One row in words."""
    n = session.questions
    dollars = (
        f"{usd(float(row.bill(n)))} with the cache, {usd(float(row.without(n)))} without ({percent(row.ratio(n))})"
    )
    pays = (
        f"cheaper from question {row.pays_from} on" if row.pays_from else f"never cheaper within {row.most} questions"
    )
    return "; ".join([f"{row.title}: {dollars}, {pays}", *remarks(session, row)])


def session_table(session: Session) -> Html:
    """Every row with its parts, to four decimals, so that they add up; and a second table with the remarks."""
    body, besides, n = [], [], session.questions
    for row in session.rows:
        cells = ["–"] * (len(KINDS) + 4)
        if session.fits(row):
            dollars = (row.without(n), row.bill(n), *row.cached[n - 1])
            cells = [*(f"{amount:,.4f}" for amount in dollars), percent(row.ratio(n)), when(row)]
        body.append((row.title, *cells))
        if said := "; ".join(remarks(session, row)) if session.fits(row) else f"no bill: {row.refusal}":
            besides.append((row.title, said))
    caption = (
        f"USD for {asked(session)}; {QUESTION} tokens a question, {ANSWER} an answer, for every provider. Automatic "
        "caches at their best: no hit is promised. An explicit cache is rented from the first question to the last. "
        f"Prices: {session.row.price.source.title}, {session.row.price.as_of}"
    )
    bills = table(caption, ("cache", "without", "with", *KINDS, "with / without", "cheaper"), body)
    notes = table("Besides. Assumed: no life is published", ("cache", "remarks"), besides)
    return Html(f"{bills.html}\n{notes.html}", f"{bills.text}\n\n{notes.text}")


def verdict(session: Session, predicted: float) -> str:
    """How far off the prediction (% of the bill without a cache) was, and the usual mistake that explains it.

    Raises:
        ValueError: if predicted is not above 0.
    """
    if not predicted > 0:
        raise ValueError(f"predicted must be % of the bill without a cache, above 0; got {predicted!r}")
    said, row = f"You predicted {predicted:g} %; ", session.row
    if not session.fits(row):
        return f"{said}there is no bill to compare it with."
    right = row.ratio(session.questions)
    if _near(predicted / 100, right):
        return f"{said}near enough to {percent(right)}."
    slips = ((wrong, why) for wrong, why in _slips(session, row) if not _near(wrong, right))
    slip = next((why for wrong, why in slips if _near(predicted / 100, wrong, 0.005)), None)
    return f"{said}it is {percent(right)}." + (f" It looks as if {slip}." if slip else "")


def _near(one: float, other: float, least: float = 0.01) -> bool:
    return abs(one - other) <= max(least, 0.03 * other)


def _slips(session: Session, row: Row) -> Iterator[tuple[float, str]]:
    """Shares of the bill that the usual mistakes lead to, the most telling first."""
    n, terms = session.questions, row.terms
    whole = float(row.without(n))
    parts, plain = (dict(zip(KINDS, map(float, sums[n - 1]), strict=True)) for sums in (row.cached, row.plain))
    bill, read = sum(parts.values()), float(terms.read)
    yield bill / whole - parts["storage"] / whole, "you forgot the rent: an explicit cache is paid for by the hour"
    if row.rule.match == "object":
        yield (bill - parts["write"]) / whole, "you forgot to create the cache: the document is sent once more for it"
        yield (bill - parts["write"] - parts["storage"]) / whole, "you forgot both creating the cache and its rent"
    else:
        unpaid = parts["write"] * (1 - 1 / float(terms.write))
        yield (bill - unpaid) / whole, f"you wrote for nothing: a written token costs {float(terms.write):g} new ones"
    yield read, "you took the price of a read for the whole bill: the first time is new, and so is every answer"
    yield (read * plain["new input"] + plain["answers"]) / whole, "you read the document before it was ever written"
    yield from _other_sessions(session, row)


def _other_sessions(session: Session, row: Row) -> Iterator[tuple[float, str]]:
    """What the bill would be if the cache remembered, or if the prompts began alike."""
    n = session.questions
    if session.stamp:
        yield (
            replace(session, stamp=False).row.ratio(n),
            "you forgot the timestamp: after the first different token nothing is shared",
        )
    if row.life and session.pause > row.life:
        in_time = replace(session, pause=int(row.life))
        yield in_time.row.ratio(n), f"you forgot that the cache lives {duration(row.life)} without use"
    yield 1.0, "you let the cache change nothing"
