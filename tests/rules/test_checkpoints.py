"""Every rule of a phase holds for what training makes, and breaks for what it is there to catch."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kalshi_pipeline import plan_stages, rules, stages
from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.errors import NoSuitableMarket
from kalshi_pipeline.learning.policy import NetworkPolicy, untrained
from kalshi_pipeline.plans import Phase, Plan, load_plan
from kalshi_pipeline.rules import Trained, behaviour
from kalshi_pipeline.rules.behaviour import Behaviour, Overpaid, behaviour_of
from kalshi_pipeline.rules.checkpoints import (
    MOVED,
    data_is_of_one_kind,
    earns_what_is_possible,
    learned_something,
    lineage_is_clean,
    not_collapsed,
    validated_on_enough,
    weights_are_sound,
    weights_have_moved,
)
from kalshi_pipeline.session_data import universe_of
from kalshi_pipeline.storage import checkpoints
from kalshi_pipeline.storage.checkpoints import Checkpoint, LineageEntry
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.seals import seal
from kalshi_pipeline.trading.actions import ACTIONS, Action
from tests.checkpoints import small_checkpoint
from tests.faults.feeds import recorded, snapshot
from tests.rules.published import (
    SEALED,
    SESSION,
    VALIDATION,
    publish_phase,
    publish_session_facts,
    small_plan,
)
from tests.test_stages import materialize

TINY = PPOConfig(hidden=(8, 8), n_envs=4, n_steps=16, batch_size=32, n_epochs=1)


def changed(checkpoint: Checkpoint, **values) -> Checkpoint:
    return replace(checkpoint, state=replace(checkpoint.state, **values))


def child_of(parent: Checkpoint) -> Checkpoint:
    moved = {name: tensor + np.float32(0.01) for name, tensor in parent.policy.items()}
    state = replace(
        parent.state, phase="phase_2", parent=parent.content_hash,
        timesteps_total=parent.state.timesteps_total + parent.state.timesteps,
    )  # fmt: skip
    return replace(parent, policy=moved, state=state)


def family(root: Path, child: Checkpoint | None = None) -> Trained:
    """Phase 2, after phase 1 was published too."""
    parent = small_checkpoint()
    publish_phase(root, {0: parent})
    return publish_phase(root, {0: child or child_of(parent)}, "phase_2")


def test_every_rule_of_a_phase_is_tested_here():
    tested = (
        data_is_of_one_kind, earns_what_is_possible, learned_something, lineage_is_clean,
        not_collapsed, validated_on_enough, weights_are_sound, weights_have_moved,
    )  # fmt: skip
    assert {rule.__name__ for rule in rules.OF_PHASES} == {rule.__name__ for rule in tested}


def test_whole_checkpoints_are_sound(tmp_path):
    finding = weights_are_sound(
        publish_phase(tmp_path, {0: small_checkpoint(), 1: small_checkpoint()}).generation
    )
    assert finding.holds
    assert finding.says == "8, 8 steps in all, 1 markets in the lineage"


def test_a_checkpoint_that_learned_from_nothing_is_not_sound(tmp_path):
    finding = weights_are_sound(
        publish_phase(tmp_path, {0: changed(small_checkpoint(), lineage=())}).generation
    )
    assert not finding.holds
    assert "0 markets" in finding.says


def test_weights_that_are_not_finite_are_not_sound_and_the_tensor_is_named(tmp_path, monkeypatch):
    spoilt = small_checkpoint()
    spoilt.policy["action_net.weight"][0, 0] = np.nan
    monkeypatch.setattr(checkpoints, "check_tensors", lambda _: None)  # that writes no such thing
    trained = publish_phase(tmp_path, {0: spoilt})
    monkeypatch.undo()
    finding = weights_are_sound(trained.generation)
    assert not finding.holds
    assert "action_net.weight is not finite" in finding.says
    assert finding.facts[0].rule == "finite"


def test_a_damaged_checkpoint_is_not_sound_and_the_reason_is_told(tmp_path):
    trained = publish_phase(tmp_path, {0: small_checkpoint()})
    weights = trained.generation.folder / "seed_0" / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    finding = weights_are_sound(trained.generation)
    assert not finding.holds
    assert "policy" in finding.says


def fresh(seed: int = 0) -> Checkpoint:
    (made,) = untrained(small_checkpoint(seed)).checkpoints
    return made


def nudged(checkpoint: Checkpoint, by: float) -> Checkpoint:
    policy = {name: tensor.copy() for name, tensor in checkpoint.policy.items()}
    policy["mlp_extractor.policy_net.0.weight"] *= np.float32(1 + by)
    return replace(checkpoint, policy=policy)


@pytest.mark.parametrize(
    ("network", "holds"),
    [
        (small_checkpoint(), True),
        (fresh(), False),
        (nudged(fresh(), 1e-6), False),  # rounding
        (nudged(fresh(), 20 * MOVED), True),
        (changed(small_checkpoint(), timesteps=0), False),
    ],
)
def test_weights_that_are_still_fresh_are_found(tmp_path, network, holds):
    assert weights_have_moved(publish_phase(tmp_path, {0: network})).holds is holds


def test_only_the_actor_is_looked_at(tmp_path):
    network = fresh()
    policy = dict(network.policy) | {"value_net.bias": np.ones(1, np.float32)}
    assert not weights_have_moved(
        publish_phase(tmp_path, {0: replace(network, policy=policy)})
    ).holds


def test_a_phase_that_left_its_parent_as_it_was_is_found(tmp_path):
    assert weights_have_moved(family(tmp_path / "moved")).holds
    still = child_of(small_checkpoint())
    still = replace(still, policy=small_checkpoint().policy)
    finding = weights_have_moved(family(tmp_path / "still", still))
    assert not finding.holds
    assert finding.facts[0].row == "seed 0"


def entry(session: int, event: str = "E") -> LineageEntry:
    return LineageEntry(session, event, f"{event}-M", 1, 2)


@pytest.mark.parametrize(
    ("values", "session", "says"),
    [
        ({"lineage": (entry(SESSION), entry(77))}, 77, "does not train on"),
        ({"lineage": ()}, SESSION, "every session the plan trains on"),
        ({"selected_on": (entry(78),)}, 78, "not for validation"),
        ({"selected_on": (entry(SEALED),)}, SEALED, "not for validation"),
        ({"foreign": True}, None, "made from its sessions"),
        ({"parent": "0" * 64}, None, "as that is published now"),
        ({"timesteps_total": 8}, None, "16"),
    ],
)
def test_a_lineage_that_strays_from_the_plan_is_found(tmp_path, values, session, says):
    assert lineage_is_clean(family(tmp_path / "clean")).holds
    child = changed(child_of(small_checkpoint()), **values)
    finding = lineage_is_clean(family(tmp_path / "stray", child))
    assert not finding.holds
    assert finding.facts[0].session == session
    assert says in finding.facts[0].rule


def test_whoever_looked_at_a_sealed_session_is_found(tmp_path):
    looked = changed(small_checkpoint(), lineage=(entry(SESSION), entry(SEALED)))
    plan = replace(small_plan(), phases=(Phase("phase_1", (SESSION, SEALED), 8),))
    with_it = publish_phase(tmp_path / "open", {0: looked}, plan=plan)
    assert lineage_is_clean(with_it).holds  # no plan that ships seals it
    seal(with_it.warehouse, SEALED, 0)
    finding = lineage_is_clean(with_it)
    assert [(fact.session, fact.value) for fact in finding.facts] == [(SEALED, "looked at")]


def test_a_first_phase_continues_from_nothing(tmp_path):
    network = changed(small_checkpoint(), parent="0" * 64)
    finding = lineage_is_clean(publish_phase(tmp_path, {0: network}))
    assert not finding.holds
    assert finding.facts[0].rule == "it continues from nothing"


def test_a_phase_whose_parent_is_gone_is_found(tmp_path):
    finding = lineage_is_clean(
        publish_phase(tmp_path, {0: child_of(small_checkpoint())}, "phase_2")
    )
    assert not finding.holds


@pytest.mark.parametrize(
    ("second", "header", "holds"),
    [
        (False, {}, True),
        (True, {}, False),  # generated beside recorded
        (False, {"ladder_convention": "fixed"}, False),  # rows of a database beside frames
    ],
)
def test_sessions_of_two_kinds_are_told_apart(tmp_path, second, header, holds):
    plan = replace(small_plan(), phases=(Phase("phase_1", (SESSION, VALIDATION), 8),))
    publish_session_facts(tmp_path, SESSION, generated=False)
    publish_session_facts(tmp_path, VALIDATION, generated=second, **header)
    finding = data_is_of_one_kind(publish_phase(tmp_path, {0: small_checkpoint()}, plan=plan))
    assert finding.holds is holds
    assert str(SESSION) in finding.says


@pytest.mark.parametrize(("events", "holds"), [(30, True), (29, False), (0, False)])
def test_too_few_events_to_choose_by_are_found(tmp_path, events, holds):
    chosen = tuple(entry(VALIDATION, f"E{number}") for number in range(events))
    chosen += tuple(entry(SESSION, f"F{number}") for number in range(40))  # of a phase before
    network = changed(small_checkpoint(), selected_on=chosen)
    assert validated_on_enough(publish_phase(tmp_path, {0: network})).holds is holds


def test_where_nothing_validates_nothing_is_asked_of_it(tmp_path):
    plan = replace(small_plan(), roles={SEALED: "forward test"})
    trained = publish_phase(tmp_path, {0: small_checkpoint()}, plan=plan)
    assert validated_on_enough(trained).holds


def behaving(**values) -> Trained:
    """A phase of one seed that behaves so."""
    usual = {
        "seed": 0, "session": SESSION, "episodes": 9, "events": 9, "steps": 900,
        "action_shares": (1 / ACTIONS,) * ACTIONS, "changed": 0.2, "pnl_cents": -1.0,
        "gain_cents": 10.0, "p_value": 0.01,
    }  # fmt: skip
    plan = small_plan()
    trained = Trained(Warehouse(Path("/nowhere")), plan, plan.phases[0])
    vars(trained)["behaviour"] = (Behaviour(**usual | values),)
    return trained


def mostly(action: Action, share: float) -> tuple[float, ...]:
    rest = (1 - share) / (ACTIONS - 1)
    return tuple(share if one is action else rest for one in Action)


@pytest.mark.parametrize(
    ("shares", "holds"),
    [
        ((1 / ACTIONS,) * ACTIONS, True),
        (mostly(Action.HOLD, 0.94), True),
        (mostly(Action.HOLD, 0.96), False),
        (mostly(Action.SELL_BEST, 0.89), True),
        (mostly(Action.SELL_BEST, 0.91), False),  # the predecessor's: 95.87 % SELL_NO
    ],
)
def test_any_action_that_crowds_out_the_others_is_a_collapse(shares, holds):
    finding = not_collapsed(behaving(action_shares=shares))
    assert finding.holds is holds
    if not holds:
        assert finding.facts[0].session == SESSION
        assert Action(int(np.argmax(shares))).name in finding.facts[0].rule


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ({}, True),
        ({"p_value": 0.06}, False),
        ({"gain_cents": -10.0, "p_value": 1.0}, False),
        ({"events": 4}, False),  # that few cannot show it
    ],
)
def test_what_is_not_shown_to_earn_more_than_before_has_not_learned(values, holds):
    assert learned_something(behaving(**values)).holds is holds


def test_an_episode_that_earns_more_than_a_dollar_a_contract_is_found():
    assert earns_what_is_possible(behaving()).holds
    (fact,) = earns_what_is_possible(
        behaving(overpaid=(Overpaid("KX-A", 3, 2_000_001, 2_000_000),))
    ).facts
    assert (fact.session, fact.market, fact.row) == (SESSION, "KX-A", 3)
    assert fact.value == "2,000,001 micro-dollars"


@pytest.fixture(scope="module")
def data(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    warehouse = Warehouse(tmp_path_factory.mktemp("behaviour"))
    materialize(warehouse, generated / "901")
    plan_stages.train_phase(warehouse, tiny_plan(), tiny_plan().phases[0], now_ms=0)
    return warehouse.root


def tiny_plan() -> Plan:
    phases = (Phase("phase_1", (901,), 3 * TINY.rollout_steps, None, TINY),)
    return replace(load_plan("quick"), phases=phases, roles={901: "what it learned from"})


def test_a_session_that_has_nothing_to_learn_from_keeps_no_phase_from_its_checks(data, tmp_path):
    """A phase of several sessions trains on what they have, in whatever order it names them."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    warehouse = Warehouse(tmp_path)
    stages.ingest_session(warehouse, recorded(snapshot(1)))
    stages.build_session_books(warehouse, 1)
    stages.build_session_tensors(warehouse, 1)
    assert stages.choose_session_markets(warehouse, 1).summary["suitable_markets"] == 0
    phase = replace(tiny_plan().phases[0], sessions=(901, 1))
    plan = replace(tiny_plan(), phases=(phase,))
    plan_stages.train_phase(warehouse, plan, phase, now_ms=0)
    trained = Trained(warehouse, plan, phase)
    assert lineage_is_clean(trained).holds
    assert earns_what_is_possible(trained).holds
    assert trained.behaviour[0].session == 901
    # of a session that has episodes it is still asked
    (network,) = trained.seeds.values()
    strange = publish_phase(tmp_path, {7: changed(network, lineage=())}, plan=plan)
    facts = lineage_is_clean(strange).facts
    assert [(fact.session, fact.value) for fact in facts] == [(901, "not trained on")]
    # and where none has any, that is said
    with pytest.raises(NoSuitableMarket, match="no session of the phase"):
        behaviour_of(warehouse, plan, replace(phase, sessions=(1,)))


def doing(network: Checkpoint, action: Action) -> Checkpoint:
    """A network that does one thing whatever it sees."""
    policy = {name: np.zeros_like(tensor) for name, tensor in network.policy.items()}
    policy["action_net.bias"][action] = 50.0
    return replace(network, policy=policy)


@pytest.fixture
def behaves(data, tmp_path):
    """How a network behaves, published instead of what was trained."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    plan = tiny_plan()
    (network,) = Trained(Warehouse(tmp_path), plan, plan.phases[0]).seeds.values()

    def published(change) -> Trained:
        return publish_phase(tmp_path, {7: change(network)}, plan=plan)

    return published


def test_behaviour_is_measured_where_it_learned_and_once(data, monkeypatch):
    plan, warehouse = tiny_plan(), Warehouse(data)
    (one,) = behaviour_of(warehouse, plan, plan.phases[0])
    assert (one.seed, one.session) == (plan.seed, 901)
    assert one.steps <= behaviour.PLAYED_STEPS
    assert sum(one.action_shares) == pytest.approx(1.0)
    assert one.overpaid == ()
    monkeypatch.setattr(behaviour, "_played", lambda *_: pytest.fail("it was played again"))
    assert behaviour_of(warehouse, plan, plan.phases[0]) == (one,)
    trained = Trained(warehouse, plan, plan.phases[0])
    for rule, blocks in rules.OF_PHASES.items():
        assert rule(trained).holds or not blocks, rule(trained).says


def test_a_network_that_only_buys_has_collapsed_and_learned_nothing(behaves):
    trained = behaves(lambda network: doing(network, Action.BUY_BEST))
    (one,) = trained.behaviour
    assert one.action_shares[Action.BUY_BEST] == 1.0
    assert one.changed > 0.8
    assert not not_collapsed(trained).holds


def test_a_network_that_only_holds_has_learned_not_to_pay_and_collapsed(behaves):
    trained = behaves(lambda network: doing(network, Action.HOLD))
    (one,) = trained.behaviour
    assert one.pnl_cents == 0.0
    assert one.gain_cents > 0.0  # acting by chance pays spreads
    assert learned_something(trained).holds
    assert not not_collapsed(trained).holds


def test_a_network_that_is_still_untrained_behaves_as_one_and_is_not_said_to_have_learned(behaves):
    trained = behaves(lambda network: untrained(network).checkpoints[0])
    (one,) = trained.behaviour
    assert one.changed < 0.05  # another draw of fresh weights
    assert not learned_something(trained).holds
    assert not weights_have_moved(trained).holds


def test_money_that_no_trade_brought_is_overpaid(data):
    plan = tiny_plan()
    universe = universe_of(Warehouse(data), [901], plan.min_episode_steps)
    (network,) = Trained(Warehouse(data), plan, plan.phases[0]).seeds.values()
    rng = np.random.default_rng(0)
    (summary,) = NetworkPolicy(network).play(universe, plan.trading, [0], rng).summaries
    cash = plan.trading.cash_start_micro
    most = summary.contracts_centi * 10_000
    for pnl_micro, found in ((most, 0), (most + 1, 1), (-cash, 0), (-cash - 1, 1)):
        spoilt = replace(summary, pnl_micro=pnl_micro)
        assert len(behaviour._overpaid(universe, [spoilt], cash)) == found
