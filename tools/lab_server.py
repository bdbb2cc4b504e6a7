"""A real JupyterLab and a real Chromium, for the browser tests and the benchmark.

`python tools/lab_server.py FOLDER` serves a folder as those see it, until Ctrl-C.

The server listens on a free loopback port without a password: for throw-away folders only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

# News would cover the page, and cells out of sight would not exist for a script.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
THEME = {"@jupyterlab/apputils-extension:themes": {"theme": "JupyterLab Dark"}}
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
# The command ends when the last cell has, or with the first error; without a kernel it never would.
RUN_ALL = """seconds => Promise.race([
    jupyterapp.commands.execute('notebook:run-all-cells').then(() => true),
    new Promise(done => setTimeout(() => done(false), 1000 * seconds))])"""
ERRORS = """() => jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .flatMap(cell => cell.outputs ?? []).filter(output => output.output_type === 'error')
    .map(output => `${output.ename}: ${output.evalue}`)"""
CONFIG = Path(__file__).with_name("jupyter_server_config.py")  # what `make lab` uses too
SECOND = 1000  # Playwright counts milliseconds


def chromium() -> str | None:
    """The Chromium of this machine: $CHROMIUM, or the first one on the PATH; None if there is none."""
    named = os.environ.get("CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next((path for path in found if path), None)


def no_browser() -> str | None:
    """Why no browser can be driven here; None if one can."""
    if find_spec("playwright") is None:
        return "playwright is not installed: it is in requirements-dev.txt"
    return (
        None if chromium() else "no Chromium on this machine: `apt-get install chromium`, or set CHROMIUM to its path"
    )


@contextmanager
def lab(folder: Path, dark: bool = False) -> Iterator[str]:
    """Serves `folder` with JupyterLab and yields its URL. Settings and trust are those of a first visit.

    Raises:
        RuntimeError: if the server does not answer within a minute; the message ends with its log.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        config = Path(home) / "labconfig"
        config.mkdir()
        (config / "default_setting_overrides.json").write_text(json.dumps(SETTINGS | (THEME if dark else {})))
        port = _free_port()
        url, log = f"http://127.0.0.1:{port}", Path(home) / "lab.log"
        places = {"JUPYTER_CONFIG_DIR": home, "JUPYTER_DATA_DIR": f"{home}/data", "JUPYTER_RUNTIME_DIR": f"{home}/run"}
        with log.open("w") as out:
            server = subprocess.Popen(
                _command(port, folder), env=os.environ | places, stdout=out, stderr=subprocess.STDOUT
            )
            try:
                _wait_for(f"{url}/api", server, log)
                yield url
            finally:
                server.send_signal(signal.SIGTERM)
                try:
                    server.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium that asks nobody for anything on its own.

    Raises:
        RuntimeError: if this machine has no Chromium, or Playwright is not installed.
    """
    if reason := no_browser():
        raise RuntimeError(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        try:
            yield program
        finally:
            program.close()


class Lab:
    """One notebook open in one page, with what a reader would do to it."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.outside: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.context.on("request", lambda request: self._watch(request.url))
        page.on("websocket", lambda socket: self._watch(socket.url))

    def _watch(self, asked: str) -> None:
        if not asked.startswith((self.url, self.url.replace("http", "ws", 1), "data:", "blob:", "about:")):
            self.outside.append(asked)

    def open(self, path: str, kernel: bool = True) -> Any:
        """Opens a notebook by its path below the served folder, and waits until its kernel is idle.

        Raises:
            FileNotFoundError: if the server has no such file.
        """
        try:
            urllib.request.urlopen(f"{self.url}/api/contents/{quote(path)}?content=0").close()
        except urllib.error.HTTPError as error:
            raise FileNotFoundError(f"the served folder has no {path!r}: {error}") from None
        self.page.goto(f"{self.url}/lab/tree/{quote(path)}?reset")
        self.panel = self.page.locator(".jp-NotebookPanel")
        self.panel.locator(".jp-Cell").first.wait_for(timeout=60 * SECOND)
        if kernel:  # the indicator says "idle" before there is a kernel, so both waits are needed
            name = self.panel.locator(".jp-KernelName", has_not_text="No Kernel")
            name.wait_for(timeout=60 * SECOND)
            self.panel.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=60 * SECOND)
        return self.panel

    def run_all(self, timeout: float = 60) -> float:
        """Runs every cell, or up to the first error, and returns the seconds that took.

        Raises:
            TimeoutError: if a cell still waits after `timeout` seconds; it shows the prompts of the cells.
        """
        start = time.perf_counter()
        if not self.page.evaluate(RUN_ALL, timeout):
            raise TimeoutError(f"cells still run after {timeout} s: {self.prompts()}")
        return time.perf_counter() - start

    def prompts(self) -> list[str]:
        """The prompts of the code cells: "[3]:" has run, "[*]:" runs, "[ ]:" has not run."""
        texts: list[str] = self.panel.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
        return texts

    def cell_errors(self) -> list[str]:
        """The text of every error output."""
        texts: list[str] = self.page.evaluate(ERRORS)
        return texts


def notebook(*sources: str) -> Any:
    """A notebook of code cells, not run."""
    import nbformat

    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources, 1)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(port: int, folder: Path) -> list[str]:
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--expose-app-in-browser"]
    options += [f"--config={CONFIG}"]
    options += [f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"]
    options += ["--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
    return [sys.executable, "-m", "jupyterlab", *options]


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not answer at {url}:\n{log.read_text()[-2000:]}")


def main() -> None:
    """Serves a folder until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dark", action="store_true", help="the dark theme")
    args = parser.parse_args()
    with lab(args.folder.resolve(), args.dark) as url, suppress(KeyboardInterrupt):
        print(f"{url}/lab", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
