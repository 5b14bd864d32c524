"""`docs/CHECKS.md` names checks that exist and says of each what it does."""

from __future__ import annotations

import re

from docs.checks import SUITES, WENT_WRONG, page
from kalshi_pipeline import rules
from kalshi_pipeline.expectations.validated import PROFILES

RULES = {rule.__name__: blocks for rule, blocks in (rules.OF_PHASES | rules.OF_EVALUATIONS).items()}


def test_every_check_that_would_have_caught_a_fault_exists_and_does_what_is_said():
    for what, answer in WENT_WRONG:
        named = re.findall(r"`(\w+)`", answer)
        assert named, what
        assert set(named) <= {*RULES, *SUITES}, answer
        for sentence in answer.split(";"):
            for name in set(re.findall(r"`(\w+)`", sentence)) & set(RULES):
                assert ("stop" in sentence) is RULES[name], sentence


def test_every_stage_and_expectation_is_listed():
    assert set(SUITES) == set(PROFILES)
    text = page()
    for stage, suites in SUITES.items():
        for title, suite in suites.items():
            for expectation in suite:
                effect = "warns" if expectation.warns else "blocks"
                assert f"| `{stage}` | {title} | {expectation.says} | {effect} |" in text
