#!/usr/bin/env python3
"""Build the notebooks from their text: MyST Markdown in, executed .ipynb with outputs out.

    notebooks/source/NN_name.md   ->  notebooks/NN_name.ipynb             executed
    exercises/source/NN_name.md   ->  exercises/NN_name.ipynb             the learner's page, stubs, not executed
                                      exercises/solutions/NN_name.ipynb   the same page solved, executed

It also writes the parts of README.md that come from the sources (the Binder badge, the table of notebooks).
Two builds of the same source are byte-identical: cell ids come from the text, nothing carries a time or a path.

The source format
-----------------
Front matter between two `---` lines: `title`, `summary` (one line), and `minutes` for a lesson, `exercise_minutes` for
exercises.
Prose is Markdown; a line `+++` starts a new Markdown cell, `+++ {"tags": ["solution"]}` starts a tagged one.
Code stands in fences, with tags on an option line:

    ```{code-cell}
    :tags: [solution]
    print("only in the solved page")
    ```

Tags:    `solution`          the cell is left out of the learner's page
         `learner`           the cell is left out of the solved page
         `raises-exception`  the cell is meant to end in an error
Marker:  a line `# solution` in a code cell. What stands above it is for both pages. What stands below it, to the
         end of the cell, is the solution: the learner's page has a stub there, with the marker's indentation.

    def bytes_per_token(layers, kv_heads, head_dim):
        \"\"\"Bytes that one token leaves in the cache.\"\"\"
        # solution
        return 2 * layers * kv_heads * head_dim * 2
"""

import argparse
import copy
import difflib
import re
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
FRONT_MATTER = {"notebooks": ("title", "minutes", "summary"), "exercises": ("title", "exercise_minutes", "summary")}
MARKER = "# solution"
STUB = ("# Write your code here.", 'raise NotImplementedError("write this part, then run the cell again")')
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python"}  # JupyterLite finds its kernel by this; a full record would carry the Python version
CELL_TIMEOUT = 120  # seconds


class BuildError(ValueError):
    """A source that cannot become a notebook: the message names the page, the cell and what would be right."""


# ---------------------------------------------------------------- reading


def read_source(path: Path) -> NotebookNode:
    """The page as a notebook without outputs; `metadata.page` holds its front matter."""
    page = jupytext.reads(path.read_text(encoding="utf-8"), fmt="md:myst")
    front = {key: value for key, value in page.metadata.items() if key not in ("jupytext", "kernelspec")}
    needed = FRONT_MATTER[path.parent.parent.name]
    for key in needed:
        if not front.get(key):
            raise BuildError(f"{path.name}: front matter has no {key!r}; it needs {', '.join(needed)}")
    for cell in page.cells:
        refuse_directives(path.name, cell)
    page.metadata = NotebookNode(page=front)
    return page


def refuse_directives(name: str, cell: NotebookNode) -> None:
    """Stop at a MyST directive in prose: JupyterLab, GitHub and Binder would show it as raw text."""
    if cell.cell_type == "markdown" and (found := re.search(r"^\s*(```+|:::+)\{[\w-]+\}.*", cell.source, re.MULTILINE)):
        raise BuildError(f"{name}: {found[0].strip()!r} is not plain Markdown; only {{code-cell}} is understood")


# ---------------------------------------------------------------- from one source to two pages


def tags(cell: NotebookNode) -> list[str]:
    """The cell's tags, possibly none."""
    return list(cell.metadata.get("tags", []))


def split_at_marker(source: str) -> tuple[list[str], str | None, list[str]]:
    """Lines above the marker, the marker's indentation (None without a marker), lines below it."""
    lines = source.split("\n")
    for number, line in enumerate(lines):
        if line.strip() == MARKER:
            return lines[:number], line[: line.index("#")], lines[number + 1 :]
    return lines, None, []


def learner_source(source: str) -> str:
    """The cell as the learner gets it: a stub in place of the solution."""
    above, indent, _ = split_at_marker(source)
    return source if indent is None else "\n".join(above + [indent + line for line in STUB])


def solved_source(source: str) -> str:
    """The cell with its solution and without the marker line."""
    above, _, below = split_at_marker(source)
    return "\n".join(above + below)


def derive(page: NotebookNode, without: str, source: Callable[[str], str]) -> NotebookNode:
    """A copy of the page without the cells of one tag, every code cell passed through `source`."""
    derived = copy.deepcopy(page)
    derived.cells = [cell for cell in derived.cells if without not in tags(cell)]
    for cell in derived.cells:
        if cell.cell_type == "code":
            cell.source = source(cell.source)
    return derived


def learner_page(page: NotebookNode) -> NotebookNode:
    """What the learner opens: no solutions, stubs where they were."""
    return derive(page, without="solution", source=learner_source)


def solved_page(page: NotebookNode) -> NotebookNode:
    """The same page with every exercise solved."""
    return derive(page, without="learner", source=solved_source)


# ---------------------------------------------------------------- the same bytes on every build


def slug(cell: NotebookNode) -> str:
    """Words of the cell's first line, as a cell id: `## How big is it?` is `how-big-is-it`."""
    first = cell.source.strip().split("\n")[0]
    ascii_only = unicodedata.normalize("NFKD", first).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", ascii_only.lower())
    return "-".join(words)[:48].strip("-") or cell.cell_type


def set_ids(page: NotebookNode) -> None:
    """Give every cell an id made from its text; a repeated one gets -2, -3, ..."""
    used: set[str] = set()
    for cell in page.cells:
        name = slug(cell)
        candidates = (name if count == 1 else f"{name}-{count}" for count in range(1, len(page.cells) + 1))
        cell.id = next(candidate for candidate in candidates if candidate not in used)
        used.add(cell.id)


def tidy_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without what differs from run to run: widget ids, and tracebacks with their file paths."""
    for output in outputs:
        output.get("data", {}).pop(WIDGET_VIEW, None)
        if output.output_type == "error":
            output.traceback = [f"{output.ename}: {output.evalue}"]
    return [output for output in outputs if output.get("data", True)]


def finish(page: NotebookNode) -> str:
    """The text of the .ipynb file: fixed metadata, tidy outputs, validated."""
    title = page.metadata.page["title"]
    page.metadata = NotebookNode(kernelspec=KERNEL, language_info=LANGUAGE, title=title)
    page.nbformat, page.nbformat_minor = 4, 5
    for cell in page.cells:
        if cell.cell_type == "code":
            cell.outputs = tidy_outputs(cell.outputs)
    nbformat.validate(page)
    return nbformat.writes(page).rstrip("\n") + "\n"


def execute(page: NotebookNode, name: str, folder: Path) -> None:
    """Run every cell in `folder`, as a reader would, and keep the outputs in the page."""
    started: list[str] = []
    client = NotebookClient(
        page,
        timeout=CELL_TIMEOUT,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # each kernel start would warn that it talks over TCP
        on_cell_start=lambda cell, cell_index: started.append(cell.id),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise BuildError(f"{name}: cell {started[-1]!r} failed with {error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        raise BuildError(f"{name}: cell {started[-1]!r} ran longer than {CELL_TIMEOUT} s") from error


# ---------------------------------------------------------------- what is built from what


class Target(NamedTuple):
    """One .ipynb file: where it goes, its source, which page of the source it is, and whether it is executed."""

    path: Path
    source: Path
    page: Callable[[NotebookNode], NotebookNode]
    executed: bool

    def build(self) -> str:
        """The file's text."""
        page = self.page(read_source(self.source))
        set_ids(page)
        if self.executed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            execute(page, self.path.name, self.path.parent)
        return finish(page)


def targets(root: Path, names: list[str] | None = None) -> list[Target]:
    """Every notebook there is to build, or those whose source is called one of `names` (no folder, no suffix)."""
    found = []
    for source in sorted((root / "notebooks/source").glob("*.md")):
        found.append(Target(root / "notebooks" / f"{source.stem}.ipynb", source, solved_page, executed=True))
    for source in sorted((root / "exercises/source").glob("*.md")):
        found.append(Target(root / "exercises" / f"{source.stem}.ipynb", source, learner_page, executed=False))
        solution = root / "exercises/solutions" / f"{source.stem}.ipynb"
        found.append(Target(solution, source, solved_page, executed=True))
    known = sorted({target.source.stem for target in found})
    for name in names or []:
        if name not in known:
            raise BuildError(f"no source is called {name!r}; there are: {', '.join(known)}")
    return [target for target in found if not names or target.source.stem in names]


def strays(root: Path) -> Iterator[Path]:
    """Notebooks that no source builds: written by hand, or left behind by a renamed source."""
    built = {target.path for target in targets(root)}
    for folder in ("notebooks", "exercises", "exercises/solutions"):
        yield from (path for path in sorted((root / folder).glob("*.ipynb")) if path not in built)


# ---------------------------------------------------------------- the generated parts of README.md


def binder_link(root: Path, notebook: str) -> str:
    """Address that opens a notebook on Binder; the repository's part of it stands in pyproject.toml."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["kvlib"]
    return f"{settings['binder']}{notebook}"


def binder_badge(root: Path) -> str:
    """The button that opens the course at its first page."""
    link = binder_link(root, "notebooks/00_start_here.ipynb")
    return f"[![Open the course on Binder](https://mybinder.org/badge_logo.svg)]({link})"


def exercises_cell(root: Path, stem: str) -> str:
    """Link to the exercises that belong to a lesson, with their minutes; a dash when it has none."""
    source = root / "exercises/source" / f"{stem}.md"
    if not source.exists():
        return "–"
    return f"[{read_source(source).metadata.page['exercise_minutes']} min](exercises/{stem}.ipynb)"


def notebook_table(root: Path) -> str:
    """One row per lesson, from its front matter."""
    rows = ["| Notebook | Minutes | What it answers | Exercises | Run |", "| --- | ---: | --- | --- | --- |"]
    for source in sorted((root / "notebooks/source").glob("*.md")):
        front, notebook = read_source(source).metadata.page, f"notebooks/{source.stem}.ipynb"
        link, exercises = f"[Binder]({binder_link(root, notebook)})", exercises_cell(root, source.stem)
        title = f"[{source.stem[:2]} {front['title']}]({notebook})"
        rows.append(f"| {title} | {front['minutes']} | {front['summary']} | {exercises} | {link} |")
    return "\n".join(rows)


def build_readme(root: Path) -> str:
    """README.md with its generated blocks made new."""
    text = (root / "README.md").read_text(encoding="utf-8")
    for block, content in (("binder", binder_badge(root)), ("notebooks", notebook_table(root))):
        begin, end = f"<!-- {block}:begin -->", f"<!-- {block}:end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise BuildError(f"README.md needs the lines {begin} and {end}, once each")
        before, after = text.split(begin)[0], text.split(end)[1]
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text


# ---------------------------------------------------------------- the program


def difference(path: Path, root: Path, new: str) -> str:
    """What a rebuild would change in a file, as a short diff; empty when it is current."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    name = str(path.relative_to(root))
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), f"{name} as it is", f"{name} rebuilt", lineterm="", n=1
    )
    return "\n".join(line[:200] for line in list(lines)[:40])


def products(root: Path, names: list[str]) -> Iterator[tuple[Path, str]]:
    """Every file to write with its new text, with a progress bar over the notebooks."""
    for target in (bar := tqdm(targets(root, names), unit="notebook", disable=None)):
        bar.set_description(str(target.path.relative_to(root)))
        yield target.path, target.build()
    if (root / "README.md").exists():
        yield root / "README.md", build_readme(root)


def check(root: Path, names: list[str]) -> int:
    """Report what is not what its source says; the number of such files."""
    stale = [text for path, new in products(root, names) if (text := difference(path, root, new))]
    stale += [f"{path.relative_to(root)}: no source builds this notebook" for path in strays(root)]
    print("\n\n".join(stale) if stale else "every notebook is what its source says")
    return len(stale)


def write(root: Path, names: list[str]) -> None:
    """Build the files and put them in their places."""
    for path, new in products(root, names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(new, encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> Any:
    """Parse the command line, build or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="sources to build, such as 01_kv_cache (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a rebuild would change a file")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the repository's folder")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            return 1 if check(options.root, options.names) else 0
        write(options.root, options.names)
        return 0
    except BuildError as error:
        return str(error)  # sys.exit prints a text and leaves with status 1


if __name__ == "__main__":
    sys.exit(main())
