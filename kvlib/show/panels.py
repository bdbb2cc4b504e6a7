"""The panels, one for each question. The numbers come from `receipt.py` and `shape.py`; here are only the controls."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import ipywidgets as widgets

from kvlib.model import Model
from kvlib.show import receipt as bills
from kvlib.show import shape as shapes
from kvlib.show.panel import Panel, choice_slider, dropdown, format_menu, model_menu, number_field, whole_slider
from kvlib.show.tables import Html

# Powers of two, as models are trained with, and the round numbers that providers and the article speak of.
TOKENS = (*(2**n for n in range(10, 18)), 200_000, 2**18, 2**19, 1_000_000, 2_000_000)
WEIGHT_FORMATS = ("bf16", "fp8", "int4_g128", "mxfp4", "nvfp4", "q8_0", "q4_k")
KV_FORMATS = ("bf16", "fp8", "q8_0", "nvfp4", "q4_0")
_POWERS = tuple(2**n for n in range(8))


class ReceiptPanel(Panel):
    """Lesson 00: model + context -> bytes -> 80 GB cards -> a first rough price.

    Args:
        model: name in the catalogue (`kv.models()`) that is selected at first.
        tokens: context at first, one of `TOKENS`.
        models: `kv.Model` objects to offer instead of the catalogue.

    Raises:
        TraitError: if a control is set to something that it does not offer.
        ValueError: if `models` is empty.
    """

    css = "panel-receipt"

    def __init__(self, model: str | None = None, tokens: int = 131_072, models: Iterable[Model] | None = None) -> None:
        self._offered, self.model = model_menu(models, model, usual="llama-3.1-8b")
        self.tokens = choice_slider("Context (tokens)", TOKENS, tokens)
        self.weight_dtype = format_menu("Weights stored as", WEIGHT_FORMATS)
        self.kv_dtype = format_menu("KV cache stored as", KV_FORMATS)
        names = ("model", "tokens", "weight_dtype", "kv_dtype")
        super().__init__({name: getattr(self, name) for name in names})

    def compute(self, **values: Any) -> bills.Receipt:
        """The receipt for the chosen model, context and formats."""
        return bills.receipt(self._offered[values.pop("model")], **values)

    def picture(self, result: bills.Receipt) -> str:
        """The cards that are filled."""
        return bills.receipt_picture(result).svg

    def sentence(self, result: bills.Receipt) -> str:
        """Bytes, cards and money in one line."""
        return bills.receipt_sentence(result)

    def table(self, result: bills.Receipt) -> Html:
        """The receipt."""
        return bills.receipt_table(result)


class CachePanel(Panel):
    """Lesson 01: put an attention together, predict the bytes of its cache, then reveal them.

    No number is shown before the prediction is written and Reveal is pressed; then every control redraws at once.

    Args:
        tokens: length of the sequence at first, one of `TOKENS`.

    Raises:
        TraitError: if a control is set to something that it does not offer.
    """

    css = "panel-cache"

    def __init__(self, tokens: int = 32_768) -> None:
        self.kind = dropdown("What a layer caches", [(title, kind) for kind, title in shapes.KINDS.items()], "heads")
        self.layers = whole_slider("Layers", 1, 128, 32)
        self.kv_heads = choice_slider("KV heads (per layer)", _POWERS, 8)
        self.queries_per_kv = choice_slider("Query heads (per KV head)", _POWERS[:6], 4)
        self.head_dim = choice_slider("Head size (numbers)", (32, 64, 80, 96, 128, 192, 256, 512), 128)
        self.window = choice_slider("Window (tokens)", TOKENS[:6], 4096)
        self.rank = choice_slider("Latent size (numbers)", (128, 256, 384, 512, 768, 1024), 512)
        self.rope_dim = choice_slider("Rotary key (numbers)", (32, 64, 128), 64)
        self.tokens = choice_slider("Context (tokens)", TOKENS, tokens)
        self.dtype = format_menu("KV cache stored as", KV_FORMATS)
        self.prediction = number_field("Your prediction (GB)")
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.prediction.observe(self.redraw, "value")
        names = (
            "kind",
            "layers",
            "kv_heads",
            "queries_per_kv",
            "head_dim",
            "window",
            "rank",
            "rope_dim",
            "tokens",
            "dtype",
        )
        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        super().__init__({name: getattr(self, name) for name in names}, extra=[ask])

    def reveal(self, _button: Any = None) -> None:
        """Shows the numbers if a prediction is there; asks for one if not."""
        self.revealed = self.predicted
        self.redraw()
        if not self.predicted:
            self.say("Write your prediction first: a number of GB above 0. A rough one will do.")

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: a finite number above 0."""
        return math.isfinite(self.prediction.value) and self.prediction.value > 0

    def compute(self, **values: Any) -> shapes.Shape:
        """The attention that the controls describe."""
        return shapes.Shape(**values)

    def picture(self, result: shapes.Shape) -> str:
        """The cache on an 80 GB card, with the prediction."""
        guess = self.prediction.value if self.predicted else None
        return shapes.shape_picture(result, guess).svg if self.revealed else ""

    def sentence(self, result: shapes.Shape) -> str:
        """Before: what to do. After: how far off the prediction was, and the formula with its numbers."""
        if not self.revealed:
            asked = shapes.heads(result)
            return f"{asked}. How big is this cache? Write your prediction in GB, then press Reveal."
        said = shapes.verdict(result, self.prediction.value) + " " if self.predicted else ""
        return said + shapes.shape_sentence(result)

    def table(self, result: shapes.Shape) -> Html | None:
        """The cache line by line, once it is revealed."""
        return shapes.shape_table(result) if self.revealed else None

    def fallback(self, result: shapes.Shape) -> Html:
        """The table, revealed or not: a reader without a kernel has no button to press."""
        return shapes.shape_table(result)

    def redraw(self, change: Any = None) -> None:
        """Also shows only those controls that count for this kind of attention."""
        unused = {
            "heads": ("window", "rank", "rope_dim"),
            "sliding": ("rank", "rope_dim"),
            "latent": ("kv_heads", "queries_per_kv", "head_dim", "window"),
        }[self.kind.value]
        for name, control in self.controls.items():
            control.layout.display = "none" if name in unused else None
        super().redraw(change)
