"""A context cache as a picture and a table: what each request of a session sends, and the providers' rules.

Pure functions that give strings with their reading in words, as in svg.py and tables.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from kvlib.cache_rules import CacheRule, Terms, rules_for
from kvlib.prefix import SessionBill, SessionLine
from kvlib.prices import price
from kvlib.show.svg import EDGE, FONT, WIDTH, Picture, _text, picture, plural, shade
from kvlib.show.tables import Html, table

KINDS = ("new input", "tokens written", "cached input")  # what a prompt consists of, in the order of the colours
_NAMES = ("new", "written", "cached")
_LEFT, _RIGHT, _TOP, _ROW, _TALL = 128, 104, 26, 24, 18
_HITS = {
    "longest": "longest common prefix",
    "marks": "prefix up to a mark",
    "units": "whole earlier prompt",
    "object": "cache that you create",
}


def prompts_picture(bill: SessionBill, most: int = 24) -> Picture:
    """Each request of a bill as a bar: cached, written and new prompt tokens, and its USD.

    Args:
        bill: `session_bill(...)`.
        most: bars to draw; the reading counts all of them.

    Raises:
        ValueError: if the bill has no line, or `most` is not positive.
    """
    if not bill.lines or most < 1:
        raise ValueError(f"bill must have a line and most be 1 or more; got {len(bill.lines)} lines and most={most!r}")
    how = bill.rule.title if bill.rule else "no cache"
    sums = [sum(line.tokens(kind) for line in bill.lines) for kind in KINDS]
    asked = sum(line.what.startswith("request") for line in bill.lines)
    words = ", ".join(f"{n:,} {name} ({n / max(sum(sums), 1):.0%})" for n, name in zip(sums, _NAMES, strict=True) if n)
    others = [line.what for line in bill.lines if not line.what.startswith("request")]
    reading = f"{bill.price.model}, {how}: {plural(asked, 'request')}, prompt tokens {words}; {float(bill.usd):.4f} USD"
    reading += f", with what it costs to {' and to '.join(others)}" if others else ""
    longest = max(1, *(sum(line.tokens(kind) for kind in KINDS) for line in bill.lines))
    drawn = [
        _text(EDGE, 15, f"{bill.price.model}, {how}", weight=600),
        _text(WIDTH - EDGE, 15, "USD", anchor="end", weight=600),
    ]
    bottom: float = _TOP
    for line in bill.lines[:most]:
        drawn.append(_row(line, bottom, (WIDTH - _LEFT - _RIGHT) / longest))
        bottom += _ROW
    if len(bill.lines) > most:
        drawn.append(_text(_LEFT, bottom + 14, f"and {plural(len(bill.lines) - most, 'line')} more"))
        bottom += _ROW
    for index, (n, name) in enumerate(zip(sums, _NAMES, strict=True)):
        if n:
            bottom += 22
            drawn.append(f'<rect x="{EDGE}" y="{bottom - 13}" width="18" height="18" fill="{shade(index)[0]}"/>')
            drawn.append(_text(EDGE + 26, bottom + 1, f"{name}: {n:,} tokens"))
    return picture("".join(drawn), bottom + 12, reading)


def _row(line: SessionLine, top: float, scale: float) -> str:
    """One bar: the cached part first, as it stands first in the prompt."""
    parts, x = [_text(_LEFT - 8, top + 14, line.what, anchor="end")], float(_LEFT)
    for index in reversed(range(len(KINDS))):
        tokens = line.tokens(KINDS[index])
        if tokens:
            wide = max(tokens * scale, 1.0)  # a sliver of a pixel would be invisible
            data = f'data-line="{escape(line.what)}" data-part="{_NAMES[index]}" data-tokens="{tokens}"'
            place = f'x="{x:.2f}" y="{top}" width="{wide:.2f}" height="{_TALL}"'
            parts.append(f'<rect class="part" {data} {place} fill="{shade(index)[0]}"/>')
            if wide > 0.58 * FONT * len(_NAMES[index]) + 8:
                ink = shade(index)[1]
                parts.append(_text(x + wide / 2, top + 14, _NAMES[index], anchor="middle", fill=ink))
            x += wide
    parts += [_text(_LEFT, top + 14, words) for words in _kept(line)]
    parts.append(_text(WIDTH - EDGE, top + 14, f"{float(line.bill.usd):.4f}", anchor="end"))
    return "".join(parts)


def _kept(line: SessionLine) -> list[str]:
    rents = [each for each in line.bill.lines if each.kind.startswith("tokens kept")]
    return [f"{rent.tokens:,} tokens for {float(rent.hours) * 60:,.4g} min" for rent in rents]


def rules_table(models: Iterable[str]) -> Html:
    """The rules by which prompts to these models are cached, one row for each model and rule, with their dates.

    A question mark stands behind what was not read in a source that can be cited.

    Raises:
        ValueError: if a model is unknown, or there is none.
    """
    rules = [(name, rule, rule.terms(price(name))) for name in models for rule in rules_for(price(name))]
    if not rules:
        raise ValueError("models must name at least one model with a cached price; got none")
    heads = ("rule", "model", "finds", "minimum", "step", "life", "write", "read", "rent", "as of")
    body = [_rule_row(name, rule, terms) for name, rule, terms in rules]
    caption = "Rules of context caches. Tokens; write and read in times new input; rent in USD per million and hour."
    return table(caption + " ? = unverified", heads, body)


def _rule_row(name: str, rule: CacheRule, terms: Terms) -> tuple[str, ...]:
    def sure(field: str, words: str) -> str:
        return f"{words} ?" if field in terms.unverified else words

    life = "not published" if terms.ttl is None else _span(*terms.ttl)
    life += ", or what you ask for" if rule.match == "object" else ""
    return (
        rule.title,
        name,
        _HITS[rule.match],
        sure("minimum", f"{terms.minimum:,}"),
        sure("increment", f"{terms.increment:,}"),
        sure("renewed", life + ", anew with each use" * (rule.renewed and terms.ttl is not None)),
        f"{float(terms.write):g}",
        f"{float(terms.read):.3g}",
        "" if terms.storage is None else f"{terms.storage:.2f}",
        rule.as_of,
    )


def _span(shortest: int, longest: int) -> str:
    """Seconds as people say them: "5 min", "1 h", "5 min to 1 h"."""
    said = [f"{n // 3_600} h" if n % 3_600 == 0 else f"{n / 60:g} min" for n in (shortest, longest)]
    return said[0] if shortest == longest else " to ".join(said)
