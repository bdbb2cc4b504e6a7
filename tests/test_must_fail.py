"""The gate can fail: a wrong formula, a wrong number and a broken slider each turn strict nbval red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
LESSON = ROOT / "notebooks/01_kv_cache.ipynb"

# In kvlib/model.py a token of a Full layer leaves a key and a value. Without the value the cache is half as large.
KEY_AND_VALUE = "(self.key_dim + self.value_dim)"
KEY_ONLY = "self.key_dim"


def nbval(*notebooks, path=None):
    """Strict nbval on some notebooks of one folder, with `path` before everything else on the kernel's import path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHONPATH"))}
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=60", "--quiet"]
    folder = notebooks[0].parent
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--rootdir={folder}", *map(str, notebooks)],
        env=environment | ({"PYTHONPATH": str(path)} if path else {}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def copied(tmp_path):
    """The package and the lesson on the KV cache, apart from the repository."""
    shutil.copytree(ROOT / "kvlib", tmp_path / "kvlib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(LESSON, tmp_path / "notebooks")
    return tmp_path


def test_the_copied_lesson_passes(copied):
    result = nbval(copied / "notebooks" / LESSON.name, path=copied)
    assert result.returncode == 0, result.stdout[-3000:]


def test_a_formula_that_forgets_the_values_turns_the_lesson_red(copied):
    formula = copied / "kvlib/model.py"
    text = formula.read_text(encoding="utf-8")
    assert text.count(KEY_AND_VALUE) == 1, "the formula has moved: adapt KEY_AND_VALUE"
    formula.write_text(text.replace(KEY_AND_VALUE, KEY_ONLY), encoding="utf-8")
    result = nbval(copied / "notebooks" / LESSON.name, path=copied)
    assert result.returncode == 1, result.stdout[-3000:]
    assert "failed" in result.stdout.splitlines()[-1]


def write_notebook(path, source, printed):
    """A notebook of one executed cell that is said to have printed a text."""
    cell = new_code_cell(source, execution_count=1, outputs=[new_output("stream", name="stdout", text=printed)])
    nbformat.write(new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "p"}}), path)
    return path


SLIDER = """\
import ipywidgets
slider = ipywidgets.IntSlider(1, 1, 100)
slider.observe(lambda change: print(80 // {}), "value")
slider.value = 40
"""


NUMBER = "print({} * 32 * 8 * 128 * 2)"


def test_small_faults_turn_notebooks_red(tmp_path):
    """The same two cells with a right and a wrong part: two pass, two fail."""
    right = [
        write_notebook(tmp_path / "right_number.ipynb", NUMBER.format(2), "131072\n"),
        write_notebook(tmp_path / "right_callback.ipynb", SLIDER.format("change.new"), "2\n"),
    ]
    wrong = [
        write_notebook(tmp_path / "wrong_number.ipynb", NUMBER.format(1), "131072\n"),
        write_notebook(tmp_path / "raising_callback.ipynb", SLIDER.format("(change.new - 40)"), "2\n"),
    ]
    report = nbval(*right, *wrong).stdout.splitlines()
    assert "2 failed, 2 passed" in report[-1]
    assert {line.split("::")[0] for line in report if line.startswith("FAILED")} == {
        f"FAILED {path.name}" for path in wrong
    }
