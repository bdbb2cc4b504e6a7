"""What every check of every page does alike: stubs, odd answers, exceptions and bad designs get a kind, exact line."""

import inspect
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from kvlib import check
from kvlib.check.base import Result
from tests.check.exercise_pages import checks, puzzles, questions, returning

PAGES = [getattr(check, page) for page in check.__all__]
CHECKS = [check_ for page in PAGES for check_ in checks(page)]
QUESTIONS = [getattr(page, name) for page in PAGES for name in sorted(questions(page))]
FIELDS = {getattr(page, name): puzzle.fields for page in PAGES for name, puzzle in sorted(puzzles(page).items())}


def page_and_name(check_):
    return f"{check_.__module__.rpartition('.')[2]}.{check_.__name__}"


for_every_check = pytest.mark.parametrize("check_", CHECKS, ids=page_and_name)
for_every_question = pytest.mark.parametrize("check_", QUESTIONS, ids=page_and_name)
for_every_puzzle = pytest.mark.parametrize("check_", FIELDS, ids=page_and_name)


# ---------------------------------------------------------------- what a notebook shows


def test_a_result_is_shown_as_text():
    assert not any(hasattr(Result, method) for method in ("_repr_html_", "_repr_mimebundle_"))


@pytest.mark.parametrize("page", PAGES, ids=check.__all__)
def test_every_question_says_its_arguments(page):
    for name, question in questions(page).items():
        arguments = ", ".join(question.cases[0].inputs)
        assert f"`function({arguments})`" in inspect.getdoc(getattr(page, name)), name


@pytest.mark.parametrize("page", PAGES, ids=check.__all__)
def test_every_question_has_several_cases_and_no_two_alike(page):
    for name, question in questions(page).items():
        inputs, labels = ({repr(case.inputs) for case in question.cases}, {case.label for case in question.cases})
        assert len(question.cases) == len(inputs) == len(labels) >= 3, name


# ---------------------------------------------------------------- stubs, odd answers, exceptions


@for_every_check
def test_a_stub_is_not_done_yet(check_):
    def stub(*inputs):
        raise NotImplementedError("write this part, then run the cell again")

    result = check_(stub)
    assert repr(result) == f"{check_.__name__}: not done yet"
    assert (result.ok, result.done, result.mistake) == (False, False, None)


@for_every_question
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "your function returned None: is a `return` missing?"),
        ("131072", "your function returned the text '131072': return the bare number, without a unit"),
        ("128 KiB", "your function returned the text '128 KiB': return the bare number, without a unit"),
        (True, "your function returned True, of type bool: return one number"),
        (np.True_, "your function returned True, of type bool: return one number"),
        (float("nan"), "your function returned nan, which is not a number"),
        (np.float32("nan"), "your function returned nan, which is not a number"),
        (Decimal("NaN"), "your function returned nan, which is not a number"),
        (float("inf"), "your function returned inf, which is infinite"),
        (float("-inf"), "your function returned -inf, which is infinite"),
        (-5, "your function returned -5: a count is never below zero"),
        (-0.5, "your function returned -0.5: a count is never below zero"),
        (3j, "your function returned 3j, of type complex: return one number"),
        ([131_072], "your function returned [131072], of type list: return one number"),
        (np.array([1, 2]), "your function returned array([1, 2]), of type ndarray: return one number"),
        ({}, "your function returned {}, of type dict: return one number"),
        (object(), "your function returned <object object>, of type object: return one number"),
    ],
    ids=lambda value: None if type(value) is object else repr(value),  # an address would differ between workers
)
def test_an_odd_answer_is_explained(check_, value, says):
    result = check_(returning(value))
    assert (result.ok, result.done, result.mistake) == (False, True, None)
    assert result.lines[1:] == (f"  wrong  every case: {says}",)


@for_every_question
def test_answers_of_any_size_are_shown(check_):
    for value in (1e300, 0, 0.25, 1e-300):
        result = check_(returning(value))
        assert not result.ok
        assert all(len(line) < 400 for line in result.lines)


@for_every_question
def test_answers_beyond_every_float_are_shown(check_):
    for value in (10**5_000, Fraction(10**400, 3), 1.7e308):
        result = check_(returning(value))
        assert not result.ok
        assert all("a number of more than 21 digits" in line and len(line) < 400 for line in result.lines[1:])


@for_every_check
def test_an_exception_is_reported_kindly(check_):
    def divides(*inputs):
        return 1 / 0

    def points_at_itself(*inputs):
        raise RuntimeError(f"lost {divides}\n  twice")

    assert "your function stopped with ZeroDivisionError: division by zero" in repr(check_(divides))
    text = repr(check_(points_at_itself))
    assert "your function stopped with RuntimeError: lost <function" in text
    assert "0x" not in text
    assert "\n  twice" not in text


@for_every_check
@pytest.mark.parametrize("value", [None, 131_072, 1.70, "bytes_per_token", {}, [0]])
def test_something_that_is_no_function_is_explained(check_, value):
    result = check_(value)
    assert not result.ok
    assert result.lines[1] == (
        f"  wrong  pass your function itself to the check, without parentheses or quotes; it got {value!r}"
    )


# ---------------------------------------------------------------- designs


@for_every_puzzle
def test_a_design_in_a_bad_form_is_explained(check_):
    good = {key: least for key, (least, _) in FIELDS[check_].items()}
    assert "your function returned None" in check_(returning(None)).lines[1]
    for value in ([1], "layers", 7, {next(iter(good)): 1, "other": 2}, {}, good | {"more": 1}):
        assert f"return a dict with the keys {', '.join(good)}" in check_(returning(value)).lines[1]
    for key, (least, most) in FIELDS[check_].items():
        for bad in (least - 1, most + 1, 1.5, None, "8", float("nan"), float("inf"), 10**30, True, [2]):
            line = check_(returning(good | {key: bad})).lines[1]
            assert line.startswith(f"  wrong  {key} must be a whole number from {least:,} to {most:,}; it is ")
