"""Every command of the README and of the pages under docs/ does what it says there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import dagster as dg
import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.recordings.generator import QUICK_PROFILES
from kalshi_pipeline.stages import SESSION_STAGES
from kalshi_pipeline.storage.publish import Warehouse
from tests.conftest import environment_of
from tests.documentation.blocks import FENCE, ROOT, Block, blocks, commands_of, pages
from tests.documentation.stand_ins import ENDLESS, EXCUSED, INSTEAD, SLOW, STORIES

SHELL = [block for block in blocks() if block.language == "bash"]
COMMANDS = [(block, command) for block in SHELL for command in block.commands]
# fences that hold what is read and not typed
READ = {"python", "sql", "toml", "yaml", "json", "ini", "text", "nginx"}
PROGRAMS = r"(kalshi|make|dagster|dagster-\w+|pip|python|systemctl|psql|pg_dump|ssh|export|duckdb)"


def excuse(command: str) -> str | None:
    return next((why for found, why in EXCUSED.items() if re.search(found, command)), None)


def stood_in(command: str) -> str:
    """What a test types."""
    for found, instead, _ in INSTEAD:
        command = re.sub(found, instead, command)
    for found, seconds in ENDLESS.items():
        if re.search(found, command):
            return f"timeout {seconds} {command} || [ $? = 124 ]"
    return command


# what needs nothing to run


def test_commands_stand_in_bash_blocks_and_nowhere_else():
    for block in blocks():
        assert block.language in {"bash", "", *READ}, f"{block.name}: a fence for {block.language}"
        if block.language in ("", "text"):
            typed = re.search(rf"^\s*(\$ )?{PROGRAMS} ", block.text, re.MULTILINE)
            assert not typed, f"{block.name}: a command in a block no test runs: {typed}"


def test_every_link_leads_somewhere():
    for page in pages():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", FENCE.sub("", page.read_text())):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_what_is_excused_and_what_stands_in_for_something_is_still_needed():
    commands = [command for _, command in COMMANDS]
    left = [command for command in commands if not excuse(command)]
    for found, why in EXCUSED.items():
        assert any(re.search(found, command) for command in commands), f"no command has {found}"
        assert len(why) > 15, found
    for found, _, why in INSTEAD:
        assert any(re.search(found, command) for command in left), f"no command has {found}"
        assert len(why) > 10, found
    for found in (*ENDLESS, *SLOW):
        assert any(re.search(found, command) for command in left), f"no command has {found}"
    for page in STORIES:
        assert any(block.page == page for block in SHELL), page


@pytest.mark.parametrize(
    ("block", "command"),
    [pytest.param(b, c, id=f"{b.name} {c[:60]}") for b, c in COMMANDS if c.startswith("kalshi ")],
)
def test_every_kalshi_command_is_understood(block, command):
    alone = command.replace("\\\n", " ").split("|")[0]
    page = "\n".join(b.text for b in SHELL if b.page == block.page)
    written = set(re.findall(r"plans/(\w+)\.toml", page))  # a plan of the reader's own
    words = ["quick" if word in written else word for word in shlex.split(alone)[1:]]
    if "--help" not in words:
        assert callable(cli.parser().parse_args(words).run), block.name


@pytest.mark.parametrize(
    ("shell", "commands"),
    [
        ("a  # what\n# why\nb 'x # y'", ["a", "b 'x # y'"]),
        ("a \\\n  b\nc", ["a \\\n  b", "c"]),
        ("for x in 1; do\n  a $x\ndone", ["for x in 1; do\n  a $x\ndone"]),
        ("cat <<END > f\na # b\nEND\nc", ["cat <<END > f\na # b\nEND", "c"]),
        ("a $(b\n)  # why", ["a $(b\n)  # why"]),
        ('a "x # y" z#1  # why', ['a "x # y" z#1']),
    ],
)
def test_a_block_is_cut_into_what_is_typed(shell, commands):
    assert commands_of(shell) == commands


# what runs


def recipe() -> Block:
    """What the README gives for CI."""
    (block,) = [b for b in SHELL if "dagster asset materialize" in b.text and "mktemp" in b.text]
    return block


def stories() -> list[pytest.param]:
    """Blocks that are run one after the other in one folder: most of them alone."""
    told = []
    for key, group in groupby(SHELL, key=lambda b: b.page if b.page in STORIES else b.name):
        together = list(group)
        left = [c for b in together for c in b.commands if not excuse(c)]
        slow = any(re.search(found, command) for found in SLOW for command in left)
        marks = [pytest.mark.slow if slow else pytest.mark.drill]
        if left and together != [recipe()]:
            told.append(pytest.param(together, id=key, marks=marks))
    return told


@pytest.fixture
def home(quick_plan: Path, tmp_path: Path) -> Path:
    """A checkout whose environment is made, with recordings and a warehouse of the quick plan."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    shutil.copytree(quick_plan / "warehouse", tmp_path / "warehouse", dirs_exist_ok=True)
    for name in ("recordings", "dagster_home"):
        shutil.copytree(quick_plan / name, tmp_path / name)
    (tmp_path / "tmp").mkdir()
    (tmp_path / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".ready":
            (tmp_path / ".venv" / part.name).symlink_to(part)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


@pytest.fixture
def type_in(home: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Runs what is documented in that checkout; returns the folder."""

    def run(*told: Block, **further: str) -> Path:
        typed = [stood_in(c) for block in told for c in block.commands if not excuse(c)]
        variables = {
            **environment_of(home), "RECORDINGS": str(home / "recordings"), "BROWSER": "true",
            "TMPDIR": str(home / "tmp"), **further,
        }  # fmt: skip
        if "s3://" in "".join(typed):
            variables |= request.getfixturevalue("object_store").environment
            variables["KALSHI_CACHE"] = str(home / "copies")
        variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
        if re.search(r"\$COLLECTOR|\$COPY|DATABASE_URL|--to-postgres", "\n".join(typed)):
            variables |= collector(request.getfixturevalue("postgres"), variables)
        script = ["set -Eeuo pipefail", "trap 'echo \"failed: $BASH_COMMAND\" >&2' ERR", *typed]
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=home, env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, "\n".join([*script, done.stdout[-2000:], done.stderr[-4000:]])
        assert "Traceback" not in done.stderr
        return home

    return run


@pytest.mark.parametrize("told", stories())
def test_the_commands_of_a_block_do_what_they_say(told, type_in, home):
    if told[0].page in STORIES:  # begins with nothing but recordings
        shutil.rmtree(home / "warehouse")
        package = "kalshi_pipeline"  # what is compiled included
        shutil.copytree(ROOT / package, home / package, dirs_exist_ok=True)
        for number, session in enumerate(QUICK_PROFILES, start=11):
            recorded_as(home / "recordings" / str(session), number)
        type_in(*told, PYTHONPATH=str(home))  # where a plan is added
    else:
        type_in(*told)


def recorded_as(folder: Path, number: int) -> None:
    """Give a recording another id."""
    told = json.loads((folder / "session.json").read_text())
    (folder / "session.json").write_text(json.dumps({**told, "session_id": number}))
    folder.rename(folder.with_name(str(number)))


@pytest.mark.drill
def test_the_recipe_for_ci_materializes_one_partition_and_its_checks(type_in, home, monkeypatch):
    shutil.rmtree(home / "dagster_home")
    type_in(recipe())
    (instance,) = (path.parent for path in (home / "tmp").glob("*/dagster.yaml"))
    (warehouse,) = (path.parent for path in (home / "tmp").glob("*/books"))
    for stage in SESSION_STAGES:
        assert Warehouse(warehouse).current(stage, "901").verified()
    monkeypatch.setenv("DAGSTER_HOME", str(instance))
    with dg.DagsterInstance.get() as kept:
        (run,) = kept.get_runs()
        entries = kept.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    checks = [entry.dagster_event.event_specific_data for entry in entries]
    assert {check.asset_key.to_user_string() for check in checks} == set(SESSION_STAGES)
    assert all(check.passed for check in checks if check.blocking)
    # assets pass keys, never values: the default IO manager, which pickles, is never called
    stored = instance / "storage"
    assert not [path for path in stored.rglob("*") if path.name in SESSION_STAGES]


def test_our_own_ci_does_what_the_recipe_says():
    ours = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    said = [line.strip() for line in recipe().text.splitlines() if line.strip()]
    begin = ours.index(said[0])
    assert ours[begin : begin + len(said)] == said


def collector(server, variables: dict[str, str]) -> dict[str, str]:
    """A database with session 901 in it, exported as 32, and one that is empty."""
    full, empty = server.create("collector"), server.create("copied")
    url = server.url(full, user="postgres")
    command = ["kalshi", "sessions", "export", "901", "--to-postgres", url, "--as", "32"]
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return {
        "COLLECTOR": url, "DATABASE_URL": url, "COPY": server.url(empty, user="postgres"),
    }  # fmt: skip
