"""No report is written that claims in words what its figures do not show."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kalshi_pipeline.errors import UnearnedClaim
from kalshi_pipeline.evaluation.wording import SECTIONS, check_wording


def report(*, claim: bool, **sections: Any) -> dict[str, Any]:
    beaten = {"cheating": False, "interval_percentile": [1.0, 4.0], "p_holm": 0.001}
    return {
        "verdict": {"sentence": "No evidence of profit.", "claim": claim},
        "cell": {"headline": True},
        "headline": {"clean": True, "policies": [{"pnl_interval": [0.5, 3.0]}]},
        "paired": [beaten, {**beaten, "p_holm": 0.02}],
        "seeds": None,
        "settings": {"evaluation": {"confidence": 0.95}},
        "selection": {"deflated_sharpe": 0.96},
        **sections,
    }


@pytest.mark.parametrize("word", ["profitable", "Profitable", "production-ready", "the EDGE is"])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_claiming_word_anywhere_in_the_sentences_is_refused(section: str, word: str) -> None:
    written = report(claim=False)
    written[section] = (
        {"sentence": f"This is {word} it seems.", "claim": False}
        if section == "verdict"
        else {"notes": [{"text": f"This is {word} it seems."}]}
    )
    with pytest.raises(UnearnedClaim, match=section):
        check_wording(written)
    assert check_wording({**written, section: report(claim=False).get(section)}) is None


def test_names_that_others_gave_are_no_claims() -> None:
    check_wording(
        report(
            claim=False,
            policy="My edge",
            provenance={"title": "A profitable plan"},
            failure_modes=["Its best market is KXEDGE-26-PROFITABLE, KX-EDGE-T1.5 the worst."],
        )
    )


def test_a_claim_that_everything_bears_out_is_printed() -> None:
    earned = report(claim=True, recommendations=["An edge."])
    earned["verdict"]["sentence"] = "Profitable in replay."
    assert check_wording(earned) is None
    oracle = {"cheating": True, "interval_percentile": [-9.0, -7.0], "p_holm": None}
    assert check_wording({**earned, "paired": [*earned["paired"], oracle]}) is None
    assert check_wording({**earned, "seeds": {"mean_interval": [0.1, 2.0]}}) is None


def change(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = deepcopy(report(claim=True))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cell", "headline"), False),
        (("headline",), None),
        (("headline", "clean"), False),
        (("headline", "policies", 0, "pnl_interval"), None),
        (("headline", "policies", 0, "pnl_interval"), [0.0, 2.0]),
        (("paired",), []),
        (("paired", 1, "interval_percentile"), [-0.1, 2.0]),
        (("paired", 1, "p_holm"), 0.05),
        (("paired", 0, "cheating"), True),
        (("seeds",), {"mean_interval": None}),
        (("selection",), None),
        (("selection", "deflated_sharpe"), None),
        (("selection", "deflated_sharpe"), 0.94),
    ],
)
def test_a_claim_that_one_figure_does_not_bear_out_is_refused(
    path: tuple[Any, ...], value: Any
) -> None:
    changed = change(path, value)
    if path == ("paired", 0, "cheating"):
        changed["paired"][1]["cheating"] = True
    with pytest.raises(UnearnedClaim, match="does not bear out"):
        check_wording(changed)
