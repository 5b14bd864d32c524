"""The shell blocks of the README and of every page under `docs/`, command by command."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"""^((?:[^'"#\\]|\\.|'[^']*'|"(?:\\.|[^"\\])*"|(?<=\S)#)*?)(?:^|\s+)#.*$""")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: relative to the project.
        line: of its first command.
        language: what the fence says.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """For people: where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Each as it stands, over several lines where it goes on; comments left out."""
        return commands_of(self.text)


def pages() -> list[Path]:
    """README.md and every page of docs/, further pages included."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def blocks() -> tuple[Block, ...]:
    """Every fenced block of every page."""
    found = []
    for page in pages():
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start(2)) + 1
            name = str(page.relative_to(ROOT))
            found.append(Block(name, line, match.group(1), match.group(2)))
    return tuple(found)


@cache
def commands_of(shell: str) -> list[str]:
    """A script's commands; lines belong together until the shell understands them."""
    found, held = [], ""
    for line in shell.splitlines():
        held += line if held else COMMENT.sub(r"\1", line).rstrip()
        if held and complete(held):
            found.append(held)
            held = ""
        elif held:
            held += "\n"
    assert not held, f"no shell understands this: {held}"
    return found


def complete(command: str) -> bool:
    """Whether a command ends here, for the shell."""
    if command.endswith("\\"):
        return False
    if not re.search(r"""['"`({<]|\b(if|for|while|case|do|then)\b""", command):
        return True
    told = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True)
    return told.returncode == 0 and not told.stderr
