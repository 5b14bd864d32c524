"""How the data assets are cut: one partition a recording session."""

from collections.abc import Iterable

import dagster as dg

from kalshi_pipeline.names import session_id

sessions = dg.DynamicPartitionsDefinition(name="session")


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
