"""The panel of lesson 03: this model, this context, this many users. How many cards, and laid out how?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import ipywidgets as widgets

from kvlib.cluster import Ranking, size_cluster
from kvlib.hardware import gpu
from kvlib.model import Model
from kvlib.show import grid
from kvlib.show.panel import Panel, choice_slider, dropdown, format_menu, model_menu, number_field
from kvlib.show.panels import TOKENS, WEIGHT_FORMATS
from kvlib.show.tables import Html

CARDS = ("rtx4090", "rtx5090", "l40s", "a100-80-sxm", "h100-sxm", "h200-sxm", "b200", "b300")
KV_FORMATS = ("bf16", "fp8", "nvfp4")
USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MAX_CARDS = 256
LAYOUTS: dict[str, dict[str, Any]] = {
    "the fewest cards": {},
    "TP 8: every group a node of eight": {"tp": 8},
    "TP 8 with its copies striped (DCP)": {"tp": 8, "dcp": None},
    "no pipeline (PP 1)": {"pp": 1},
    "no tensor parallelism (TP 1)": {"tp": 1},
}


class ClusterPanel(Panel):
    """Lesson 03: choose model, context, users, card and formats; predict the cards; then see the layouts.

    No number is shown before the prediction is written and Reveal is pressed; then every control redraws at once.

    Args:
        model: name in the catalogue (`kv.models()`) that is selected at first.
        tokens: context of each user at first, one of `TOKENS`.
        users: users at first, one of `USERS`.
        models: `kv.Model` objects to offer instead of the catalogue.

    Raises:
        TraitError: if a control is set to something that it does not offer.
        ValueError: if `models` is empty, or a model's layers cannot be cached in the chosen format.
    """

    css = "panel-cluster"

    def __init__(
        self,
        model: str | None = None,
        tokens: int = 131_072,
        users: int = 1,
        models: Iterable[Model] | None = None,
    ) -> None:
        self._offered, self.model = model_menu(models, model, usual="llama-3.1-70b")
        self.gpu = dropdown("Card", [(gpu(name).title, name) for name in CARDS], "h100-sxm")
        self.weight_dtype = format_menu("Weights stored as", WEIGHT_FORMATS)
        self.kv_dtype = format_menu("KV cache stored as", KV_FORMATS)
        self.division = dropdown("Layout", [(words, words) for words in LAYOUTS], "the fewest cards")
        self.users = choice_slider("Users (at the same time)", USERS, users)
        self.tokens = choice_slider("Context (tokens a user)", TOKENS, tokens)
        self.prediction = number_field("Your prediction (cards)")
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.prediction.observe(self.redraw, "value")
        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        names = ("model", "gpu", "weight_dtype", "kv_dtype", "division", "users", "tokens")
        super().__init__({name: getattr(self, name) for name in names}, extra=[ask])

    def reveal(self, _button: Any = None) -> None:
        """Shows the layouts if a prediction is there; asks for one if not."""
        self.revealed = self.predicted
        self.redraw()
        if not self.predicted:
            self.say("Write your prediction first: a whole number of cards, 1 or more. A rough one will do.")

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: a whole number of cards, 1 or more."""
        value: float = self.prediction.value
        return 1 <= value < math.inf and value == int(value)

    def compute(self, **values: Any) -> Ranking:
        """The ranked layouts for the chosen model, context, users, card and formats."""
        return size_cluster(
            self._offered[values["model"]],
            values["tokens"],
            values["users"],
            values["gpu"],
            values["weight_dtype"],
            values["kv_dtype"],
            MAX_CARDS,
            **LAYOUTS[values["division"]],
        )

    def picture(self, result: Ranking) -> str:
        """The smallest layout, card by card; where nothing fits, the nearest one, too full."""
        shown = next(iter((*result.fitting, *result.misses)), None)
        return grid.plan_picture(shown).svg if self.revealed and shown else ""

    def sentence(self, result: Ranking) -> str:
        """Before: what to do. After: how far off the prediction was, and the smallest layout."""
        if not self.revealed:
            return f"{grid.asked(result)}: how many cards? Write your prediction, then press Reveal."
        said = grid.verdict(result, int(self.prediction.value)) + " " if self.predicted else ""
        return said + grid.ranking_sentence(result)

    def table(self, result: Ranking) -> Html | None:
        """The best layouts, once they are revealed."""
        return grid.ranking_table(result) if self.revealed else None

    def fallback(self, result: Ranking) -> Html:
        """The table, revealed or not: a reader without a kernel has no button to press."""
        return grid.ranking_table(result)
