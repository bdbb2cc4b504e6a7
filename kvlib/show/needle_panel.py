"""Lesson 07: delete sentences from a prompt, and see the model's attention and its answer change."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import ipywidgets as widgets

from kvlib.lab import tinylm
from kvlib.show import needle_view, needle_words
from kvlib.show.needle_words import LOUDEST
from kvlib.show.panel import Panel, choice_slider, number_field
from kvlib.show.tables import Html

TOKENS = (512, 1_024, 2_048)


class NeedlePanel(Panel):
    """Lesson 07: a prompt that the model gets wrong. Predict what one deletion does, then delete what you like.

    The first prompt is the first of a numbered row that the model gets wrong by quoting a rival and that comes right
    without its loudest rival. "New prompt" goes on to the next that it gets wrong, mended by one deletion or not.

    Args:
        model: a `kvlib.lab.tinylm.TinyLM`; None: the one that kvlib brings along.
        tokens: length of the prompt at first, one of `TOKENS`.

    Raises:
        TraitError: if a control is set to something that it does not offer.
        ValueError: if the model gets none of many prompts wrong.
    """

    css = "panel-needle"

    def __init__(self, model: tinylm.TinyLM | None = None, tokens: int = 512) -> None:
        self.model = tinylm.load("nope") if model is None else model
        self.tokens = choice_slider("Prompt (tokens)", TOKENS, tokens)
        self.prediction = number_field("Your prediction (% of the attention)")
        self.prediction.style.description_width = "20em"
        self.prediction.layout.width = "29em"
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.buttons = [_toggle() for _ in range(LOUDEST)]
        self.undo = widgets.Button(description="Undo", icon="undo")
        self.only_loudest = widgets.Button(description="Delete all but the loudest", icon="scissors")
        self.next_prompt = widgets.Button(description="New prompt", icon="arrow-right")
        self.only_loudest.layout.width = "16em"
        self._take(*needle_view.next_wrong(self.model, tokens, mended=True))

        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        grid = widgets.GridBox(self.buttons, layout={"grid_template_columns": "repeat(auto-fill, minmax(27em, 1fr))"})
        tools = widgets.HBox([self.undo, self.only_loudest, self.next_prompt], layout={"flex_flow": "row wrap"})
        super().__init__({})
        self.children = [self.tokens, self.svg, self.status, ask, grid, tools, self.details]

        self.tokens.observe(self.restart, "value")
        self.prediction.observe(self.redraw, "value")
        self.button.on_click(self.reveal)
        self.undo.on_click(self.take_back)
        self.only_loudest.on_click(self.keep_loudest)
        self.next_prompt.on_click(self.move_on)
        for index, button in enumerate(self.buttons):
            button.observe(partial(self.toggled, index), "value")

    def _take(self, number: int, prompt: needle_view.Edit) -> None:
        """A new prompt: nothing deleted, nothing revealed."""
        self.number, self.prompt, self.revealed = number, prompt, False
        self.steps: list[frozenset[int]] = [frozenset()]

    # ------------------------------------------------------------ what the reader does

    def reveal(self, _button: Any = None) -> None:
        """Deletes the loudest rival if a prediction is there; asks for one if not."""
        if not self.predicted:
            self.say("Write your prediction first: the needle's share in %, above 0 and at most 100.")
        elif not self.revealed:
            self.revealed = True
            self.steps.append(self.loudest_rival)
            self.redraw()

    @property
    def loudest_rival(self) -> frozenset[int]:
        """The place of the sentence that the prediction is about."""
        assert self.prompt.rival is not None  # a wrong answer quotes one
        return frozenset({self.prompt.rival})

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: above 0 %, at most 100 %."""
        return 0 < float(self.prediction.value) <= 100

    def delete(self, *numbers: int) -> None:
        """Deletes sentences by their numbers, as if by their buttons.

        Raises:
            ValueError: if there is no such sentence, or the prediction is not revealed yet.
        """
        self._go(self.steps[-1] | self._places(numbers))

    def restore(self, *numbers: int) -> None:
        """Puts sentences back. Errors as in `delete`."""
        self._go(self.steps[-1] - self._places(numbers))

    def toggled(self, index: int, change: Any) -> None:
        """A button was pressed: its sentence goes, or comes back."""
        place = self.prompt.loudest[index]
        if change.new != (place in self.steps[-1]):
            self._go(self.steps[-1] ^ {place})

    def take_back(self, _button: Any = None) -> None:
        """Undoes the last step."""
        if self.revealed and len(self.steps) > 1:
            self.steps.pop()
            self.redraw()

    def keep_loudest(self, _button: Any = None) -> None:
        """Deletes all sentences but the one that now draws most attention: the model curates for itself."""
        if self.revealed:
            loudest = max(self.result.kept, key=lambda place: self.result.new[place])
            self._go(frozenset(range(len(self.prompt.prompt.sentences))) - {loudest})

    def move_on(self, _button: Any = None) -> None:
        """Goes on to the next prompt that the model gets wrong."""
        self._take(*needle_view.next_wrong(self.model, self.tokens.value, self.number + 1))
        self.redraw()

    def restart(self, _change: Any = None) -> None:
        """The first prompt of the length that the slider says."""
        self._take(*needle_view.next_wrong(self.model, self.tokens.value, mended=True))
        self.redraw()

    def _places(self, numbers: Iterable[int]) -> frozenset[int]:
        many = len(self.prompt.prompt.sentences)
        if wrong := [number for number in numbers if not 1 <= number <= many]:
            raise ValueError(f"numbers must be those of sentences, 1 to {many}; got {wrong}")
        if not self.revealed:
            raise ValueError("a sentence can be deleted once your prediction is revealed; write it and press Reveal")
        return frozenset(number - 1 for number in numbers)

    def _go(self, deleted: frozenset[int]) -> None:
        """One step: these sentences are gone now."""
        if not self.revealed or len(deleted) == len(self.prompt.prompt.sentences):
            self.redraw()  # puts the button back
        elif deleted != self.steps[-1]:
            self.steps.append(deleted)
            self.redraw()

    # ------------------------------------------------------------ what the reader sees

    def compute(self, **_values: Any) -> needle_view.Edit:
        """The prompt without what is deleted, read by the model."""
        return self.prompt.without(self.steps[-1])

    def picture(self, result: needle_view.Edit) -> str:
        """The prompt, shaded by attention."""
        return needle_words.prompt_html(result)

    def sentence(self, result: needle_view.Edit) -> str:
        """Before: what to predict. After: answer, shares, tokens and bytes."""
        if not self.revealed:
            return needle_words.asked(result, self.number)
        asked = self.predicted and result.deleted == self.loudest_rival
        told = needle_words.verdict(result, self.prediction.value / 100) + " " if asked else ""
        return told + needle_words.said(result)

    def table(self, result: needle_view.Edit) -> Html | None:
        """The loudest sentences, with and without the deletion, once it is revealed."""
        return needle_words.prompt_table(result) if self.revealed else None

    def fallback(self, result: needle_view.Edit) -> Html:
        """Answer and table; before anything is revealed, of the deletion that is asked about."""
        return needle_words.still(result if self.revealed else result.without(self.loudest_rival), self.number)

    def redraw(self, change: Any = None) -> None:
        """Also brings the buttons in line with the prompt."""
        super().redraw(change)
        for place, button in zip(self.prompt.loudest, self.buttons, strict=False):
            button.description = needle_words.button_words(self.result, place)
            button.tooltip = needle_words.kind(self.result, place)
            button.value = place in self.result.deleted
            button.disabled = not self.revealed
        self.undo.disabled = not self.revealed or len(self.steps) == 1
        self.only_loudest.disabled = not self.revealed


def _toggle() -> Any:
    """A button for one sentence: pressed means deleted."""
    return widgets.ToggleButton(layout={"width": "auto", "margin": "1px 2px"})
