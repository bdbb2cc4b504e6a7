"""The panels of lesson 02: share out a card, explain a log. The numbers come from `one_gpu.py` and `log_view.py`."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import ipywidgets as widgets

from kvlib import catalogue, hardware
from kvlib.public_logs import logs
from kvlib.show import log_view as views
from kvlib.show import one_gpu as plans
from kvlib.show.panel import Panel, choice_slider, dropdown, format_menu, number_field, whole_slider
from kvlib.show.panels import TOKENS, WEIGHT_FORMATS
from kvlib.show.tables import Html

KV_FORMATS = {
    "bf16": "bf16: 16 bits a number",
    "fp8": "fp8: 8 bits a number",
    "int8_pth": "int8_pth: 8 bits, and a scale for each token and head",
    "nvfp4": "nvfp4: 4 bits, and a scale for each 16 numbers",
    "fp8_ds_mla": "fp8_ds_mla: 8 bits with scales, rotary key in bf16 (MLA only)",
}
ACTIVATIONS = (0, 256, 512, 1_024, 1_536, 2_048, 3_072, 4_096, 5_120, 6_144, 8_192, 10_240)  # MiB


class MemoryPanel(Panel):
    """Lesson 02: share out one card, predict how many full-length requests fit, then reveal the answer.

    No number is shown before the prediction is written and Reveal is pressed; then every control redraws at once.

    Args:
        model: name in the catalogue that is selected at first.
        card: name of an accelerator whose visible memory is known.

    Raises:
        TraitError: if a control is set to something that it does not offer.
    """

    css = "panel-memory"

    def __init__(self, model: str = "llama-3.1-8b", card: str = "h100-sxm") -> None:
        self._offered = {name: catalogue.model(name) for name in catalogue.models()}
        cards = [c for c in map(hardware.gpu, hardware.gpus()) if c.engine_bytes or c.visible_bytes]
        self.model = dropdown("Model", [(plans.title(m), name) for name, m in self._offered.items()], model)
        self.card = dropdown("Card", [(c.title, c.name) for c in cards], hardware.gpu(card).name)
        self.utilisation = whole_slider("Utilisation (% of the card)", 50, 99, 90)
        self.weight_dtype = format_menu("Weights stored as", WEIGHT_FORMATS)
        self.kv_dtype = dropdown("KV cache stored as", [(title, name) for name, title in KV_FORMATS.items()], "bf16")
        self.activation = choice_slider("Activation peak (MiB)", ACTIVATIONS, 1_536)
        self.graphs = dropdown("CUDA graphs", [(how, name) for name, how in plans.GRAPHS_HOW.items()], "inside")
        self.tokens = choice_slider("Longest request (tokens)", TOKENS, 131_072)
        self.prediction = number_field("Your prediction (requests)", -1)
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.prediction.observe(self.redraw, "value")
        names = ("model", "card", "weight_dtype", "kv_dtype", "graphs", "utilisation", "activation", "tokens")
        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        super().__init__({name: getattr(self, name) for name in names}, extra=[ask])

    def reveal(self, _button: Any = None) -> None:
        """Shows the numbers if a prediction is there; asks for one if not."""
        self.revealed = self.predicted
        self.redraw()
        if not self.predicted:
            self.say("Write your prediction first: how many requests fit, 0 or more. A rough one will do.")

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: a finite number, 0 or more."""
        return math.isfinite(self.prediction.value) and self.prediction.value >= 0

    def compute(self, **values: Any) -> plans.OneGpu:
        """The card, shared out as the controls say."""
        return plans.one_gpu(self._offered[values.pop("model")], **values)

    def picture(self, result: plans.OneGpu) -> str:
        """The card as a stacked bar."""
        return plans.one_gpu_picture(result).svg if self.revealed else ""

    def sentence(self, result: plans.OneGpu) -> str:
        """Before: what to predict. After: how far off the prediction was, and the sum."""
        if not self.revealed:
            return plans.one_gpu_question(result)
        said = plans.verdict(result, self.prediction.value) + " " if self.predicted else ""
        return said + plans.one_gpu_sentence(result)

    def table(self, result: plans.OneGpu) -> Html | None:
        """The card line by line, once it is revealed."""
        return plans.one_gpu_table(result) if self.revealed else None

    def fallback(self, result: plans.OneGpu) -> Html:
        """The table, revealed or not: a reader without a kernel has no button to press."""
        return plans.one_gpu_table(result)


class LogPanel(Panel):
    """Lesson 02: paste a start-up log, decide what you expect, press Explain.

    A text that is no log gives a sentence that says what was looked for, never an error.

    Args:
        example: id of the log that is in the box at first, one of `kvlib.public_logs.logs()`; None for an empty box.

    Raises:
        TraitError: if a control is set to something that it does not offer.
    """

    css = "panel-log"

    def __init__(self, example: str | None = "dense-80gb") -> None:
        self._examples = {log.id: log for log in logs()}
        first = self._examples.get(example or "")
        choices = [("your own log", None), *((log.what, log.id) for log in self._examples.values())]
        self.example = dropdown("Example", choices, example)
        names = [("look for its name in the log", None), *((name, name) for name in catalogue.models())]
        self.model = dropdown("Model of the log", names, first.model if first else None)
        self.paste = widgets.Textarea(
            first.text if first else "",
            description="Log (lines)",
            placeholder="Paste the start-up lines here",
            continuous_update=False,
            style={"description_width": "15em"},
            layout={"width": "98%", "max_width": "60em", "height": "11em"},
        )
        self.button = widgets.Button(description="Explain", icon="search", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.example.observe(self.fill, "value")
        super().__init__({"example": self.example, "text": self.paste, "model": self.model}, extra=[self.button])

    def fill(self, _change: Any = None) -> None:
        """Puts the chosen example into the box, or empties it; the question comes first again."""
        log = self._examples.get(self.example.value)
        self.revealed = False
        self.model.value, self.paste.value = (log.model, log.text) if log else (None, "")

    def reveal(self, _button: Any = None) -> None:
        """Shows the explanation of what is in the box."""
        self.revealed = True
        self.redraw()

    def compute(self, **values: Any) -> views.LogView:
        """The log in the box, explained."""
        return views.log_view(values["text"], values["model"])

    def picture(self, result: views.LogView) -> str:
        """The memory in the log as a stacked bar."""
        return views.log_picture(result) if self.revealed else ""

    def sentence(self, result: views.LogView) -> str:
        """Before: what to think about. After: the explanation, or what is wrong with the text."""
        return views.log_sentence(result) if self.revealed and result.lines else views.log_question(result)

    def table(self, result: views.LogView) -> Html | None:
        """Where the memory is, and prediction beside log, once Explain was pressed."""
        return views.log_table(result) if self.revealed else None

    def fallback(self, result: views.LogView) -> Html:
        """The tables, revealed or not: a reader without a kernel has no button to press."""
        words = views.log_sentence(result)
        return views.log_table(result) or Html(f"<p>{escape(words)}</p>", words)
