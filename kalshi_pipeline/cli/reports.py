"""`kalshi report`: open an evaluation's page, set several side by side, serve them all."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kalshi_pipeline.cli.shared import command
from kalshi_pipeline.resources.environment import (
    open_warehouse,
    report_address,
    report_port,
    warehouse_root,
)

_WHICH = "a plan, the folder of a report, or latest"


def add_commands(actions: Any) -> None:
    """Add `open`, `compare` and `serve`."""
    opening = command(
        actions, "open", _open, "open an evaluation's page in the browser",
        "Open the page of a plan's evaluation, of one in a folder, or of the latest one.",
    )  # fmt: skip
    opening.add_argument("which", nargs="?", default="latest", metavar="WHICH", help=_WHICH)
    _add_print_path(opening)
    comparing = command(
        actions, "compare", _compare, "set several evaluations side by side, on one page",
        "Verdicts, headlines, criteria and grids of several evaluations on one page, with what "
        "speaks against comparing them.",
    )  # fmt: skip
    comparing.add_argument("which", nargs="+", metavar="WHICH", help=_WHICH)
    comparing.add_argument(
        "--to", type=Path, default=None, metavar="FILE", help="default: in the warehouse"
    )
    _add_print_path(comparing)
    command(
        actions, "serve", _serve, "every page of the warehouse, over loopback, for links to open",
        "Serve reports, comparisons and Data Docs on 127.0.0.1, read-only, until it is stopped. "
        "Links in Dagster lead here; `make ui` starts it. The port is KALSHI_REPORT_PORT.",
    )  # fmt: skip


def _add_print_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--print-path", action="store_true", help="print the page's path, open no browser"
    )


def _open(options: argparse.Namespace) -> None:
    from kalshi_pipeline import evaluation_pages

    folder = evaluation_pages.find_evaluation(open_warehouse(warehouse_root()), options.which)
    _show(evaluation_pages.page_of(folder), options)


def _compare(options: argparse.Namespace) -> None:
    from kalshi_pipeline import evaluation_pages

    wanted = list(dict.fromkeys(options.which))
    _show(evaluation_pages.compare(open_warehouse(warehouse_root()), wanted, options.to), options)


def _serve(_: argparse.Namespace) -> None:
    from kalshi_pipeline import report_server

    print(f"pages of {warehouse_root()} on {report_address()}/", flush=True)
    report_server.serve(open_warehouse(warehouse_root()), report_port())


def _show(page: Path, options: argparse.Namespace) -> None:
    import webbrowser

    if not options.print_path and not webbrowser.open(page.resolve().as_uri()):
        print("there is no browser here; the page is")
    print(page)
