"""The flow is one direction: a stage knows what comes before it and nothing of what comes after."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import PACKAGES, imports, modules, tree

BASE = {"compiled", "config", "errors", "names", "feature_table"}
DATA = BASE | {"market", "recordings", "books", "features", "suitability"}
# component -> what of the project it may import
MAY_IMPORT = {
    "compiled": {"compiler"},  # at the first call of a kernel
    "compiler": {"compiled"},
    "config": set(),
    "errors": set(),
    "names": BASE,
    "feature_table": set(),
    "published_tables": BASE,
    "elementary": {"compiled"},
    "market": BASE,
    "storage": BASE,
    "recordings": BASE | {"market"},
    "books": BASE | {"market", "recordings", "storage"},
    "features": BASE | {"market", "recordings", "books", "storage", "elementary"},
    "suitability": BASE | {"market", "books"},
    "plans": BASE,
    "trading": BASE | {"market", "books", "features", "elementary"},
    "learning": BASE | {"trading", "storage"},
    "evaluation": BASE | {"market", "trading"},
    "stages": DATA | {"plans", "storage"},
    "sealed": BASE | {"plans", "storage"},
    "past": BASE | {"storage", "learning"},
    "session_data": DATA | {"storage", "stages", "trading"},
    "plan_stages": DATA
    | {"plans", "sealed", "storage", "stages", "session_data", "trading", "learning"},
    "plan_evaluation": DATA
    | {
        "past",
        "plans",
        "sealed",
        "storage",
        "stages",
        "session_data",
        "plan_stages",
        "trading",
        "learning",
        "evaluation",
    },
    "plan_retraining": DATA
    | {
        "past",
        "plans",
        "sealed",
        "storage",
        "stages",
        "session_data",
        "plan_stages",
        "plan_evaluation",
        "learning",
        "evaluation",
    },
    "search_space": {"config"},
    "plan_sweep": DATA
    | {
        "plans",
        "sealed",
        "search_space",
        "storage",
        "session_data",
        "plan_stages",
        "trading",
        "learning",
    },
    "by_hand": DATA
    | {
        "past",
        "sealed",
        "storage",
        "stages",
        "session_data",
        "plan_stages",
        "plan_evaluation",
        "trading",
        "learning",
        "evaluation",
    },
    "evaluation_pages": DATA
    | {"storage", "stages", "plan_stages", "plans", "by_hand", "evaluation"},
    "report_server": BASE | {"storage"},
    "warehouse_views": DATA | {"published_tables", "storage", "stages", "plan_stages"},
    "backups": BASE | {"storage"},
    "rules": BASE
    | {
        "evaluation",
        "learning",
        "plan_stages",
        "plans",
        "sealed",
        "session_data",
        "storage",
        "trading",
    },
    "expectations": DATA | {"storage", "stages"},
    "sessions": DATA | {"storage", "stages", "plans"},
    "pictures": DATA | {"storage", "trading", "evaluation"},
    "resources": BASE | {"plans", "recordings", "storage"},
}
HEAVY = {
    "torch",
    "stable_baselines3",
    "great_expectations",
    "pandas",
    "duckdb",
    "matplotlib",
    "scipy",
    "gymnasium",
}


def component(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


PROJECT = [(name, path) for name, path in modules() if component(name)]


@pytest.mark.parametrize(("name", "path"), PROJECT, ids=[name for name, _ in PROJECT])
def test_a_module_imports_only_what_comes_before_it(name, path):
    own = component(name)
    if own not in MAY_IMPORT:
        assert own in {"assets", "definitions", "cli"}, f"say where {name} stands in the flow"
        return
    used = {
        component(target)
        for target in imports(path)
        if target.startswith("kalshi_pipeline.") and component(target)
    }
    components = {component(other) for other, _ in modules()}
    assert (used & components) - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize(("name", "path"), PROJECT, ids=[name for name, _ in PROJECT])
def test_the_domain_knows_nothing_of_dagster(name, path):
    used = {target.split(".")[0] for target in imports(path)}
    if component(name) in {"assets", "resources", "definitions"}:
        return
    if component(name) == "cli":
        at_load = {target.split(".")[0] for target in imports(path, lazy=False)}
        assert "dagster" not in at_load, "the command line imports dagster where it registers"
        return
    assert "dagster" not in used


# footers alone; blocks smaller than a row group of bytes whose hash was checked; the seam itself
MAY_READ_PARQUET = {
    "kalshi_pipeline.assets.published",
    "kalshi_pipeline.books.traded_size",
    "kalshi_pipeline.storage.tables",
}


@pytest.mark.parametrize(("name", "path"), PROJECT, ids=[name for name, _ in PROJECT])
def test_published_tables_are_read_through_one_seam(name, path):
    used = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
    if name not in MAY_READ_PARQUET:
        assert not used & {"pq.read_table", "pq.ParquetFile", "pd.read_parquet", "ds.dataset"}


def test_only_the_composition_root_and_the_command_line_import_assets():
    for name, path in modules():
        if component(name) in {"assets", "definitions", "cli"}:
            continue
        assert not any(t.startswith("kalshi_pipeline.assets") for t in imports(path)), name


@pytest.mark.parametrize(
    "name",
    ["definitions", "stages", "plan_stages", "plan_evaluation", "plan_retraining", "plan_sweep",
     "rules/__init__", "rules/retraining",
     "rules/checkpoints", "rules/evaluations", "rules/behaviour", "cli/__init__",
     "cli/reports", "cli/sessions", "cli/shared", "cli/sweeping", "cli/training", "by_hand",
     "session_data", "evaluation_pages",
     "expectations/validated", "expectations/sql"],
)  # fmt: skip
def test_what_definitions_load_imports_nothing_heavy(name):
    path = PACKAGES["kalshi_pipeline"] / f"{name}.py"
    used = {target.split(".")[0] for target in imports(path, lazy=False)}
    assert not used & HEAVY
