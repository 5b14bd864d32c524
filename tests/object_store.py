"""An S3 server of a test's own: Moto, in a process on loopback that ends with the test.

Requests are answered one after the other, so that a conditional write is one step, as it is in a
real store (Moto alone looks and writes without a lock). While a file lies at `refuse`, every
request is answered with the status in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BUCKET = "kalshi"
_SERVER = """
import io, sys, threading
from pathlib import Path
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

answer, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()
refuse = Path(sys.argv[1])

def application(environ, start_response):
    if refuse.exists():
        start_response(refuse.read_text(), [("Content-Length", "0")])
        return [b""]
    length = environ.get("CONTENT_LENGTH")
    if length:  # the body first: a slow sender holds up nobody
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(length)))
    with one_at_a_time:
        return [b"".join(answer(environ, start_response))]

server = make_server("127.0.0.1", 0, application, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class ObjectStoreServer:
    """A server that runs.

    Args:
        endpoint: its address.
        refuse: while this file exists, requests are refused with its content, a status line.
    """

    endpoint: str
    refuse: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process is told of it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "canary-key-id",
            "AWS_SECRET_ACCESS_KEY": "canary-secret",
            "AWS_REGION": "us-east-1",
        }


@contextmanager
def running_object_store(folder: Path) -> Iterator[ObjectStoreServer]:
    """Run a server with one empty bucket, `BUCKET`."""
    refuse = folder / "refuse"
    quiet = {"env": {**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(refuse)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **quiet,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        server = ObjectStoreServer(f"http://127.0.0.1:{port}", refuse)
        _make_bucket(server)
        yield server
    finally:
        process.kill()
        process.wait()


def _make_bucket(server: ObjectStoreServer) -> None:
    import urllib.request

    asked = urllib.request.Request(f"{server.endpoint}/{BUCKET}", method="PUT")
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 200
