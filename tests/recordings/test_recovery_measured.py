"""What a recovery policy is worth, held against the truth: the figures of `docs/RECOVERY.md`."""

from __future__ import annotations

import pytest

from docs import recovery
from kalshi_pipeline.config import RecoveryConfig
from kalshi_pipeline.recordings.folder import open_folder
from tests.sessions import Head

PAGE = recovery.PAGE.read_text(encoding="utf-8")


@pytest.fixture
def url(postgres):
    return postgres.url(postgres.create("recovery"), user="postgres")


def right(shares):
    return {policy: share["right"] for policy, share in shares.items()}


def test_the_page_s_figures_of_the_smallest_recording_are_measured_again(url, recordings):
    recovery.export_both(url, open_folder(recordings / "131"), 13_100)
    shares = recovery.measured(url, 13_100)
    for figure in ("right", "right with size", "crossed or locked", "trusted"):
        assert recovery.policy_row(131, shares, figure) in PAGE, "run python -m docs.recovery"
    # levels that are changed in part: what is kept is right, what is taken away is not
    assert right(shares)["uncross"] == right(shares)["upper_bound"] > right(shares)["as_recorded"]
    assert shares["uncross"]["as it was shown"] < shares["uncross"]["right"]


def test_quantities_kept_too_long_are_found_where_the_book_crosses(url, recordings):
    whole = open_folder(recordings / "105")
    head = Head(whole.folder, whole.info, whole.markets, whole.files)
    recovery.export_both(url, head, 10_500)
    shares = recovery.measured(url, 10_500)
    assert right(shares)["uncross"] > right(shares)["remove_stale"] >= right(shares)["upper_bound"]
    assert shares["uncross"]["crossed"] == 0 < shares["upper_bound"]["crossed"]
    assert shares["uncross"]["trusted"] > shares["upper_bound"]["trusted"]


def test_the_default_policy_is_the_best_of_the_page():
    lines = [line for line in PAGE.splitlines() if line.startswith("| worst |")]
    worst = dict(zip(recovery.POLICIES, map(float, lines[0].split("|")[2:-1]), strict=True))
    assert max(worst, key=worst.__getitem__) == RecoveryConfig().policy
