"""What commands have in common: how one is added, how sessions are named, how it shows facts."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable
from typing import Any

from rich.console import Console

from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.names import session_id
from kalshi_pipeline.sessions.report import Report


def command(
    actions: Any, name: str, run: Callable[[argparse.Namespace], None], brief: str, says: str
) -> argparse.ArgumentParser:
    """Add a command; what it returns takes further arguments."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=brief, description=says)
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command that ends in `show` be read by a machine."""
    parser.add_argument("--json", action="store_true", help="the same facts, machine-readable")


def session_argument(text: str) -> int:
    """A session id as an argument's type."""
    try:
        return session_id(text)
    except KalshiPipelineError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def show(options: argparse.Namespace, told: Report) -> None:
    """Print a report, for a person or a machine."""
    if options.json:
        print(json.dumps(told.facts, indent=1))
    else:
        console = Console()
        for part in told.parts():
            console.print(part)


def positive(text: str) -> int:
    """A number of things as an argument's type."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"1 or more, was {value}")
    return value


def stop_on_interrupt(say: Callable[..., None]) -> Callable[[], bool]:
    """Whether this process was asked to stop; it is told once that it will."""
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked:  # asked twice: now
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping after this update; asked again, the same command goes on from there")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return lambda: bool(asked)
