"""Where raw recordings live."""

import dagster as dg
from pydantic import Field

from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.resources.environment import open_sources


class Recordings(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Recording folders and generated sessions."""

    roots: list[str] = Field(description="folders of recordings, searched in this order")
    warehouse: str = Field(description="warehouse root; generated sessions lie under it")

    def sources(self) -> SessionSources:
        """The sessions behind these settings."""
        return open_sources(self.roots, self.warehouse)
