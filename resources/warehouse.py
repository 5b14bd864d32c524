"""Where everything published lives."""

import dagster as dg
from pydantic import Field

from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.storage.publish import Warehouse


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The warehouse root."""

    root: str = Field(description="folder that holds every published generation")

    def open(self) -> Warehouse:
        """The warehouse under this root."""
        return open_warehouse(self.root)
