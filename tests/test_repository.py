"""The repository as a whole: nothing of one machine in it, exact pins, licences, a source for every figure."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "kvlib/data"

# Put together from parts, so that this file does not contain what it looks for.
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "conda." + "anaconda.org"]
FOLDERS = "|".join(["home", "root", "tmp", "work", "Users"])
MACHINE_PATH = re.compile(rf"(?<![\w.)}}-])/({FOLDERS})/\w")
PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,-]+\])?==[0-9][0-9A-Za-z.+]*( ; .+)?")


def repository_files():
    """Text files that are in the repository, or would be after `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


def lines_with(pattern):
    """`file:line` of every line of the repository in which a pattern is found."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in repository_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]


def requirements(path):
    """The requirement lines of a file, without options and comments."""
    stripped = (line.split(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in stripped if line and not line.startswith(("#", "-"))]


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_package_registry_is_named(host):
    assert lines_with(re.escape(host)) == []


def test_no_path_of_one_machine_is_named():
    assert lines_with(MACHINE_PATH) == []


def test_the_path_pattern_finds_one():
    assert MACHINE_PATH.search("see /" + "home/me/file")
    assert not MACHINE_PATH.search("https://example.org/" + "home/me")


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_has_one_exact_version(path):
    assert requirements(path)
    assert [line for line in requirements(path) if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("requirements.txt", "requirements.lock.txt"),
        ("requirements-dev.txt", "requirements.lock.txt"),
        ("requirements-reference.txt", "requirements-reference.lock.txt"),
    ],
)
def test_the_lock_agrees_with_the_direct_pins(name, lock):
    assert f"-c {lock}" in (ROOT / name).read_text().splitlines()
    locked = requirements(ROOT / lock)
    assert [line for line in requirements(ROOT / name) if line not in locked] == [], "run `make lock`"


def test_code_and_prose_have_their_licences():
    assert "Permission is hereby granted, free of charge" in (ROOT / "LICENSE").read_text()
    assert "CC-BY-4.0" in (ROOT / "LICENSE-text").read_text()
    assert "MIT" in (ROOT / "CITATION.cff").read_text()


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f'\n__version__ = "{version}"\n' in (ROOT / "kvlib/__init__.py").read_text()


# ---------------------------------------------------------------- figures have a source and a date


def load(path):
    return (json if path.suffix == ".json" else tomllib).loads(path.read_text(encoding="utf-8"))


def dated(record):
    """Whether `as_of` tells at least the month."""
    return bool(re.match(r"20\d\d-[01]\d", str(record.get("as_of", ""))))


def records(data):
    """(name, record) of every record in a TOML file: its tables, and the items of its arrays of tables."""
    rows = [(name, value if isinstance(value, list) else [value]) for name, value in data.items() if name != "sources"]
    return [(f"{name}[{index}]", record) for name, several in rows for index, record in enumerate(several)]


def unsourced(path):
    """Names of what lacks a source or a date.

    A data file says it in one of three ways: once for the whole file (a JSON file at its top, a TOML file in [source]);
    in each record; or in each record by the key of a table [sources.KEY].
    """
    data = load(path)
    whole_file = data if path.suffix == ".json" else data.get("source")
    if whole_file:
        return [] if whole_file.get("source") and dated(whole_file) else [path.name]
    shared = data.get("sources", {})
    found = [name for name, source in shared.items() if not (source.get("title") and dated(source))]
    for name, record in records(data):
        sources = [record.get("source", ""), *record.get("figure_sources", {}).values()]
        if not (all(sources) and dated(record)) or (shared and not shared.keys() >= set(sources)):
            found.append(name)
    return found


@pytest.mark.parametrize("path", sorted([*DATA.rglob("*.toml"), *DATA.rglob("*.json")]), ids=lambda path: path.name)
def test_every_record_has_a_source_and_a_date(path):
    assert load(path)
    assert unsourced(path) == []


UNSOURCED = """
[sources.good]
title = "a data sheet"
as_of = 2026-01-01
[sources.undated]
title = "a data sheet"
[[gpu]]
source = "good"
as_of = "2026-01"
[[gpu]]
source = "missing"
as_of = "2026-01"
[[gpu]]
source = "good"
figure_sources = { flops = "missing" }
as_of = "2026-01"
"""


def test_records_without_a_source_or_a_date_are_found(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('[a]\nusd = 1\nas_of = "2026-01"\n[b]\nsource = "x"\n[c]\nsource = "x"\nas_of = 2026-01-01\n')
    assert unsourced(path) == ["a[0]", "b[0]"]
    path.write_text('[source]\nsource = "x"\n[a]\nusd = 1\n')
    assert unsourced(path) == ["prices.toml"]
    path.write_text(UNSOURCED)
    assert unsourced(path) == ["undated", "gpu[1]", "gpu[2]"]
