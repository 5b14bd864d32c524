"""The exported actor acts as the network that was trained."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.learning.policy import NetworkPolicy, _orthogonal, untrained
from kalshi_pipeline.storage.sb3 import export_sb3_zip
from tests.checkpoints import SMALL, small_checkpoint

EVERYTHING = np.ones((20_000, 7), bool)


def observations(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, OBSERVATION_WIDTH)).astype(np.float32)


def test_it_agrees_with_stock_ppo_on_the_exported_zip(tmp_path) -> None:
    import torch
    from stable_baselines3 import PPO

    checkpoint = small_checkpoint(3)
    export_sb3_zip(checkpoint, tmp_path / "model.zip")
    stock = PPO.load(tmp_path / "model.zip", device="cpu")
    ours = NetworkPolicy(checkpoint)
    seen = observations(300)
    actions, _ = stock.predict(seen, deterministic=True)
    np.testing.assert_array_equal(
        ours.act(seen, np.ones((300, 7), bool), np.random.default_rng(0)), actions
    )
    with torch.no_grad():
        theirs = stock.policy.get_distribution(torch.as_tensor(seen)).distribution.probs.numpy()
    np.testing.assert_allclose(ours.probabilities(seen), theirs, atol=1e-5)


@settings(max_examples=40)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.just(OBSERVATION_WIDTH)),
        elements=st.floats(-2, 2, width=32),
    ),
    st.integers(0, 99),
)
def test_probabilities_are_a_distribution_and_actions_are_actions(seen, seed: int) -> None:
    policy = NetworkPolicy(small_checkpoint(seed), stochastic=True)
    probabilities = policy.probabilities(seen)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    actions = policy.act(seen, np.ones((len(seen), 7), bool), np.random.default_rng(seed))
    assert actions.shape == (len(seen),)
    assert actions.dtype == np.int64
    assert ((actions >= 0) & (actions < 7)).all()


def test_sampled_actions_follow_the_probabilities() -> None:
    policy = NetworkPolicy(small_checkpoint(1), stochastic=True)
    one = observations(1) / 4
    n = 20_000
    actions = policy.act(np.repeat(one, n, axis=0), EVERYTHING, np.random.default_rng(0))
    expected = policy.probabilities(one)[0]
    spread = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(np.bincount(actions, minlength=7) / n - expected) < 4 * spread + 1e-9).all()


def test_chance_comes_from_the_argument_alone_and_only_where_stochastic() -> None:
    seen = observations(200) / 4
    sampling = NetworkPolicy(small_checkpoint(1), stochastic=True)

    def sampled(seed: int) -> list[int]:
        return sampling.act(seen, EVERYTHING, np.random.default_rng(seed)).tolist()

    assert sampled(0) == sampled(0) != sampled(1)
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    NetworkPolicy(small_checkpoint(1)).act(seen, EVERYTHING, rng)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_unit_interval_are_actions_too(uniform: float) -> None:
    class Fixed:
        def random(self, count: int) -> np.ndarray:
            return np.full(count, uniform)

    policy = NetworkPolicy(small_checkpoint(2, SMALL), stochastic=True)
    action = policy.act(observations(5) / 4, EVERYTHING, Fixed())  # type: ignore[arg-type]
    assert set(action.tolist()) == ({0} if uniform == 0 else {6})


def test_an_untrained_network_has_the_shape_of_the_trained_one_and_no_preference() -> None:
    seen, chance = observations(500), np.random.default_rng(0)
    fresh = untrained(small_checkpoint(3))
    probabilities = fresh.probabilities(seen)
    np.testing.assert_allclose(probabilities, 1 / 7, atol=0.03)
    assert np.ptp(probabilities, axis=0).min() > 0  # it does look
    # of the shape alone: what was learned does not matter
    np.testing.assert_array_equal(probabilities, untrained(small_checkpoint(4)).probabilities(seen))
    assert set(fresh.act(seen, np.ones((500, 7), bool), chance)) == set(range(7))


@pytest.mark.parametrize("shape", [(8, 52), (52, 8), (7, 7)])
def test_fresh_weights_are_orthogonal(shape) -> None:
    weights = _orthogonal(shape, np.random.default_rng(1))
    short = weights if shape[0] <= shape[1] else weights.T
    np.testing.assert_allclose(short @ short.T, np.eye(min(shape)), atol=1e-12)
