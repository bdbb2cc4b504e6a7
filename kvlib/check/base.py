"""What the checks of all exercises share: run the learner's function, compare, and name the usual mistake.

A `Slip` is a wrong answer that people really give, written as a function of the same inputs. If the learner's answers
equal the slip's answers, the slip is named. The truth comes from a path of its own: slow loops, never a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kvlib.check.answers import Attempt, attempt, common_factor, number_in, shown


@dataclass(frozen=True)
class Result:
    """The outcome of a check; a notebook shows it as text.

    `ok`: everything is right. `done`: False for an untouched stub. `mistake`: the short name of the usual mistake that
    explains the answers, or None.
    """

    lines: tuple[str, ...]
    ok: bool = False
    mistake: str | None = None
    done: bool = True

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Case:
    """One set of inputs, in the order of the learner's arguments, and what to call it."""

    label: str
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Slip:
    """A usual mistake: its short name, the wrong answer it leads to, and what to say, with {inputs} filled in."""

    name: str
    answer: Callable[..., Any]
    says: str


@dataclass(frozen=True)
class Question:
    """An exercise whose answer is a function of numbers or of a config; the slips differ on the cases."""

    name: str
    unit: str
    cases: Sequence[Case]
    truth: Callable[..., int]
    slips: Sequence[Slip]

    def check(self, function: Any) -> Result:
        """Run `function` on every case. Whatever it returns or raises becomes a line of the result, never an error."""
        if not callable(function):
            return needs_function(self.name, function)
        answers = [attempt(function, case.inputs) for case in self.cases]
        if any(answer.stub for answer in answers):
            return Result((f"{self.name}: not done yet",), done=False)
        truths = [self.truth(**case.inputs) for case in self.cases]
        wrong = [n for n, answer in enumerate(answers) if not answer.equals(truths[n])]
        factor = common_factor([(answers[n].number, truths[n]) for n in wrong])
        slips = self._slips_behind(answers, wrong, whole=factor is not None)
        state = "not yet" if wrong else "right"
        lines = [f"{self.name}: {state}, {len(answers) - len(wrong)} of {len(answers)} cases"]
        if len({answer.text for answer in answers}) == 1 and answers[0].number is None:
            lines.append(f"  wrong  every case: {answers[0].text}")
        else:
            lines += [self._line(case, answers[n], truths[n], slips.get(n)) for n, case in enumerate(self.cases)]
        if factor and not slips:
            lines.append(f"  Every wrong answer is {factor} the right one. Which factor is missing, or one too many?")
        return Result(tuple(lines), ok=not wrong, mistake=next((slip.name for slip in slips.values()), None))

    def _slips_behind(self, answers: Sequence[Attempt], wrong: Sequence[int], whole: bool) -> dict[int, Slip]:
        """The mistake behind each wrong answer: the one that explains all answers, or else all the wrong ones.

        Without such a one, and unless `whole` asks for it, the first that explains each case by itself.
        """
        explained: list[tuple[Slip, set[int]]] = []
        for slip in self.slips if wrong else ():
            slipped = [attempt(slip.answer, case.inputs).number for case in self.cases]
            explained.append((slip, {n for n, s in enumerate(slipped) if s is not None and answers[n].equals(s)}))
        for enough in (range(len(answers)), wrong):
            for slip, cases in explained:
                if cases.issuperset(enough):
                    return dict.fromkeys(wrong, slip)
        firsts = {n: next((slip for slip, cases in explained if n in cases), None) for n in wrong}
        return {} if whole else {n: slip for n, slip in firsts.items() if slip}

    def _line(self, case: Case, answer: Attempt, truth: int, slip: Slip | None) -> str:
        """One case, in one line."""
        if answer.equals(truth):
            return f"  right  {case.label}: {truth:,} {self.unit}"
        if answer.number is None:
            return f"  wrong  {case.label}: {answer.text}"
        hint = f": {slip.says.format(**case.inputs)}" if slip else ""
        return f"  wrong  {case.label}: {answer.text} {self.unit}, not {truth:,}{hint}"


@dataclass(frozen=True)
class Rule:
    """What a design has to keep. `broken` gives None, or the name of the mistake and what to say about it."""

    keeps: str
    broken: Callable[[dict[str, int]], tuple[str, str] | None]


@dataclass(frozen=True)
class Puzzle:
    """An exercise whose answer is a design: a function without arguments that returns a dict of whole numbers.

    `fields` gives the least and the most that each number may be; the rules are tried in order, up to the first broken.
    """

    name: str
    fields: dict[str, tuple[int, int]]
    rules: Sequence[Rule]

    def check(self, function: Any) -> Result:
        """Try the design that `function()` returns. Nothing that it returns or raises becomes an error."""
        if not callable(function):
            return needs_function(self.name, function)
        designs: list[Any] = []

        def call() -> int:
            designs.append(function())
            return 0

        called = attempt(call, {})
        if called.stub:
            return Result((f"{self.name}: not done yet",), done=False)
        if not designs:
            return self._wrong([], called.text, None)
        design, complaint = self._read(designs[0])
        if complaint:
            return self._wrong([], complaint, None)
        kept: list[str] = []
        for rule in self.rules:
            if broken := rule.broken(design):
                mistake, says = broken
                return self._wrong(kept, says, mistake)
            kept.append(f"  right  {rule.keeps}")
        return Result((f"{self.name}: right, {len(kept)} of {len(self.rules)} rules", *kept), ok=True)

    def _wrong(self, kept: Sequence[str], says: str, mistake: str | None) -> Result:
        """The result for a design that breaks the next rule."""
        head = f"{self.name}: not yet, {len(kept)} of {len(self.rules)} rules"
        return Result((head, *kept, f"  wrong  {says}"), mistake=mistake)

    def _read(self, design: Any) -> tuple[dict[str, int], str | None]:
        """The design as whole numbers, and what is wrong with its form, if anything."""
        if design is None:
            return {}, number_in(None).text
        if not isinstance(design, dict) or set(design) != set(self.fields):
            return {}, f"return a dict with the keys {', '.join(self.fields)}; your function returned {shown(design)}"
        numbers: dict[str, int] = {}
        for key, (least, most) in self.fields.items():
            number = number_in(design[key]).number
            if number is None or number != int(number) or not least <= number <= most:
                return {}, f"{key} must be a whole number from {least:,} to {most:,}; it is {shown(design[key])}"
            numbers[key] = int(number)
        return numbers, None


def needs_function(name: str, value: Any) -> Result:
    """The result where a function should have been passed and something else came."""
    says = f"pass your function itself to the check, without parentheses or quotes; it got {shown(value)}"
    return Result((f"{name}: not yet", f"  wrong  {says}"))
