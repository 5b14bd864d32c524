"""Where everything published lives."""

import time

import dagster as dg
from pydantic import Field

from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.storage.publish import Warehouse


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The warehouse root."""

    root: str = Field(description="folder, or address in an object store, of everything published")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """At the start of a run: sweep what a crash left behind more than a day ago."""
        self.open().sweep(now_ms=time.time_ns() // 1_000_000)

    def open(self) -> Warehouse:
        """The warehouse under this root."""
        return open_warehouse(self.root)
