"""The facts of `report.py` as tables and small plots, for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kalshi_pipeline.plans import Plan
from kalshi_pipeline.sessions.terminal import bars, beside, columns_plot, figures, sparkline, table
from kalshi_pipeline.stages import SESSION_STAGES

LADDER_LEVELS = 8
SEGMENTS_SHOWN = 12
Facts = Mapping[str, Any]


def listing(facts: Sequence[Facts]) -> list[RenderableType]:
    """The sessions there are."""
    made = table("session", "source", "started (UTC)", "duration", "markets", "stages", "title")
    for entry in facts:
        made.add_row(
            str(entry["session_id"]),
            entry["source"],
            (entry["started_at"] or "")[:16],
            duration(entry["declared_duration_s"]),
            "" if entry["markets_subscribed"] is None else f"{entry['markets_subscribed']:,}",
            f"{len(entry['published'])}/{len(SESSION_STAGES)}",
            Text(entry["title"]),
        )
    for column in made.columns[:-1]:
        column.no_wrap = True
    for place in (0, 3, 4):
        made.columns[place].justify = "right"
    return [made]


def analysis(facts: Facts) -> list[RenderableType]:
    """One session: what came, how far it can be trusted, what its markets are like."""
    source = "generated" if facts["generated"] else "recorded"
    head = Text(f"Session {facts['session_id']}: {facts['title']}", style="bold")
    when = f"{source}, {utc(facts['started_ms'])} to {utc(facts['ended_ms'])} UTC, "
    head.append(f"\n{when}{duration(facts['duration_s'])} (h:mm:ss)", style="dim")
    parts: list[RenderableType] = [
        head,
        Text(),
        beside(_capture(facts), _trust(facts), _markets(facts)),
        Text(),
    ]
    if facts["activity"]["frames"]:
        every = duration(facts["activity"]["bin_ms"] / 1000)
        parts += [
            columns_plot(
                f"Frames received, one column {every}",
                facts["activity"]["frames"],
                utc(facts["started_ms"])[5:16],
                utc(facts["ended_ms"])[5:16],
            ),
            Text(),
        ]
    parts += [
        beside(
            bars("Median spread, markets", facts["spreads_bp"]["classes"]),
            bars("Pattern, suitable", facts["temporal_patterns"]),
            bars("Active quarters, markets", facts["quarter_coverage"]),
        ),
        _spread_line(facts["spreads_bp"]),
        _top_markets(facts["top_markets"]),
    ]
    return parts


def _capture(facts: Facts) -> Table:
    sources = {k: v for k, v in facts["traded_known"].items() if v}
    known = ", ".join(
        f"{count:,} unknown" if name == "none" else f"{count:,} by {name}"
        for name, count in sources.items()
    )
    declared = {k: v for k, v in facts["declared_true"].items() if v is not None}
    pairs = {
        "frames": f"{facts['frames']:,}",
        "deltas": f"{facts['deltas']:,}",
        "snapshots": f"{facts['snapshots']:,}",
        "trades": f"{facts['trades']:,}",
        "traded": contracts(facts["traded_centi"]),
        "  known of": known,
        "connections": f"{facts['epochs']:,}",
        "idle": f"{facts['idle_periods']:,} times, {duration(facts['idle_s'])}",
    }
    for name, share in declared.items():
        pairs[f"{name} as declared"] = f"{share:.1%}"
    return figures("What came", pairs)


def _trust(facts: Facts) -> Table:
    rows = facts["rows_in"]
    quarantined = sum(facts["quarantined"].values())
    pairs = {
        "quality score": f"{facts['quality_score']:.4f}",
        "rows in": f"{rows:,}",
        "applied": f"{facts['applied']:,}",
        "quarantined": f"{quarantined:,}",
        **{f"  {reason.replace('_', ' ')}": f"{n:,}" for reason, n in facts["quarantined"].items()},
        "before snapshot": f"{facts['before_snapshot']:,}",
        "segments": f"{facts['segments']:,}",
        **{f"  {why.replace('_', ' ')}": f"{n:,}" for why, n in facts["segments_ended_by"].items()},
        "gaps": f"{facts['gaps']:,}, {facts['lost_messages']:,} lost",
        "crossed": f"{facts['crossed_states']:,}, {facts['crossed_ms'] / 1000:,.1f} s",
        "drifted levels": f"{facts['drifted_levels']:,}",
    }
    return figures("How far it can be trusted", pairs)


def _markets(facts: Facts) -> Table:
    lost = facts["touch_lost_centi"]
    share = f"{facts['touch_traded_centi'] / lost:.1%}" if lost else "none lost"
    pairs = {
        "subscribed": f"{facts['markets_subscribed']:,}",
        "seen": f"{facts['markets']:,}",
        "with updates": f"{facts['markets_with_updates']:,}",
        "data points": f"{facts['data_points']:,}",
        "suitable": f"{facts['suitable_markets']:,}",
        "  of events": f"{facts['suitable_events']:,}",
        "  chosen early": f"{facts['causal_markets']:,}",
        **{f"  {why}": f"{count:,}" for why, count in facts["left_out"].items()},
        "touch lost to trades": share,
    }
    if facts["trades_explained"] is not None:
        pairs["trades explained"] = f"{facts['trades_explained']:.1%}"
    return figures("Its markets", pairs)


def _spread_line(spreads: Facts) -> Text:
    if not spreads["markets"]:
        return Text()
    shown = ", ".join(f"{p} {spreads[p] / 100:g} c" for p in ("p10", "p25", "p50", "p75", "p90"))
    return Text(f"\nMedian spreads of {spreads['markets']:,} two-sided markets: {shown}")


def _top_markets(markets: Sequence[Facts]) -> Table:
    right = ("traded", "steps", "spread")
    title = "Most active markets, by traded contracts"
    made = table(
        "market", "traded", "steps", "spread", "quarters", "tier", "left out", title=title,
        right=right,
    )  # fmt: skip
    for entry in markets:
        spread = entry["spread_bp"]
        made.add_row(
            Text(entry["market"]),
            contracts(entry["traded_centi"]) if entry["traded_source"] != "none" else "?",
            f"{entry['steps']:,}",
            "" if spread is None else f"{spread / 100:g} c",
            sparkline([entry[f"q{n}"] for n in range(1, 5)]),
            entry["tier"] or "",
            (entry["reason"] or "").partition(" (")[0],
        )
    return made


def view(facts: Facts) -> list[RenderableType]:
    """One market of a session."""
    head = Text(f"{facts['market']} in session {facts['session_id']}", style="bold")
    verdict = facts["reason"] or f"suitable, {facts['tier']} activity"
    head.append(f"\n{verdict}; {facts['pattern']}", style="dim")
    spread, path = facts["spread_bp"], facts["mid_path_bp"]
    known = facts["traded_source"]
    about = figures(
        "Activity",
        {
            "traded": "not known"
            if known == "none"
            else f"{contracts(facts['traded_centi'])} (by {known})",
            "trades": f"{facts['trades']:,}",
            "deltas": f"{facts['deltas']:,}",
            "steps": f"{facts['steps']:,}",
            "  two-sided": f"{facts['two_sided_steps']:,}",
            "median spread": "none" if spread is None else price(spread),
            "by quarter": " ".join(f"{facts[f'q{n}']:,}" for n in range(1, 5)),
        },
    )
    parts: list[RenderableType] = [head, Text()]
    parts.append(beside(about, _depletion(facts["depletion"]), _ladder(facts["ladder"])))
    if path:
        first, last = (utc(facts["path_ms"][place])[5:16] for place in (0, -1))
        title = f"Mid in cents, {price(min(path))} to {price(max(path))}, at evenly spaced steps"
        cents = [mid / 100 for mid in path]
        parts += [Text(), columns_plot(title, cents, first, last, height=6, low=min(cents))]
        spreads = facts["spread_path_bp"]
        title = f"Spread in cents, {price(min(spreads))} to {price(max(spreads))}"
        parts += [Text(), columns_plot(title, [s / 100 for s in spreads], first, last, height=3)]
    return [*parts, Text(), *_segments(facts["segments"])]


def _depletion(depletion: Facts) -> Table:
    lost = depletion["traded_centi"] + depletion["cancelled_centi"]
    pairs = {"decreases": f"{depletion['decreases']:,}"}
    if lost:
        pairs |= {
            "traded": f"{contracts(depletion['traded_centi'])}"
            f" ({depletion['traded_centi'] / lost:.1%})",
            "cancelled": f"{contracts(depletion['cancelled_centi'])}"
            f" ({depletion['cancelled_centi'] / lost:.1%})",
            "mean confidence": f"{depletion['mean_confidence']:.0f} of 100",
            "not known": f"{depletion['unknown']:,}",
        }
    return figures("What thinned the touch", pairs)


def _ladder(ladder: Facts) -> Table:
    made = table("bid", "YES price", "ask", title="Last book", right=("bid", "YES price", "ask"))
    made.box, made.padding = None, (0, 1)
    asks = [(10_000 - level["price_bp"], level["size_centi"]) for level in ladder["no_bids"]]
    for ask_bp, size in reversed(asks[:LADDER_LEVELS]):
        made.add_row("", price(ask_bp), contracts(size))
    for level in ladder["yes_bids"][:LADDER_LEVELS]:
        made.add_row(contracts(level["size_centi"]), price(level["price_bp"]), "")
    if not made.row_count:
        made.add_row("", "empty", "")
    return made


def _segments(segments: Sequence[Facts]) -> list[RenderableType]:
    made = table(
        "segment", "from (UTC)", "to (UTC)", "messages", "ended by",
        title=f"Segments of trusted book: {len(segments):,}", right=("segment", "messages"),
    )  # fmt: skip
    longest = sorted(segments, key=lambda entry: -entry["messages"])[:SEGMENTS_SHOWN]
    for entry in sorted(longest, key=lambda entry: entry["first_row"]):
        made.add_row(
            str(entry["segment"]),
            utc(entry["start_ms"]),
            utc(entry["end_ms"]),
            f"{entry['messages']:,}",
            entry["ended_by"].replace("_", " "),
        )
    left = len(segments) - len(longest)
    return [made, Text(f"and {left:,} shorter ones")] if left else [made]


def summary(plan: Plan, facts: Sequence[Facts]) -> list[RenderableType]:
    """Appendix A of a plan, computed, beside what was believed."""
    made = table(
        "session", "quality", "points", "suitable", "events", "length", "suggested role", "why",
        title="Session quality, measured",
        right=("session", "quality", "points", "suitable", "events", "length"),
    )  # fmt: skip
    for entry in facts:
        made.add_row(
            str(entry["session_id"]),
            f"{entry['quality_score']:.2f}",
            f"{entry['data_points']:,}",
            f"{entry['suitable_markets']:,}",
            f"{entry['suitable_events']:,}",
            duration(entry["duration_s"])[:-3],
            entry["suggested_role"],
            entry["why"],
        )
    parts: list[RenderableType] = [made]
    if any(entry["believed"] or entry["plan_role"] for entry in facts):
        parts.append(_believed(plan, facts))
    if any(entry["generated"] for entry in facts):
        generated = ", ".join(str(entry["session_id"]) for entry in facts if entry["generated"])
        parts.append(Text(f"Generated, not recorded: {generated}.", style="dim"))
    return parts


def _believed(plan: Plan, facts: Sequence[Facts]) -> Table:
    made = table(
        "session", "quality", "points", "suitable", "priority", "what it is evaluated on as",
        title=f"What the plan says of them: {plan.title}",
        right=("session", "quality", "points", "suitable"),
    )  # fmt: skip
    for entry in facts:
        belief = entry["believed"] or {}
        if not (belief or entry["plan_role"]):
            continue
        made.add_row(
            str(entry["session_id"]),
            f"{belief['quality_score']:.2f}" if belief else "",
            belief.get("data_points", ""),
            belief.get("suitable_markets", ""),
            belief.get("priority", ""),
            entry["plan_role"] or "",
        )
    return made


def holdings(facts: Facts) -> list[RenderableType]:
    """What a database of views holds."""
    made = table("name", "kind", "rows", "what it is", right=("rows",))
    for entry in facts["relations"]:
        made.add_row(entry["name"], entry["kind"], f"{entry['rows']:,}", entry["says"])
    return [made, Text(f"duckdb -readonly {facts['database']}", no_wrap=True)]


def timing(seconds: Mapping[str, float]) -> Table:
    """Wall seconds by step, and their sum."""
    made = table("step", "seconds", title="Where the time went", right=("seconds",))
    for step, spent in (*seconds.items(), ("all", sum(seconds.values()))):
        made.add_row(step, f"{spent:,.1f}")
    return made


def price(price_bp: float) -> str:
    """A price as cents."""
    return f"{price_bp / 100:.2f} c".replace(".00 c", " c")


def contracts(size_centi: int) -> str:
    """A size as contracts: whole ones, unless there are few."""
    return f"{size_centi / 100:,.0f}" if size_centi >= 100_000 else f"{size_centi / 100:,.2f}"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def utc(time_ms: int | None) -> str:
    """A time as date and time of day."""
    if time_ms is None:
        return ""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
