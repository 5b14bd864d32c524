"""Every tunable number, once: default, unit, source.

Nothing here reads the environment; `resources/` and the command line do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

CENTI_PER_CONTRACT = 100
BP_PER_DOLLAR = 10_000
MICRO_PER_DOLLAR = 1_000_000
MICRO_PER_CENT = 10_000

# What decoding accepts as a size: 10^9 contracts (reliability rule D10).
MAX_SIZE_CENTI = 10**9 * CENTI_PER_CONTRACT
# One line of a recording is never longer than this (reliability rule D20).
MAX_LINE_BYTES = 1 << 20
# A session beyond these is refused with its figures (reliability rules D19, P8).
MAX_SESSION_ROWS = 200_000_000  # of its message table
MAX_SESSION_MARKETS = 20_000
# A policy that does one thing above these shares of its steps has collapsed: an alert while it is
# trained, an alarm in the report of its evaluation (plan 6.2; plan 7, decision point 1).
ACTION_DOMINATES_SHARE = 0.9
HOLD_DOMINATES_SHARE = 0.95


@dataclass(frozen=True)
class DepletionConfig:
    """How far a trade may lie from the decrease of the touch it made. Source: domain.md, 10."""

    recv_window_ms: int = 2_000  # on receive time; trades of 2025 are timed in whole seconds
    exchange_window_ms: int = 100  # on exchange time; in every recording it is the same
    candidates: int = 256  # at most so many trades and decreases are looked through, either way


@dataclass(frozen=True)
class BookConfig:
    """How raw messages become trusted books."""

    near_bp: int = 500  # "near" depth: within 5 cents of the touch
    cost_size_centi: int = 10 * CENTI_PER_CONTRACT  # k of the marginal cost features
    crossed_tolerance_ms: int = 1_000  # a crossed book closes a segment only when it outlasts this
    crossed_tolerance_messages: int = 5  # ... and this many messages
    clock_back_ms: int = 1_000  # a receive clock going back further is counted
    clock_jump_ms: int = 86_400_000  # a jump further than a day closes the segment
    ladder_every: int = 1_000  # full ladders are kept every N messages of a segment
    # strict: a hole in a complete counter, or a lost line, ends the segments it may have hit;
    # continuous: it is counted and nothing else. Evaluation uses strict
    trust: Literal["strict", "continuous"] = "strict"
    depletion: DepletionConfig = field(default_factory=DepletionConfig)


@dataclass(frozen=True)
class RecoveryConfig:
    """How rows of a collector's database become books. See `docs/RECOVERY.md`."""

    # sizes above 50 cents in rows recorded before 17 December 2025, whose collector mislaid them:
    #   as_recorded         what the rows say, which is what the predecessor read
    #   upper_bound         the snapshot's quantity plus every recorded change
    #   remove_stale        ... and a change from nothing to nothing took that quantity away
    #   uncross             as upper_bound, and a crossed or locked book took it away from the older
    #                       of its best levels that may be stale
    #   remove_and_uncross  both
    policy: Literal[
        "as_recorded", "upper_bound", "remove_stale", "uncross", "remove_and_uncross"
    ] = "uncross"


@dataclass(frozen=True)
class DatabaseConfig:
    """How the database is read."""

    connect_timeout_s: int = 10
    statement_timeout_ms: int = 120_000
    tries: int = 4  # of one page, the first one included
    backoff_s: float = 0.5  # before the second try; doubled each time
    page_rows: int = 50_000
    # rows written late (a batch put back into the queue) are put in order within so many rows
    reorder_rows: int = 20_000


@dataclass(frozen=True)
class StepConfig:
    """When the agent may act."""

    min_step_ms: int = 0  # 0: one step at each receive millisecond in which the book changed


@dataclass(frozen=True)
class SuitabilityConfig:
    """Which markets are worth an episode. Source: training plan, section 1.3."""

    min_steps: int = 50
    min_quartiles: int = 2
    causal_share: float = 0.2  # the causal universe is chosen from this first share


FillModelName = Literal["cross", "queue", "touch"]


@dataclass(frozen=True)
class TradingConfig:
    """The rules of one episode."""

    cash_start_micro: int = 100 * MICRO_PER_DOLLAR  # $100; training plan, section 2.1
    order_size_centi: int = CENTI_PER_CONTRACT  # 1 contract an action; plan, section 2.3
    position_limit_centi: int = 10 * CENTI_PER_CONTRACT  # either side
    latency_ms: int = 250  # market time, and at least one message
    fees: bool = True
    fill_model: FillModelName = "cross"  # of resting orders; docs/SIMULATOR.md
    queue_alpha: float = 0.5  # `queue`: share of unexplained decreases, whole percents
    daily_loss_limit_micro: int = 0  # of liquidation equity a UTC day; 0 = none; plan, section 8.2
    mark: Literal["liquidation", "mid"] = "liquidation"  # what the reward is the change of


@dataclass(frozen=True)
class LearnerConfig:
    """What every learning algorithm is asked. Source: training plan, sections 3.2 and 3.3."""

    algorithm: ClassVar[str] = ""  # how plans, checkpoints and the command line call it

    learning_rate: float = 1e-4
    n_envs: int = 64  # with n_steps: 4,096 transitions a rollout, as the plan's n_steps
    n_steps: int = 64
    gamma: float = 0.99
    hidden: tuple[int, ...] = (256, 256, 128)
    mask_actions: bool = False  # an action that is not valid at a step is never taken there

    @property
    def rollout_steps(self) -> int:
        """Environment steps between two updates."""
        return self.n_envs * self.n_steps


@dataclass(frozen=True)
class PPOConfig(LearnerConfig):
    """Hyper-parameters of PPO. Source: training plan, sections 3.2 and 3.3."""

    algorithm: ClassVar[str] = "ppo"

    batch_size: int = 256
    n_epochs: int = 10
    # seconds of market time that gamma is of: a step takes 0.3 s in one market, an hour in another
    discount_unit_s: float = 0.0  # 0: of a step, as the plan has it
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.05
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


@dataclass(frozen=True)
class A2CConfig(LearnerConfig):
    """Hyper-parameters of A2C. Source: Mnih et al. 2016; defaults of Stable-Baselines3."""

    algorithm: ClassVar[str] = "a2c"

    learning_rate: float = 7e-4
    n_steps: int = 16  # one gradient step each: their 5 would make 8,000 rollouts of the plan
    gae_lambda: float = 1.0
    ent_coef: float = 0.01  # beta of the paper
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    # rewards are cents: left as they are, their gradient drowns in that of the entropy
    normalize_advantage: bool = True


@dataclass(frozen=True)
class SACConfig(LearnerConfig):
    """Hyper-parameters of discrete SAC. Source: Haarnoja et al. 2018, table 1, where not said."""

    algorithm: ClassVar[str] = "sac"

    learning_rate: float = 3e-4
    n_steps: int = 16
    batch_size: int = 256
    # one for each 32 steps: one for each step, as theirs, makes 44 steps a second of the plan's
    # networks (performance.md, B7)
    gradient_steps: int = 32
    # transitions; they go into each checkpoint to resume from, whose files may have 64 MiB
    buffer_size: int = 100_000
    tau: float = 0.005
    # of ln 7, or of fewer where masked; Christodoulou 2019 wants 0.98, a policy that pays spreads
    # by chance at nearly every step
    entropy_share: float = 0.3
    temperature: float = 1e-3  # dollars a nat, at first: a tenth of a cent's tick
    temperature_rate: float = 3e-3  # of Adam on its logarithm: a decade in 770 gradient steps
    critic_steps: int = 200  # gradient steps of fresh Q networks before the actor follows them


@dataclass(frozen=True)
class CloningConfig(LearnerConfig):
    """Hyper-parameters of cloning profitable episodes."""

    algorithm: ClassVar[str] = "bc"

    learning_rate: float = 1e-3  # of `imitation`'s BC and of Adam: a loss whose target stands still
    batch_size: int = 256
    gradient_steps: int = (
        64  # after each rollout: 4 looks at each of its steps, did all of them win
    )
    # transitions of profitable episodes, the newest; they go into each checkpoint to resume from
    buffer_size: int = 100_000
    vf_coef: float = 0.5  # as PPO's
    # where no parent plays, lanes take turns in how often they act by chance; else they hold
    act_shares: tuple[float, ...] = (1.0, 0.1, 0.01)


# what each algorithm is told, by its name
CONFIGS: dict[str, type[LearnerConfig]] = {
    kind.algorithm: kind for kind in (PPOConfig, A2CConfig, SACConfig, CloningConfig)
}


@dataclass(frozen=True)
class WatchConfig:
    """How training is watched: alerts, validation, what the terminal shows. `docs/TRAINING.md`."""

    alerts: Literal["act", "record", "off"] = "act"
    console_steps: int = 500  # plan 4.2, --m10-console-freq; once a rollout where that is longer
    validation_steps: int = 50_000  # of all episodes of one validation together, at most
    validation_drop: float = 0.3  # plan 6.2; a share of the best score,
    validation_floor_dollars: float = 0.1  # ... and of this where the best is nearer to 0
    validation_min: int = 10  # scores before a drop stops a phase,
    validation_patience: int = 5  # ... and it has lasted for so many


@dataclass(frozen=True)
class EvaluationConfig:
    """How a policy is judged."""

    n_envs: int = 256
    resamples: int = 10_000  # cluster bootstrap
    confidence: float = 0.95
    min_units: int = 30  # below this many independent events no interval is claimed
    min_seeds: int = 5  # ... and below this many trainings none over seeds
    # after the end of what was used, beside the longest feature lookback: evaluation.md, section 5
    embargo_ms: int = 3_600_000
    stochastic_repeats: int = 5  # episodes of a stochastic policy per market segment
    seed: int = 20_251_214


@dataclass(frozen=True)
class PipelineConfig:
    """All of it."""

    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    book: BookConfig = field(default_factory=BookConfig)
    step: StepConfig = field(default_factory=StepConfig)
    suitability: SuitabilityConfig = field(default_factory=SuitabilityConfig)
    trading: TradingConfig = field(default_factory=TradingConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
