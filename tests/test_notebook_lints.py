"""What every page keeps: its structure, short cells, links that lead somewhere, outputs that are the same everywhere.

A rule is a function from a page to the problems it finds. The second half of this file proves that each rule can fail.
"""

import copy
import json
import re
import statistics
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEARNER = sorted((ROOT / "exercises").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "exercises/solutions").glob("*.ipynb"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

OPENING = ["What you'll do", "What you'll learn", "What you'll need"]
CLOSING = ["Summary", "Exercises", "In practice", "Under the hood", "Sources of the numbers"]
SHORT, LONG = 8, 15  # non-blank lines of a code cell: the rule, and the limit of a page's one exception
WORDS = 75  # median of a lesson's prose cells
IGNORED_OUTPUTS = 1  # cells per page whose outputs nbval need not compare

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
IMG = re.compile(r"<img\b[^>]*>")
SVG = re.compile(r"<svg\b[^>]*>")
MACHINE = re.compile(r"(?<![\w./-])/(home|root|tmp|usr|opt|var|Users|private|mnt)/|\b[A-Z]:\\\\?\w")
# A date alone is fine: every price has one. A time of day means that the clock was read.
CLOCK = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\b\d\d:\d\d:\d\d\b|<dc:date>")
NBVAL = re.compile(r"^#\s*NBVAL_", re.MULTILINE)


# ---------------------------------------------------------------- a page


def parse(text, folder=ROOT / "notebooks", number="01"):
    """A notebook's JSON as what the rules look at."""
    cells = [
        SimpleNamespace(
            id=cell["id"],
            code=cell["cell_type"] == "code",
            source="".join(cell["source"]).replace("’", "'"),
            tags=cell["metadata"].get("tags", []),
            count=cell.get("execution_count"),
            outputs=cell.get("outputs", []),
        )
        for cell in json.loads(text)["cells"]
    ]
    return SimpleNamespace(cells=cells, folder=folder, number=number)


def read(path):
    return parse(path.read_text(encoding="utf-8"), path.parent, path.name[:2])


def code(page):
    return [cell for cell in page.cells if cell.code]


def prose(page):
    return [cell for cell in page.cells if not cell.code]


def lines(cell):
    return [line for line in cell.source.split("\n") if line.strip()]


def joined(value):
    return "".join(value) if isinstance(value, list) else value


def output_texts(cell):
    """Everything a cell shows as text, SVG and HTML included."""
    for output in cell.outputs:
        yield joined(output.get("text", ""))
        yield from (
            joined(data) for kind, data in output.get("data", {}).items() if not re.match("image/(png|jp)", kind)
        )


# ---------------------------------------------------------------- rules for every page


def no_empty_cell(page):
    return [cell.id for cell in page.cells if not cell.source.strip()]


def links_lead_somewhere(page):
    targets = [(cell.id, found) for cell in prose(page) for found in relative_links(cell.source)]
    return [f"{cell}: {target}" for cell, target in targets if not (page.folder / target).exists()]


def relative_links(text):
    """Files that a Markdown text links to or shows."""
    found = LINK.findall(text) + [target for _, target in PICTURE.findall(text)]
    return [unquote(target.split("#")[0]) for target in found if not re.match(r"[a-z]+:|#", target)]


def pictures_have_alternatives(page):
    """Markdown and HTML pictures, PNG outputs (in their metadata) and SVG outputs (as aria-label)."""
    for cell in page.cells:
        texts = [*output_texts(cell), *([] if cell.code else [cell.source])]
        missing = [target for text in texts for alt, target in PICTURE.findall(text) if not alt.strip()]
        missing += [tag for text in texts for tag in IMG.findall(text) if not re.search(r'\balt="[^"]+"', tag)]
        missing += [tag for text in texts for tag in SVG.findall(text) if not re.search(r'\baria-label="[^"]+"', tag)]
        for output in cell.outputs:
            for kind in {"image/png", "image/jpeg"} & set(output.get("data", {})):
                if not output.get("metadata", {}).get(kind, {}).get("alt"):
                    missing.append(kind)
        yield from (f"{cell.id}: {what[:80]}" for what in missing)


def no_semicolon_at_a_cell_end(page):
    return [cell.id for cell in code(page) if cell.source.rstrip().endswith(";")]


def no_interact_and_no_output_widget(page):
    return [
        cell.id for cell in code(page) if re.search(r"\binteract(ive|_manual|ive_output)?\b|\bOutput\(", cell.source)
    ]


def code_cells_are_short(page):
    long = [cell for cell in code(page) if len(lines(cell)) > SHORT]
    excused = next((cell for cell in long if "long-cell" in cell.tags and len(lines(cell)) <= LONG), None)
    return [f"{cell.id}: {len(lines(cell))} lines" for cell in long if cell is not excused]


def ignored_outputs_are_few_and_explained(page):
    ignored = [cell for cell in code(page) if NBVAL.search(cell.source) or any("nbval" in tag for tag in cell.tags)]
    for cell in ignored:
        comments = [line for line in lines(cell) if line.startswith("# ") and not NBVAL.match(line)]
        if not any(len(comment.split()) > 3 for comment in comments):
            yield f"{cell.id}: say in a comment why the output is not compared"
    if len(ignored) > IGNORED_OUTPUTS:
        yield f"{len(ignored)} cells are not compared, the budget is {IGNORED_OUTPUTS}"


# ---------------------------------------------------------------- rules for executed pages


def every_cell_was_run_in_order(page):
    counts = [cell.count for cell in code(page)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"counts are {counts}"]


def no_error_that_is_not_meant(page):
    failed = [cell for cell in code(page) if any(output["output_type"] == "error" for output in cell.outputs)]
    return [cell.id for cell in failed if "raises-exception" not in cell.tags]


def outputs_are_the_same_on_every_machine(page):
    for cell in code(page):
        for text in output_texts(cell):
            for found in (re.search(r"\bat 0x[0-9a-f]+", text), MACHINE.search(text), CLOCK.search(text)):
                if found:
                    yield f"{cell.id}: {text[max(0, found.start() - 20) : found.end() + 40]!r}"


def there_is_something_to_compare(page):
    return [] if any(cell.outputs for cell in code(page)) else ["no cell has an output: nbval would compare nothing"]


# ---------------------------------------------------------------- rules for lessons


def opens_with_do_learn_need_and_minutes(page):
    first_code = next((index for index, cell in enumerate(page.cells) if cell.code), len(page.cells))
    opening = "\n".join(cell.source for cell in page.cells[:first_code])
    places = [opening.find(words) for words in OPENING]
    if -1 in places or places != sorted(places):
        yield f"before the first code cell must stand, in this order: {', '.join(OPENING)}"
    if not re.search(r"\b\d+ min", opening):
        yield "the opening must say how many minutes the page takes"


def closes_with_the_five_parts(page):
    """The start page is shorter: it needs a summary only."""
    headings = [line[3:].strip() for cell in prose(page) for line in cell.source.split("\n") if line.startswith("## ")]
    closing = headings[-len(CLOSING) :]
    if page.number == "00":
        return [] if "Summary" in headings else ["there must be a heading Summary"]
    return [] if closing == CLOSING else [f"the last headings are {closing}, not {CLOSING}"]


def prose_keeps_up_with_code(page):
    ratio = len(prose(page)) / max(1, len(code(page)))
    return [] if ratio >= 0.9 else [f"{ratio:.2f} cells of prose per cell of code, at least 0.9 wanted"]


def prose_cells_are_short(page):
    median = statistics.median(len(cell.source.split()) for cell in prose(page))
    return [] if median <= WORDS else [f"half of the prose cells have {median} words or more, at most {WORDS} wanted"]


EVERY_PAGE = [
    no_empty_cell,
    links_lead_somewhere,
    pictures_have_alternatives,
    no_semicolon_at_a_cell_end,
    no_interact_and_no_output_widget,
    code_cells_are_short,
    ignored_outputs_are_few_and_explained,
]
EXECUTED = [
    every_cell_was_run_in_order,
    no_error_that_is_not_meant,
    outputs_are_the_same_on_every_machine,
    there_is_something_to_compare,
]
LESSON = [
    opens_with_do_learn_need_and_minutes,
    closes_with_the_five_parts,
    prose_keeps_up_with_code,
    prose_cells_are_short,
]
CASES = [(path, rule) for path in [*LESSONS, *LEARNER, *SOLUTIONS] for rule in EVERY_PAGE]
CASES += [(path, rule) for path in [*LESSONS, *SOLUTIONS] for rule in EXECUTED]
CASES += [(path, rule) for path in LESSONS for rule in LESSON]


@pytest.mark.parametrize(
    ("path", "rule"), CASES, ids=[f"{path.parent.name}/{path.stem}-{rule.__name__}" for path, rule in CASES]
)
def test_page(path, rule):
    assert list(rule(read(path))) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_of_the_top_level_texts(path):
    text = path.read_text(encoding="utf-8")
    assert [target for target in relative_links(text) if not (ROOT / target).exists()] == []


def test_there_are_pages():
    assert LESSONS
    assert LEARNER
    assert [path.name for path in LEARNER] == [path.name for path in SOLUTIONS]


# ---------------------------------------------------------------- each rule can fail


def markdown(source):
    return {"cell_type": "markdown", "id": "prose", "metadata": {}, "source": source}


def cell(source, count=1, outputs=(), **metadata):
    return {"cell_type": "code", "id": "code", "metadata": metadata, "source": source, "execution_count": count,
            "outputs": list(outputs)}  # fmt: skip


def shown(kind, data, **metadata):
    return {"output_type": "display_data", "data": {kind: data}, "metadata": metadata}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
GOOD = [
    markdown(f"# count it\n\n20 min. {' '.join(OPENING)} [the sources](source) ![a bar](source)"),
    cell("print(1)", 1, [printed("1, as of 2026-10-01\n"), shown("image/png", "aGk=", **{"image/png": {"alt": "a"}})]),
    *[markdown(f"## {heading}") for heading in CLOSING],
    cell("x = 1 / 0", 2, [ERROR, shown("image/svg+xml", '<svg aria-label="a bar">')], tags=["raises-exception"]),
]
FOLDER = "/".join(["", "home", "me"])


def with_code(source, outputs=(), **metadata):
    """The good page with another first code cell."""
    return [GOOD[0], cell(source, 1, outputs, **metadata), *GOOD[2:]]


def with_prose(source):
    """The good page with one more prose cell."""
    return [GOOD[0], markdown(source), *GOOD[1:]]


TWO_IGNORED = "# NBVAL_IGNORE_OUTPUT\n# the clock differs from run to run\nx"
BAD = [
    (no_empty_cell, with_prose(" \n")),
    (links_lead_somewhere, with_prose("[gone](../notebooks/nowhere.md#part)")),
    (links_lead_somewhere, with_prose("![a bar](gone.png)")),
    (pictures_have_alternatives, with_prose("![](source)")),
    (pictures_have_alternatives, with_prose('<img src="source">')),
    (pictures_have_alternatives, with_prose('<img src="source" alt="">')),
    (pictures_have_alternatives, with_code("x", [shown("image/png", "aGk=")])),
    (pictures_have_alternatives, with_code("x", [shown("image/svg+xml", "<svg></svg>")])),
    (pictures_have_alternatives, with_code("x", [shown("text/html", ["<p>a</p>", "<svg></svg>"])])),
    (no_semicolon_at_a_cell_end, with_code("x = 1\nx;\n")),
    (no_interact_and_no_output_widget, with_code("widgets.interact(f, x=3)")),
    (no_interact_and_no_output_widget, with_code("with widgets.Output():\n    x")),
    (code_cells_are_short, with_code("\n\n".join("x = 1" for _ in range(SHORT + 1)))),
    (code_cells_are_short, with_code("\n".join("x = 1" for _ in range(LONG + 1)), tags=["long-cell"])),
    (code_cells_are_short, with_code("\n".join("x = 1" for _ in range(LONG)), tags=["long-cell"]) * 2),
    (ignored_outputs_are_few_and_explained, with_code("x", tags=["nbval-ignore-output"])),
    (ignored_outputs_are_few_and_explained, with_code("# NBVAL_SKIP\nx")),
    (ignored_outputs_are_few_and_explained, [cell(TWO_IGNORED), cell(TWO_IGNORED)]),
    (every_cell_was_run_in_order, [cell("x", 2), cell("x", 1)]),
    (every_cell_was_run_in_order, [cell("x", None)]),
    (no_error_that_is_not_meant, with_code("x", [ERROR])),
    (outputs_are_the_same_on_every_machine, with_code("x", [printed("<object object at 0x7f00a0>")])),
    (outputs_are_the_same_on_every_machine, with_code("x", [printed(f"read {FOLDER}/file")])),
    (outputs_are_the_same_on_every_machine, with_code("x", [printed("read C:\\data")])),
    (outputs_are_the_same_on_every_machine, with_code("x", [shown("text/html", "2026-01-01T10:30")])),
    (outputs_are_the_same_on_every_machine, with_code("x", [printed("took 00:00:03")])),
    (there_is_something_to_compare, [cell("x")]),
    (opens_with_do_learn_need_and_minutes, GOOD[1:]),
    (opens_with_do_learn_need_and_minutes, [markdown(" ".join(OPENING))]),
    (opens_with_do_learn_need_and_minutes, [markdown(" ".join(["20 min", *reversed(OPENING)]))]),
    (opens_with_do_learn_need_and_minutes, [GOOD[1], *GOOD]),
    (closes_with_the_five_parts, GOOD[:5]),
    (closes_with_the_five_parts, [*GOOD, markdown("## One more thing")]),
    (prose_keeps_up_with_code, GOOD + [cell("x")] * 6),
    (prose_cells_are_short, [markdown("word " * (WORDS + 1))]),
]


def page_of(cells):
    return parse(json.dumps({"cells": copy.deepcopy(cells)}))


@pytest.mark.parametrize("rule", [*EVERY_PAGE, *EXECUTED, *LESSON], ids=lambda rule: rule.__name__)
def test_the_rule_accepts_a_good_page(rule):
    assert list(rule(page_of(GOOD))) == []


@pytest.mark.parametrize(
    ("rule", "cells"), BAD, ids=[f"{number}-{rule.__name__}" for number, (rule, _) in enumerate(BAD)]
)
def test_the_rule_finds_the_problem(rule, cells):
    assert list(rule(page_of(cells)))


def test_no_rule_goes_without_a_bad_example():
    assert {rule for rule, _ in BAD} == {*EVERY_PAGE, *EXECUTED, *LESSON}


def test_one_long_cell_is_excused():
    assert not code_cells_are_short(page_of(with_code("\n".join("x = 1" for _ in range(LONG)), tags=["long-cell"])))


def test_the_start_page_may_close_with_its_summary():
    page = page_of([markdown("## Summary"), markdown("## Next")])
    page.number = "00"
    assert not closes_with_the_five_parts(page)
