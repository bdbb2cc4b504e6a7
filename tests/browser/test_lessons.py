"""Lessons as a reader meets them: a real JupyterLab, a real browser, the keyboard."""

import re

import nbformat
import pytest
from lab_server import notebook

pytestmark = pytest.mark.browser

LESSONS = [
    ("notebooks/00_start_here.ipynb", "panel-receipt"),
    ("notebooks/01_kv_cache.ipynb", "panel-cache"),
    ("notebooks/02_one_gpu.ipynb", "panel-memory"),
    ("notebooks/03_cluster.ipynb", "panel-cluster"),
    ("notebooks/04_speed.ipynb", "panel-roofline"),
    ("notebooks/05_cost.ipynb", "panel-cost"),
    ("notebooks/05_cost.ipynb", "panel-sharing"),
    ("notebooks/06_context_cache.ipynb", "panel-session"),
]
SECONDS = 20  # a whole lesson, from Run All to the last cell
MEMORY, MONEY = r"\d [GM]B \(\d.*[GM]iB\)", r"\$\d+\.\d\d"  # what a panel is about, as it must show it
PANEL = "from kvlib.show.panels import ReceiptPanel\npanel = ReceiptPanel()\npanel"


def about(css):
    return MONEY if css == "panel-session" else MEMORY


def reading(picture):
    return picture.get_attribute("aria-label")


@pytest.mark.parametrize(("path", "css"), LESSONS)
def test_a_lesson_runs_and_its_panel_follows_the_keyboard(lab, snap, path, css):
    from playwright.sync_api import expect

    lab.open(path)
    assert lab.run_all(timeout=4 * SECONDS) < SECONDS
    assert lab.cell_errors() == []
    panel = lab.panel.locator(f".{css}")
    handle = panel.locator(".noUi-handle:visible").last  # the context: the last slider of both panels
    picture = panel.locator("svg[role=img]")
    before, position = reading(picture), handle.get_attribute("aria-valuenow")
    assert re.search(about(css), before)
    snap(panel, f"{css}-before")
    handle.focus()
    lab.page.keyboard.press("ArrowLeft")
    expect(picture).not_to_have_attribute("aria-label", before)
    assert handle.get_attribute("aria-valuenow") != position
    sentence = panel.get_by_role("status").inner_text()
    assert re.search(about(css), sentence)
    snap(panel, f"{css}-after")


def test_the_cache_panel_asks_before_it_shows(lab, shelf, snap):
    from playwright.sync_api import expect

    nbformat.write(notebook("from kvlib.show.panels import CachePanel\nCachePanel()"), shelf / "cache.ipynb")
    lab.open("cache.ipynb")
    lab.run_all()
    panel = lab.panel.locator(".panel-cache")
    status = panel.get_by_role("status")
    expect(status).to_contain_text("then press Reveal")
    panel.get_by_role("button", name="Reveal").click()
    expect(status).to_contain_text("Write your prediction first")
    expect(panel.locator("svg[role=img]")).to_have_count(0)
    snap(panel, "asked")
    field = panel.locator("input[type=number]")
    field.fill("17.2")
    field.press("Tab")
    panel.get_by_role("button", name="Reveal").press("Enter")
    expect(status).to_contain_text("you counted the query heads")
    expect(panel.locator("svg[role=img]")).to_have_attribute("aria-label", re.compile(r"4\.29 GB \(4 GiB\)"))
    snap(panel, "revealed")


@pytest.mark.parametrize(("path", "css"), LESSONS)
def test_a_lesson_that_was_not_run_shows_the_stored_table(lab, snap, path, css):
    panel = lab.open(path)
    # Opened for the first time, so not trusted: HTML is cleaned, widgets have no kernel.
    static = panel.locator(".jp-OutputArea-output", has_text="Run this notebook to move the controls").first
    assert static.locator("table caption").first.inner_text()
    number = r"\d\.\d{4}" if css == "panel-session" else MEMORY
    assert re.search(number, static.inner_text())
    if css == "panel-receipt":
        assert "$1.70 per H100-hour" in static.inner_text()  # not set as a formula
    assert panel.locator(f".{css}").count() == 0
    assert "Error displaying widget" not in panel.inner_text()
    snap(static, f"{css}-static")


def test_a_stored_widget_that_lost_its_kernel_shows_the_table(lab, shelf):
    from kvlib.show.panels import ReceiptPanel

    stored = notebook(PANEL)
    data = ReceiptPanel()._repr_mimebundle_()
    stored.cells[0].outputs = [nbformat.v4.new_output("execute_result", data=data, execution_count=1)]
    stored.cells[0].execution_count = 1
    nbformat.write(stored, shelf / "stored.ipynb")
    panel = lab.open("stored.ipynb")
    assert "$1.70 per H100-hour" in panel.locator(".jp-OutputArea-output table").inner_text()


def test_sentences_can_be_deleted(lab, shelf, snap):
    from playwright.sync_api import expect

    source = "from kvlib.show.needle_panel import NeedlePanel\npanel = NeedlePanel()\npanel"
    nbformat.write(notebook(source), shelf / "needle.ipynb")
    lab.open("needle.ipynb")
    lab.run_all()
    assert lab.cell_errors() == []
    panel = lab.panel.locator(".panel-needle")
    status, text = panel.get_by_role("status"), panel.locator("div[role=group][aria-label]")
    expect(status).to_contain_text("then press Reveal")
    expect(panel.locator(".widget-toggle-button").first).to_be_disabled()
    field = panel.locator("input[type=number]")
    field.fill("50")
    field.press("Tab")
    panel.get_by_role("button", name="Reveal").press("Enter")
    expect(status).to_contain_text("You predicted 50 %")
    expect(text.locator("del[data-sentence]")).to_have_count(1)
    before = status.inner_text()
    needle = panel.locator(".widget-toggle-button", has_text="needle:")
    needle.focus()
    lab.page.keyboard.press("Space")
    expect(status).to_contain_text("The needle")
    expect(status).to_contain_text("wrong")
    expect(needle).to_contain_text("deleted")
    snap(panel, "needle-gone")
    panel.get_by_role("button", name="Undo").press("Enter")
    expect(status).to_have_text(before)


def test_the_needle_lesson_runs_within_a_minute(lab, snap):
    lab.open("notebooks/07_context_drift.ipynb")
    assert lab.run_all(timeout=240) < 60
    assert lab.cell_errors() == []
    panel = lab.panel.locator(".panel-needle").first
    assert "then press Reveal" in panel.get_by_role("status").inner_text()
    snap(panel, "needle-lesson")


def test_a_learner_page_opens_and_says_what_is_not_done(lab, snap):
    panel = lab.open("exercises/01_kv_cache.ipynb")
    assert lab.run_all() < SECONDS
    assert lab.cell_errors() == []
    assert "not done yet" in " ".join(panel.locator(".jp-OutputArea-output").all_inner_texts())
    snap(panel, "exercise")


def test_the_harness_sees_a_cell_that_fails(lab, shelf):
    nbformat.write(notebook("1 + 1", "raise ValueError('on purpose')", "2 + 2"), shelf / "broken.ipynb")
    lab.open("broken.ipynb")
    lab.run_all()
    assert lab.cell_errors() == ["ValueError: on purpose"]
    assert lab.prompts()[:2] == ["[1]:", "[2]:"]
    assert (lab.outside, lab.errors) == ([], [])
    other = "http://127.0.0.1:1/font.woff2"  # nobody listens there; any other server counts as outside
    lab.page.evaluate(
        "url => { fetch(url).catch(() => 0); setTimeout(() => { throw new Error('on purpose') }, 0) }", other
    )
    lab.page.wait_for_timeout(500)
    assert lab.outside == [other]
    assert lab.errors == ["on purpose"]
    lab.outside.clear()
    lab.errors.clear()
