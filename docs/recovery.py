"""Writes `RECOVERY.md`: what recovery of the old collector's rows is worth, held against the truth.

    python -m docs.recovery FOLDER [ID ...]     # recordings; a PostgreSQL server starts for it

Each recording is exported twice into a database: as the collector after 17 December 2025 wrote
(that is the truth, in whole cents and contracts) and as the faulty one wrote. What is read back
with each policy is compared with the truth, row by row, weighted with the time until the next.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.books.build import build_books
from kalshi_pipeline.config import BookConfig, RecoveryConfig
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.recordings.folder import Recording, open_folder
from kalshi_pipeline.recordings.ingest import ingest
from kalshi_pipeline.recordings.postgres.connection import Database
from kalshi_pipeline.recordings.postgres.export import export_session
from kalshi_pipeline.recordings.postgres.ladders import Policy
from kalshi_pipeline.recordings.postgres.sessions import DatabaseSession, DatabaseSessions

POLICIES = tuple(policy.name.lower() for policy in Policy)
SESSIONS = (101, 102, 103, 104, 105, 111, 112, 113, 131)
PAGE = Path(__file__).parent / "RECOVERY.md"
# single rows, and batches of 100 of which the first ten survive
LOSSES = {"1 row in 10,000": (1e-4, 1), "1 row in 1,000": (1e-3, 1), "2 batches": (2, 90)}


@dataclass(frozen=True)
class Quotes:
    """Best bids after each counted row, ordered by market, connection and number (`[R]`)."""

    key: np.ndarray  # market and connection
    seq: np.ndarray
    time_ms: np.ndarray
    yes: np.ndarray  # cents; 0 = none
    no: np.ndarray
    yes_size: np.ndarray
    no_size: np.ndarray


@numba.njit(cache=True)
def follow(kind, code, side, cents, size, counted, ladder, out):
    """Replay message rows on dense ladders; no rule ends a book here."""
    best = np.zeros((ladder.shape[0], 2), dtype=np.int64)
    rows = 0
    for i in range(len(kind)):
        m = code[i]
        if m < 0 or kind[i] > 2:
            continue
        if kind[i] == 0:
            ladder[m] = 0
            best[m] = 0
        else:
            s, c = side[i], cents[i]
            ladder[m, s, c] += size[i]
            best[m, s] = max(best[m, s], c)
            while best[m, s] > 0 and ladder[m, s, best[m, s]] <= 0:
                best[m, s] -= 1
        if kind[i] != 1 and counted[i]:
            out[rows, 0] = i
            rows += 1
        # levels, and changes no row asked for, belong to the row before them
        for s in range(2):
            out[rows - 1, 1 + s] = best[m, s]
            out[rows - 1, 3 + s] = ladder[m, s, best[m, s]]
    return rows


def coded(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Names in alphabetical order, and the place of each row's; -1 = none."""
    names = column.unify_dictionaries().combine_chunks()
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    tickers = names.dictionary.to_pylist()
    rank = {ticker: place for place, ticker in enumerate(sorted(tickers))}
    table = np.array([rank[ticker] for ticker in tickers] + [-1], dtype=np.int64)
    codes = names.indices.fill_null(len(tickers)).to_numpy(zero_copy_only=False)
    return sorted(tickers), table[codes]


def quotes_of(messages: pa.Table) -> Quotes:
    """Best bids after each snapshot and change of a message table."""
    tickers, code = coded(messages["market"])

    def column(name: str) -> np.ndarray:
        return messages[name].fill_null(0).to_numpy().astype(np.int64)

    out = np.zeros((messages.num_rows + 1, 5), dtype=np.int64)
    ladder = np.zeros((len(tickers), 2, 101), dtype=np.int64)
    rows = follow(
        column("kind"), code, column("side"), column("price_bp") // 100, column("size_centi"),
        messages["seq"].is_valid().to_numpy(), ladder, out,
    )  # fmt: skip
    at = out[:rows, 0]
    key, seq = code[at] * 100_000 + column("epoch")[at], column("seq")[at]
    order = np.lexsort((seq, key))
    at, out = at[order], out[:rows][order]
    return Quotes(key[order], seq[order], column("recv_ms")[at], *out[:, 1:].T)


def aligned(truth: Quotes, other: Quotes) -> np.ndarray:
    """Row of the other that holds at each row of the truth; -1 where it has none yet."""
    names = np.unique(np.concatenate([truth.key, other.key]))
    place = [
        np.searchsorted(names, quotes.key).astype(np.int64) * (1 << 40) + quotes.seq
        for quotes in (truth, other)
    ]
    row = np.searchsorted(place[1], place[0], side="right") - 1
    same = (row >= 0) & (other.key[row] == truth.key)
    return np.where(same, row, -1)


def held_ms(quotes: Quotes) -> np.ndarray:
    """How long each row held: until its market's next one in the connection."""
    spent = np.diff(quotes.time_ms, append=quotes.time_ms[-1:]).clip(0)
    same = np.append(np.diff(quotes.key) == 0, False)
    return np.where(same, spent, 0)


def compared(truth: Quotes, other: Quotes) -> dict[str, float]:
    """Shares of the truth's time in which the other's best quotes are right, or crossed."""
    row, weight = aligned(truth, other), held_ms(truth)
    has = row >= 0
    yes, no = other.yes[row] * has, other.no[row] * has
    sizes = (other.yes_size[row] == truth.yes_size) & (other.no_size[row] == truth.no_size)
    right = (yes == truth.yes) & (no == truth.no) & has
    shown = {
        "right": right,
        "right with size": right & sizes,
        # the predecessor took 99 - p for the mirror
        "as it was shown": (yes == truth.yes) & (no - 1 == truth.no),
        "crossed": (yes > 0) & (no > 0) & (yes + no > 100),
        "crossed or locked": (yes > 0) & (no > 0) & (yes + no >= 100),
    }
    return {name: float((weight * what).sum() / weight.sum()) for name, what in shown.items()}


def read_back(session: DatabaseSession) -> tuple[pa.Table, pa.Table]:
    """Messages and quarantine of a database's session."""
    with tempfile.TemporaryDirectory() as place:
        session.ingest(Path(place))
        messages = pq.read_table(Path(place) / "messages.parquet", read_dictionary=["market"])
        return messages, pq.read_table(Path(place) / "quarantine.parquet")


def trusted(
    session: DatabaseSession, messages: pa.Table, rejected: pa.Table, truth: Quotes
) -> float:
    """Share of the truth's time that lies in the session's trusted segments."""
    books = build_books(messages, rejected, session.info, session.markets, BookConfig())
    rows = books.rows.filter(pa.array(books.rows["kind"].to_numpy() != RowKind.TRADE))
    rank = {ticker: place for place, ticker in enumerate(coded(messages["market"])[0])}
    names, code = coded(rows["market"])
    code = np.array([rank[name] for name in names])[code]
    key = code * 100_000 + rows["epoch"].to_numpy()
    counted = rows["seq"].is_valid().to_numpy()
    found = zip(key[counted].tolist(), rows["seq"].drop_null().to_pylist(), strict=True)
    asked = zip(truth.key.tolist(), truth.seq.tolist(), strict=True)
    kept = set(found)
    is_kept = np.array([one in kept for one in asked])
    weight = held_ms(truth)
    return float((weight * is_kept).sum() / weight.sum())


def export_both(url: str, recording: Recording, number: int) -> None:
    """Write a recording as both collectors would have: `number` fixed, `number + 1` faulty."""
    with tempfile.TemporaryDirectory() as place:
        ingest(recording, Path(place))
        messages = pq.read_table(Path(place) / "messages.parquet", read_dictionary=["market"])
    for faulty in (False, True):
        export_session(
            url, messages, recording.info, recording.markets,
            session=number + faulty, faulty=faulty,
        )  # fmt: skip


def measured(url: str, number: int) -> dict[str, dict[str, float]]:
    """Each policy's shares for an exported recording; and `trusted`, its share in segments."""
    truth = quotes_of(read_back(DatabaseSessions(Database(url)).open(number))[0])
    shares = {}
    for policy in POLICIES:
        recovery = RecoveryConfig(policy=policy)  # type: ignore[arg-type]
        session = DatabaseSessions(Database(url), recovery).open(number + 1)
        messages, rejected = read_back(session)
        shares[policy] = compared(truth, quotes_of(messages))
        shares[policy]["trusted"] = trusted(session, messages, rejected, truth)
    return shares


def losses(url: str, number: int, seed: int) -> dict[str, dict[str, float]]:
    """What rows that were silently dropped cost a session of the fixed collector."""
    truth = quotes_of(read_back(DatabaseSessions(Database(url)).open(number))[0])
    found = {}
    with psycopg.connect(url, autocommit=True) as connection:
        ids = np.array(
            connection.execute(
                "SELECT id FROM rl_orderbook_deltas WHERE session_id = %s ORDER BY id", [number]
            ).fetchall()
        )[:, 0]
        for place, (name, (rate, run)) in enumerate(LOSSES.items()):
            rng = np.random.default_rng([seed, place])
            count = max(1, round(rate * len(ids))) if rate < 1 else int(rate)
            starts = rng.choice(len(ids) - run, size=count, replace=False)
            gone = np.unique(ids[(starts[:, None] + np.arange(run)).ravel()])
            own = number + 10 + place
            connection.execute(_COPY_SESSION, {"old": number, "new": own, "gone": gone.tolist()})
            strict = DatabaseSessions(Database(url)).open(own)
            loose = DatabaseSessions(Database(url), trust="continuous").open(own)
            found[name] = {
                "lost": len(gone) / len(ids),
                "strict": trusted(strict, *read_back(strict), truth),
                "continuous": compared(truth, quotes_of(read_back(loose)[0]))["right"],
                "mismatches": float(loose.info.declared["integrity"]["mismatches"]),
            }
    return found


_COPY_SESSION = """
WITH session AS (
    INSERT INTO rl_orderbook_sessions (session_id, market_tickers, started_at, ended_at, status)
    SELECT %(new)s, market_tickers, started_at, ended_at, status
    FROM rl_orderbook_sessions WHERE session_id = %(old)s
), books AS (
    INSERT INTO rl_orderbook_snapshots (session_id, market_ticker, timestamp_ms, sequence_number,
                                        yes_bids, yes_asks, no_bids, no_asks)
    SELECT %(new)s, market_ticker, timestamp_ms, sequence_number,
           yes_bids, yes_asks, no_bids, no_asks
    FROM rl_orderbook_snapshots WHERE session_id = %(old)s ORDER BY id
)
INSERT INTO rl_orderbook_deltas (session_id, market_ticker, timestamp_ms, sequence_number, side,
                                 action, price, old_size, new_size)
SELECT %(new)s, market_ticker, timestamp_ms, sequence_number, side, action, price, old_size,
       new_size
FROM rl_orderbook_deltas WHERE session_id = %(old)s AND NOT id = ANY(%(gone)s) ORDER BY id
"""


def policy_table(shares: Mapping[int, Mapping[str, Mapping[str, float]]], figure: str) -> list[str]:
    """One row a recording, one column a policy, in percent."""
    lines = [f"| recording | {' | '.join(POLICIES)} |", "|---|" + "--:|" * len(POLICIES)]
    lines += [policy_row(session, by_policy, figure) for session, by_policy in shares.items()]
    mean = {
        policy: {figure: float(np.mean([by[policy][figure] for by in shares.values()]))}
        for policy in POLICIES
    }
    worst = {
        policy: {figure: float(min(by[policy][figure] for by in shares.values()))}
        for policy in POLICIES
    }
    if "crossed" not in figure:
        lines += [policy_row("mean", mean, figure), policy_row("worst", worst, figure)]
    return lines


def policy_row(name: object, by_policy: Mapping[str, Mapping[str, float]], figure: str) -> str:
    """One line of the table."""
    cells = " | ".join(f"{100 * by_policy[policy][figure]:.2f}" for policy in POLICIES)
    return f"| {name} | {cells} |"


def loss_table(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """One row a recording and kind of loss."""
    lines = [
        "| recording | dropped | rows lost | trusted, strict | right, continuous | mismatches |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for session, by_kind in found.items():
        for kind, share in by_kind.items():
            lines.append(
                f"| {session} | {kind} | {100 * share['lost']:.3f} % | "
                f"{100 * share['strict']:.1f} % | {100 * share['continuous']:.2f} % | "
                f"{share['mismatches']:.0f} |"
            )
    return lines


def page(shares: Mapping[int, Any], lost: Mapping[int, Any]) -> str:
    """The whole page: the template with its tables."""
    template = (Path(__file__).parent / "recovery.template.md").read_text(encoding="utf-8")
    shown = [by["as_recorded"]["as it was shown"] for by in shares.values()]
    tables = {
        "right": policy_table(shares, "right"),
        "sized": policy_table(shares, "right with size"),
        "crossed": policy_table(shares, "crossed or locked"),
        "trusted": policy_table(shares, "trusted"),
        "shown": [f"{100 * float(np.mean(shown)):.2f}"],
        "losses": loss_table(lost),
    }
    for name, lines in tables.items():
        template = template.replace(f"<!-- {name} -->", "\n".join(lines))
    return template


def main(folder: Path, sessions: Iterable[int]) -> None:
    """Measure and write the page."""
    from tests.postgres import running_server

    shares, lost = {}, {}
    with running_server() as server:
        if server is None:
            raise SystemExit("no PostgreSQL on this machine")
        url = server.url(server.create("recovery"), user="postgres")
        for session in sessions:
            number = session * 100
            export_both(url, open_folder(folder / str(session)), number)
            shares[session] = measured(url, number)
            lost[session] = losses(url, number, seed=session)
            print(policy_row(session, shares[session], "right"), flush=True)
    PAGE.write_text(page(shares, lost), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(text) for text in sys.argv[2:]] or SESSIONS)
