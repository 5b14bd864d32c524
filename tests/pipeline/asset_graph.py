"""The asset graph as text: `python -m tests.pipeline.asset_graph` writes what there is now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kalshi_pipeline.definitions import build_definitions

SNAPSHOT = Path(__file__).with_name("asset_graph.txt")


def asset_graph() -> str:
    """A line an asset: what it belongs to, what it is cut by, what it is made from."""
    graph = build_definitions([], "warehouse").resolve_asset_graph()
    return "".join(
        f"{line}\n" for line in sorted(_line(graph.get(key)) for key in graph.get_all_asset_keys())
    )


def _line(node: Any) -> str:
    facts = {
        "group": node.group_name,
        "partitions": node.partitions_def.name if node.partitions_def else "",
        "kinds": " ".join(sorted(node.kinds)),
        "owners": " ".join(node.owners),
        "pool": " ".join(sorted(node.pools or ())),
        "from": " ".join(sorted(key.to_user_string() for key in node.parent_keys)),
    }
    told = "; ".join(f"{name} {value}" for name, value in facts.items() if value)
    return f"{node.key.to_user_string()}: {told}"


if __name__ == "__main__":
    SNAPSHOT.write_text(asset_graph())
