"""`python -m docs.arrival`: what happens when sessions arrive, run for real, drawn and tabulated.

A deployment of its own (code server, daemon, web server) in a temporary folder is given recordings
as a person gives them; what its runs did is read from Dagster's events. Writes `docs/arrival.png`
and the table of docs/OPERATIONS.md, between its marks. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from kalshi_pipeline.recordings.generator import QUICK_PROFILES, write_session
from tests.deployment import Deployment, deployed, wait_until

HERE = Path(__file__).parent
PAGE, PICTURE = HERE / "OPERATIONS.md", HERE / "arrival.png"
BEGIN, END = "<!-- arrival: begin -->\n", "<!-- arrival: end -->\n"
CAPTION = "Sessions and a plan in time: a bar an asset or check, a dotted line for what was given"
DATA = ("raw_messages", "books", "feature_tensors", "suitable_markets")
SHORT = dict(zip(DATA, ("ingest", "books", "features", "markets"), strict=True))
COLOURS = {"computed": "#2f6f8f", "checked": "#a9cbd9", "unchanged": "#b8c4cc", "failed": "#b5452c"}
WITHIN_S = 1_500.0
STILL_S = 45.0  # nothing was asked for during three looks of every sensor


@dataclass(frozen=True)
class Done:
    """One asset of one run; times in seconds of the story."""

    lane: str
    asset: str
    began_s: float
    ended_s: float
    outcome: str
    by: str


@dataclass(frozen=True)
class Story:
    """What was done to the deployment, and what it did."""

    given: tuple[tuple[float, str], ...]
    done: tuple[Done, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the story, draw it, write the table."""
    parser = argparse.ArgumentParser(prog="python -m docs.arrival", description=__doc__)
    parser.add_argument("--without-training", action="store_true", help="sessions alone")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        sources = Path(place, "sources")
        for profile in QUICK_PROFILES.values():
            write_session(profile, sources)
        with deployed(Path(place, "deployment")) as live:
            story = story_of(live, sources, training=not options.without_training)
    draw(story, PICTURE)
    write_table(story, PAGE)


def story_of(live: Deployment, sources: Path, *, training: bool) -> Story:
    """Give a deployment its sessions one after the other, each time until it is still again."""
    given: list[tuple[float, str]] = []

    def give(what: str, act: Callable[[], None], answers: bool = True) -> None:
        count = len(live.runs())
        act()
        given.append((time.time_ns() / 1e9, what))
        if answers:
            wait_until(lambda: len(live.runs()) > count, f"an answer to: {what}", WITHIN_S)
        wait_until(lambda: _still(live), f"the end of: {what}", WITHIN_S)

    def first() -> None:
        deliver(live, sources / "901", 901)
        deliver(live, sources / "902", 902)
        deliver(live, sources / "902", 904, _without_a_sixth)

    give("901, 902 and a damaged 904 copied in", first)
    if training:
        live.turn("training_automation", on=True)
        give("training turned on, 903 copied in", lambda: deliver(live, sources / "903", 903))
    give("901 copied in again, equal", lambda: _touch(live.recordings / "901"), answers=False)
    give("a session of no plan, 905", lambda: deliver(live, sources / "903", 905))
    give("904 repaired", lambda: deliver(live, sources / "902", 904))
    if training:
        cut = _without_the_last_change
        give("903 changed", lambda: deliver(live, sources / "903", 903, cut))
    start = given[0][0]
    return Story(tuple((at - start, what) for at, what in given), tuple(_done(live, start)))


def deliver(
    live: Deployment,
    source: Path,
    session: int,
    keep: Callable[[list[bytes]], list[bytes]] = lambda lines: lines,
) -> None:
    """Copy a recording in under an id, file by file into its final place."""
    target = live.recordings / str(session)
    target.mkdir(exist_ok=True)
    header = json.loads((source / "session.json").read_text()) | {"session_id": session}
    (target / "session.json").write_text(json.dumps(header))
    lines = gzip.decompress((source / "messages.ndjson.gz").read_bytes()).splitlines(keepends=True)
    (target / "messages.ndjson.gz").write_bytes(gzip.compress(b"".join(keep(lines))))
    shutil.copy(source / "markets.json", target)


def _without_a_sixth(lines: list[bytes]) -> list[bytes]:
    return lines[: len(lines) // 3] + lines[len(lines) // 2 :]


def _without_the_last_change(lines: list[bytes]) -> list[bytes]:
    cut = max(i for i, line in enumerate(lines) if b'"orderbook_delta"' in line)
    return lines[:cut] + lines[cut + 1 :]


def _touch(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path)


def _still(live: Deployment) -> bool:
    runs = live.runs()
    if any(not run.is_finished for run in runs):
        return False
    time.sleep(STILL_S)
    return len(live.runs()) == len(runs)


def _done(live: Deployment, start: float) -> list[Done]:
    found = []
    with live.instance() as instance:
        for run in reversed(instance.get_runs()):
            by = run.tags.get("dagster/sensor_name", "a person")
            session = run.tags.get("dagster/partition")
            found += _of_run(instance, run.run_id, start, session, by)
    return found


def _of_run(
    instance: dg.DagsterInstance, run: str, start: float, session: str | None, by: str
) -> list[Done]:
    began: dict[str, float] = {}
    outcome: dict[str, str] = {}
    found: list[Done] = []
    for entry in instance.all_logs(run):
        event = entry.dagster_event
        if event is None or not event.step_key:
            continue
        step, at = event.step_key, entry.timestamp - start
        if event.is_step_start:
            began[step] = at
        elif event.is_step_materialization:
            told = event.step_materialization_data.materialization.metadata.get("outcome")
            same = told is not None and str(told.value).startswith("unchanged")
            outcome[step] = "unchanged" if same else "computed"
        elif event.is_step_success:
            found.append(_bar(step, session, began[step], at, outcome.get(step, "checked"), by))
        elif event.is_step_failure:
            found.append(_bar(step, session, began[step], at, "failed", by))
    return found


def _bar(
    step: str, session: str | None, began_s: float, ended_s: float, outcome: str, by: str
) -> Done:
    *plan, name = step.split("__")
    lane = f"session {session}" if session else f"plan {plan[0]}" if plan else "warehouse"
    checked = re.fullmatch(rf"({'|'.join(DATA)})_(\w+)", name)
    asset = f"{SHORT[checked[1]]}: {checked[2]}" if checked else SHORT.get(name, name)
    return Done(lane, asset, began_s, ended_s, outcome, by)


def draw(story: Story, path: Path) -> None:
    """A lane a session and a plan, a bar an asset, a line for whatever was given."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    lanes = sorted({done.lane for done in story.done}, key=lambda lane: (lane[0] != "s", lane))
    figure = Figure(figsize=(12, 1.6 + 0.62 * (len(lanes) + len(story.given) * 0.32)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for done in story.done:
        row = lanes.index(done.lane)
        width = max(done.ended_s - done.began_s, 0.4)
        axes.barh(row, width, left=done.began_s, height=0.52, color=COLOURS[done.outcome],
                  edgecolor="white", linewidth=0.6)  # fmt: skip
    top, last = -0.75, max(done.ended_s for done in story.done)
    for place, (at, what) in enumerate(story.given):
        y = top - 0.42 * (len(story.given) - place)
        axes.plot([at, at], [y, len(lanes) - 0.5], color="#555555", linewidth=0.8, linestyle=":")
        late = at > 0.6 * last
        axes.annotate(
            f"{what}  " if late else f"  {what}", (at, y), fontsize=9, va="center",
            ha="right" if late else "left", color="#222222",
        )  # fmt: skip
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.4, top - 0.42 * (len(story.given) + 0.6))
    axes.set_xlim(left=-2)
    axes.set_xlabel("seconds after the first recording was there", loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    named = {
        "computed": "computed",
        "checked": "checked",
        "unchanged": "looked at, unchanged",
        "failed": "stopped",
    }
    seen = {done.outcome for done in story.done}
    axes.legend(
        handles=[Patch(color=COLOURS[key], label=named[key]) for key in named if key in seen],
        loc="upper right", bbox_to_anchor=(1, -0.1), frameon=False, ncols=4, fontsize=9,
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def table(story: Story) -> list[str]:
    """What followed each thing that was given, as lines of Markdown."""
    ends = [at for at, _ in story.given[1:]] + [float("inf")]
    lines = ["| given | at (s) | what followed | asked for by | over at (s) |", "|---" * 5 + "|"]
    for (at, what), end in zip(story.given, ends, strict=True):
        inside = [done for done in story.done if at <= done.began_s < end]
        lanes = dict.fromkeys(done.lane for done in inside)
        followed = "; ".join(
            _told([done for done in inside if done.lane == lane]) for lane in lanes
        )
        by = ", ".join(f"`{name}`" for name in dict.fromkeys(done.by for done in inside))
        over = f"{max(done.ended_s for done in inside):.0f}" if inside else ""
        lines.append(f"| {what} | {at:.0f} | {followed or 'nothing'} | {by} | {over} |")
    return lines


def _told(done: list[Done]) -> str:
    """One lane: its assets, the wall time from the first to the last, where it stopped."""
    made = [each.asset for each in done if each.outcome == "computed"]
    same = [each.asset for each in done if each.outcome == "unchanged"]
    stopped = [each.asset for each in done if each.outcome == "failed"]
    seconds = max(each.ended_s for each in done) - min(each.began_s for each in done)
    parts = [", ".join(made)] if made else []
    parts += [f"unchanged: {', '.join(same)}"] if same else []
    parts += [f"**stopped** at {', '.join(stopped)}"] if stopped else []
    return f"{done[0].lane}: {'; '.join(parts)} ({seconds:.0f} s)"


def write_table(story: Story, page: Path) -> None:
    """Put picture and table between their marks."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    shown = [f"![{CAPTION}]({PICTURE.name})", "", *table(story)]
    page.write_text(before + BEGIN + "\n".join(shown) + "\n" + END + after)


if __name__ == "__main__":
    main()
