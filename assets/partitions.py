"""How the data assets are cut: one partition a recording session."""

from collections.abc import Iterable

import dagster as dg

from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.names import session_id

sessions = dg.DynamicPartitionsDefinition(name="session")


def open_instance() -> dg.DagsterInstance:
    """The instance `DAGSTER_HOME` names.

    Raises:
        KalshiPipelineError: the variable is not set, or names no usable folder.
    """
    try:
        return dg.DagsterInstance.get()
    except dg.DagsterError as error:
        raise KalshiPipelineError(
            "DAGSTER_HOME must name a folder with the project's dagster.yaml (the make targets "
            f"prepare one): {str(error).strip().splitlines()[0]}"
        ) from error


def register(instance: dg.DagsterInstance, keys: Iterable[int | str]) -> list[str]:
    """Make sessions known to an instance; returns those that were new.

    Raises:
        InvalidName: a key that is not a session id.
    """
    wanted = [str(session_id(key)) for key in keys]
    known = set(instance.get_dynamic_partitions("session"))
    new = [key for key in dict.fromkeys(wanted) if key not in known]
    if new:
        instance.add_dynamic_partitions("session", new)
    return new
