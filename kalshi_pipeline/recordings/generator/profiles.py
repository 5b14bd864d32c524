"""What each generated session is like: the training plan's sessions with their true figures.

Source: the collector's own rows; the plan read its minutes as hours, and took counters of a whole
process for those of one session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from kalshi_pipeline.recordings.generator.faults import Faults
from kalshi_pipeline.recordings.generator.styles import BITCOIN, GOLD, Intraday
from kalshi_pipeline.recordings.generator.universe import DAY_MS, HOUR_MS, Universe

# Part of every digest: to be raised with any change of what a profile produces.
GENERATOR_VERSION = "2"

MINUTE_MS = 60_000


@dataclass(frozen=True)
class SessionProfile:
    """Everything that determines a generated session.

    Args:
        session_id: id of the session, a positive integer.
        title: one line for a person.
        universe: the markets to choose from and their drivers.
        started_at_ms: beginning of the recording.
        duration_ms: its length.
        markets: markets subscribed.
        active_markets: of these, markets whose book changes at all.
        deltas: delta frames in the recording, exactly.
        settling: share of the markets that come from the short-dated events open at the start, as
            far as there are so many; the others are long-dated.
        markets_per_event: most markets subscribed of one event.
        zipf: exponent of the law of activity over the ranks of the markets.
        connections: connections of the collector; what happens between two is lost.
        wire: generation of the frames: legacy until 12 March 2026, current since.
        intraday: series of quarter-hour markets; where there are any, they are all the session's
            markets, each subscribed when it opens, and `settling`, `zipf` and `fine_ticks` say
            nothing.
        faults: what is to go wrong in the recording.
        compression: of the messages.
        fine_ticks: whether some markets have ticks of a tenth of a cent in the tails and sizes of a
            hundredth of a contract; the legacy wire cannot say these.
        seed: what the order flow is drawn from.
    """

    session_id: int
    title: str
    universe: Universe
    started_at_ms: int
    duration_ms: int
    markets: int
    active_markets: int
    deltas: int
    settling: float
    markets_per_event: int = 8
    zipf: float = 1.0
    connections: int = 1
    wire: Literal["legacy", "current"] = "legacy"
    fine_ticks: bool = False
    intraday: tuple[str, ...] = ()
    faults: Faults | None = None
    compression: Literal["gz", "zst", "none"] = "gz"
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.active_markets <= min(self.markets, self.deltas):
            raise ValueError(f"active_markets must be in 1..markets, was {self.active_markets}")
        if self.connections > 1 and self.duration_ms < 2 * HOUR_MS * self.connections:
            raise ValueError("a session of several connections lasts two hours or more for each")
        if (self.fine_ticks or self.intraday) and self.wire == "legacy":
            raise ValueError("the legacy wire has whole cents and whole contracts only")
        if self.faults and self.wire == "legacy":
            raise ValueError("faults are made on the current wire only")

    @property
    def ended_at_ms(self) -> int:
        """End of the recording."""
        return self.started_at_ms + self.duration_ms

    @property
    def digest(self) -> str:
        """Content hash of the profile and of the generator's version."""
        text = json.dumps([GENERATOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


_DECEMBER = Universe(_ms("2025-12-08"), _ms("2025-12-16") + 18 * HOUR_MS, seed=20_251_208)
_JUNE = Universe(_ms("2026-06-01"), _ms("2026-06-01") + 7 * DAY_MS, seed=20_260_601)


def _plan(
    session_id: int,
    started_at: str,
    duration_min: int,
    markets: int,
    active_markets: int,
    deltas: int,
    **others: float,
) -> SessionProfile:
    return SessionProfile(
        session_id=session_id,
        title=f"training plan, session {session_id} (generated)",
        universe=_DECEMBER,
        started_at_ms=_ms(started_at),
        duration_ms=duration_min * MINUTE_MS,
        markets=markets,
        active_markets=active_markets,
        deltas=deltas,
        settling=0.15,
        seed=session_id,
        **others,  # type: ignore[arg-type]
    )


def _by_id(*profiles: SessionProfile) -> Mapping[int, SessionProfile]:
    return {profile.session_id: profile for profile in profiles}


# Durations of 14 and 15 and the markets with data (but for 70) are plausible: no source has them.
# 71 does not exist yet: two days whose short-dated events opened after every other session ended.
PROFILES = _by_id(
    _plan(5, "2025-12-10T00:12:07", 528, 300, 290, 24_434),
    _plan(6, "2025-12-10T09:21:40", 34, 300, 110, 635),
    _plan(9, "2025-12-10T10:05:12", 930, 500, 480, 53_905),
    _plan(10, "2025-12-11T15:02:31", 282, 1000, 860, 41_227),
    _plan(13, "2025-12-12T08:10:03", 264, 1000, 840, 36_201),
    _plan(14, "2025-12-12T12:41:19", 33, 1000, 240, 2_428),
    _plan(15, "2025-12-12T13:22:46", 41, 1000, 270, 3_039),
    _plan(25, "2025-12-13T05:10:55", 288, 1000, 870, 45_153),
    _plan(32, "2025-12-13T14:25:38", 1067, 1000, 985, 188_918),
    _plan(41, "2025-12-14T09:31:14", 159, 1000, 690, 21_716),
    _plan(70, "2025-12-14T16:10:27", 35, 1000, 62, 2_213, zipf=2.6),
    SessionProfile(
        session_id=71,
        title="the plan's next collection (generated)",
        universe=_DECEMBER,
        started_at_ms=_ms("2025-12-14T18:00:00"),
        duration_ms=2 * DAY_MS,
        markets=1000,
        active_markets=980,
        deltas=150_000,
        settling=0.25,
        connections=3,
        seed=71,
    ),
)


def _quick(
    session_id: int, purpose: str, started_at: str, markets: int, deltas: int, settling: float
) -> SessionProfile:
    return SessionProfile(
        session_id=session_id,
        title=f"quick plan, {purpose} (generated)",
        universe=_JUNE,
        started_at_ms=_ms(started_at),
        duration_ms=47 * HOUR_MS + HOUR_MS // 2,
        markets=markets,
        active_markets=markets - 2 if settling < 1 else markets,
        deltas=deltas,
        settling=settling,
        markets_per_event=1 if settling == 1 else 2,
        zipf=0.15 if settling == 1 else 0.8,
        connections=2 if session_id == 901 else 1,
        wire="current",
        fine_ticks=True,
        seed=session_id,
    )


# Small sessions for tests; each has the events of its own batch, 903 has no others and begins after
# the embargo that follows 902.
QUICK_PROFILES = _by_id(
    _quick(901, "training", "2026-06-01T18:00:00", 36, 6_000, settling=0.7),
    _quick(902, "validation", "2026-06-03T18:00:00", 30, 4_000, settling=0.7),
    _quick(903, "test", "2026-06-05T20:00:00", 40, 5_600, settling=1.0),
)


def _intraday(session_id: int, style: Intraday, quarters: int) -> SessionProfile:
    duration_ms = quarters * 15 * MINUTE_MS + 3 * MINUTE_MS
    return SessionProfile(
        session_id=session_id,
        title=f"{quarters} quarter-hour markets of {style.series} (generated)",
        universe=_JUNE,
        started_at_ms=_ms("2026-06-02T12:00:40"),
        duration_ms=duration_ms,
        markets=quarters + 1,
        active_markets=quarters + 1,
        deltas=round(style.rate * duration_ms / 1000),
        settling=1.0,
        wire="current",
        intraday=(style.series,),
        seed=session_id,
    )


def _scale(session_id: int, millions: int, connections: int) -> SessionProfile:
    return SessionProfile(
        session_id=session_id,
        title=f"{millions} million changes of 1,000 markets (generated)",
        universe=_JUNE,
        started_at_ms=_ms("2026-06-01T18:00:00"),
        duration_ms=1067 * MINUTE_MS,
        markets=1000,
        active_markets=985,
        deltas=millions * 1_000_000,
        settling=0.15,
        connections=connections,
        wire="current",
        fine_ticks=True,
        compression="none",
        seed=session_id,
    )


# Not offered unless asked for by number: sizes, lengths and styles that no plan needs.
EXTRA_PROFILES = _by_id(
    _scale(9001, 1, connections=1),
    _scale(9010, 10, connections=2),
    _scale(9050, 50, connections=4),
    SessionProfile(
        session_id=9044,
        title="44 days, what the training plan took session 32 for (generated)",
        universe=Universe(_ms("2025-11-01"), _ms("2025-12-17"), seed=20_251_101),
        started_at_ms=_ms("2025-11-01T18:00:00"),
        duration_ms=44 * DAY_MS + 12 * HOUR_MS,
        markets=1000,
        active_markets=985,
        deltas=188_918,
        settling=0.15,
        connections=7,
        seed=9044,
    ),
    # every fault there is, in a small session
    SessionProfile(
        session_id=9099,
        title="a faulty recording (generated)",
        universe=_JUNE,
        started_at_ms=_ms("2026-06-01T18:00:00"),
        duration_ms=32 * HOUR_MS,
        markets=12,
        active_markets=12,
        deltas=9_000,
        settling=0.5,
        markets_per_event=1,
        zipf=0.3,
        connections=2,
        wire="current",
        fine_ticks=True,
        faults=Faults(
            gaps=6,
            duplicates=5,
            conflicts=4,
            late=4,
            reconnects=2,
            unknown_markets=4,
            off_tick=3,
            negative=3,
            crossed=3,
            crossed_briefly=4,
            clock_back=2,
            garbled=3,
            cut=3,
            carriage_returns=50,
            byte_order_mark=True,
        ),
        seed=9099,
    ),
    _intraday(9101, BITCOIN, quarters=4),
    _intraday(9111, GOLD, quarters=4),
)
