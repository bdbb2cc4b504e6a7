"""What mybinder.org would build, read from the Dockerfile that repo2docker renders (no container engine needed)."""

import os
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def buildpack():
    """The first of repo2docker's build packs that feels responsible for this repository."""
    from repo2docker.app import Repo2Docker

    before = Path.cwd()
    os.chdir(ROOT)  # a build pack looks for its files in the current folder, also when it renders
    app = Repo2Docker()
    for kind in app.buildpacks:
        pack = kind(app.base_image)
        pack.platform = "linux/amd64"
        if pack.detect():
            break
    yield pack
    os.chdir(before)


def test_it_is_a_plain_python_image_from_the_binder_folder(buildpack):
    assert type(buildpack).__name__ == "PythonBuildPack"
    assert buildpack.binder_dir == "binder"
    assert buildpack.python_version == "3.12"


def test_it_installs_the_readers_pins(buildpack):
    assert buildpack.binder_path("requirements.txt") == "binder/requirements.txt"
    assert (ROOT / "binder/requirements.txt").read_text().strip() == "-r ../requirements.txt"
    assert '-r "binder/requirements.txt"' in buildpack.render()


def test_all_requirement_files_are_there_before_pip_runs(buildpack):
    """The files refer to each other, so the whole source has to be copied first."""
    dockerfile = buildpack.render()
    assert dockerfile.index("COPY --chown") < dockerfile.index('-r "binder/requirements.txt"')
    assert "COPY --chown=1000:1000 src/ ${REPO_DIR}" in dockerfile[: dockerfile.index('-r "binder/requirements.txt"')]


def test_it_installs_the_package_and_stops_on_a_failure(buildpack):
    assert buildpack.get_post_build_scripts() == ["binder/postBuild"]
    script = ROOT / "binder/postBuild"
    assert os.access(script, os.X_OK), "postBuild must be executable"
    assert "set -e" in script.read_text().splitlines()
    assert "pip install --no-deps -e ." in script.read_text().splitlines()


def test_its_python_is_one_the_package_takes():
    from packaging.specifiers import SpecifierSet

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert (ROOT / "binder/runtime.txt").read_text().strip().removeprefix("python-") in SpecifierSet(wanted)


def test_the_readme_opens_the_first_notebook_in_jupyterlab():
    start = "?urlpath=lab/tree/notebooks/00_start_here.ipynb"
    assert f"{start})\n" in (ROOT / "README.md").read_text()
    assert (ROOT / "notebooks/00_start_here.ipynb").exists()
