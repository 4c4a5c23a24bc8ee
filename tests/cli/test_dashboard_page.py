"""The dashboard page in headless Chromium, with Playwright (`make browser`); skipped where one of them is missing."""

import csv
import shutil

import pytest

from stemlab.config.compose import compose
from stemlab.dashboard import dashboard
from tests.reporting.dashboard_inputs import CURVES, write_analyses
from tests.reporting.records import record, write

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.process, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Open the page of five runs; end with an error if the browser reports one."""
    folder = tmp_path_factory.mktemp("dashboard")
    made = [
        record(model, seed, lr=rate, auc=(high, high - seed / 100))
        for model, rate, high in (("stem", 0.001, 0.9), ("mmoe", 0.002, 0.8))
        for seed in (1, 2)
    ]
    unfinished = record("ple", 1, status="running", metrics={}, stage1={"directory": "/elsewhere/runs/run0"})
    write(folder / "runs", *made, unfinished)
    write_analyses(folder / "runs" / "analysis", made[0])
    for path in (folder / "runs").glob("*/record.json"):
        (path.parent / "metrics.csv").write_text(CURVES)
    dashboard(compose("dashboard", [f"runs=[{folder / 'runs'}]", f"output={folder / 'page.html'}"]))
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900}, accept_downloads=True)
        errors = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
        page.goto((folder / "page.html").as_uri())
        page.wait_for_function("document.body.dataset.drawn")
        yield page
        browser.close()
        assert not errors


def models(page):
    return page.locator("#board0 tbody th").all_inner_texts()


def test_charts_and_tables_are_drawn(page):
    assert page.inner_text("#status") == "5 of 5 runs"
    assert page.locator("figure:visible svg").count() >= 5
    assert models(page) == ["stem", "mmoe"]  # the best is first
    assert page.locator("#board0 td.best").count() > 0
    assert page.locator("#section-0 h2").inner_text() == "Quality"


def test_analyses_are_drawn(page):
    assert page.locator("figure.buckets:visible").count() == 2
    assert page.locator("figure.buckets:visible path[aria-label*='gain']").count() >= 3
    assert page.locator("figure.spectra:visible").count() == 1
    texts = page.locator("figure.lineage svg text").all_text_contents()
    assert {"comparable", "mmoe (2)", "stem"} <= set(texts)


def test_the_lineage_names_data_and_first_stage(page):
    last = page.locator("#runtable tbody tr", has_text="ple seed 1").inner_text()
    assert "→ stem seed 1" in last
    other = page.locator("#runtable tbody tr", has_text="mmoe seed 2").inner_text()
    assert "data " in other
    assert "→" not in other


def test_sort_by_keyboard(page):
    heading = page.locator("#board0 thead th button").nth(1)
    heading.focus()
    assert page.locator("#board0 thead th").nth(1).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert page.locator("#board0 thead th").nth(1).get_attribute("aria-sort") == "ascending"
    assert models(page) == ["mmoe", "stem"]
    page.keyboard.press("Enter")
    assert models(page) == ["stem", "mmoe"]


def test_filter_compare_and_reset(page):
    page.select_option("#filter-model", "stem")
    assert page.inner_text("#status") == "2 of 5 runs"
    assert models(page) == ["stem"]
    page.fill("#filter-text", "seed 2")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('1 ')")
    assert page.inner_text("#status") == "1 of 5 runs"
    page.click("#reset")
    assert page.inner_text("#status") == "5 of 5 runs"
    page.fill("#filter-text", "lr=0.002")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('2 ')")
    assert models(page) == ["mmoe"]
    page.click("#reset")
    for name in ("compare stem seed 1", "compare mmoe seed 1"):
        page.get_by_label(name).check()
    compared = page.locator("#comparison tbody").first.inner_text()
    assert "optim.lr" in compared
    assert "0.002" in compared
    assert page.inner_text("#compare-link") == "compare 2 runs"
    difference = page.locator("#compare-Metrics tr", has_text="test/auc/finish").locator("td").last
    assert difference.inner_text() == "-0.1"
    page.get_by_label("compare row mmoe").uncheck()
    assert not page.get_by_label("compare mmoe seed 1").is_checked()
    page.reload()
    page.wait_for_function("document.body.dataset.drawn")
    assert page.get_by_label("compare stem seed 1").is_checked()
    page.click("#reset")


def test_download(page, tmp_path):
    with page.expect_download() as found:
        page.click("#download")
    found.value.save_as(tmp_path / "runs.csv")
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert sorted((row["model"], row["seed"]) for row in rows if row["status"] == "finished") == [
        ("mmoe", "1"),
        ("mmoe", "2"),
        ("stem", "1"),
        ("stem", "2"),
    ]
    assert float(next(row for row in rows if row["model"] == "stem")["test/auc/finish"]) == 0.9


def test_a_phone_needs_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1200, "height": 900})
