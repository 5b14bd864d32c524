"""The lineage page in a real browser: the flow as a stranger sees it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip

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


@pytest.fixture
def served(pipeline_home):
    """A web server over one materialized session, as `make ui` serves it; yields its address."""
    subprocess.run([BIN / "kalshi", "sessions", "register", "902"], check=True, capture_output=True)
    subprocess.run(
        [BIN / "dagster", "job", "execute", "-m", "kalshi_pipeline.definitions", "-j",
         "session_data", "--tags", '{"dagster/partition": "902"}'],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [BIN / "dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml"],
        cwd=ROOT,
        stdout=(pipeline_home / "server.log").open("w"),
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, server)
        yield address, server
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def _wait_for(address, server):
    for _ in range(120):
        assert server.poll() is None, "the web server ended"
        try:
            urllib.request.urlopen(f"{address}/server_info", timeout=5)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError("the web server did not come up")


def test_the_lineage_page_shows_the_flow_from_frames_to_verdict(served, tmp_path):
    from playwright.sync_api import sync_playwright

    address, server = served
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server.pid).net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=CHROMIUM, args=FLAGS,
            viewport={"width": 2200, "height": 1100},
        )  # fmt: skip
        page = browser.pages[0]
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for group, names in FLOW.items():
            page.goto(f"{address}/locations/kalshi_pipeline/asset-groups/{group}/lineage")
            for name in names:
                # the page also keeps hidden copies of its labels, to measure them
                shown = page.locator(f'text="{name}" >> visible=true')
                shown.first.wait_for(timeout=60_000)
            page.screenshot(path=str(tmp_path / f"{group}.png"))
        page.goto(f"{address}/assets/books?view=partitions&partition=902")
        page.locator('text="quality score" >> visible=true').first.wait_for(timeout=60_000)
        page.screenshot(path=str(tmp_path / "books.png"))
        browser.close()
    foreign = [url for url in asked if url.startswith("http") and not url.startswith(address)]
    assert foreign == []
