"""The pages in a real browser: the flow as a stranger sees it, and what he can click.

Screenshots are left in the test's folder; `KALSHI_SCREENSHOTS` names another one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.deployment import deployed, free_port, wait_until

KALSHI = Path(sys.executable).parent / "kalshi"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
PATIENCE_MS = 120_000  # the machine may be busy

FLOW = {
    "1_market_data": ("raw_messages", "books"),
    "2_features": ("feature_tensors", "suitable_markets"),
    "3_plan_quick": ("phase_1", "phase_2", "phase_3", "evaluation"),
}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.drill,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def deployment(quick_plan, tmp_path_factory):
    """What the quick plan left, under a live deployment, without its recordings."""
    place = tmp_path_factory.mktemp("deployed")
    for name in ("dagster_home", "warehouse"):
        shutil.copytree(quick_plan / name, place / name)
    with deployed(place, KALSHI_REPORT_PORT=str(free_port())) as running:
        yield running


@pytest.fixture(scope="module")
def reports(deployment):
    """Address of the report server that the deployment's links lead to."""
    process = subprocess.Popen(
        [KALSHI, "report", "serve"],
        env=deployment.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: _listens(process), "the report server listens")
        yield f"http://127.0.0.1:{deployment.environment['KALSHI_REPORT_PORT']}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


def _listens(process):
    assert process.poll() is None
    found = psutil.Process(process.pid).net_connections(kind="tcp")
    return any(connection.status == psutil.CONN_LISTEN for connection in found)


@pytest.fixture(scope="module")
def context(tmp_path_factory, deployment, reports):
    """A browser of its own; whatever it asks for is of this machine's two servers."""
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")), executable_path=CHROMIUM, args=FLAGS,
            viewport={"width": 1600, "height": 1400},
        )  # fmt: skip
        browser.on("request", lambda request: asked.append(request.url))
        yield browser
        browser.close()
    own = (deployment.address, reports, "data:", "blob:", "about:", "chrome")
    assert [url for url in asked if not url.startswith(own)] == []
    assert any(url.startswith(reports) for url in asked)


@pytest.fixture
def page(context, deployment, tmp_path):
    """A tab; how it looks at the end of the test is kept."""
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    kept = Path(os.environ.get("KALSHI_SCREENSHOTS") or tmp_path)
    name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
    opened.screenshot(path=str(kept / f"{name}.png"))
    opened.close()


def shown(page, text):
    """The first visible element of this text; the pages also keep hidden copies to measure."""
    found = page.locator(f'text="{text}" >> visible=true').first
    found.wait_for()
    return found


def row_of(page, name):
    """The row of a metadata table that has this name."""
    found = page.locator("tr").filter(has=page.get_by_text(name, exact=True)).first
    found.wait_for()
    return found


def picture_behind(page, name):
    """Width and height of a picture of the metadata, once it is opened by a click."""
    row_of(page, name).get_by_text("[Show Markdown]").click()
    image = page.locator("img[src^='data:image/png']").first
    image.wait_for()
    return image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.width])")


def test_the_lineage_shows_the_flow_from_frames_to_verdict(page, deployment):
    page.goto(f"{deployment.address}/asset-groups")
    for group in (*FLOW, "4_warehouse"):
        shown(page, group)
    for group, names in FLOW.items():
        page.goto(f"{deployment.address}/locations/kalshi_pipeline/asset-groups/{group}/lineage")
        for name in names:
            shown(page, name)


def test_a_partition_is_materialized_by_two_clicks(page, deployment):
    before = len(deployment.runs())
    page.goto(f"{deployment.address}/assets/suitable_markets?view=partitions&partition=902")
    shown(page, "902")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Launch 1 run").click()
    wait_until(lambda: len(deployment.runs()) > before, "the run is launched")
    run = deployment.runs()[-1]
    assert run.tags["dagster/partition"] == "902"
    assert deployment.finished(run.run_id) == "SUCCESS", deployment.failures(run.run_id)
    page.goto(f"{deployment.address}/runs/{run.run_id}")
    shown(page, "Success")


def test_a_partition_shows_its_figures_its_pictures_and_what_it_was_made_from(page, deployment):
    page.goto(f"{deployment.address}/assets/books?view=partitions&partition=901")
    shown(page, "quality score")
    natural, wide = picture_behind(page, "picture: spreads")
    assert natural > 600
    assert wide > 300
    page.get_by_role("button", name="Close").click()
    # the input, with its data version, leads to its page
    row_of(page, "made from").get_by_text("raw_messages, session 901").click()
    page.wait_for_url("**/assets/raw_messages**")


def test_columns_say_what_they_hold(page, deployment):
    page.goto(f"{deployment.address}/assets/books?view=overview")
    shown(page, "bid_bp")
    shown(page, "best bid after it, YES scale; 0 = no bids")


def test_checks_say_what_holds_and_lead_to_data_docs(page, context, deployment, reports):
    run = deployment.launch("suitable_markets", partition="901")
    assert deployment.finished(run) == "SUCCESS", deployment.failures(run)
    page.goto(f"{deployment.address}/assets/suitable_markets?view=checks")
    shown(page, "expectations").click()
    link = page.locator(f"a[href^='{reports}/data_docs/suitable_markets/']").first
    link.wait_for()
    with context.expect_page() as opened:
        link.click()
    docs = opened.value
    docs.wait_for_load_state()
    assert docs.locator("h1").inner_text().startswith("Session 90")
    assert docs.get_by_text("holds").count() > 5
    docs.close()


def test_the_verdict_is_materialized_by_a_click_and_its_report_opens(
    page, context, deployment, reports
):
    before = len(deployment.runs())
    page.goto(f"{deployment.address}/assets/quick/evaluation?view=events")
    page.get_by_role("button", name="Materialize").first.click()
    wait_until(lambda: len(deployment.runs()) > before, "the run is launched")
    run = deployment.runs()[-1]
    assert deployment.finished(run.run_id) == "SUCCESS", deployment.failures(run.run_id)

    page.goto(f"{deployment.address}/assets/quick/evaluation?view=events")
    told = row_of(page, "verdict").inner_text()
    natural, _ = picture_behind(page, "picture: cumulative P&L")
    assert natural > 600
    page.get_by_role("button", name="Close").click()

    broken: list[str] = []
    context.on("weberror", lambda error: broken.append(str(error.error)))
    with context.expect_page() as opened:
        page.locator(f"a[href^='{reports}/quick/evaluation/']").first.click()
    report = opened.value
    report.wait_for_load_state()
    sentence = report.locator(".sentence").first.inner_text()
    assert sentence in told
    assert report.locator("svg").count() > 10
    # its script runs under the policy it is served with
    before_click = report.evaluate("document.documentElement.dataset.theme")
    report.locator("#theme").click()
    assert report.evaluate("document.documentElement.dataset.theme") != before_click
    assert broken == []
    report.goto(reports)
    assert report.get_by_text("Data Docs of session 901").is_visible()
    report.close()
