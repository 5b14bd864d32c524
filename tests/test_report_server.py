"""The report server: pages of the warehouse on loopback, and nothing else of the machine."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kalshi_pipeline.cli import parser
from kalshi_pipeline.evaluation.reports import render_html
from kalshi_pipeline.report_server import read_page
from kalshi_pipeline.storage.publish import Recipe, Warehouse
from tests.deployment import ROOT, free_port, wait_until
from tests.evaluation.specimen import specimen

KALSHI = Path(sys.executable).parent / "kalshi"
DOCS = "<!DOCTYPE html><html><head><style>b{color:red}</style></head><body>holds</body></html>"
LOOSE = '<meta http-equiv="Content-Security-Policy" content="default-src *; script-src *">'
VERDICT = "Loses <script>alert(1)</script> & more"


def publish(warehouse, asset, partition, name, page, **summary):
    with warehouse.stage(asset, partition, Recipe("1")) as staging:
        (staging.folder / name).write_bytes(page)
        (staging.folder / "ledger.parquet").write_bytes(b"secret")
        staging.summary.update(summary)
    return staging.generation


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    return Warehouse(tmp_path_factory.mktemp("warehouse"))


@pytest.fixture(scope="module")
def pages(warehouse):
    """Path of each kind of page -> its bytes."""
    report = render_html(specimen())
    made = {}
    judged = publish(warehouse, "quick/evaluation", None, "report.html", report, verdict=VERDICT)
    made[f"quick/evaluation/gen={judged.content_hash}/report.html"] = report
    docs = publish(warehouse, "data_docs/books", "32", "index.html", DOCS.encode(), expectations=9)
    made[f"data_docs/books/session=32/gen={docs.content_hash}/index.html"] = DOCS.encode()
    for path in ("comparisons/0123456789abcdef.html", "evaluations/4f0c11d2a3b4_8_9/report.html"):
        (warehouse.root / path).parent.mkdir(parents=True)
        (warehouse.root / path).write_bytes(report)
        made[path] = report
    (warehouse.root / "outside.txt").write_text("secret")
    return made


@pytest.fixture(scope="module")
def server(warehouse, pages):
    """Port and process of `kalshi report serve`."""
    port = free_port()
    foreign = ("KALSHI_", "DATABASE_URL", "DAGSTER_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    environment |= {"KALSHI_WAREHOUSE": str(warehouse.root), "KALSHI_REPORT_PORT": str(port)}
    process = subprocess.Popen(
        [KALSHI, "report", "serve"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: _listens(port, process), "the report server listens")
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
        process.stdout.close()


def _listens(port, process):
    assert process.poll() is None
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server[0], timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_every_kind_of_page_is_served_as_it_was_published(server, pages):
    for path, page in pages.items():
        answer, body = ask(server, f"/{path}")
        assert (answer.status, body) == (200, page), path
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_page_may_run_and_load_only_what_it_came_with(server, pages):
    for path, page in pages.items():
        policy = ask(server, f"/{path}")[0].headers["Content-Security-Policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        if page == DOCS.encode():
            assert "script-src" not in rules
        else:
            assert rules["script-src"].startswith("'sha256-")
            assert rules["style-src"].startswith("'sha256-")


def test_the_first_page_lists_them_and_runs_nothing(server, pages):
    answer, body = ask(server, "/")
    assert answer.status == 200
    assert all(f'href="/{path}"'.encode() in body for path in pages)
    assert b"Loses &lt;script&gt;" in body
    assert b"<script" not in body
    assert "script-src" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt", "/%2e%2e/outside.txt", "/outside.txt", "/quick/evaluation/CURRENT",
        "/quick/evaluation/..%2f..%2foutside.txt", "//etc/passwd", "/etc/passwd",
        "/comparisons/..%2foutside.txt", "/comparisons/0123456789abcdef.html%00",
        "/comparisons/0123456789ABCDEF.html", "/comparisons\\0123456789abcdef.html",
        "/evaluations/../outside.txt/report.html", "/evaluations/%2e%2e/report.html",
        "/evaluations/none/report.html", "/quick/evaluation/gen=0000000000000000/report.html",
        "/comparisons/", "/evaluations", "/data_docs/books/session=32/",
        "/trained_models/report.html", "/.staging/report.html", "/kalshi.duckdb",
    ],
)  # fmt: skip
def test_nothing_else_has_an_address(server, path):
    answer, body = ask(server, path)
    assert (answer.status, body) == (404, b"there is no such page")


def test_other_files_of_a_generation_are_not_served(server, pages):
    for path in pages:
        for name in ("ledger.parquet", "manifest.json", ""):
            answer, _ = ask(server, f"/{path.rpartition('/')[0]}/{name}")
            assert answer.status == 404


def test_no_link_leads_out_of_the_warehouse(server, warehouse, tmp_path):
    (tmp_path / "report.html").write_text("secret")
    folder = warehouse.root / "evaluations" / "linked"
    folder.symlink_to(tmp_path)
    file = warehouse.root / "comparisons" / "ffffffffffffffff.html"
    file.symlink_to(tmp_path / "report.html")
    try:
        for path in ("/evaluations/linked/report.html", "/comparisons/ffffffffffffffff.html"):
            assert ask(server, path)[0].status == 404
    finally:
        folder.unlink()
        file.unlink()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_can_only_be_read(server, pages, method):
    for path in ("/", f"/{next(iter(pages))}"):
        assert ask(server, path, method)[0].status == 405


def test_head_tells_the_length_and_sends_no_page(server, pages):
    path, page = next(iter(pages.items()))
    answer, body = ask(server, f"/{path}", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(page)


def test_another_hosts_name_is_refused(server):
    assert ask(server, "/", Host="attacker.example")[0].status == 400
    assert ask(server, "/", Host=f"localhost:{server[0]}")[0].status == 200


def test_it_listens_on_loopback_alone(server):
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server[1].pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_port_in_use_is_told_in_one_sentence(server, warehouse):
    environment = {**os.environ, "KALSHI_REPORT_PORT": str(server[0])}
    environment["KALSHI_WAREHOUSE"] = str(warehouse.root)
    done = subprocess.run(
        [KALSHI, "report", "serve"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "３００１"])
def test_a_port_that_is_none_is_refused(port, monkeypatch):
    from kalshi_pipeline.errors import KalshiPipelineError
    from kalshi_pipeline.resources.environment import report_address

    monkeypatch.setenv("KALSHI_REPORT_PORT", port)
    with pytest.raises(KalshiPipelineError, match="no port"):
        report_address()


def test_a_damaged_page_is_not_shown(server, warehouse):
    made = publish(warehouse, "other/evaluation", None, "report.html", b"as published")
    path = made.folder / "report.html"
    address = f"/{path.relative_to(warehouse.root).as_posix()}"
    assert ask(server, address)[1] == b"as published"
    path.write_bytes(b"something else")
    answer, body = ask(server, address)
    assert (answer.status, body) == (500, b"this page is damaged: run its asset again")


def test_a_page_cannot_grant_itself_more(server, warehouse):
    path = "evaluations/loose/report.html"
    (warehouse.root / path).parent.mkdir()
    (warehouse.root / path).write_text(f"<html><head>{LOOSE}</head></html>")
    policy = ask(server, f"/{path}")[0].headers["Content-Security-Policy"]
    assert "*" not in policy
    assert "script-src" not in policy


def test_reading_changes_nothing(warehouse, pages):
    def everything():
        return {path: path.lstat().st_mtime_ns for path in warehouse.root.rglob("*")}

    before = everything()
    for path in (*pages, "nothing", "../x"):
        read_page(warehouse, path)
    assert everything() == before


def test_the_service_starts_exactly_this_command():
    unit = (ROOT / "deploy" / "systemd" / "kalshi-reports.service").read_text()
    (command,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert command.endswith("/.venv/bin/kalshi report serve")
    assert parser().parse_args(["report", "serve"]).run.__name__ == "_serve"
