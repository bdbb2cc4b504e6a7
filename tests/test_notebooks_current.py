"""The committed notebooks are what their text says, and the learner's pages fail only where they are meant to."""

import build_notebooks as builder
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = builder.REPOSITORY
TARGETS = builder.targets(ROOT)
LEARNER = [target.path for target in TARGETS if not target.executed]


def name(path):
    return str(path.relative_to(ROOT))


def test_there_is_something_to_compare():
    assert [target for target in TARGETS if target.path.parent.name == "notebooks"]
    assert LEARNER


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: name(target.path))
def test_a_rebuild_gives_the_same_bytes(target):
    assert target.path.exists(), "not built yet: run `make notebooks`"
    change = builder.difference(target.path, ROOT, target.build())
    assert not change, f"run `make notebooks`; it would change this:\n{change}"


def test_no_notebook_is_without_a_source():
    assert not list(builder.strays(ROOT))


def test_the_readme_lists_the_notebooks_there_are():
    change = builder.difference(ROOT / "README.md", ROOT, builder.build_readme(ROOT))
    assert not change, f"run `make notebooks`; it would change this:\n{change}"


@pytest.mark.parametrize("path", LEARNER, ids=name)
def test_a_learner_page_fails_only_by_its_stubs(path):
    page = nbformat.read(path, as_version=4)
    NotebookClient(page, timeout=60, allow_errors=True, resources={"metadata": {"path": str(path.parent)}}).execute()
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    errors = [output.ename for cell in code for output in cell.outputs if output.output_type == "error"]
    assert sum(builder.STUB[0] in cell.source for cell in code) > 0, "no stub: what is there to do?"
    assert set(errors) <= {"NotImplementedError"}
