"""The pages of a warehouse over loopback, because a browser follows no link from Dagster to a file.

    GET /                                                  what there is
    GET /quick/evaluation/gen=<hash>/report.html           an evaluation
    GET /data_docs/books/session=32/gen=<hash>/index.html  expectations of a session's books
    GET /comparisons/<hash>.html                           several evaluations side by side
    GET /evaluations/<name>/report.html                    an evaluation by hand

Nothing else has an address: a path is matched whole against these four shapes, must be an ordinary
file inside the warehouse with no link on the way to it, and what was published is compared with its
manifest. Nothing is ever written. Other hosts' names are refused, so that no page of the web
reaches it by a name that it points at this machine. A page may run and load only what it came with.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kalshi_pipeline.errors import KalshiPipelineError, StorageError
from kalshi_pipeline.storage.publish import MANIFEST, Generation, Warehouse

if TYPE_CHECKING:
    from starlette.applications import Starlette

LOOPBACK = "127.0.0.1"
MAX_PAGE_BYTES = 64 << 20

_NAME = r"[a-z][a-z0-9_]{0,63}"
_GENERATION = r"gen=(?P<hash>[0-9a-f]{16})"
_SHAPES = tuple(
    re.compile(shape, re.ASCII)
    for shape in (
        rf"{_NAME}(?:/{_NAME}){{1,3}}(?:/session=[0-9]{{1,18}})?/{_GENERATION}/report\.html",
        rf"data_docs/{_NAME}/session=[0-9]{{1,18}}/{_GENERATION}/index\.html",
        r"comparisons/[0-9a-f]{16}\.html",
        r"evaluations/[0-9a-z][0-9a-z_-]{0,200}/report\.html",
    )
)
# the policy that a report declares of itself, its one style and its one script by their hashes
_DECLARED = re.compile(
    rb'<meta http-equiv="Content-Security-Policy" content="(default-src \'none\'; '
    rb"style-src 'sha256-[A-Za-z0-9+/=]{44}'; script-src 'sha256-[A-Za-z0-9+/=]{44}'; "
    rb"base-uri 'none'; form-action 'none')\">"
)
# of pages that run nothing: Great Expectations puts styles into its elements
_PLAIN = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1a2230;background:#f5f6f8;margin:2.5rem auto;"
    "max-width:60rem;padding:0 1rem}h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:1.8rem}"
    "li{margin:.25rem 0}small{color:#566172}a{color:#1a5fc4}"
)


@dataclass(frozen=True)
class _Entry:
    """A line of the first page: a group, a page's path, its name, and what it says."""

    group: str
    path: str
    name: str
    says: str = ""


def read_page(warehouse: Warehouse, path: str) -> bytes | None:
    """A page of a warehouse.

    Args:
        warehouse: whose page.
        path: of the page, relative to the root, `/` between its parts.

    Returns:
        Its bytes; None where the path has no page's shape, or there is no such file.

    Raises:
        CorruptFile: a published page is not the bytes that were published.
    """
    shape = next((found for known in _SHAPES if (found := known.fullmatch(path))), None)
    if shape is None:
        return None
    file = warehouse.at_hand(warehouse.root / path)
    try:
        # a link anywhere on the way would make the two differ
        if file.resolve(strict=True) != file or not file.is_file():
            return None
        if file.stat().st_size > MAX_PAGE_BYTES:
            return None
        if generation := shape.groupdict().get("hash"):
            warehouse.at_hand(file.with_name(MANIFEST))
            file = Generation(file.parent, generation, {}, "", True).path(file.name)
        return file.read_bytes()
    except FileNotFoundError:
        return None


def policy_of(page: bytes) -> str:
    """The Content-Security-Policy a page is sent with."""
    declared = _DECLARED.search(page[:4096])
    policy = declared.group(1).decode() if declared else _PLAIN
    return f"{policy}; frame-ancestors 'none'"


def contents(warehouse: Warehouse) -> bytes:
    """The first page: everything that can be looked at, the current generations alone."""
    parts: list[str] = []
    group = ""
    for entry in _entries(warehouse):
        if entry.group != group:
            group = entry.group
            parts.append(f"<h2>{escape(group)}</h2>")
        says = f" <small>{escape(entry.says)}</small>" if entry.says else ""
        link = f'<a href="/{quote(entry.path, safe="/=")}">{escape(entry.name)}</a>'
        parts.append(f"<ul><li>{link}{says}</li></ul>")
    listed = "".join(parts).replace("</ul><ul>", "")
    nothing = "<p>Nothing has been evaluated or checked yet.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Kalshi pipeline: pages'
        f"</title><style>{_STYLE}</style></head><body><h1>Evaluations and Data Docs</h1>"
        f"{listed or nothing}</body></html>"
    ).encode()


def application(warehouse: Warehouse) -> Starlette:
    """The server's routes: GET and HEAD alone."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def answer(page: bytes) -> Response:
        return HTMLResponse(page, headers={**_HEADERS, "Content-Security-Policy": policy_of(page)})

    def first(_: Request) -> Response:
        return answer(contents(warehouse))

    def other(request: Request) -> Response:
        try:
            page = read_page(warehouse, request.path_params["path"])
        except (StorageError, OSError, ValueError):
            return PlainTextResponse("this page is damaged: run its asset again", 500, _HEADERS)
        if page is None:
            return PlainTextResponse("there is no such page", 404, _HEADERS)
        return answer(page)

    return Starlette(
        routes=[Route("/", first), Route("/{path:path}", other)],
        middleware=[
            Middleware(
                TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"], www_redirect=False
            )
        ],
    )


def serve(warehouse: Warehouse, port: int) -> None:
    """Serve until the process is asked to end.

    Args:
        warehouse: whose pages.
        port: of loopback.

    Raises:
        KalshiPipelineError: something else listens there.
    """
    import uvicorn

    try:
        listening = socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise KalshiPipelineError(
            f"port {port} of {LOOPBACK} cannot be used: {error.strerror}; "
            "another one: KALSHI_REPORT_PORT"
        ) from error
    settings: dict[str, Any] = {"log_level": "warning", "server_header": False, "lifespan": "off"}
    uvicorn.Server(uvicorn.Config(application(warehouse), **settings)).run(sockets=[listening])


def _entries(warehouse: Warehouse) -> Iterator[_Entry]:
    root = warehouse.root
    for pointer in warehouse.names("*/evaluation/CURRENT"):
        asset = pointer.parent.relative_to(root).as_posix()
        if found := _current(warehouse, asset, None):
            page = (found.folder / "report.html").relative_to(root).as_posix()
            says = str(found.summary.get("verdict", ""))
            yield _Entry("Evaluations of plans", page, asset.split("/")[0], says)
    for file in sorted(root.glob("evaluations/*/report.html")):
        path = file.relative_to(root).as_posix()
        yield _Entry("Evaluations by hand", path, file.parent.name)
    for file in sorted(root.glob("comparisons/*.html")):
        yield _Entry("Comparisons", file.relative_to(root).as_posix(), file.stem)
    for pointer in sorted(warehouse.names("data_docs/*/session=*/CURRENT"), key=_session):
        session, stage = _session(pointer)
        if found := _current(warehouse, f"data_docs/{stage}", str(session)):
            page = (found.folder / "index.html").relative_to(root).as_posix()
            failed = found.summary.get("failed", 0)
            says = f"{found.summary.get('expectations')} expectations, {failed} failed"
            yield _Entry(f"Data Docs of session {session}", page, stage, says)


def _current(warehouse: Warehouse, asset: str, session: str | None) -> Generation | None:
    try:
        return warehouse.current(asset, session)
    except KalshiPipelineError:  # damaged: its asset says so
        return None


def _session(pointer: Path) -> tuple[int, str]:
    number = pointer.parent.name.removeprefix("session=")
    return int(number) if number.isdecimal() else -1, pointer.parents[1].name
