"""One visual style for every picture of the course: bars, cards and tables as strings, curves with matplotlib.

matplotlib and IPython are imported only when a curve is drawn, so that the rest also runs without them.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from kvlib.show.svg import PALETTE, Picture, bar, cards
from kvlib.show.tables import Html, MismatchError, rows, table

__all__ = ["PALETTE", "Html", "MismatchError", "Picture", "bar", "cards", "line", "png", "rows", "show", "table"]

# The palette's yellow and sky blue are too pale for a thin line on white.
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def line(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: str = "",
    size: tuple[float, float] = (6.4, 3.6),
) -> Any:
    """A figure with one labelled line for each series, told apart by colour, dash and marker.

    Args:
        series: {"name": (xs, ys)}; xs and ys equally long, not empty.
        title: what the reader should see in it.
        xlabel: the horizontal axis, with its unit.
        ylabel: the vertical axis, with its unit.
        log: axes with a logarithmic scale: "", "x", "y" or "xy".
        size: inches.

    Returns:
        A matplotlib Figure that pyplot knows nothing of. Give it to `show`; test it by its data, not by its pixels.

    Raises:
        ValueError: if there is no series, lengths differ, a label is empty, or log is something else.
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f"log must be '', 'x', 'y' or 'xy'; got {log!r}")
    if not (title and xlabel and ylabel):
        raise ValueError(f"title, xlabel and ylabel must not be empty; got {title!r}, {xlabel!r}, {ylabel!r}")
    if not series:
        raise ValueError("series must hold at least one name: (xs, ys); got none")
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for index, (name, (xs, ys)) in enumerate(series.items()):
        if len(xs) != len(ys) or not len(xs):
            raise ValueError(f"series {name!r} needs as many y as x values, at least one; got {len(xs)} and {len(ys)}")
        (drawn,) = axes.plot(xs, ys, label=name, linewidth=2, markersize=5, markevery=max(1, len(xs) // 12))
        drawn.set(
            color=_LINES[index % len(_LINES)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
        )
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(visible=True, color="0.88", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return figure


def show(figure: Any, alt: str) -> None:
    """Display a figure as a PNG with `alt` as its description, print that sentence under it, and close the figure.

    Readers lose the description of an output (JupyterLab sets none), so the sentence is also there to be read, and a
    re-run compares it. Say what the figure shows: "The cache doubles whenever the context doubles."

    Raises:
        ValueError: if alt is empty.
    """
    if not alt.strip():
        raise ValueError(f"alt must say in a sentence what the figure shows; got {alt!r}")
    from IPython.display import display

    bundle = {"image/png": base64.b64encode(png(figure)).decode(), "text/plain": alt}
    display(bundle, raw=True, metadata={"image/png": {"alt": alt}})  # type: ignore[no-untyped-call]
    print(alt)
    if "matplotlib.pyplot" in sys.modules:  # only pyplot keeps figures open
        sys.modules["matplotlib.pyplot"].close(figure)


def png(figure: Any) -> bytes:
    """The figure as a PNG file without a date or a program's name in it: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
