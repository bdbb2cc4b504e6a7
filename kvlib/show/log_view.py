"""An engine's start-up log, explained for the eye: a bar of the memory, one sentence, tables. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from kvlib.log import Check, Explanation, LogError, explain_log
from kvlib.show.svg import bar, plural
from kvlib.show.tables import Html, table
from kvlib.units import size

_ENGINES = {"vllm": "vLLM", "sglang": "SGLang"}


@dataclass(frozen=True)
class LogView:
    """A log explained; or None, and the message that says what is wrong with the text. `lines` counts the text's."""

    explained: Explanation | None
    message: str
    lines: int


def log_view(text: str, model: str | None = None) -> LogView:
    """Explains a log; a text that is none gives a message instead of an error.

    Args:
        text: what somebody pasted.
        model: a name in the catalogue; None looks for one in the log.
    """
    lines = sum(1 for line in text.splitlines() if line.strip())
    try:
        return LogView(explain_log(text, model), "", lines)
    except LogError as error:
        return LogView(None, str(error), lines)


def log_question(view: LogView) -> str:
    """What to think about before the answer is shown."""
    if not view.lines:
        return "Paste the start-up lines of an engine (vLLM, SGLang, llama.cpp) into the box, or choose an example."
    lines = plural(view.lines, "line")
    return f"{lines} in the box. Which part takes most of the memory, and which lines are missing? Then press Explain."


def log_picture(view: LogView) -> str:
    """The memory that the log accounts for as a stacked bar; empty if it prints no bytes."""
    parts = [(term.name, term.bytes) for term in (view.explained.terms if view.explained else ()) if term.bytes > 0]
    if not parts:
        return ""
    return bar(parts, label=f"Memory in the log: {_subject(view.explained)}").svg


def log_sentence(view: LogView) -> str:
    """The explanation in a few sentences."""
    found = view.explained
    if found is None:
        return f"Nothing to explain: {view.message}."
    used = f"{_subject(found)}: {plural(len(found.used_lines), 'line')} of {view.lines:,} used."
    biggest = max(found.terms, key=lambda term: term.bytes, default=None)
    said = [used] + ([f"The largest part is {biggest.name}, {size(biggest.bytes)}."] if biggest else [])
    for c in _main(found):
        name = c.name[0].upper() + c.name[1:]
        said.append(f"{name}: predicted {c.show(c.predicted)}, logged {c.show(c.logged)} ({c.verdict}).")
    if found.unexplained:
        said.append("Not explained: " + ", ".join(c.name for c in found.unexplained) + ".")
    elif found.checks:
        said.append("Every difference has a name.")
    said.append(_absent(found))
    return " ".join(said)


def log_table(view: LogView) -> Html | None:
    """Where the memory is, prediction beside log, and what the log does not say; None if there is nothing."""
    found = view.explained
    if found is None:
        return None
    made = []
    if found.terms:
        rows = [(t.name, size(t.bytes), t.how, f"line {t.line}" if t.line else "computed") for t in found.terms]
        made.append(table("Where the memory is", ("part", "size", "how we know", "where"), rows))
    if found.checks:
        checks = [(c.name, c.show(c.predicted), c.show(c.logged), _verdict(c)) for c in found.checks]
        made.append(table("Prediction beside the log", ("figure", "we see", "logged", "match"), checks))
    remarks = [("rule", found.pool.rule)] if found.pool else []
    remarks += [("not in this log", text) for text in found.missing] + [("note", text) for text in found.notes]
    if remarks:
        made.append(table("What to know about it", ("kind", "remark"), remarks))
    return Html("\n".join(one.html for one in made), "\n\n".join(one.text for one in made)) if made else None


def _main(found: Explanation) -> list[Check]:
    """The checks that a reader asks for first."""
    wanted = ("KV memory", "tokens", "max_total_num_tokens", "blocks", "needed memory", "concurrency")
    return [found[name] for name in wanted if name in found][:3]


def _absent(found: Explanation) -> str:
    if not found.missing:
        return "No usual line is missing."
    return f"{plural(len(found.missing), 'figure')} missing from this log: see the table."


def _verdict(check: Check) -> str:
    off = "" if check.verdict == "exact" else f", {check.show(check.difference)}"
    return f"{check.verdict}{off}" + (f": {check.why}" if check.why else "")


def _subject(found: Explanation | None) -> str:
    """`vLLM, Llama 3.1 8B`."""
    if found is None:
        return "nothing"
    model = found.model
    return f"{_ENGINES.get(found.engine, found.engine)}, {model.title or model.name if model else 'model not known'}"
