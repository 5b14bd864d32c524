"""What the command line makes of its arguments."""

from __future__ import annotations

from dataclasses import fields

import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.cli.training import _learner, _wanted
from kalshi_pipeline.config import CONFIGS
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.storage.publish import Recipe, Warehouse
from kalshi_pipeline.storage.seals import is_sealed_by_hand, opening_of
from kalshi_pipeline.storage.trials import record_rows
from tests.evaluation.past import table, trial


def text_of(value):
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("algorithm", sorted(CONFIGS))
def test_every_setting_of_an_algorithm_has_a_flag_that_takes_its_default(algorithm):
    config = CONFIGS[algorithm]()
    flags = [
        f"--{field.name.replace('_', '-')}={text_of(getattr(config, field.name))}"
        for field in fields(config)
    ]
    options = cli.parser().parse_args(["train", "--session", "1", "--algorithm", algorithm, *flags])
    assert _learner(options) == config


def test_flags_become_what_is_wanted():
    options = cli.parser().parse_args(
        ["train", "--session", "32", "25", "--cash-start", "500", "--save-freq", "7",
         "--curriculum", "--m10-console-freq", "9", "--hidden", "8,4",
         "--mask-actions", "true", "--seed", "3"]
    )  # fmt: skip
    wanted = _wanted(options)
    assert wanted.sessions == (32, 25)
    settings = wanted.settings
    assert settings.trading.cash_start_micro == 5_000_000
    assert (settings.save_every, settings.curriculum, settings.seed) == (7, True, 3)
    assert settings.watch.console_steps == 9
    assert settings.learner.hidden == (8, 4)
    assert settings.learner.mask_actions


@pytest.mark.parametrize(
    "flags",
    [["--mask-actions", "yes"], ["--hidden", "8,x"], ["--total-timesteps", "0"],
     ["--session", "../1"], ["--device", "tpu"]],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(flags, capsys):
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["train", "--session", "1", *flags])
    assert flags[0] in capsys.readouterr().err


def test_a_setting_of_another_algorithm_is_refused():
    options = cli.parser().parse_args(
        ["train", "--session", "1", "--algorithm", "a2c", "--clip-range", "0.1"]
    )
    with pytest.raises(PlanError, match="a2c has no --clip-range"):
        _learner(options)


def test_a_session_is_sealed_and_opened_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kalshi_pipeline.cli.sessions.warehouse_root", lambda: str(tmp_path))
    warehouse = Warehouse(tmp_path)
    assert cli.main(["sessions", "seal", "7", "8"]) == 0
    assert [is_sealed_by_hand(warehouse, session) for session in (6, 7, 8)] == [False, True, True]
    assert "session 8: sealed" in capsys.readouterr().out

    assert cli.main(["sessions", "open", "7", "--reason", "the end"]) == 1
    assert "training_plan/phase_3 has not been materialized" in capsys.readouterr().err

    with warehouse.stage("quick/phase_3", None, Recipe("1")) as staging:
        staging.summary.update(trained=1)
    checkpoint = staging.generation.content_hash
    assert cli.main(["sessions", "open", "7", "--plan", "quick", "--reason", "the end"]) == 0
    opening = opening_of(warehouse, 7)
    assert (opening.checkpoint, opening.plan, opening.reason) == (checkpoint, "quick", "the end")
    assert opening.opened_ms > 1_700_000_000_000
    assert "opened 20" in capsys.readouterr().out

    row = trial(1, [0.5], recipe="a" * 16, sessions=[10], kind="evaluation")
    record_rows(warehouse, table([row]))
    assert cli.main(["sessions", "seal", "10"]) == 0
    assert "session 10: sealed; it was looked at (judged by made_up)" in capsys.readouterr().out

    assert cli.main(["sessions", "open", "9", "--plan", "quick", "--reason", "why"]) == 1
    assert "nothing to open" in capsys.readouterr().err
