"""Training and evaluating by hand: continued, resumed, loaded from wherever it lies, judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kalshi_pipeline import by_hand
from kalshi_pipeline.by_hand import Wanted, Watching
from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.errors import ForeignModel, IncompatibleCheckpoint, MissingParent
from kalshi_pipeline.learning.phase_run import RunSettings
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.storage.publish import Warehouse

NETWORK = PPOConfig(n_envs=4, n_steps=32, batch_size=64, n_epochs=1, hidden=(8, 8))
ROLLOUT = 128
SETTINGS = RunSettings(
    phase="by_hand", timesteps=3 * ROLLOUT, learner=NETWORK, trading=TradingConfig(), seed=3,
    curriculum=True, save_every=ROLLOUT, device="cpu",
)  # fmt: skip
WANTED = Wanted(sessions=(901,), validate_on=(902,), min_episode_steps=50, settings=SETTINGS)


@pytest.fixture(scope="module")
def warehouse(generated, tmp_path_factory):
    root = tmp_path_factory.mktemp("by_hand")
    store = Warehouse(root / "warehouse")
    sources = SessionSources([generated], root / "generated", None)
    by_hand.prepare(sources, store, (901, 902, 903), lambda _: None)
    return store


def train(warehouse, wanted=WANTED, *, start=None, resume=None, stop=lambda: False):
    seen: list[int] = []
    watching = Watching(lambda reached: seen.append(reached.timesteps), None, stop)
    done = by_hand.train(warehouse, wanted, start=start, resume=resume, watching=watching, now_ms=0)
    return done, seen


@pytest.fixture(scope="module")
def trained(warehouse):
    return train(warehouse)[0]


def longer(rollouts):
    return replace(WANTED, settings=replace(SETTINGS, timesteps=rollouts * ROLLOUT))


def test_the_same_training_asked_for_again_is_found_and_not_done_again(warehouse, trained):
    again, seen = train(warehouse)
    assert again.folder == trained.folder
    assert seen == []
    assert again.result.final.content_hash == trained.result.final.content_hash


def test_a_resumed_training_equals_a_longer_one(warehouse, trained):
    whole, _ = train(warehouse, longer(5))
    resumed, seen = train(warehouse, longer(2), resume=trained.folder / f"checkpoint_{3 * ROLLOUT}")
    assert seen == [4 * ROLLOUT, 5 * ROLLOUT]
    # the curriculum widens with the share that is done: only from there on do the two agree
    assert resumed.result.timesteps == whole.result.timesteps
    assert resumed.result.records[:3] == trained.result.records[:3]
    assert resumed.folder != trained.folder


def test_a_resumed_training_says_which_setting_is_another(warehouse, trained):
    other = replace(WANTED, settings=replace(SETTINGS, seed=4))
    with pytest.raises(IncompatibleCheckpoint, match="its seed differ"):
        train(warehouse, other, resume=trained.folder / f"checkpoint_{3 * ROLLOUT}")


def test_a_model_is_found_as_run_checkpoint_or_zip_of_a_run(trained):
    run = by_hand.load_model(trained.folder)
    assert run.content_hash == by_hand.load_model(trained.model).content_hash
    best = trained.result.best.state.timesteps
    named = by_hand.load_model(trained.folder / f"checkpoint_{best}")
    assert named.content_hash == run.content_hash
    assert run.state.timesteps == best
    assert not run.state.foreign


def test_a_zip_taken_out_of_its_run_is_a_foreign_model(trained, tmp_path):
    elsewhere = tmp_path / "model.zip"
    elsewhere.write_bytes(trained.model.read_bytes())
    assert by_hand.load_model(elsewhere).state.foreign


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_where_there_is_no_model_the_error_says_what_one_is(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingParent, match="there is no model"):
        by_hand.load_model(tmp_path / name)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.zip").write_text("no zip")
    with pytest.raises(ForeignModel):
        by_hand.load_model(tmp_path / "model.zip")


def test_training_begins_with_the_weights_and_lineage_of_another(warehouse, trained):
    wanted = replace(WANTED, sessions=(902,), validate_on=())
    done, _ = train(warehouse, wanted, start=trained.folder)
    state = done.result.final.state
    assert state.parent == by_hand.load_model(trained.folder).content_hash
    assert {entry.session for entry in state.lineage} == {901, 902}


def judged(warehouse, model, sessions, episodes):
    done = by_hand.evaluate(warehouse, Path(model), sessions, episodes, 50, lambda _: None)
    return done, json.loads((done.report.parent / "report.json").read_bytes())


def test_a_model_is_judged_on_sessions_it_has_not_seen(warehouse, trained):
    done, report = judged(warehouse, trained.folder, (903,), 100)
    assert done.verdict == report["verdict"]["sentence"]
    assert "generated sessions" in done.verdict
    assert report["labels"].keys() == {"clean_forward"}
    played = report["settings"]["evaluation"]["stochastic_repeats"]
    episodes = report["labels"]["clean_forward"]["episodes"]
    assert (played - 1) * episodes < 100 <= played * episodes
    assert done.verdict in done.report.read_text()


def test_a_model_judged_on_what_it_was_trained_or_chosen_on_has_no_clean_row(warehouse, trained):
    _, report = judged(warehouse, trained.folder, (901, 902), 1)
    assert report["labels"].keys() == {"in_sample", "selected_on"}


def test_a_foreign_model_is_judged_and_never_called_clean(warehouse, trained, tmp_path):
    elsewhere = tmp_path / "theirs.zip"
    elsewhere.write_bytes(trained.model.read_bytes())
    _, report = judged(warehouse, elsewhere, (903,), 1)
    assert report["labels"].keys() == {"unknown"}
