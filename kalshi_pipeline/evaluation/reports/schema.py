"""What a `report.json` holds, typed: read back before anything is made of it.

Sections that an evaluation may leave out are None. What is listed here is what the pages read;
a report may hold more.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from kalshi_pipeline.errors import UnreadableReport

SCHEMA_VERSION = 3

Ends = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)] | None
Row = dict[str, Any]


class Verdict(msgspec.Struct):
    """One sentence, and whether it claims success."""

    sentence: str
    claim: bool


class Cell(msgspec.Struct):
    """What every number depends on."""

    fill_model: str
    mark: str
    fees: bool
    headline: bool
    latency_ms: int | None = None


class Count(msgspec.Struct):
    """How much carries a label."""

    episodes: int
    markets: int
    events: int


class Policy(msgspec.Struct):
    """A row of the headline or of a session; see `metrics.PolicyMetrics`."""

    policy: str
    pnl_cents: float
    pnl_interval: Ends
    difference_cents: float | None
    difference_interval: Ends
    pnl_mid_cents: float
    pnl_episode_cents: float
    return_on_capital: float | None
    sharpe: float | None
    sharpe_interval: Ends
    detectable_cents: float | None
    positive_events: int
    positive_share: float
    positive_interval: Ends
    round_trips: float
    win_rate: float | None
    win_interval: Ends
    max_drawdown_cents: float
    max_drawdown_share: float | None
    fees_cents: float
    contracts: float
    orders: float
    fills_per_order: float | None
    maker_share: float | None
    hold_share: float
    invalid_share: float
    action_shares: list[float]
    best_event_share: float | None
    pnl_without_best_cents: float | None
    pnl_bca_interval: Ends = None


class Table(msgspec.Struct, kw_only=True):
    """Every policy on one set of episodes."""

    title: str
    clean: bool
    events: int
    markets: int
    episodes: int
    policies: Annotated[list[Policy], msgspec.Meta(min_length=1)]


class Session(Table, kw_only=True):
    """... on one session."""

    session: int
    role: str
    description: str | None
    labels: dict[str, Count]
    start_ms: int
    end_ms: int


class Band(msgspec.Struct):
    """Around the judged policy's path."""

    low: list[float]
    high: list[float]


class Shape(msgspec.Struct):
    """What the curves show."""

    title: str
    events_so_far: list[int]
    paths: dict[str, list[float]]
    band: Band | None
    quantiles: dict[str, list[float]]


class Criterion(msgspec.Struct):
    """A line of the training plan, answered."""

    group: str
    text: str
    unit: str
    threshold: float
    value: float | None
    interval: Ends
    events: int
    status: str
    conclusive: bool | None
    in_sample: bool
    also_met_by: list[str]
    discriminates: bool = True
    note: str = ""


class Exclusion(msgspec.Struct):
    """What was left out, why, and how often."""

    session: int
    reason: str
    count: int


class Settings(msgspec.Struct):
    """Of the simulator and of the evaluation."""

    trading: Row
    evaluation: Row


class Paired(msgspec.Struct):
    """Judged policy minus one baseline; see `paired.Paired`."""

    baseline: str
    cheating: bool
    difference_cents: float
    interval_percentile: Ends
    interval_bca: Ends
    p_value: float | None
    p_holm: float | None
    units: int
    detectable_cents: float | None


class Report(msgspec.Struct, kw_only=True):
    """A whole `report.json`."""

    schema_version: int
    verdict: Verdict
    generated: bool
    policy: str
    baselines: list[str]
    cell: Cell
    provenance: Row
    settings: Settings
    labels: dict[str, Count]
    lineage_end_ms: int | None
    headline: Table | None
    sessions: Annotated[list[Session], msgspec.Meta(min_length=1)]
    criteria: list[Criterion]
    shape: Shape
    exclusions: list[Exclusion]
    cheating: list[str] | None = None  # baselines that see what nobody can
    sealed: list[Row] | None = None
    walk_forward: Row | None = None
    forward_tests: list[Row] | None = None
    seeds: Row | None = None
    paired: list[Paired] | None = None
    grid: list[Row] | None = None
    robustness: Row | None = None
    trades: Row | None = None
    behaviour: Row | None = None
    features: Row | None = None
    generalisation: Row | None = None
    selection: Row | None = None
    decisions: list[Row] | None = None
    failure_modes: list[Row] | None = None
    recommendations: list[Any] | None = None


class _Version(msgspec.Struct):
    schema_version: int


def read_report(content: bytes, name: str) -> dict[str, Any]:
    """The JSON of a report, once it is known to be one of this version.

    Args:
        content: of `report.json`.
        name: of it, for the message.

    Raises:
        UnreadableReport: no JSON, of another schema version, or not what the version says.
    """
    try:
        version = msgspec.json.decode(content, type=_Version).schema_version
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableReport(
            f"{name} is no report: {error}", rule="report.json", value=name
        ) from error
    if version != SCHEMA_VERSION:
        what = "an older" if version < SCHEMA_VERSION else "a newer"
        raise UnreadableReport(
            f"{name} is of {what} schema than this version reads ({SCHEMA_VERSION}, was {version});"
            " evaluate again to have it anew",
            rule="schema_version",
            value=version,
        )
    try:
        msgspec.json.decode(content, type=Report)
    except msgspec.DecodeError as error:
        raise UnreadableReport(
            f"{name} is damaged: {error}", rule="report.json", value=name
        ) from error
    report: dict[str, Any] = msgspec.json.decode(content)
    return report
