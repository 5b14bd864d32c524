"""Resources whose settings nobody changes at launch."""

from typing import Any

import dagster as dg


def fixed(kind: type[dg.ConfigurableResource[Any]], **settings: Any) -> dg.ResourceDefinition:
    """A resource with these settings, which a run's configuration cannot override.

    Dagster lets whoever launches a run set any field of a resource. The web server has no login and
    a field here is a path: who may launch could have read and written any folder.
    """
    definition = kind(**settings).get_resource_definition()
    return definition.configured(lambda _: settings, config_schema={})
