"""The base of every panel: controls -> a pure function -> picture, sentence, table.

A panel redraws by changing the value of three `HTML` widgets. It brings its own static HTML and text, so that a
notebook that was not run here, or is read on a page without a kernel, still shows the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import ipywidgets as widgets
from traitlets import TraitError, validate

from kvlib import catalogue
from kvlib.dtypes import dtype
from kvlib.model import Model
from kvlib.show.tables import Html

_STYLE = {"description_width": "15em"}
_ROW = {"width": "100%", "max_width": "46em"}
_SENTENCE = "line-height: 1.5; max-width: 55em; margin: 0.5em 0"
NOT_LIVE = "Run this notebook to move the controls."


class Panel(widgets.VBox):  # type: ignore[misc]
    """A question with controls. A subclass says what to compute and how to show it.

    A value that a control or the computation refuses raises (TraitError, ValueError) in the line that set it.
    """

    css = "panel"

    def __init__(self, controls: Mapping[str, Any], extra: Iterable[Any] = ()) -> None:
        """`controls` by the argument of `compute` that they set; `extra` widgets stand between controls and picture."""
        self.controls = dict(controls)
        self.svg, self.status, self.details = widgets.HTML(), widgets.HTML(), widgets.HTML()
        super().__init__([*self.controls.values(), *extra, self.svg, self.status, self.details])
        self.add_class("panel")
        self.add_class(self.css)
        for control in self.controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def compute(self, **values: Any) -> Any:
        """The result for the values of the controls, by name: a pure function of kvlib."""
        raise NotImplementedError

    def picture(self, result: Any) -> str:
        """The result as an SVG string; empty where nothing is to be shown yet."""
        raise NotImplementedError

    def sentence(self, result: Any) -> str:
        """The result in words, for the status line."""
        raise NotImplementedError

    def table(self, result: Any) -> Html | None:
        """The result line by line; None where nothing is to be shown yet."""
        raise NotImplementedError

    def fallback(self, result: Any) -> Html:
        """What readers see where nothing is live: a table."""
        return self.table(result) or Html("", self.sentence(result))

    def redraw(self, _change: Any = None) -> None:
        """Computes from the controls' values and shows the result; an error leaves the old picture and is raised."""
        result = self.compute(**{name: control.value for name, control in self.controls.items()})
        svg, text, table = self.picture(result), self.sentence(result), self.table(result)
        self.result = result
        self.svg.value = svg
        self.details.value = table.html if table else ""
        self.say(text)

    def say(self, words: str) -> None:
        """Puts words on the status line, which a screen reader reads out."""
        self.status.value = f'<p role="status" style="{_SENTENCE}">{escape(words)}</p>'

    @property
    def text(self) -> str:
        """The status line without its markup, for a cell that moves a control and prints what the panel says."""
        return self.sentence(self.result)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live view, and beside it the static one for readers without a kernel."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        still = self.fallback(self.result)
        bundle["text/html"] = f"{still.html}\n<p><em>{NOT_LIVE}</em></p>"
        bundle["text/plain"] = still.text
        return bundle


class WholeSlider(widgets.IntSlider):  # type: ignore[misc]
    """An IntSlider that refuses a value outside its range, where ipywidgets would move it into the range in silence."""

    @validate("value")
    def _validate_value(self, proposal: dict[str, Any]) -> int:
        value: int = proposal["value"]
        if not self.min <= value <= self.max:
            raise TraitError(f"{self.description} must be from {self.min:,} to {self.max:,}; got {value!r}")
        return value


def whole_slider(description: str, low: int, high: int, value: int, step: int = 1) -> WholeSlider:
    """A slider over the whole numbers from low to high."""
    return WholeSlider(value, low, high, step, description=description, style=_STYLE, layout=_ROW, readout_format=",d")


def choice_slider(description: str, values: Iterable[int], value: int) -> Any:
    """A slider over given numbers, of which only these can be set: powers of two, round token counts."""
    options = [(f"{number:,}", number) for number in values]
    return widgets.SelectionSlider(options=options, value=value, description=description, style=_STYLE, layout=_ROW)


def dropdown(description: str, options: Iterable[tuple[str, Any]], value: Any) -> Any:
    """A menu of (readable title, value) pairs."""
    return widgets.Dropdown(options=list(options), value=value, description=description, style=_STYLE, layout=_ROW)


def model_menu(models: Iterable[Model] | None, chosen: str | None, usual: str) -> tuple[dict[str, Model], Any]:
    """The models that a panel offers, by name, and their menu.

    Args:
        models: what to offer; None: the catalogue.
        chosen: name that is selected at first; None: the usual one, or the first where that is not offered.
        usual: a name in the catalogue.

    Raises:
        ValueError: if `models` is empty.
    """
    offered = {name: catalogue.model(name) for name in catalogue.models()} if models is None else {}
    offered |= {model.name: model for model in models or ()}
    if not offered:
        raise ValueError("models must hold at least one kv.Model; got none")
    first = chosen or (usual if usual in offered else next(iter(offered)))
    return offered, dropdown("Model", [(model.title or name, name) for name, model in offered.items()], first)


def format_menu(description: str, names: Iterable[str], value: str = "bf16") -> Any:
    """A menu of number formats that says how many bits a number takes in each, scales included."""
    return dropdown(
        description, [(f"{name}: {float(dtype(name).bits):.4g} bits a number", name) for name in names], value
    )


def number_field(description: str, value: float = 0.0) -> Any:
    """A field for any decimal number."""
    return widgets.FloatText(value, description=description, style=_STYLE, layout={"width": "24em"})
