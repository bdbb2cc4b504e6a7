"""Every exercise has its box and its check; a stub is "not done yet"; a solution passes, and its minutes add up."""

import ast
import json
import re
from pathlib import Path

import pytest

from kvlib import check
from kvlib.check.base import Result
from tests.check.exercise_pages import checks, exercise_of

EXERCISES = Path(__file__).resolve().parents[2] / "exercises"
SOURCES = sorted((EXERCISES / "source").glob("*.md"))
LEARNER = sorted(EXERCISES.glob("*.ipynb"))
SOLVED = sorted((EXERCISES / "solutions").glob("*.ipynb"))

HEADING = re.compile(r"^## Exercise (\d+): (.+)$", re.MULTILINE)
BOX = re.compile(r"^\*\*(\d+) min · (●○○|●●○|●●●) · why it matters:\*\* \S", re.MULTILINE)
CHECK = re.compile(r"^check\.ex(\d\d)\.(\w+)\(", re.MULTILINE)


def stem(path):
    return path.stem


def cells(path, kind):
    page = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == kind]


def checked(path):
    """Run the page; what each check gave. Only an unwritten exercise may stop a cell."""
    names, results = {}, []
    for source in cells(path, "code"):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), names)
        if last:
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
            results += [value] if isinstance(value, Result) else []
    return results


@pytest.mark.parametrize("path", SOURCES, ids=stem)
def test_exercises_are_numbered_and_each_has_minutes_difficulty_a_reason_and_a_check(path):
    text = path.read_text(encoding="utf-8")
    parts = HEADING.split(text)[1:]
    numbers, bodies = parts[0::3], parts[2::3]
    assert len(numbers) >= 6
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    for number, body in zip(numbers, bodies, strict=True):
        assert len(BOX.findall(body)) == 1, f"exercise {number} needs one box"
        assert CHECK.search(body), f"exercise {number} has no check"
        assert CHECK.search(body)[1] == path.stem[:2], f"exercise {number} calls another page's check"


@pytest.mark.parametrize("path", SOURCES, ids=stem)
def test_every_check_says_the_number_that_its_exercise_has_on_the_page(path):
    page = getattr(check, f"ex{path.stem[:2]}")
    called = [CHECK.findall(body)[-1][1] for body in HEADING.split(path.read_text(encoding="utf-8"))[3::3]]
    assert [check_.__name__ for check_ in checks(page)] == called
    assert [exercise_of(check_) for check_ in checks(page)] == list(range(1, len(called) + 1))


@pytest.mark.parametrize("path", SOURCES, ids=stem)
def test_the_minutes_of_the_exercises_add_up(path):
    text = path.read_text(encoding="utf-8")
    total = int(re.search(r"^exercise_minutes: (\d+)$", text, re.MULTILINE)[1])
    assert sum(int(minutes) for minutes, _ in BOX.findall(text)) == total
    assert all(int(said) == total for said in re.findall(r"^(\d+) min · ", text, re.MULTILINE))


@pytest.mark.parametrize("path", SOURCES, ids=stem)
def test_difficulty_goes_from_a_warm_up_to_a_puzzle(path):
    circles = [difficulty for _, difficulty in BOX.findall(path.read_text(encoding="utf-8"))]
    assert circles[0] == "●○○"
    assert circles[-1] == "●●●"


@pytest.mark.parametrize("path", LEARNER, ids=stem)
def test_the_learners_page_says_at_once_that_it_is_unfinished_on_purpose(path):
    first = " ".join(cells(path, "markdown")[0].split())
    assert "unfinished on purpose" in first
    assert "not done yet" in first


@pytest.mark.parametrize("path", LEARNER, ids=stem)
def test_every_stub_is_not_done_yet(path):
    results = checked(path)
    assert len(results) == len(HEADING.findall("\n".join(cells(path, "markdown"))))
    assert all(repr(result).endswith(": not done yet") and not result.ok for result in results)


@pytest.mark.parametrize("path", SOLVED, ids=stem)
def test_every_solution_passes(path):
    results = checked(path)
    assert len(results) == len(HEADING.findall("\n".join(cells(path, "markdown"))))
    assert [repr(result) for result in results if not result.ok] == []


@pytest.mark.parametrize("path", LEARNER, ids=stem)
def test_no_solution_is_left_on_the_learners_page(path):
    stubs = [source for source in cells(path, "code") if "raise NotImplementedError" in source]
    assert len(stubs) == len(HEADING.findall("\n".join(cells(path, "markdown"))))
    assert not any("# solution" in source for source in cells(path, "code"))
    assert all(source.rstrip().split("\n")[-1].lstrip().startswith("raise NotImplementedError") for source in stubs)
