"""What a run has found: one record for each question, read from its file, and a table of them with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from kvlib.lab.endpoint_plan import Item, Plan
from kvlib.lab.endpoint_request import Outcome
from kvlib.lab.ledger import Line, money, per_question, read_lines
from kvlib.lab.score import wilson

Record = dict[str, Any]
_UNASKED = ("rejected", "no answer", "not asked")


def results(plan: Plan, path: str | Path) -> list[Record]:
    """One record for every question of the plan, in its order, from what the file holds. Sends nothing.

    `verdict` is right, wrong, no number, refused (by the model or a filter), rejected (the request itself), no answer,
    or not asked; `right` is None for the last three. `tokens` is the length in words of the task. `prompt_tokens`,
    `cached_tokens` and `completion_tokens` are the server's counts, None where it gave none. `usd` is the price of
    these counts; `usd_at_most` adds the worst case of every attempt whose outcome is unknown.
    """
    history = per_question(read_lines(path)[0])
    return [_record(item, history.get(item.id, [])) for item in plan.items]


def summary(records: Iterable[Record], by: Sequence[str] = ("arm", "tokens")) -> list[Record]:
    """A table: a row for each combination of the fields `by`, in the order of the records.

    `n` counts what the model replied to, refusals and replies without a number included; `accuracy` is right / n with
    its 95 % Wilson interval `low` to `high`, None without a reply. The questions of one haystack share it, so they are
    less than n independent trials. `usd_per_right` is `usd_at_most` / right.
    """
    rows: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        rows.setdefault(tuple(record[name] for name in by), []).append(record)
    return [dict(zip(by, key, strict=True)) | _row(group) for key, group in rows.items()]


def _row(records: list[Record]) -> Record:
    verdicts = [record["verdict"] for record in records]
    right, n = verdicts.count("right"), sum(verdict not in _UNASKED for verdict in verdicts)
    low, high = wilson(right, n) if n else (None, None)
    at_most = sum(Decimal(str(record["usd_at_most"])) for record in records)
    return {
        "n": n,
        "right": right,
        "accuracy": right / n if n else None,
        "low": low,
        "high": high,
        "no_number": verdicts.count("no number"),
        "refused": verdicts.count("refused"),
        "unanswered": len(records) - n,
        "prompt_tokens": _total(records, "prompt_tokens"),
        "cached_tokens": _total(records, "cached_tokens"),
        "completion_tokens": _total(records, "completion_tokens"),
        "usd": float(sum(Decimal(str(record["usd"])) for record in records)),
        "usd_at_most": float(at_most),
        "usd_per_right": float(at_most / right) if right else None,
    }


def _total(records: list[Record], name: str) -> int | None:
    """The sum of a count; None if the server never gave it."""
    counts = [record[name] for record in records if record[name] is not None]
    return sum(counts) if counts else None


def _where(item: Item) -> Record:
    """Where a question belongs in the experiment."""
    names = ("id", "model", "arm", "tokens", "depth", "haystack", "value")
    return {name: getattr(item, name) for name in names}


def answer_line(item: Item, outcome: Outcome) -> Line:
    """What the file keeps of an answer."""
    verdict = "refused" if outcome.result == "refused" else "no number" if outcome.number is None else "wrong"
    verdict = "right" if outcome.number == item.value else verdict
    usage = outcome.usage
    return {
        **{name: value for name, value in _where(item).items() if name != "id"},
        "verdict": verdict,
        "reply": outcome.reply,
        "why": outcome.why,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "seconds": round(outcome.seconds, 4),
    }


def _record(item: Item, lines: list[Line]) -> Record:
    """A question's lines as one record."""
    sent, ended = [line for line in lines if line["line"] == "sent"], [line for line in lines if line["line"] != "sent"]
    answer = next((line for line in ended if line["line"] == "answer"), {})
    last = ended[-1] if ended else {}
    missing = "rejected" if last.get("result") == "rejected" else "no answer" if sent else "not asked"
    verdict = answer.get("verdict", missing)
    known = {line["attempt"] for line in ended}
    under_way = [line for line in sent if line["attempt"] not in known]
    names = ("reply", "why", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds")
    return {
        **_where(item),
        "verdict": verdict,
        "right": None if verdict in _UNASKED else verdict == "right",
        **{name: (answer or last).get(name) for name in names},
        "attempts": len(sent),
        "usd": float(sum(money(line, "usd") for line in ended)),
        "usd_at_most": float(sum(money(line, "usd_at_most") for line in [*ended, *under_way])),
    }
