"""Lesson 04: the roof of a card with a model under it, and the roof of the reader's own machine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from kvlib.hardware import gpu
from kvlib.model import Model
from kvlib.show import measured, roofline
from kvlib.show.cluster_panel import CARDS
from kvlib.show.panel import Panel, choice_slider, dropdown, model_menu, number_field
from kvlib.show.panels import TOKENS
from kvlib.show.tables import Html

if TYPE_CHECKING:
    from kvlib.lab.transformer import Race, Transformer

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PRECISIONS = {
    "bf16 weights, bf16 cache": ("bf16", "bf16"),
    "fp8 weights, bf16 cache": ("fp8", "bf16"),
    "fp8 weights, fp8 cache": ("fp8", "fp8"),
    "4-bit weights (nvfp4), fp8 cache": ("nvfp4", "fp8"),
}
# One core of a shared server, recorded once: what a reader sees who does not run the page.
EXAMPLE_OF = "An example, not your machine: one core of an AMD EPYC server, 25 November 2026"
EXAMPLE = measured.Measured(
    bandwidth=26.7e9,
    peak=102e9,
    phases=(
        measured.Phase("prefill of 128 tokens", 5_847_384_064, 106_954_752, 0.0715),
        measured.Phase("decode of one token", 54_583_296, 107_507_712, 0.00546),
    ),
)
ASK_TO_RUN = "Run this page, and your own machine stands here."


class RooflinePanel(Panel):
    """Lesson 04: choose model, card, precision, batch and context; predict a decode step; then watch it under the roof.

    No number is shown before the prediction is written and Reveal is pressed; then every control redraws at once.

    Args:
        model: name in the catalogue (`kv.models()`) that is selected at first.
        batch: sequences at first, one of `BATCHES`.
        tokens: context of each sequence at first, one of `TOKENS`.
        models: `kv.Model` objects to offer instead of the catalogue.

    Raises:
        TraitError: if a control is set to something that it does not offer.
        ValueError: if `models` is empty, or a model's layers cannot be cached in the chosen format.
    """

    css = "panel-roofline"

    def __init__(
        self,
        model: str | None = None,
        batch: int = 1,
        tokens: int = 8192,
        models: Iterable[Model] | None = None,
    ) -> None:
        self._offered, self.model = model_menu(models, model, usual="llama-3.1-8b")
        self.gpu = dropdown("Card", [(gpu(name).title, name) for name in CARDS], "h100-sxm")
        self.precision = dropdown("Stored as", [(words, words) for words in PRECISIONS], next(iter(PRECISIONS)))
        self.batch = choice_slider("Batch (sequences)", BATCHES, batch)
        self.tokens = choice_slider("Context (tokens a sequence)", TOKENS, tokens)
        self.prediction = number_field("Your prediction (ms a step)")
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.prediction.observe(self.redraw, "value")
        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        names = ("model", "gpu", "precision", "batch", "tokens")
        super().__init__({name: getattr(self, name) for name in names}, extra=[ask])

    def reveal(self, _button: Any = None) -> None:
        """Shows the roof if a prediction is there; asks for one if not."""
        self.revealed = self.predicted
        self.redraw()
        if not self.predicted:
            self.say("Write your prediction first: milliseconds of one decode step. A rough one will do.")

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: a number above 0."""
        return 0 < float(self.prediction.value) < math.inf

    @property
    def _seconds(self) -> float | None:
        return float(self.prediction.value) / 1000 if self.predicted else None

    def compute(self, **values: Any) -> roofline.Operation:
        """The decode step and the prefill for the chosen model, card, precision, batch and context."""
        weights, kv = PRECISIONS[values["precision"]]
        chosen = self._offered[values["model"]]
        return roofline.operation(chosen, values["gpu"], values["batch"], values["tokens"], weights, kv)

    def picture(self, result: roofline.Operation) -> str:
        """The roof with the two points and the prediction, once it is revealed."""
        return roofline.operation_picture(result, self._seconds).svg if self.revealed else ""

    def sentence(self, result: roofline.Operation) -> str:
        """Before: what to do. After: how far off the prediction was, and what limits."""
        if not self.revealed:
            question = "how many milliseconds does a decode step take at best?"
            return f"{roofline.asked(result)}: {question} Write your prediction, then press Reveal."
        said = roofline.verdict(result, self._seconds) + " " if self._seconds else ""
        return said + roofline.operation_sentence(result)

    def table(self, result: roofline.Operation) -> Html | None:
        """Decode and prefill side by side, once they are revealed."""
        return roofline.operation_table(result) if self.revealed else None

    def fallback(self, result: roofline.Operation) -> Html:
        """The table, revealed or not: a reader without a kernel has no button to press."""
        return roofline.operation_table(result)


class MachineView(Panel):
    """The reader's own machine: its roof, and where the numpy transformer's prefill and decode were measured under it.

    These figures differ from machine to machine and from minute to minute, so they are shown live only. What is stored
    with the page, and what a reader without a kernel sees, is an example that was recorded once.

    Args:
        transformer: what was timed.
        found: what `kvlib.lab.transformer.race` found.
    """

    css = "panel-machine"

    def __init__(self, transformer: Transformer, found: Race) -> None:
        self.found = measured.Measured.of(transformer.model, found)
        super().__init__({})

    def compute(self, **_values: Any) -> measured.Measured:
        """What was measured."""
        return self.found

    def picture(self, result: measured.Measured) -> str:
        """The roof of this machine, and the two phases under it."""
        return measured.measured_picture(result).svg

    def sentence(self, result: measured.Measured) -> str:
        """What was measured, in words."""
        return measured.measured_reading(result)

    def table(self, result: measured.Measured) -> Html:
        """Measured beside predicted."""
        return measured.measured_table(result, "This machine, a moment ago")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Live: this machine. Stored with the page: the recorded example, the same on every machine."""
        bundle: dict[str, Any] = widgets.VBox._repr_mimebundle_(self, **kwargs) or {}
        still = measured.measured_table(EXAMPLE, EXAMPLE_OF)
        drawn = measured.measured_picture(EXAMPLE)
        bundle["text/html"] = f"{drawn.html}{still.html}\n<p><em>{ASK_TO_RUN}</em></p>"
        bundle["text/plain"] = still.text
        return bundle
