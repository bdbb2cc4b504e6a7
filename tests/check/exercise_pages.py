"""For tests of the exercises' checks: what a page checks, the forms of an answer, and what a result has to say."""

import inspect
import itertools
import math
import re
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

from kvlib.check.base import Puzzle, Question

FORMS = {
    "int": int,
    "float": float,
    "int64": np.int64,
    "float64": np.float64,
    "0-d array": lambda n: np.array(n if isinstance(n, int) else float(n)),
    "array of one": lambda n: np.array([n]),
    "Fraction": Fraction,
    "Decimal": Decimal,
    "rounding error": lambda n: n * (1 + 1e-14),
}
REAL_FORMS = ("float", "float64", "0-d array", "Fraction", "Decimal", "rounding error")
WHOLE_FORMS = ("int", "int64", *REAL_FORMS)
CODE = (r"\w \* \w", r"\w\*\w", "//", "lambda", r"\bdef ", r"min\(", r"max\(")


# ---------------------------------------------------------------- what a page checks


def checks(page):
    """The checks of a page such as `kvlib.check.ex01`: its functions that say of which exercise they are, in order."""
    said = [(exercise_of(check), check) for _, check in inspect.getmembers(page, inspect.isfunction)]
    return [check for number, check in sorted(said, key=lambda pair: pair[0]) if number]


def exercise_of(check):
    """The number at the beginning of the docstring; 0 for a function that checks nothing."""
    found = re.match(r"Exercise (\d+): ", inspect.getdoc(check) or "")
    return int(found[1]) if found else 0


def questions(page):
    return _parts(page, Question)


def puzzles(page):
    return _parts(page, Puzzle)


def _parts(page, kind):
    """All of a kind that the modules of a page define, by name."""
    modules = [import_module(f"{page.__name__}.{module.name}") for module in iter_modules(page.__path__)]
    return {part.name: part for module in modules for part in vars(module).values() if isinstance(part, kind)}


# ---------------------------------------------------------------- what a learner's function may do


def returning(value):
    return lambda *inputs: value


def layouts(most):
    """Every layout of up to `most` GPUs, with TP up to 8."""
    for tp in range(1, 9):
        for pp in range(1, most // tp + 1):
            for dp in range(1, most // (tp * pp) + 1):
                yield {"tp": tp, "pp": pp, "dp": dp}


def every_mistake(wrong, also=()):
    """(exercise, mistake, function) for all wrong answers of a page."""
    return [(name, mistake, f) for name, answers in wrong.items() for mistake, f in answers.items()] + list(also)


def all_answers(run, right, every_wrong):
    """The result of each right and each wrong answer."""
    for name, function in right.items():
        yield run(name, function)
    for name, _, function in every_wrong:
        yield run(name, function)


# ---------------------------------------------------------------- one test for each


def in_each_form(*names):
    return pytest.mark.parametrize("form", [FORMS[name] for name in names], ids=names)


def for_each_mistake(every_wrong):
    ids = [f"{name}-{mistake}" for name, mistake, _ in every_wrong]
    return pytest.mark.parametrize(("name", "mistake", "function"), every_wrong, ids=ids)


# ---------------------------------------------------------------- what a result has to say


def assert_right(result, name):
    """Every case is right, and the first line says so."""
    assert result.ok, result
    assert bool(result)
    assert result.done
    assert result.mistake is None
    assert repr(result).startswith(f"{name}: right, {len(result.lines) - 1} of {len(result.lines) - 1} cases\n")
    assert all(line.startswith("  right  ") for line in result.lines[1:])


def assert_named(result, question, mistake, besides=None):
    """The mistake is named, and explained at every wrong case but those that say `besides`."""
    assert not result.ok
    assert result.mistake == mistake, result
    wrong = [line for line in result.lines if line.startswith("  wrong  ") and not (besides and besides in line)]
    says = [slip.says.split("{")[0] for slip in question.slips if slip.name == mistake]
    assert wrong
    assert all(any(start in line for start in says) for line in wrong), (says, wrong)
    assert "{" not in repr(result)


def assert_passes(check, design, rules):
    """The design keeps every rule, and the first line says how many there are."""
    result = check(returning(design))
    assert result.ok, result
    assert result.lines[0] == f"{check.__name__}: right, {rules} of {rules} rules"


def assert_told(check, design, mistake, says):
    """The design keeps its rules up to the one that the last line explains."""
    result = check(returning(design))
    assert not result.ok
    assert result.mistake == mistake, result
    assert says in result.lines[-1]
    assert all(line.startswith("  right  ") for line in result.lines[1:-1])


def assert_answers_differ(questions, right, wrong):
    """On the cases of a question no two mistakes give the same answers, and none gives the right ones."""
    for name, question in questions.items():
        answers = {m: _answers(f, question.cases) for m, f in (wrong[name] | {"right": right[name]}).items()}
        for one, other in itertools.combinations(answers, 2):
            assert answers[one] != pytest.approx(answers[other], rel=1e-9), (name, one, other)


def _answers(function, cases):
    """What the function gives on each case; a division by zero counts as infinity."""
    found = []
    for case in cases:
        try:
            found.append(float(function(*case.inputs.values())))
        except ZeroDivisionError:
            found.append(math.inf)
    return found


def assert_short_text_without_code(every_result, *more_code, longest=200):
    """Twice the same short lines of text, without an address and without code that would give the answer away."""
    shown = list(map(repr, every_result()))
    assert shown == list(map(repr, every_result()))
    for text in shown:
        assert not re.search("|".join((*CODE, *more_code)), text), text
        assert "0x" not in text
        assert all(len(line) <= longest for line in text.splitlines()), text
