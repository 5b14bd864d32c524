"""What a person types, in a fresh home, as the README says."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def kalshi(*arguments, check=True):
    done = subprocess.run([BIN / "kalshi", *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.mark.usefixtures("pipeline_home")
def test_analyze_gives_every_promised_figure():
    facts = json.loads(kalshi("sessions", "analyze", "901", "--json").stdout)
    promised = [
        "session_id",
        "frames",
        "deltas",
        "snapshots",
        "trades",
        "rows_in",
        "applied",
        "quarantined",
        "before_snapshot",
        "epochs",
        "segments",
        "gaps",
        "negative_sizes",
        "crossed_states",
        "markets",
        "suitable_markets",
        "duration_s",
        "quality_score",
    ]
    assert set(promised) <= set(facts)
    accounted = facts["applied"] + sum(facts["quarantined"].values()) + facts["before_snapshot"]
    assert facts["rows_in"] == accounted


@pytest.mark.usefixtures("pipeline_home")
def test_view_shows_the_book_of_a_market():
    facts = json.loads(kalshi("sessions", "view", "901", "--json").stdout)
    assert facts["segments"]
    shown = kalshi("sessions", "view", "901", "--market", facts["market"]).stdout
    assert facts["market"] in shown
    assert "Last book" in shown


def refused(*arguments):
    done = kalshi(*arguments, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


@pytest.mark.usefixtures("pipeline_home")
def test_an_unknown_session_is_refused_with_those_that_exist():
    message = refused("sessions", "analyze", "999")
    assert "[session 999]" in message
    assert "901" in message


@pytest.mark.usefixtures("pipeline_home")
def test_an_unknown_market_is_refused_with_the_most_active_ones():
    message = refused("sessions", "view", "901", "--market", "KXNONE-1")
    assert "KXNONE-1" in message
    assert "most active" in message


def test_a_recordings_folder_that_does_not_exist_is_refused(pipeline_home, monkeypatch):
    monkeypatch.setenv("KALSHI_RECORDINGS", str(pipeline_home / "typo"))
    assert "does not exist" in refused("sessions", "list")


@pytest.mark.usefixtures("pipeline_home")
def test_a_missing_dagster_home_is_refused_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    assert "make targets" in refused("sessions", "register", "901")


@pytest.fixture
def broken(pipeline_home, generated, monkeypatch):
    root = pipeline_home / "recordings"
    shutil.copytree(generated / "901", root / "901")
    monkeypatch.setenv("KALSHI_RECORDINGS", str(root))
    return root / "901"


def test_a_recording_without_messages_is_listed_with_its_error(broken):
    (broken / "messages.ndjson.gz").unlink()
    listed = json.loads(kalshi("sessions", "list", "--json").stdout)
    (entry,) = (entry for entry in listed if entry["session_id"] == 901)
    assert entry["source"] == "cannot be used"
    assert "messages" in entry["title"]


def test_a_recording_without_its_description_is_refused_by_name(broken):
    (broken / "session.json").unlink()
    message = refused("sessions", "analyze", "901")
    assert "no session.json" in message
    assert "[session 901" in message


def test_a_truncated_recording_is_read_to_its_end_and_the_loss_is_counted(broken):
    path = broken / "messages.ndjson.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    facts = json.loads(kalshi("sessions", "analyze", "901", "--json").stdout)
    assert facts["quarantined"] == {"truncated_file": 1}
    assert facts["rows_in"] == facts["applied"] + 1 + facts["before_snapshot"]


def test_a_corrupt_line_is_counted_and_its_gap_is_seen(broken):
    path = broken / "messages.ndjson.gz"
    lines = gzip.decompress(path.read_bytes()).split(b"\n")
    place = max(i for i, line in enumerate(lines) if b'"orderbook_delta"' in line) - 40
    while b'"orderbook_delta"' not in lines[place]:
        place -= 1
    lines[place] = lines[place][:60]
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    facts = json.loads(kalshi("sessions", "analyze", "901", "--json").stdout)
    assert facts["quarantined"]["corrupt_line"] == 1
    assert facts["gaps"] == 1
    accounted = facts["applied"] + sum(facts["quarantined"].values()) + facts["before_snapshot"]
    assert facts["rows_in"] == accounted
