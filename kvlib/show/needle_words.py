"""The needle panel's prompt as shaded text, as sentences and as a table. Pure functions of an `Edit`."""

from __future__ import annotations

from html import escape

from kvlib.lab.words import VALUES, WORDS
from kvlib.show.needle_view import Edit
from kvlib.show.svg import FONT, plural
from kvlib.show.tables import Html, table
from kvlib.units import size

LOUDEST = 12  # sentences that have a button and a row
CLOSE = 0.02  # of the attention: a prediction this near is right
_SLIP = 0.006  # of the attention: a prediction this near to a mistake's number looks like that mistake
_SHADE, _PALEST = "0, 114, 178", 0.005  # Okabe and Ito's blue; a smaller share is not shaded
_NEEDLE = "text-decoration: underline double; text-underline-offset: 3px; font-weight: 600"
_RIVAL = "border: 2px dashed currentColor; padding: 0 2px"


def prompt_html(edit: Edit) -> str:
    """The whole prompt, each sentence shaded by its share; needle underlined, rival framed, deleted struck through."""
    shown = edit.loudest[:LOUDEST]
    marked = [_span(edit, place, place in shown) for place in range(len(edit.prompt.sentences))]
    box = "max-height: 38em; overflow: auto; border: 1px solid rgba(128, 128, 128, 0.7); padding: 4px 8px"
    legend = (
        f'<span style="background: rgba({_SHADE}, 0.45)">shaded</span>: draws attention, the darker the more · '
        f'<span style="{_NEEDLE}">underlined</span>: the needle · <span style="{_RIVAL}">framed</span>: its loudest '
        "rival · <del>struck through</del>: deleted"
    )
    return (
        f'<div role="group" tabindex="0" aria-label="{escape(reading(edit))}" style="max-width: 55em; '
        f'font-size: {FONT}px; line-height: 1.75"><div style="{box}">{" ".join(marked)}</div>'
        f'<p style="margin: 4px 0 0 9px"><strong>{escape(edit.prompt.questions[0].text)} …</strong></p>'
        f'<p style="margin: 0 0 0 9px">{legend}</p></div>'
    )


def _span(edit: Edit, place: int, numbered: bool) -> str:
    """One sentence of the prompt; those with a button carry their number and their share."""
    share, words = edit.new[place], escape(edit.prompt.sentences[place].text)
    if place in edit.deleted:
        return f'<del data-sentence="{place + 1}">{words}</del>'
    look = [f"background: rgba({_SHADE}, {0.1 + 0.6 * share:.2f}); border-radius: 2px"] if share >= _PALEST else []
    look += [_NEEDLE] if place == edit.needle else [_RIVAL] if place == edit.rival else []
    note = f"<sup>&nbsp;{place + 1}:&nbsp;{percent(share)}</sup>" if numbered else ""
    return f'<span data-sentence="{place + 1}" style="{"; ".join(look)}">{words}{note}</span>'


def reading(edit: Edit) -> str:
    """The shaded prompt in words."""
    words = f"Prompt of {edit.after.tokens:,} tokens, {plural(len(edit.kept), 'sentence')}. {_shares(edit)}"
    rest = 1 - edit.new.sum()
    return f"{words}; the question itself {percent(rest)}; answer {WORDS[edit.after.answer]}: {_verdict(edit)}."


def _shares(edit: Edit) -> str:
    rival = edit.rival
    needle = "the needle is deleted" if edit.needle in edit.deleted else f"needle {_named(edit, edit.needle)}"
    return f"Attention: {needle}" + ("" if rival is None else f"; loudest rival {_named(edit, rival)}")


def _named(edit: Edit, place: int) -> str:
    return f"(sentence {place + 1}) {percent(edit.new[place])}"


def percent(share: float) -> str:
    """A share with three digits at most: 36.4 %, 0.52 %, under 0.01 %."""
    if share < 0.0001:
        return "under 0.01 %"
    return f"{100 * share:.{1 if share >= 0.01 else 2}f} %"


def asked(edit: Edit, number: int) -> str:
    """The question before anything is deleted: what would the needle's share be without its loudest rival?"""
    rival = edit.rival
    assert rival is not None
    return (
        f"Prompt {number}, chosen because the model gets it wrong: {edit.before.tokens:,} tokens, "
        f"{plural(len(edit.prompt.sentences), 'sentence')}. It answers {WORDS[edit.before.answer]}: {_verdict(edit)}; "
        f"{WORDS[_answer(edit)]} is right. The needle, sentence {edit.needle + 1}, draws "
        f"{percent(edit.old[edit.needle])} of the attention (mean of {len(edit.before.heads)} heads); its loudest "
        f"rival, sentence {rival + 1}, draws {percent(edit.old[rival])}. If you delete sentence {rival + 1}, what "
        "share will the needle have? Write your prediction in %, then press Reveal."
    )


def said(edit: Edit) -> str:
    """The prompt as it now is: answer, shares, tokens and bytes, before -> after."""
    if not edit.deleted:
        return (
            f"Nothing is deleted. Answer {WORDS[edit.after.answer]}: {_verdict(edit)}. Needle "
            f"{percent(edit.old[edit.needle])} of the attention. {edit.after.tokens:,} tokens, KV cache "
            f"{size(edit.after.kv_bytes)}."
        )
    was, now = edit.old[edit.needle], edit.new[edit.needle]
    needle = f"Needle {percent(was)} → {percent(now)} of the attention, predicted {percent(edit.law[edit.needle])}"
    if edit.needle in edit.deleted:
        needle = f"The needle ({percent(was)} of the attention) is gone: no fact here says the right value"
    return (
        f"Without {_gone(edit)}, it answers {WORDS[edit.after.answer]}: {_verdict(edit)}. {needle}.{_gap(edit)} "
        f"{edit.before.tokens:,} → {edit.after.tokens:,} tokens, KV cache {size(edit.before.kv_bytes)} → "
        f"{size(edit.after.kv_bytes)}."
    )


def button_words(edit: Edit, place: int) -> str:
    """What a sentence's button says: its number, its share and its words."""
    share = "deleted" if place in edit.deleted else percent(edit.new[place])
    named = "needle: " if place == edit.needle else ""
    return f"{place + 1} · {share} · {named}{_words(edit, place)}"


def _words(edit: Edit, place: int) -> str:
    return edit.prompt.sentences[place].text.removesuffix(" .")


def _gone(edit: Edit) -> str:
    numbers = [f"{place + 1}" for place in sorted(edit.deleted)]
    if len(numbers) == 1:
        return f"sentence {numbers[0]}"
    if len(numbers) <= 4:
        return f"sentences {', '.join(numbers[:-1])} and {numbers[-1]}"
    return f"{len(numbers)} of {len(edit.prompt.sentences)} sentences"


def _verdict(edit: Edit) -> str:
    """Right, or wrong and what the answer quotes."""
    if edit.right and edit.needle not in edit.deleted:
        return f"right, it quotes the needle, sentence {edit.needle + 1}"
    places = edit.quoted
    if edit.after.answer not in VALUES:
        return "wrong, and no number at all"
    if not places:
        return ("right" if edit.right else "wrong") + ", a number that stands nowhere in the prompt"
    place = max(places, key=lambda each: edit.new[each])
    return f"{'right' if edit.right else 'wrong'}, it quotes sentence {place + 1} ({kind(edit, place)})"


def _gap(edit: Edit) -> str:
    """Why the law is off, where it is off by more than a point."""
    if abs(edit.law[edit.needle] - edit.new[edit.needle]) <= 0.01:
        return ""
    if edit.model.scheme != "nope":
        return " The gap: this model's attention depends on distance, and the distances changed."
    return " The gap: behind each cut the local layer, which looks back over 16 tokens, has new neighbours to collect."


def kind(edit: Edit, place: int) -> str:
    """What a sentence is to the question: the needle, a fact by the parts of its key that it shares, or filler."""
    sentence = edit.prompt.sentences[place]
    if place == edit.needle:
        return "needle"
    if sentence.key:
        return f"fact, shares {sentence.key.shared(edit.prompt.questions[0].key)} of 3 parts"
    return {"pad": "filler, cut to fit", "plain": "filler"}.get(sentence.kind, f"{sentence.kind} filler")


def verdict(edit: Edit, predicted: float) -> str:
    """How far off the prediction (a share) of the needle's new share was, and the usual mistake that explains it.

    Raises:
        ValueError: if predicted is not above 0 and at most 1.
    """
    if not 0 < predicted <= 1:
        raise ValueError(f"predicted must be a share above 0, at most 1; got {predicted!r}")
    words, now = f"You predicted {100 * predicted:.3g} %; ", edit.new[edit.needle]
    if abs(predicted - now) <= CLOSE:
        return f"{words}right."
    needle, gone = float(edit.old[edit.needle]), float(edit.old[sorted(edit.deleted)].sum())
    if abs(predicted - needle / (1 - gone)) <= _SLIP:
        return (
            f"{words}that is the law, share / (1 - a), on the means of the heads. Each head deletes its own share: "
            f"head by head the law gives {percent(edit.law[edit.needle])}."
        )
    slip = next((why for wrong, why in _slips(needle, gone) if abs(wrong - predicted) <= _SLIP), None)
    off = (
        f"{words}it is {percent(now)}, {abs(predicted - now) * 100:.1f} points {'less' if predicted > now else 'more'}."
    )
    return off + (f" It looks as if {slip}." if slip else "")


def _slips(needle: float, gone: float) -> list[tuple[float, str]]:
    """Shares that the usual mistakes make of the needle's, the most telling first."""
    return [
        (needle + gone, "you gave the needle all that became free: the others grow as well, by the same factor"),
        (needle, "you left the needle's share as it was: the shares must sum to 1 again"),
        (needle * (1 + gone), "you multiplied by 1 + a: what is left sums to 1 - a, so divide by that"),
        (needle * (1 - gone), "you multiplied by 1 - a: what is left sums to 1 - a, so divide by it"),
    ]


def prompt_table(edit: Edit) -> Html:
    """The loudest sentences and the question with and without the deletion, and what the law predicts."""
    body: list[tuple[str, ...]] = []
    for place in edit.loudest[:LOUDEST]:
        after = ("deleted", "") if place in edit.deleted else (percent(edit.new[place]), percent(edit.law[place]))
        body.append((f"{place + 1}", _words(edit, place), kind(edit, place), percent(edit.old[place]), *after))
    shares = (percent(1 - shares.sum()) for shares in (edit.old, edit.new, edit.law))
    body.append(("", edit.prompt.questions[0].text, "the question itself", *shares))
    caption = f"Shares of the attention: the {len(body) - 1} loudest sentences of the whole prompt, and the question"
    return table(caption, ("sentence", "text", "kind", "whole prompt", "now", "predicted"), body)


def still(edit: Edit, number: int) -> Html:
    """The prompt for readers without a kernel: what the model answers, before and after, and the table."""
    shown = prompt_table(edit)
    words = f"Prompt {number}, all of it: answer {WORDS[edit.before.answer]}, and {WORDS[_answer(edit)]} is right."
    words += f" {said(edit)}"
    return Html(f"<p>{escape(words)}</p>\n{shown.html}", f"{words}\n{shown.text}")


def _answer(edit: Edit) -> int:
    return edit.prompt.questions[0].answer
