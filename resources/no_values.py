"""Values never pass between assets: every asset publishes, and the next one reads what is there."""

from typing import Any

import dagster as dg


class NoValues(dg.IOManager):
    """Stands where Dagster would put its own, which pickles values to a folder of anyone's choice.

    Assets return what they say about an output (`MaterializeResult`), never the output itself.
    """

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuse a value.

        Raises:
            DagsterInvariantViolationError: always.
        """
        raise dg.DagsterInvariantViolationError(
            f"{context.step_key} returned a {type(obj).__name__}: publish it to the warehouse and "
            "return a MaterializeResult"
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """Refuse to read one.

        Raises:
            DagsterInvariantViolationError: always.
        """
        raise dg.DagsterInvariantViolationError(
            f"{context.name} is an argument: name it in `deps` and read the warehouse"
        )
