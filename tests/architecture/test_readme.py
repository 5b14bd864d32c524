"""The README's commands exist as it writes them."""

from __future__ import annotations

import re
import shlex

import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.plans import plan_names
from tests.architecture.source import ROOT

README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line.split("#")[0].strip() for line in SHELL.splitlines()]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_the_readme_names_exists():
    inline = set(re.findall(r"`make ([a-z]+)", README))
    named = inline | {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert {"run", "test", "ui", "setup", "lint", "soak", "bench"} <= named
    assert named <= TARGETS


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("kalshi ")])
def test_every_kalshi_command_of_the_readme_is_understood(command):
    options = cli.parser().parse_args(shlex.split(command)[1:])
    assert callable(options.run)


def test_every_plan_is_in_the_readme():
    for name in plan_names():
        assert f"| `{name}` |" in README


def test_every_linked_page_exists():
    for target in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_every_asset_the_readme_materializes_is_defined():
    from kalshi_pipeline.definitions import build_definitions

    defined = {
        key.to_user_string() for key in build_definitions([], "warehouse").resolve_all_asset_keys()
    }
    (selected,) = re.findall(r"--select ([a-z_,]+)", SHELL)
    assert set(selected.split(",")) <= defined
    assert set(re.findall(r'key:"([^"]+)"', SHELL)) <= defined
