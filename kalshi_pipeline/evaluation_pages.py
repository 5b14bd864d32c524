"""Finding evaluations, of plans and by hand, and setting several side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kalshi_pipeline.by_hand import EVALUATIONS
from kalshi_pipeline.errors import InvalidName, NotPublished, UnreadableReport
from kalshi_pipeline.plan_stages import EVALUATION
from kalshi_pipeline.storage.publish import CURRENT, Warehouse

if TYPE_CHECKING:
    from kalshi_pipeline.evaluation.reports.comparison import Evaluated

LATEST = "latest"
PAGE, REPORT, LEDGER = "report.html", "report.json", "ledger.parquet"
COMPARISONS = "comparisons"


def find_evaluation(warehouse: Warehouse, which: str) -> Path:
    """The folder of an evaluation.

    Args:
        warehouse: where the plans' evaluations are published and those by hand are kept.
        which: a plan, a folder (or a file in it), or "latest".

    Raises:
        NotPublished: there is none.
        CorruptFile: the plan's evaluation is not what was published.
    """
    if which == LATEST:
        return _latest(warehouse)
    with suppress(InvalidName, NotPublished):
        return warehouse.current(f"{which}/{EVALUATION}").verified()
    path = Path(which)
    folder = path if path.is_dir() else path.parent
    if path.exists() and (folder / REPORT).is_file():
        return folder
    raise NotPublished(
        "there is no such evaluation: name a plan that was evaluated, the folder of a report, or "
        f"{LATEST}",
        value=which,
    )


def page_of(folder: Path) -> Path:
    """The page of an evaluation, once its report is known to be one of this version.

    Raises:
        UnreadableReport: it is none.
    """
    from kalshi_pipeline.evaluation.reports.schema import read_report

    read_report(_content(folder), str(folder / REPORT))
    if not (folder / PAGE).is_file():
        raise UnreadableReport("the page of this evaluation is missing", value=str(folder))
    return folder / PAGE


def compare(warehouse: Warehouse, wanted: Sequence[str], target: Path | None = None) -> Path:
    """Write one page over several evaluations.

    Args:
        warehouse: see `find_evaluation`.
        wanted: evaluations, each as `find_evaluation` takes it.
        target: of the page; in `comparisons/` of the warehouse where none is named.

    Raises:
        NotPublished: one of them is not there.
        UnreadableReport: one of them is no report of this version.
    """
    from kalshi_pipeline.evaluation.reports import render_comparison

    evaluations = [evaluated(find_evaluation(warehouse, which), which) for which in wanted]
    page = render_comparison(evaluations)
    digest = hashlib.sha256(page).hexdigest()[:16]
    path = target or warehouse.root / COMPARISONS / f"{digest}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page)
    return path


def evaluated(folder: Path, name: str) -> Evaluated:
    """An evaluation as the comparison takes it, with the events behind its figures."""
    from kalshi_pipeline.evaluation.reports.comparison import Evaluated
    from kalshi_pipeline.evaluation.reports.schema import read_report

    report = read_report(_content(folder), str(folder / REPORT))
    return Evaluated(name, report, _events(folder, report["policy"]))


def _events(folder: Path, policy: str) -> frozenset[tuple[int, str]] | None:
    # the clean-forward events, or all where none is: what the report's own figures are made of
    from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA
    from kalshi_pipeline.evaluation.lineage import Label
    from kalshi_pipeline.storage.tables import read_table

    if not (folder / LEDGER).is_file():
        return None
    columns = ["policy", "session", "event", "label"]
    rows = [
        row
        for row in read_table(folder / LEDGER, JUDGED_SCHEMA, columns).to_pylist()
        if row["policy"] == policy
    ]
    clean = [row for row in rows if row["label"] == Label.CLEAN_FORWARD.value]
    return frozenset((row["session"], row["event"]) for row in clean or rows)


def _latest(warehouse: Warehouse) -> Path:
    plans = [
        warehouse.current(pointer.parent.relative_to(warehouse.root).as_posix())
        for pointer in warehouse.names(f"*/{EVALUATION}/{CURRENT}")
    ]
    by_hand = [path.parent for path in (warehouse.root / EVALUATIONS).glob(f"*/{REPORT}")]
    published = [generation.at_hand(REPORT).parent for generation in plans]
    made = [folder for folder in (*published, *by_hand) if (folder / REPORT).is_file()]
    if not made:
        raise NotPublished("nothing has been evaluated yet", value=str(warehouse.root))
    return max(made, key=lambda folder: ((folder / REPORT).stat().st_mtime_ns, folder.name))


def _content(folder: Path) -> bytes:
    try:
        return (folder / REPORT).read_bytes()
    except OSError as error:
        raise UnreadableReport("there is no report to read", value=str(folder)) from error
