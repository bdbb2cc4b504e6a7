"""Tables as HTML and as plain text, and `rows`: the table that stops the page when a number is off.

Everything here is a deterministic string, so that a re-run of a notebook can be compared with the stored output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


class MismatchError(AssertionError):
    """A number that we computed is not the published one."""


@dataclass(frozen=True, repr=False)
class Html:
    """Something a notebook shows as `html` where it can, and as `text` where it cannot (a terminal, plain GitHub)."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(caption: str, headers: Sequence[str], body: Iterable[Sequence[Any]]) -> Html:
    """A captioned table: HTML with `th` for every column and row head, and the same as aligned text.

    Args:
        caption: what the table shows; must not be empty.
        headers: one heading for each column.
        body: rows of cells. Whole and decimal numbers get thousands separators and stand to the right; strings are
            shown as they are, with `<`, `>` and `&` escaped.

    Raises:
        ValueError: if the caption or the headers are empty, or a row has not as many cells as there are headers.
    """
    if not caption.strip() or not headers:
        raise ValueError(f"a table needs a caption and headers; got caption={caption!r}, headers={headers!r}")
    lines = [[_cell(value) for value in row] for row in body]
    for line in lines:
        if len(line) != len(headers):
            got = [cell.text for cell in line]
            raise ValueError(f"every row must have {len(headers)} cells, one for each header; got {len(got)}: {got!r}")
    return Html(_table(caption, headers, lines), _plain(caption, headers, lines))


def rows(*facts: tuple[str, Any, Any, str], tolerance: float | None = None) -> Html:
    """The table "what | we see | published | match | source". It raises when a row does not match.

    Args:
        facts: (what, we_see, published, source), one tuple for each row. The unit belongs into `what`.
        tolerance: None compares exactly. 0.02 allows 2 % of the published number, and the table prints the ratio.

    Raises:
        MismatchError: if a row does not match; it names the row and both numbers.
        ValueError: if there is no row, a row has no source, or tolerance is negative or not finite.

    Example:
        >>> rows(("bytes a token leaves", 2 * 32 * 8 * 128 * 2, 131_072, "the model's config.json"))
    """
    if not facts:
        raise ValueError("rows needs at least one (what, we_see, published, source); got none")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be None or a share of the published number, like 0.02; got {tolerance!r}")
    lines, wrong = [], []
    for fact in facts:
        if len(fact) != 4 or not str(fact[3]).strip():
            raise ValueError(f"a row is (what, we_see, published, source), the source not empty; got {fact!r}")
        what, see, published, source = fact
        good, verdict = _match(see, published, tolerance)
        lines.append((what, see, published, verdict, source))
        if not good:
            wrong.append(f"{what}: we see {_cell(see).text}, published {_cell(published).text} [{source}]")
    if wrong:
        allowed = "exactly" if tolerance is None else f"within {tolerance:.3g} of the published number"
        raise MismatchError(f"these must match {allowed}, so mend the formula or explain the gap: {'; '.join(wrong)}")
    caption = "What we compute, and what was published"
    return table(caption, ("what", "we see", "published", "match", "source"), lines)


def _match(see: Any, published: Any, tolerance: float | None) -> tuple[bool, str]:
    """Whether the two agree, and the words for the table."""
    if tolerance is None:
        return bool(see == published), "exact"
    good = bool(abs(see - published) <= tolerance * abs(published))
    return good, f"ratio {see / published:.4f}" if published else "both 0"


def markup(words: str, tag: str = "span") -> str:
    """`words` for HTML. Each $ stands in a tag of its own, or notebooks would set "$1.70 or $2.65" as a formula."""
    return escape(words).replace("$", f"<{tag}>$</{tag}>")


@dataclass(frozen=True)
class _Cell:
    """The text of one cell, and whether it is a number."""

    text: str
    number: bool


def _cell(value: Any) -> _Cell:
    if isinstance(value, str):
        return _Cell(value, False)
    if isinstance(value, bool) or value is None:
        return _Cell(str(value), False)
    if hasattr(value, "__index__"):
        return _Cell(f"{int(value):,}", True)
    return _Cell(f"{float(value):,.6g}", True) if hasattr(value, "__float__") else _Cell(str(value), False)


def _table(caption: str, headers: Sequence[str], lines: list[list[_Cell]]) -> str:
    def td(cell: _Cell, first: bool) -> str:
        align = "right" if cell.number else "left"
        style = f'style="text-align: {align}; font-variant-numeric: tabular-nums"'
        return f'<th scope="row" {style}>{markup(cell.text)}</th>' if first else f"<td {style}>{markup(cell.text)}</td>"

    numeric = [bool(lines) and all(line[i].number for line in lines) for i in range(len(headers))]
    head = "".join(
        f'<th scope="col" style="text-align: {"right" if right else "left"}">{markup(header)}</th>'
        for header, right in zip(headers, numeric, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(td(cell, i == 0) for i, cell in enumerate(line))}</tr>" for line in lines)
    title = f'<caption style="text-align: left; caption-side: top">{markup(caption)}</caption>'
    return f'<table style="line-height: 1.4">{title}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'


def _plain(caption: str, headers: Sequence[str], lines: list[list[_Cell]]) -> str:
    every = [[_Cell(header, False) for header in headers], *lines]
    widths = [max(len(line[i].text) for line in every) for i in range(len(headers))]

    def plain(line: list[_Cell]) -> str:
        cells = (
            cell.text.rjust(wide) if cell.number else cell.text.ljust(wide)
            for cell, wide in zip(line, widths, strict=True)
        )
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * wide for wide in widths)
    return "\n".join([caption, plain(every[0]), rule, *map(plain, lines)])
