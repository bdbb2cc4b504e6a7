"""The panels of lesson 05: own, rent, or call an API; and the shared cars: how many users, on how many cards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import ipywidgets as widgets

from kvlib.show import cars, rivals
from kvlib.show.panel import Panel, choice_slider, dropdown, number_field, whole_slider
from kvlib.show.tables import Html

CARD_USD = (10_000, 15_000, 20_000, 25_000, 30_000, 33_000, 35_000, 40_000, 50_000, 60_000)
AROUND_USD = (0, 2_500, 5_000, 7_500, 10_000, 13_000, 15_000, 20_000, 25_000, 30_000, 40_000)
RENT_CENTS = (75, 100, 125, 150, 170, 200, 235, 265, 295, 350, 400, 500, 700, 1_000, 1_200)
API_CENTS = (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1_000, 1_500)
USERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 1_500, 2_000, 2_500, 3_000, 5_000, 10_000, 20_000, 40_000)
PER_HOUR = (1, 2, 6, 12, 30, 60, 120)
SPEEDS = (50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000)


def money_slider(description: str, cents: Iterable[int], value: int) -> Any:
    """A slider over given amounts of money, of which only these can be set; its value is in cents."""
    options = [(f"${amount / 100:,.2f}", amount) for amount in cents]
    slider = choice_slider(description, [value], value)
    slider.options = options
    slider.value = value
    return slider


class CostPanel(Panel):
    """Lesson 05: own, rent, or call an API? Predict from which share of use owning pays, then see the lines cross.

    No number is shown before the prediction is written and Reveal is pressed; then every control redraws at once.

    Raises:
        TraitError: if a control is set to something that it does not offer.
    """

    css = "panel-cost"

    def __init__(self) -> None:
        self.rival = dropdown("Owning, or", [(title, name) for name, title in rivals.RIVALS.items()], "rent")
        self.card_usd = choice_slider("H100 (USD)", CARD_USD, 30_000)
        self.around_usd = choice_slider("Server, network (USD a card)", AROUND_USD, 13_000)
        self.years = whole_slider("Years of use", 1, 10, 4)
        self.power_cents = whole_slider("Power (US cents a kWh)", 3, 45, 9)
        self.rent_cents = money_slider("Rent (a GPU-hour)", RENT_CENTS, 265)
        self.api_cents = money_slider("API (a million tokens)", API_CENTS, 30)
        self.speed = choice_slider("Tokens per second (a GPU)", SPEEDS, 5_000)
        self.used_percent = whole_slider("Your use (% of all hours)", 1, 100, 30)
        self.prediction = number_field("Your prediction (% of all hours)")
        self.prediction.style.description_width = "17em"
        self.prediction.layout.width = "26em"
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.prediction.observe(self.redraw, "value")
        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        names = (
            *("rival", "card_usd", "around_usd", "years", "power_cents", "rent_cents"),
            *("api_cents", "speed", "used_percent"),
        )
        super().__init__({name: getattr(self, name) for name in names}, extra=[ask])

    def reveal(self, _button: Any = None) -> None:
        """Shows the lines if a prediction is there; asks for one if not."""
        self.revealed = self.predicted
        self.redraw()
        if not self.predicted:
            self.say("Write your prediction first: a share of all hours in %, above 0. Above 100 means never.")

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: a finite number above 0."""
        return math.isfinite(self.prediction.value) and self.prediction.value > 0

    def compute(self, **values: Any) -> rivals.Rivals:
        """The three ways to get a GPU-hour that the controls describe."""
        return rivals.Rivals(**values)

    def picture(self, result: rivals.Rivals) -> str:
        """The lines of owning, renting and the API against the share of use."""
        return rivals.rivals_picture(result).svg if self.revealed else ""

    def sentence(self, result: rivals.Rivals) -> str:
        """Before: what to do. After: how far off the prediction was, where the lines cross, what is cheapest."""
        if not self.revealed:
            return f"{rivals.asked(result)} Write your prediction in % of all hours, then press Reveal."
        said = rivals.verdict(result, self.prediction.value) + " " if self.predicted else ""
        return said + rivals.rivals_sentence(result)

    def table(self, result: rivals.Rivals) -> Html | None:
        """The options line by line, once they are revealed."""
        return rivals.rivals_table(result) if self.revealed else None

    def fallback(self, result: rivals.Rivals) -> Html:
        """The table, revealed or not: a reader without a kernel has no button to press."""
        return rivals.rivals_table(result)


class SharingPanel(Panel):
    """Lesson 05: users and machines. Predict the price of a million tokens; then see price and wait, simulated.

    No number is shown before the prediction is written and Reveal is pressed; then every control redraws at once.

    Args:
        users: users at first, one of `USERS`.

    Raises:
        TraitError: if a control is set to something that it does not offer.
    """

    css = "panel-sharing"

    def __init__(self, users: int = 100) -> None:
        self.machine = dropdown("Machine", [(name, name) for name in cars.MACHINES], next(iter(cars.MACHINES)))
        self.per_hour = choice_slider("Requests (an hour a user)", PER_HOUR, 30)
        self.rent_cents = money_slider("Rent (a GPU-hour)", RENT_CENTS, 170)
        self.machines = whole_slider("Machines", 1, 16, 1)
        self.users = choice_slider("Users", USERS, users)
        self.prediction = number_field("Your prediction (USD a million)")
        self.prediction.style.description_width = "17em"
        self.prediction.layout.width = "26em"
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.prediction.observe(self.redraw, "value")
        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        names = ("machine", "per_hour", "rent_cents", "machines", "users")
        super().__init__({name: getattr(self, name) for name in names}, extra=[ask])

    def reveal(self, _button: Any = None) -> None:
        """Shows the simulation if a prediction is there; asks for one if not."""
        self.revealed = self.predicted
        self.redraw()
        if not self.predicted:
            self.say("Write your prediction first: USD per million output tokens, above 0. A rough one will do.")

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: a finite number above 0."""
        return math.isfinite(self.prediction.value) and self.prediction.value > 0

    def compute(self, **values: Any) -> cars.Cars:
        """The users and machines that the controls describe; the simulation runs when it is asked for."""
        return cars.Cars(**values)

    def picture(self, result: cars.Cars) -> str:
        """Wait, price, use and memory on four scales."""
        return cars.cars_picture(result).svg if self.revealed else ""

    def sentence(self, result: cars.Cars) -> str:
        """Before: what to do. After: how far off the prediction was, and what the simulation saw."""
        if not self.revealed:
            return (
                f"{cars.asked(result)}: what does a million output tokens cost? Write your prediction in USD, then "
                "press Reveal."
            )
        said = cars.verdict(result, self.prediction.value) + " " if self.predicted else ""
        return said + cars.cars_sentence(result)

    def table(self, result: cars.Cars) -> Html | None:
        """The simulation line by line, once it is revealed."""
        return cars.cars_table(result) if self.revealed else None

    def fallback(self, result: cars.Cars) -> Html:
        """The table, revealed or not: a reader without a kernel has no button to press."""
        return cars.cars_table(result)
