"""The notebook builder, on sources of a few lines."""

import ast
import json
import re

import build_notebooks as builder
import pytest

LESSON = """\
---
title: count it
minutes: 5
summary: One token, how many bytes?
---

# Count it

```{code-cell}
print("one")
print("two", flush=True)
2 * 3
```

Prose with $x^2$.

+++

A second cell of prose.

```{code-cell}
from IPython.display import display
display({"image/png": "aGk="}, raw=True, metadata={"image/png": {"alt": "a rising line"}})
```

```{code-cell}
import ipywidgets
ipywidgets.IntSlider(3, description="layers")
```

```{code-cell}
:tags: [raises-exception]
import json
json.loads("nonsense")
```
"""

EXERCISE = """\
---
title: count it yourself
exercise_minutes: 7
summary: Bytes of one token.
---

# Exercise

```{code-cell}
def double(number):
    \"\"\"Twice the number.\"\"\"
    # solution
    twice = number + number
    return twice
```

```{code-cell}
:tags: [solution]
print("for the teacher", double(4))
```

```{code-cell}
:tags: [learner]
print("for the learner")
```
"""

README = """\
# Course

<!-- binder:begin -->
<!-- binder:end -->

<!-- notebooks:begin -->
<!-- notebooks:end -->

The end.
"""

SETTINGS = '[tool.kvlib]\nbinder = "https://binder.example/course?urlpath=lab/tree/"\n'


def write_root(root, lesson=LESSON):
    """A repository with one lesson and its exercise."""
    for folder, text in (("notebooks", lesson), ("exercises", EXERCISE)):
        source = root / folder / "source"
        source.mkdir(parents=True)
        (source / "00_count.md").write_text(text, encoding="utf-8")
    (root / "README.md").write_text(README, encoding="utf-8")
    (root / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    return root


def build(root, *arguments):
    """Run the program; its exit status (0, 1, or the text of an error)."""
    return builder.main([*arguments, "--root", str(root)])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repository, built once for all tests that only look at it."""
    root = write_root(tmp_path_factory.mktemp("course"))
    assert build(root) == 0
    return root


def cells(path):
    """Code cells of a notebook file."""
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def source_page(tmp_path, text, folder="notebooks"):
    """The page that a source's text becomes."""
    path = tmp_path / folder / "source" / "00_count.md"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return builder.read_source(path)


# ---------------------------------------------------------------- the built file


def test_outputs_and_counts_are_stored(built):
    first = cells(built / "notebooks/00_count.ipynb")[0]
    assert first["outputs"][0]["text"] == ["one\n", "two\n"]
    assert first["outputs"][1]["data"]["text/plain"] == ["6"]
    assert [cell["execution_count"] for cell in cells(built / "notebooks/00_count.ipynb")] == [1, 2, 3, 4]


def test_metadata_holds_nothing_of_the_machine(built):
    metadata = json.loads((built / "notebooks/00_count.ipynb").read_text())["metadata"]
    assert metadata == {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "title": "count it",
    }


def test_a_picture_keeps_its_text_alternative(built):
    picture = cells(built / "notebooks/00_count.ipynb")[1]["outputs"][0]
    assert picture["metadata"] == {"image/png": {"alt": "a rising line"}}


def test_a_widget_keeps_its_text_and_loses_its_random_id(built):
    text = (built / "notebooks/00_count.ipynb").read_text()
    assert "IntSlider(value=3" in text
    assert "widget-view" not in text
    assert "model_id" not in text


def test_an_error_on_purpose_keeps_its_message_and_loses_its_paths(built):
    error = cells(built / "notebooks/00_count.ipynb")[3]["outputs"][0]
    assert error["ename"] == "JSONDecodeError"
    assert error["traceback"] == [f"JSONDecodeError: {error['evalue']}"]


def test_two_builds_are_byte_identical(built):
    notebooks = sorted(built.rglob("*.ipynb"))
    before = [path.read_bytes() for path in notebooks]
    for path in notebooks:
        path.unlink()
    assert build(built) == 0
    assert len(notebooks) == 3
    assert [path.read_bytes() for path in notebooks] == before


# ---------------------------------------------------------------- learner and solution


def test_the_learner_gets_a_stub_and_no_solution(built):
    page = cells(built / "exercises/00_count.ipynb")
    stub = "".join(page[0]["source"])
    assert stub.split("\n")[-2:] == ["    " + line for line in builder.STUB]
    assert ast.get_docstring(ast.parse(stub).body[0]) == "Twice the number."
    text = (built / "exercises/00_count.ipynb").read_text()
    assert "twice = " not in text
    assert "for the teacher" not in text
    assert "for the learner" in text


def test_the_learner_page_is_not_executed(built):
    assert all(
        cell["execution_count"] is None and not cell["outputs"] for cell in cells(built / "exercises/00_count.ipynb")
    )


def test_the_stub_raises_only_not_implemented(built):
    names = {}
    exec("".join(cells(built / "exercises/00_count.ipynb")[0]["source"]), names)
    with pytest.raises(NotImplementedError):
        names["double"](4)


def test_the_solved_page_works_and_shows_no_marker(built):
    path = built / "exercises/solutions/00_count.ipynb"
    page = cells(path)
    assert page[1]["outputs"][0]["text"] == ["for the teacher 8\n"]
    assert builder.MARKER not in path.read_text()
    assert "for the learner" not in path.read_text()


def test_a_marker_inside_a_line_is_code():
    source = "answer = 1  # solution of the equation"
    assert builder.learner_source(source) == source
    assert builder.solved_source(source) == source


# ---------------------------------------------------------------- cell ids


def test_ids_come_from_the_text_and_are_unique(tmp_path):
    prose = ["# How big is it?", "# How big is it?", "How big is it 2", "# 鍵", "# " + "long " * 60]
    page = source_page(tmp_path, "---\ntitle: t\nminutes: 1\nsummary: s\n---\n\n" + "\n\n+++\n\n".join(prose))
    builder.set_ids(page)
    ids = [cell.id for cell in page.cells]
    assert ids[:4] == ["how-big-is-it", "how-big-is-it-2", "how-big-is-it-2-2", "markdown"]
    assert len(set(ids)) == len(ids) == 5
    assert all(re.fullmatch(r"[a-z0-9-]{1,64}", name) for name in ids)


# ---------------------------------------------------------------- what stops a build


def test_an_error_in_a_cell_names_the_cell_and_writes_nothing(tmp_path):
    wrong = LESSON.replace("2 * 3", "2 / 0").replace('print("one")', "# The faulty one\nprint(1)")
    root = write_root(tmp_path, wrong)
    message = build(root)
    assert "00_count.ipynb" in message
    assert "'the-faulty-one'" in message
    assert "ZeroDivisionError: division by zero" in message
    assert not (root / "notebooks/00_count.ipynb").exists()


@pytest.mark.parametrize("key", ["title", "minutes", "summary"])
def test_missing_front_matter_is_named(tmp_path, key):
    with pytest.raises(builder.BuildError, match=f"has no '{key}'"):
        source_page(tmp_path, re.sub(f"^{key}: .*\n", "", LESSON, flags=re.MULTILINE))


def test_an_exercise_needs_its_own_minutes(tmp_path):
    with pytest.raises(builder.BuildError, match="exercise_minutes"):
        source_page(tmp_path, EXERCISE.replace("exercise_minutes", "minutes"), folder="exercises")


@pytest.mark.parametrize("directive", ["```{note}\nx\n```", ":::{tip}\nx\n:::"])
def test_a_directive_that_readers_would_see_raw_is_refused(tmp_path, directive):
    with pytest.raises(builder.BuildError, match="not plain Markdown"):
        source_page(tmp_path, LESSON.replace("A second cell of prose.", directive))


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    message = build(write_root(tmp_path), "01_typo")
    assert "'01_typo'" in message
    assert "00_count" in message


# ---------------------------------------------------------------- --check and README.md


def test_check_passes_on_a_fresh_build_and_names_what_is_stale(built, tmp_path, capsys):
    root = write_root(tmp_path)
    for path in built.rglob("*.ipynb"):
        target = root / path.relative_to(built)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes().replace(b'"6"', b'"7"'))
    (root / "notebooks/99_stray.ipynb").write_text("{}")
    before = {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file()}
    assert build(root, "--check") == 1
    report = capsys.readouterr().out
    assert "notebooks/00_count.ipynb rebuilt" in report
    assert '+       "6"' in report
    assert "README.md rebuilt" in report
    assert "99_stray.ipynb: no source" in report
    assert "exercises/00_count.ipynb rebuilt" not in report
    assert {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file()} == before
    assert build(built, "--check") == 0


def test_the_table_says_what_the_front_matter_says(built):
    text = (built / "README.md").read_text()
    link = "https://binder.example/course?urlpath=lab/tree/notebooks/00_count.ipynb"
    assert (
        "| [00 count it](notebooks/00_count.ipynb) | 5 | One token, how many bytes? "
        f"| [7 min](exercises/00_count.ipynb) | [Binder]({link}) |\n"
    ) in text
    assert text.endswith("The end.\n")


def test_a_readme_without_the_markers_is_refused(tmp_path):
    root = write_root(tmp_path)
    (root / "README.md").write_text("# Course\n")
    with pytest.raises(builder.BuildError, match="binder:begin"):
        builder.build_readme(root)
