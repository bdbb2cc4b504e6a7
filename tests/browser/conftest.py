import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import lab_server  # noqa: E402


# Module scope, not session scope: Playwright's event loop must be gone before other tests run a loop of their own.
@pytest.fixture(scope="module")
def chromium():
    if reason := lab_server.no_browser():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with lab_server.browser() as program:
        yield program


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A throw-away copy of the course's notebooks: a test may run and change them."""
    shelf = tmp_path_factory.mktemp("shelf")
    for folder in ("notebooks", "exercises"):
        if (ROOT / folder).is_dir():
            shutil.copytree(
                ROOT / folder, shelf / folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "source")
            )
    return shelf


@pytest.fixture(scope="module")
def server(chromium, shelf):
    with lab_server.lab(shelf) as url:
        yield url


@pytest.fixture
def lab(chromium, server):
    """A JupyterLab page of a first visit; afterwards: no script failed, and nobody but the own server was asked."""
    context = chromium.new_context(viewport={"width": 1200, "height": 1600})
    context.set_default_timeout(30_000)
    page = lab_server.Lab(context.new_page(), server)
    yield page
    page.page.evaluate("() => window.jupyterapp?.serviceManager.sessions.shutdownAll()")
    context.close()
    assert page.errors == []
    assert page.outside == []


@pytest.fixture
def snap(request):
    """Saves a picture of a part of the page in $KVLIB_SCREENSHOTS, for people to look at; without it does nothing."""

    def save(locator, name):
        if folder := os.environ.get("KVLIB_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            locator.screenshot(path=Path(folder) / f"{request.node.name.split('[')[0]}-{name}.png")

    return save
