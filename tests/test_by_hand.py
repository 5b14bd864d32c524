"""Training and evaluating by hand: continued, resumed, loaded from wherever it lies, judged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import by_hand
from kalshi_pipeline.by_hand import BY_HAND, Wanted, Watching
from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.errors import (
    CorruptCheckpoint,
    ForeignModel,
    IncompatibleCheckpoint,
    MissingParent,
    SessionSealed,
)
from kalshi_pipeline.learning import phase_run
from kalshi_pipeline.learning.phase_run import RunSettings
from kalshi_pipeline.learning.run_checkpoints import described
from kalshi_pipeline.learning.runs import TRAINED_MODELS
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.session_data import (
    causal_universes,
    load_session,
    session_facts,
    universe_of,
    universes_of,
)
from kalshi_pipeline.storage import checkpoints
from kalshi_pipeline.storage.checkpoints import TRAINER
from kalshi_pipeline.storage.publish import Files, Recipe, Warehouse
from kalshi_pipeline.storage.seals import seal
from kalshi_pipeline.storage.trials import LIKELIEST, SAMPLED, read_trials, weights_of
from kalshi_pipeline.storage.whole_folder import read_folder, write_folder
from kalshi_pipeline.trading.universe import CAUSAL, SAME_TIME
from tests.checkpoints import small_checkpoint

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


def alike(rollouts, **changes):
    # the curriculum widens with the share of the budget that is done: without it, none has a part
    asked = replace(SETTINGS, timesteps=rollouts * ROLLOUT, curriculum=False, **changes)
    return replace(WANTED, settings=asked)


def tensors(checkpoint):
    return {**checkpoint.policy, **checkpoint.optimizer}


def test_a_resumed_training_equals_a_longer_one(warehouse):
    whole, _ = train(warehouse, alike(4))
    begun, _ = train(warehouse, alike(2))
    resumed, seen = train(warehouse, alike(2), resume=begun.folder / f"checkpoint_{2 * ROLLOUT}")
    assert seen == [3 * ROLLOUT, 4 * ROLLOUT]
    assert len({whole.folder, begun.folder, resumed.folder}) == 3
    assert resumed.result.validations == whole.result.validations
    assert resumed.result.market_draws == whole.result.market_draws
    for ours, theirs in (
        (resumed.result.final, whole.result.final),
        (resumed.result.best, whole.result.best),
    ):
        expected = tensors(theirs)
        assert tensors(ours).keys() == expected.keys()
        for name, tensor in tensors(ours).items():
            np.testing.assert_array_equal(tensor, expected[name], name)
    moved = tensors(begun.result.final)["action_net.weight"]
    assert (moved != tensors(whole.result.final)["action_net.weight"]).any()


def test_what_is_resumed_in_another_run_has_its_best_there(warehouse, monkeypatch):
    scores = count(0, -1)
    monkeypatch.setattr(phase_run, "Validator", lambda *_: lambda _policy: float(next(scores)))
    begun, _ = train(warehouse, alike(3, seed=5))
    resumed, _ = train(
        warehouse, alike(1, seed=5), resume=begun.folder / f"checkpoint_{3 * ROLLOUT}"
    )
    best = resumed.result.best
    assert best.state.timesteps == ROLLOUT
    assert by_hand.load_model(resumed.folder).content_hash == best.content_hash
    again, seen = train(
        warehouse, alike(1, seed=5), resume=begun.folder / f"checkpoint_{3 * ROLLOUT}"
    )
    assert (again.folder, seen) == (resumed.folder, [])
    assert again.result.best.content_hash == best.content_hash


def test_a_training_that_falling_validation_stopped_is_not_resumed(warehouse, trained, tmp_path):
    run = tmp_path / "stopped"
    shutil.copytree(trained.folder, run)
    last = run / f"checkpoint_{3 * ROLLOUT}"
    contents = read_folder(last)
    told = json.loads(contents[TRAINER])
    told["alerts"]["stop"] = True
    write_folder(last, {**contents, TRAINER: json.dumps(told).encode()}, Files())
    before = set((warehouse.root / TRAINED_MODELS).iterdir())
    with pytest.raises(IncompatibleCheckpoint, match=r"falling validation.*--from-model-check"):
        train(warehouse, longer(2), resume=last)
    assert set((warehouse.root / TRAINED_MODELS).iterdir()) == before


@pytest.fixture
def published(tmp_path):
    with Warehouse(tmp_path).stage("quick/phase_1", None, Recipe("1")) as staging:
        folder = staging.folder / checkpoints.seed_folder(7)
        folder.mkdir()
        checkpoints.save(small_checkpoint(), folder)
    return staging.generation.folder / "seed_7"


def test_a_published_seed_is_a_model(published, monkeypatch):
    expected = small_checkpoint().content_hash
    assert by_hand.load_model(published).content_hash == expected
    monkeypatch.chdir(published.parent)
    assert by_hand.load_model(Path("seed_7")).content_hash == expected


@pytest.mark.parametrize("name", [checkpoints.POLICY, checkpoints.TRAINER])
def test_a_published_seed_whose_bytes_changed_is_refused(published, name):
    content = (published / name).read_bytes()
    if name == checkpoints.TRAINER:  # as good JSON as before
        changed = content.replace(b'"foreign": false', b'"foreign": true')
    else:
        changed = content[:-1] + bytes([content[-1] ^ 1])
    assert changed != content
    (published / name).write_bytes(changed)
    with pytest.raises(CorruptCheckpoint, match=f"{name} is not what was published"):
        by_hand.load_model(published)


def test_a_checkpoint_that_no_manifest_vouches_for_is_refused(published, tmp_path):
    shutil.copytree(published, tmp_path / "seed_7")
    with pytest.raises(CorruptCheckpoint, match="vouched for by no manifest"):
        by_hand.load_model(tmp_path / "seed_7")
    shutil.copytree(published, published.with_name("seed_8"))
    with pytest.raises(CorruptCheckpoint, match="is missing"):
        by_hand.load_model(published.with_name("seed_8"))


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


def test_every_validation_of_a_training_is_a_trial(warehouse, trained):
    run = described(trained.folder)["key"]["digest"]
    rows = [row for row in read_trials(warehouse).to_pylist() if row["recipe"] == run]
    validated = [at for at, _ in trained.result.validations]
    assert sorted(row["timesteps"] for row in rows) == validated == [128, 256, 384]
    assert {(row["kind"], row["plan"], row["seed"]) for row in rows} == {("validation", BY_HAND, 3)}
    dollars = dict(trained.result.validations)
    events = {event for row in rows for event in row["events"]}
    assert all(event.startswith("902/") for event in events)
    episodes = len(universe_of(warehouse, (902,), 50))
    for row in rows:
        mean = sum(row["pnl_micro"]) / episodes / 1e6
        assert mean == pytest.approx(dollars[row["timesteps"]])
    best = weights_of(trained.result.best)
    assert best in {row["weights"] for row in rows}


def test_an_evaluation_counts_what_was_tried_and_is_a_trial_itself(warehouse, trained):
    before = read_trials(warehouse).num_rows
    judged(warehouse, trained.folder, (901,), 1)
    rows = read_trials(warehouse).to_pylist()
    own = [row for row in rows if row["kind"] == "evaluation" and row["sessions"] == [901]]
    assert {row["policy"] for row in own} == {SAMPLED, LIKELIEST}
    assert len(rows) == before + 2
    again, _ = judged(warehouse, trained.folder, (901,), 1)
    assert read_trials(warehouse).num_rows == before + 2
    # played anew with other chance, or on other episodes, it is a further trial of each
    judged(warehouse, trained.folder, (901,), 1_000)
    assert read_trials(warehouse).num_rows == before + 4
    distinct = {(row["weights"], row["policy"], row["config"]) for row in rows}
    drawn = {(r["weights"], r["policy"], r["config"]) for r in read_trials(warehouse).to_pylist()}
    assert len(drawn) == len(distinct) + 2
    told = pq.read_table(again.report.with_name("trials.parquet")).to_pylist()
    assert sum(row["recipe"] == own[0]["recipe"] for row in told) == 2


def test_nobody_trains_validates_or_judges_on_a_sealed_session(warehouse, trained, tmp_path):
    store = Warehouse(tmp_path)
    assert seal(store, 902, 0)
    with pytest.raises(SessionSealed, match="902") as refused:
        train(store)
    assert refused.value.session == 902
    with pytest.raises(SessionSealed, match="902"):
        judged(store, trained.folder, (902,), 1)


def test_the_causal_universe_is_traded_after_what_it_is_chosen_by(warehouse):
    data, later = load_session(warehouse, 902), causal_universes(warehouse, 902, 50)
    segments, recorded_until_ms = (
        data.tensors.index.to_pylist(),
        max(data.rows["time_ms"].to_pylist()),
    )
    entries = {entry["market"]: entry for entry in data.suitable.to_pylist()}
    for name, column in ((CAUSAL, "causal"), (SAME_TIME, "suitable")):
        assert len(later[name]) > 5
        tape = later[name].tape
        first_ms = tape.time_ms[tape.step_row[tape.first_step]].tolist()
        for episode, start_ms in zip(later[name].episodes, first_ms, strict=True):
            assert entries[episode.market][column]
            began_ms = min(s["start_ms"] for s in segments if s["market"] == episode.market)
            (close_ms,) = (m.close_ms for m in data.markets if m.ticker == episode.market)
            ends_ms = min(close_ms or recorded_until_ms, recorded_until_ms)
            assert start_ms >= began_ms + int(0.2 * (ends_ms - began_ms))
    whole = universes_of(warehouse, [902], 50)[0][902]
    assert len(later[SAME_TIME].tape.step_row) < len(whole.tape.step_row)


def test_facts_say_how_ladders_were_recorded(warehouse):
    facts = session_facts(warehouse, [902])
    assert facts["conventions"] == {"902": "frames as received"}
