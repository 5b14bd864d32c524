"""Validating a published stage: once for what is published, and kept with a page about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.expectations import books, feature_tensors, raw_messages, suitable_markets
from kalshi_pipeline.expectations.suites import Profile
from kalshi_pipeline.expectations.validation import Offence, Outcome, validate
from kalshi_pipeline.stages import BOOKS, RAW, SUITABLE, TENSORS
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from kalshi_pipeline.storage.tables import read_table

EXPECTATIONS_VERSION = "3"
DATA_DOCS = "data_docs"
PAGE, OUTCOMES = "index.html", "outcomes.parquet"

_OFFENCE = pa.struct(
    [("about", pa.string()), ("market", pa.string()), ("row", pa.int64()), ("value", pa.string())]
)
OUTCOME_SCHEMA = pa.schema(
    [
        ("profile", pa.string()),
        ("expectation", pa.string()),
        ("column", pa.string()),
        ("observed", pa.string()),
        ("passed", pa.bool_()),
        ("warns", pa.bool_()),
        ("offences", pa.list_(_OFFENCE)),
    ]
)
PROFILES: Mapping[str, Callable[[Generation], list[Profile]]] = {
    RAW: raw_messages.profile,
    BOOKS: books.profile,
    TENSORS: feature_tensors.profile,
    SUITABLE: suitable_markets.profile,
}


@dataclass(frozen=True)
class Validated:
    """The outcomes for what is published now.

    Args:
        outcomes: one an expectation.
        page: where they can be read; None where the files are not those that were published.
    """

    outcomes: tuple[Outcome, ...]
    page: Path | None


def validated(warehouse: Warehouse, stage: str, session: int) -> Validated:
    """Validate a published stage of a session, unless that has been done.

    Args:
        warehouse: holds the stage; gets `data_docs/<stage>/session=<id>`.
        stage: one of `PROFILES`.
        session: id.

    Raises:
        NotPublished: the stage has not been materialized.
    """
    try:
        generation = warehouse.current(stage, str(session))
        generation.verified()
        return _of(_validation(warehouse, stage, session, generation))
    except CorruptFile as error:
        rule = "files are what was published, and tables of their schema (D21, D23)"
        where = Offence(Path(str(error.value or "file")).name, error.market, None, str(error))
        outcome = Outcome(
            "file", rule, str(error.rule or "file"), str(error), False, False, (where,)
        )
        return Validated((outcome,), None)


def _validation(
    warehouse: Warehouse, stage: str, session: int, generation: Generation
) -> Generation:
    name = f"{DATA_DOCS}/{stage}"
    recipe = Recipe(
        f"{EXPECTATIONS_VERSION}.{version('great-expectations')}",
        inputs={stage: generation.content_hash},
    )
    if found := warehouse.made_from(name, str(session), recipe):
        return found
    result = validate(f"Session {session}: {stage}", PROFILES[stage](generation))
    with warehouse.stage(name, str(session), recipe) as staging:
        (staging.folder / PAGE).write_text(result.page)
        table = pa.Table.from_pylist(
            [asdict(outcome) for outcome in result.outcomes], schema=OUTCOME_SCHEMA
        )
        pq.write_table(table, staging.folder / OUTCOMES, compression="zstd")
        staging.summary.update(
            expectations=len(result.outcomes),
            failed=sum(outcome.blocks for outcome in result.outcomes),
            warned=sum(not outcome.passed and outcome.warns for outcome in result.outcomes),
        )
    return staging.generation


def _of(validation: Generation) -> Validated:
    rows = read_table(validation.path(OUTCOMES), OUTCOME_SCHEMA).to_pylist()
    for row in rows:
        row["offences"] = tuple(Offence(**offence) for offence in row["offences"])
    return Validated(tuple(Outcome(**row) for row in rows), validation.path(PAGE))
