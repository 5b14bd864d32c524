"""Phases, evaluations and sessions published as if a stage had made them so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kalshi_pipeline.plans import Phase, Plan, load_plan
from kalshi_pipeline.rules import Trained
from kalshi_pipeline.storage import checkpoints
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from tests.checkpoints import SMALL

SESSION, VALIDATION, SEALED = 102, 103, 104


def published(root: Path, fill: Callable[[Path], object], name: str = "made_up") -> Generation:
    with Warehouse(root).stage(name, None, Recipe("1")) as staging:
        fill(staging.folder)
    return staging.generation


def small_plan() -> Plan:
    """Two phases on the session of `small_checkpoint`."""
    phases = (
        Phase("phase_1", (SESSION,), 8, None, SMALL),
        Phase("phase_2", (SESSION,), 8, "phase_1", SMALL),
    )
    roles = {VALIDATION: "validation", SEALED: "forward test"}
    return replace(load_plan("quick"), phases=phases, roles=roles, sealed=(SEALED,))


def publish_phase(
    root: Path, seeds: Mapping[int, Checkpoint], name: str = "phase_1", plan: Plan | None = None
) -> Trained:
    """A phase whose seeds came to these checkpoints."""

    def fill(folder: Path) -> None:
        for seed, checkpoint in seeds.items():
            own = folder / checkpoints.seed_folder(seed)
            own.mkdir()
            checkpoints.save(checkpoint, own)

    plan = plan or small_plan()
    published(root, fill, f"{plan.name}/{name}")
    return Trained(Warehouse(root), plan, plan.phase(name))


def publish_session_facts(root: Path, session: int, *, generated: bool, **header: Any) -> None:
    """What `session_facts` reads of a session."""
    warehouse = Warehouse(root)
    with warehouse.stage("raw_messages", str(session), Recipe("1")) as staging:
        (staging.folder / "session.json").write_text(json.dumps(header))
    with warehouse.stage("books", str(session), Recipe("1")) as staging:
        staging.summary.update(
            generated=generated, title="x", duration_s=60.0, deltas=1, quality_score=1.0
        )
