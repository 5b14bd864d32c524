"""What must hold of a plan's checkpoints and evaluation, beside `expectations/` for session tables.

Rules are functions of what was published; Dagster's asset checks carry their findings. A rule that
blocks keeps everything that follows from being built. One that does not is worth a look: where
losing may be unavoidable and doing nothing may be right, a rule that stops would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps

from kalshi_pipeline.rules.checkpoints import (
    Trained,
    data_is_of_one_kind,
    earns_what_is_possible,
    learned_something,
    lineage_is_clean,
    not_collapsed,
    validated_on_enough,
    weights_are_sound,
    weights_have_moved,
)
from kalshi_pipeline.rules.evaluations import (
    baselines_are_there,
    chance_earns_nothing,
    claims_only_what_it_shows,
    hold_earns_nothing,
    judged_by_the_strict_rules,
    money_adds_up,
    no_used_session_is_clean,
    report_follows_its_schema,
    report_is_complete,
)
from kalshi_pipeline.rules.finding import Fact, Finding
from kalshi_pipeline.rules.retraining import (
    has_not_decayed,
    look_is_counted,
    session_was_not_seen,
)
from kalshi_pipeline.storage.publish import Generation, Warehouse


def _of_what_is_published(rule: Callable[[Generation], Finding]) -> Callable[[Trained], Finding]:
    @wraps(rule)
    def look(trained: Trained) -> Finding:
        return rule(trained.generation)

    return look


# rule -> whether it blocks, in the order in which a page shows them
OF_PHASES: Mapping[Callable[[Trained], Finding], bool] = {
    _of_what_is_published(weights_are_sound): True,
    weights_have_moved: True,
    lineage_is_clean: True,
    earns_what_is_possible: True,
    learned_something: False,
    not_collapsed: False,
    data_is_of_one_kind: False,
    validated_on_enough: False,
}
OF_EVALUATIONS: Mapping[Callable[[Generation], Finding], bool] = {
    report_follows_its_schema: True,
    report_is_complete: True,
    baselines_are_there: True,
    hold_earns_nothing: True,
    money_adds_up: True,
    no_used_session_is_clean: True,
    claims_only_what_it_shows: True,
    chance_earns_nothing: False,
    judged_by_the_strict_rules: False,
}
OF_FORWARD: Mapping[Callable[[Warehouse, Generation], Finding], bool] = {
    look_is_counted: True,
    session_was_not_seen: True,
    has_not_decayed: False,
}

__all__ = [
    "OF_EVALUATIONS",
    "OF_FORWARD",
    "OF_PHASES",
    "Fact",
    "Finding",
    "Trained",
    "weights_are_sound",
]
