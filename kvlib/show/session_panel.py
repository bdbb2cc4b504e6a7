"""Lesson 06: build a session, and see its bill at every provider, with and without the context cache."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import ipywidgets as widgets

from kvlib.show.panel import Panel, choice_slider, dropdown, number_field, whole_slider
from kvlib.show.session_bills import KINDS, MOST, Row, Session, titles
from kvlib.show.session_words import (
    asked,
    duration,
    percent,
    remarks,
    session_reading,
    session_sentence,
    session_table,
    verdict,
    when,
)
from kvlib.show.svg import EDGE, WIDTH, Picture, _text, picture, shade
from kvlib.show.tables import Html
from kvlib.units import usd

DOCUMENTS = (
    *(2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 150_000, 199_000, 201_000, 250_000, 271_000),
    *(300_000, 400_000, 500_000, 750_000, 950_000, 1_000_000),
)
PAUSES = (10, 60, 240, 600, 2_700, 7_200, 86_400)
LIVES = (300, 3_600, 86_400)
_FULL, _CUT = 330, 540  # pixels: a bill as high as without a cache; where a longer bar is cut off
_STRIP, _TOP, _ROW = 572, 64, 70
_MARKS = (1, 2, 5, 10, 20, 50)


class SessionPanel(Panel):
    """Lesson 06: build your session. Predict what a cache leaves of the bill, then see all providers side by side.

    No number is shown before the prediction is written and Reveal is pressed; then every control redraws at once.

    Args:
        document: tokens at first, one of `DOCUMENTS`.
        questions: how many at first, 1 to 50.
        pause: seconds between two questions at first, one of `PAUSES`.
        provider: the cache that is looked at closely at first, one of `titles()`.

    Raises:
        TraitError: if a control is set to something that it does not offer.
    """

    css = "panel-session"

    def __init__(
        self,
        document: int = 100_000,
        questions: int = 10,
        pause: int = 60,
        provider: str = "Gemini 2.5 Pro, explicit",
    ) -> None:
        self.provider = dropdown("Look closely at", [(title, title) for title in titles()], provider)
        self.document = choice_slider("Document (tokens)", DOCUMENTS, document)
        self.questions = whole_slider("Questions", 1, MOST, questions)
        self.pause = time_slider("Pause between them", PAUSES, pause)
        self.life = time_slider("Life, where none is published", LIVES, 3_600)
        self.stamp = widgets.Checkbox(description="A timestamp comes first", layout={"width": "30em"})
        self.life.style.description_width = self.stamp.style.description_width = "15em"
        self.prediction = number_field("Your prediction (% of the bill without)")
        self.prediction.style.description_width = "19em"
        self.prediction.layout.width = "28em"
        self.button = widgets.Button(description="Reveal", icon="eye", button_style="primary")
        self.revealed = False
        self.button.on_click(self.reveal)
        self.prediction.observe(self.redraw, "value")
        ask = widgets.HBox([self.prediction, self.button], layout={"align_items": "center"})
        names = ("provider", "document", "questions", "pause", "stamp", "life")
        super().__init__({name: getattr(self, name) for name in names}, extra=[ask])

    def reveal(self, _button: Any = None) -> None:
        """Shows the bills if a prediction is there; asks for one if not."""
        self.revealed = self.predicted
        self.redraw()
        if not self.predicted:
            self.say("Write your prediction first: % of the bill without a cache, above 0. Above 100 means a loss.")

    @property
    def predicted(self) -> bool:
        """Whether the field holds a prediction: a finite number above 0."""
        return math.isfinite(self.prediction.value) and self.prediction.value > 0

    def compute(self, **values: Any) -> Session:
        """The session that the controls describe."""
        return Session(**values)

    def picture(self, result: Session) -> str:
        """Two bars for each cache, and from which question on it pays."""
        return session_picture(result).svg if self.revealed else ""

    def sentence(self, result: Session) -> str:
        """Before: what to do. After: how far off the prediction was, and what the bills say."""
        if not self.revealed:
            return (
                f"{asked(result)}. {result.provider}: what does the session cost with the cache, in % of its bill "
                "without? Write your prediction, then press Reveal."
            )
        said = verdict(result, self.prediction.value) + " " if self.predicted else ""
        return said + session_sentence(result)

    def table(self, result: Session) -> Html | None:
        """The bills part by part, once they are revealed."""
        return session_table(result) if self.revealed else None

    def fallback(self, result: Session) -> Html:
        """The table, revealed or not: a reader without a kernel has no button to press."""
        return session_table(result)


def time_slider(description: str, seconds: Iterable[int], value: int) -> Any:
    """A slider over given times, of which only these can be set; its value is in seconds."""
    slider = choice_slider(description, [value], value)
    slider.options = [(duration(each), each) for each in seconds]
    slider.value = value
    return slider


# ---------------------------------------------------------------- the picture


def session_picture(session: Session) -> Picture:
    """For each cache: the bill without it in grey, the bill with it in parts, and the questions for which it pays.

    The grey bars are equally long, so that what is left of each bill can be compared; the dollars stand above them.
    """
    bottom = _TOP + _ROW * len(session.rows)
    drawn = [_text(EDGE, 15, f"Bills of {asked(session)}", weight=600), _legend(), _axis(session)]
    drawn += [_drawn(session, row, _TOP + _ROW * index) for index, row in enumerate(session.rows)]
    return picture("".join(drawn), bottom + 6, session_reading(session))


def _legend() -> str:
    """The parts by number and name, and the grey of a bill without a cache."""
    drawn, x = [], float(EDGE)
    for index, kind in enumerate(KINDS):
        drawn.append(_segment(x, 27, 18, index, "") + _text(x + 24, 41, kind))
        x += 38 + 7.6 * len(kind)
    grey = f'<rect x="{x:.1f}" y="33" width="18" height="6" fill="currentColor" fill-opacity="0.45"/>'
    return "".join(drawn) + grey + _text(x + 24, 41, "no cache")


def _axis(session: Session) -> str:
    """The scale of the strips: numbers of questions, with a mark at the one that is asked."""
    ticks = "".join(_text(_at(mark), 41, str(mark), anchor="middle") for mark in _MARKS)
    here = f'<path class="asked" d="M{_at(session.questions):.1f} 56l-5 -9h10z" fill="currentColor"/>'
    return _text(_STRIP, 22, "cheaper: questions") + ticks + here


def _at(questions: float) -> float:
    """Where a number of questions stands on the strip, on a logarithmic scale."""
    return _STRIP + (WIDTH - EDGE - 6 - _STRIP) * math.log(questions) / math.log(MOST)


def _drawn(session: Session, row: Row, top: float) -> str:
    """One row: its name and figures, the two bars, the strip, the remarks."""
    chosen = row.title == session.provider
    drawn = [_text(EDGE, top + 13, ("▸ " if chosen else "") + row.title, weight=600)]
    if not session.fits(row):
        return "".join([*drawn, _text(EDGE, top + 34, f"No bill: {row.refusal}.")])
    n = session.questions
    figures = f"{usd(float(row.without(n)))} → {usd(float(row.bill(n)))} ({percent(row.ratio(n))})"
    drawn.append(_text(_CUT, top + 13, figures, anchor="end"))
    drawn.append(
        f'<rect class="without" data-usd="{row.without(n)}" x="{EDGE}" y="{top + 19}" width="{_FULL}" height="6" '
        'fill="currentColor" fill-opacity="0.45"/>'
    )
    drawn += [_bar(row, n, top + 27), _strip(row, n, top)]
    drawn.append(_text(EDGE, top + 59, "; ".join(remarks(session, row))))
    return "".join(drawn)


def _bar(row: Row, questions: int, y: float) -> str:
    """The bill with the cache, part by part; cut off, with an arrow, where it is much longer than that without."""
    drawn, x, whole = [], float(EDGE), row.without(questions)
    for index, (kind, amount) in enumerate(zip(KINDS, row.cached[questions - 1], strict=True)):
        wide = float(amount / whole) * _FULL
        if (seen := min(wide, _CUT - x)) > 0:
            drawn.append(_segment(x, y, seen, index, f"{kind}: {amount:.4f} USD"))
        x += wide
    if x > _CUT:
        drawn.append(f'<path class="cut" d="M{_CUT + 3} {y}l9 9l-9 9z" fill="currentColor"/>')
    edge = EDGE + _FULL
    return "".join(drawn) + f'<path d="M{edge} {y - 8}v26" stroke="currentColor" stroke-dasharray="3 2"/>'


def _segment(x: float, y: float, wide: float, index: int, title: str) -> str:
    """A part of a bar with its number, where there is room for it."""
    fill, ink = shade(index)
    rect = (
        f'<rect class="part" data-part="{KINDS[index]}" x="{x:.2f}" y="{y}" width="{wide:.2f}" height="18" '
        f'fill="{fill}"><title>{title}</title></rect>'
    )
    return rect + (_text(x + wide / 2, y + 14, str(index + 1), anchor="middle", fill=ink) if wide >= 14 else "")


def _strip(row: Row, questions: int, top: float) -> str:
    """The numbers of questions that the model takes: a thin line, thick where the cache is the cheaper way."""
    y, first = top + 30, row.pays_from
    drawn = [
        f'<path d="M{_at(1):.1f} {y}H{_at(row.most):.1f}" stroke="currentColor"/>',
        _text(_STRIP, top + 13, when(row)),
    ]
    if first:
        start, end = _at(first), max(_at(row.most), _at(first) + 1)
        drawn.append(
            f'<rect class="pays" data-from="{first}" x="{start:.1f}" y="{y - 4}" width="{end - start:.1f}" height="8" '
            'fill="currentColor" fill-opacity="0.7"/>'
            f'<path class="even" d="M{start:.1f} {y - 9}l7 9l-7 9l-7 -9z" fill="currentColor"/>'
        )
    here = f'<path d="M{_at(questions):.1f} {y - 12}v24" stroke="currentColor" stroke-dasharray="2 2"/>'
    return "".join([*drawn, here])
