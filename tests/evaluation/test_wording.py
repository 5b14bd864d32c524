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
        "headline": {"clean": True, "events": 30, "policies": [{"pnl_interval": [0.5, 3.0]}]},
        "paired": [beaten, {**beaten, "p_holm": 0.02}],
        "seeds": None,
        "settings": {
            "evaluation": {"confidence": 0.95, "resamples": 2_000, "embargo_ms": 3_600_000},
            "trading": {"latency_ms": 250},
        },
        "provenance": {},
        "selection": {"deflated_sharpe": 0.96},
        **sections,
    }


SEEDS = {"mean_interval": [0.1, 2.0], "seeds": [[seed, {}] for seed in range(5)]}


@pytest.mark.parametrize(
    "word",
    ["profitable", "Profitable", "production-ready", "the EDGE is", "PRODUCTION-READY", "EDGE-1",
     "Profitability", "profitably", "edges"],
)  # fmt: skip
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
            trades={"examples": [{"market": "KX-PROFITABLE"}, {"market": "KX-EDGE-T1.5"}]},
            failure_modes=["Its best market is KX-PROFITABLE, KX-EDGE-T1.5 the worst."],
            decisions=["My edge is not shown to beat Hold in A profitable plan."],
            generalisation={"axes": [{"axis": "underlying", "rows": [{"name": "EDGE"}]}]},
        )
    )


@pytest.mark.parametrize("name", ["KX-EDGE-T2", "EDGE-1", "PRODUCTION-READY"])
def test_what_only_looks_like_a_name_is_a_claim(name: str) -> None:
    known = {"examples": [{"market": "KX-EDGE-T1.5"}, {"market": "KX"}, {"policy": "Edge"}]}
    with pytest.raises(UnearnedClaim, match="failure_modes"):
        check_wording(report(claim=False, trades=known, failure_modes=[f"This is {name}."]))


def test_a_claim_that_everything_bears_out_is_printed() -> None:
    earned = report(claim=True, recommendations=["An edge."])
    earned["verdict"]["sentence"] = "Profitable in replay."
    assert check_wording(earned) is None
    oracle = {"cheating": True, "interval_percentile": [-9.0, -7.0], "p_holm": None}
    assert check_wording({**earned, "paired": [*earned["paired"], oracle]}) is None
    assert check_wording({**earned, "seeds": SEEDS, "provenance": {"checkpoint": "a"}}) is None


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
        (("headline", "events"), 29),
        (("settings", "evaluation", "confidence"), 0.9),
        (("settings", "evaluation", "resamples"), 1_999),
        (("settings", "evaluation", "embargo_ms"), 0),
        (("settings", "trading", "latency_ms"), 249),
        (("provenance",), {"checkpoint": "a" * 16}),
        (("provenance",), {"absent_baselines": ["After phase_1"]}),
        (("seeds",), SEEDS | {"mean_interval": None}),
        (("seeds",), SEEDS | {"mean_interval": [0.0, 2.0]}),
        (("seeds",), SEEDS | {"seeds": SEEDS["seeds"][:4]}),
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
