"""Sessions -> checkpoints: one asset a phase of each training plan."""

import json
from typing import Any

import dagster as dg

from kalshi_pipeline import plan_stages
from kalshi_pipeline.assets.automation import on_changed_inputs
from kalshi_pipeline.assets.books import books
from kalshi_pipeline.assets.feature_tensors import feature_tensors
from kalshi_pipeline.assets.groups import plan_group
from kalshi_pipeline.assets.published import DESCRIBED_ROWS, picture, published, table_metadata
from kalshi_pipeline.assets.suitable_markets import suitable_markets
from kalshi_pipeline.assets.training import TrainingRun, trained
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.resources.engine import Engine
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.storage.publish import EXPORTS, Generation

SESSION_ASSETS = (books, feature_tensors, suitable_markets)


def of_sessions(keys: tuple[int, ...]) -> list[dg.AssetDep]:
    """Dependencies on exactly these sessions, so that another one never retrains anything."""
    mapping = dg.SpecificPartitionsPartitionMapping([str(key) for key in keys])
    return [dg.AssetDep(asset, partition_mapping=mapping) for asset in SESSION_ASSETS]


def phase_asset(plan: Plan, phase: Phase) -> dg.AssetsDefinition:
    """The asset of one phase."""
    parents = [dg.AssetDep(dg.AssetKey([plan.name, phase.parent]))] if phase.parent else []
    validation = plan.validation_sessions(phase)
    chosen = ", ".join(map(str, validation))
    seeds = f"{plan.seeds} seeds" if plan.seeds > 1 else "one seed"
    known = ", ".join(map(str, phase.sessions))
    after = f" further steps, continuing from {phase.parent}" if phase.parent else " steps"

    @dg.asset(
        name=phase.name,
        key_prefix=[plan.name],
        deps=[*of_sessions((*phase.sessions, *validation)), *parents],
        group_name=plan_group(plan),
        kinds={"pytorch"},
        owners=["team:learning"],
        code_version=plan_stages.TRAINING_VERSION,
        automation_condition=on_changed_inputs(plan.name),
        pool="training",
        tags={"stage": "training", "plan": plan.name, "phase": phase.name},
        description=f"{phase.algorithm.upper()} after {phase.timesteps:,}{after}, {seeds}, on the "
        f"suitable markets of session{'s' if len(phase.sessions) > 1 else ''} {known}. Weights and "
        "optimiser as safetensors, with the lineage of every market they have seen; "
        f"{f'of each seed the best on session {chosen}' if chosen else 'the last ones'}; "
        "`exports/*/model.zip` open in Stable-Baselines3.",
    )
    def checkpoint(
        context: dg.AssetExecutionContext,
        config: TrainingRun,
        engine: Engine,
        warehouse: WarehouseResource,
    ) -> dg.MaterializeResult[Any]:
        generation = trained(context, engine, warehouse.open(), plan, phase, config)
        return published(generation, context, **course_shown(generation))

    return checkpoint


def course_shown(generation: Generation) -> dict[str, Any]:
    """What the page of a trained output shows: its curves, and the course of each seed."""
    from kalshi_pipeline.pictures.plans import training_behaviour, training_pnl

    return {
        **picture("P&L while training", training_pnl(generation)),
        **picture("behaviour while training", training_behaviour(generation)),
        **_course(generation),
    }


def _course(generation: Generation) -> dict[str, dg.TableMetadataValue]:
    """The course of each seed's training, and what the seeds came to."""
    courses = {}
    for entry in generation.summary["trained"]:
        name = f"seed_{entry['seed']}"
        records = json.loads(generation.path(f"{EXPORTS}/{name}/training.json").read_bytes())
        shown = records[:: max(1, len(records) // DESCRIBED_ROWS)]
        courses[f"course of training, {name.replace('_', ' ')}"] = table_metadata(
            [
                {
                    "timesteps": record["timesteps"],
                    "dollars an episode": (record["diagnostics"]["ended"] or {}).get("pnl_mean"),
                    "entropy": record["entropy"],
                    "hold share": record["diagnostics"]["action_shares"][0],
                    "explained variance": record["explained_variance"],
                    "steps a second": round(record["steps_per_second"]),
                }
                for record in shown
            ]
        )
        course = json.loads(generation.path(f"{EXPORTS}/{name}/course.json").read_bytes())
        for what, rows in (("alerts", course["alerts"]), ("validation", course["validations"])):
            if rows:
                told = rows[:: max(1, len(rows) // DESCRIBED_ROWS)]
                courses[f"{what}, {name.replace('_', ' ')}"] = table_metadata(
                    [{key: _cell(value) for key, value in row.items()} for row in told]
                )
    return {"seeds trained": table_metadata(generation.summary["trained"]), **courses}


def _cell(value: Any) -> Any:
    # a table shows plain values: knobs moved become a text
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
