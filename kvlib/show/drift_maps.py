"""Depth x length: a map of accuracy with a number in every cell, so that colour is never the only sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvlib.lab.asking import TRAINED
from kvlib.lab.words import CHANCE
from kvlib.show.svg import EDGE, WIDTH, Picture, _text, luminance, picture

Record = Mapping[str, Any]

_SCALE = ("#00224E", "#35456C", "#666970", "#948E77", "#C8B866", "#FEE838")  # cividis, dark for 0 to bright for 1
_LEFT, _TOP, _TALL = 176.0, 52.0, 28.0


def heatmap(
    records: Iterable[Record],
    title: str,
    *,
    chance: float = CHANCE,
    trained: int | None = TRAINED,
) -> Picture:
    """Accuracy by needle depth (down) and prompt length (across).

    A cell without a wrong answer has a notched corner (the ceiling: it could hide a difference), a cell that guessing
    would explain is hatched (the floor). n stands in the caption.

    Args:
        records: of `heatmap`: tokens, depth, n, right, accuracy, low and high, one for each cell.
        title: the first words of picture and reading.
        chance: accuracy of guessing.
        trained: tokens up to which the model was trained, marked under the columns; None: not marked.

    Raises:
        ValueError: if there is no record, or not exactly one for each pair of length and depth.
    """
    rows = list(records)
    columns, depths = sorted({row["tokens"] for row in rows}), sorted({row["depth"] for row in rows})
    cells = {(row["tokens"], row["depth"]): row for row in rows}
    if not rows or len(cells) != len(rows) or len(rows) != len(columns) * len(depths):
        raise ValueError(
            f"records must hold one cell for each of {len(columns)} lengths and {len(depths)} depths; got {len(rows)}"
        )
    wide = min(92.0, (WIDTH - _LEFT - EDGE) / len(columns))
    drawn = [_text(EDGE, 15, title, weight=600), _text(_LEFT, 40, "tokens of the prompt")]
    for place, depth in enumerate(depths):
        words = f"{100 * depth:g} %" + (", oldest" if depth == 0 else ", by the question" if depth == 1 else "")
        drawn.append(_text(_LEFT - 8, _TOP + _TALL * place + 19, words, anchor="end"))
    for column, tokens in enumerate(columns):
        for place, depth in enumerate(depths):
            row = cells[tokens, depth]
            drawn.append(_cell(row, _LEFT + wide * column, _TOP + _TALL * place, wide, chance))
    floor = _TOP + _TALL * len(depths)
    for column, tokens in enumerate(columns):
        drawn.append(_text(_LEFT + wide * (column + 0.5), floor + 17, f"{tokens:,}", anchor="middle"))
    bottom = floor + 17
    known = sum(1 for tokens in columns if trained is not None and tokens <= trained)
    if known:
        drawn.append(
            f'<path class="trained" d="M{_LEFT + 2} {floor + 23}h{wide * known - 4:.1f}" stroke="currentColor" '
            f'stroke-width="2"/>'
        )
        bottom += 22
        drawn.append(_text(_LEFT, bottom, f"trained: up to {trained:,} tokens"))
    many = {row["n"] for row in rows}
    n = f"n = {min(many)}" if len(many) == 1 else f"n = {min(many)} to {max(many)}"
    full = sum(_ceiling(row) for row in rows)
    empty = sum(_floor(row, chance) for row in rows)
    for words in (
        f"{n} answers in each cell. Corner: no wrong answer ({full} of {len(rows)} cells).",
        f"Hatched: no better than guessing, as far as {n} can tell ({empty} of {len(rows)} cells).",
    ):
        bottom += 20
        drawn.append(_text(EDGE, bottom, words))
    return picture("".join(drawn), bottom + 12, _reading(title, rows, n, full, empty))


def _cell(row: Record, x: float, y: float, wide: float, chance: float) -> str:
    """One cell: its colour, its number, and the sign of ceiling or floor."""
    fill = _colour(row["accuracy"])
    ink = "#fff" if luminance(fill) < 0.18 else "#000"
    right, foot = x + wide - 1, y + _TALL - 1
    drawn = (
        f'<rect class="cell" data-tokens="{row["tokens"]}" data-depth="{row["depth"]:g}" '
        f'data-accuracy="{row["accuracy"]:.4f}" x="{x:.1f}" y="{y:.1f}" width="{wide - 1:.1f}" height="{_TALL - 1}" '
        f'fill="{fill}"><title>{row["accuracy"]:.2f} [{row["low"]:.2f}, {row["high"]:.2f}]</title></rect>'
    )
    if _ceiling(row):
        drawn += f'<path class="at-ceiling" d="M{right - 9:.1f} {y:.1f}H{right:.1f}V{y + 9:.1f}Z" fill="{ink}"/>'
    if _floor(row, chance):
        strokes = "".join(
            f"M{x + step:.1f} {foot:.1f}l{_TALL - 1} {1 - _TALL}" for step in range(0, int(wide - _TALL), 9)
        )
        drawn += f'<path class="at-floor" d="{strokes}" stroke="{ink}" stroke-opacity="0.45"/>'
    return drawn + _text(x + wide / 2, y + 19, f"{row['accuracy']:.2f}", anchor="middle", fill=ink, weight=600)


def _ceiling(row: Record) -> bool:
    return bool(row["right"] == row["n"])


def _floor(row: Record, chance: float) -> bool:
    return bool(row["low"] <= chance)


def _colour(share: float) -> str:
    """The colour of a share from 0 to 1, between the steps of the scale."""
    place = share * (len(_SCALE) - 1)
    index = min(int(place), len(_SCALE) - 2)
    ends = [[int(step[i : i + 2], 16) for i in (1, 3, 5)] for step in _SCALE[index : index + 2]]
    mixed = (round(one + (place - index) * (other - one)) for one, other in zip(*ends, strict=True))
    return "#" + "".join(f"{channel:02X}" for channel in mixed)


def _reading(title: str, rows: list[Record], n: str, full: int, empty: int) -> str:
    """The map in words: the range, where the worst cell is, and the mean over the depths of the two outer lengths."""
    worst, best = min(rows, key=lambda row: row["accuracy"]), max(rows, key=lambda row: row["accuracy"])
    words = f"{title}: accuracy {worst['accuracy']:.2f} to {best['accuracy']:.2f}, {n} in each of {len(rows)} cells; "
    words += f"{full} without a wrong answer, {empty} no better than guessing. "
    if worst["accuracy"] < best["accuracy"]:
        words += f"Lowest at {worst['tokens']:,} tokens and depth {100 * worst['depth']:g} %. "
    shortest, longest = (end(row["tokens"] for row in rows) for end in (min, max))
    means = (_mean(rows, shortest), _mean(rows, longest))
    return words + f"Mean of all depths: {means[0]:.2f} at {shortest:,} tokens, {means[1]:.2f} at {longest:,}."


def _mean(rows: list[Record], tokens: int) -> float:
    asked = [row for row in rows if row["tokens"] == tokens]
    return float(sum(row["right"] for row in asked) / sum(row["n"] for row in asked))
