"""The README's commands exist as it writes them."""

from __future__ import annotations

import re

from kalshi_pipeline import cli, errors
from kalshi_pipeline.plans import plan_names
from tests.architecture.source import ROOT
from tests.documentation.blocks import blocks

README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs" / "TRAINING.md").read_text()


COMMANDS = [c for block in blocks() if block.page == "README.md" for c in block.commands]
SHELL = "\n".join(COMMANDS)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_the_readme_names_exists():
    inline = set(re.findall(r"`make ([a-z]+)", README))
    named = inline | {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert {"run", "test", "ui", "setup", "lint", "soak", "bench"} <= named
    assert named <= TARGETS


def test_every_flag_of_the_training_plans_commands_is_taken():
    flags = {
        "train": "session curriculum algorithm cash-start min-episode-length save-freq "
        "portfolio-log-freq m10-console-freq from-model-checkpoint total-timesteps resume-from",
        "evaluate": "model-path session num-episodes",
    }
    usage = {name: parser.format_help() for name, parser in subparsers(cli.parser()).items()}
    for command, names in flags.items():
        for name in names.split():
            assert f"--{name}" in usage[command]


def test_every_error_the_training_page_names_exists():
    for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", TRAINING):
        assert hasattr(errors, name), name


def subparsers(parser):
    (actions,) = (a.choices for a in parser._actions if isinstance(a.choices, dict))
    return actions


def test_every_plan_is_in_the_readme():
    for name in plan_names():
        assert f"| `{name}` |" in README


def test_every_asset_the_readme_materializes_is_defined():
    from kalshi_pipeline.definitions import build_definitions

    defined = {
        key.to_user_string() for key in build_definitions([], "warehouse").resolve_all_asset_keys()
    }
    (selected,) = re.findall(r"--select ([a-z_,]+)", SHELL)
    assert set(selected.split(",")) <= defined
    assert set(re.findall(r'key:"([^"]+)"', SHELL)) <= defined
