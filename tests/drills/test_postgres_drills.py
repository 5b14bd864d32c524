"""PostgreSQL as Dagster's storage and as a source of sessions, restarted under a deployment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalshi_pipeline import cli, stages
from kalshi_pipeline.resources.environment import open_warehouse
from tests.deployment import Deployment, deployed, wait_until
from tests.drills.copies import copied, numbers, published
from tests.postgres import Server

pytestmark = pytest.mark.drill

SESSIONS = numbers(1, 6)
COLLECTED = "77"
CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
CONNECTIONS = 30  # of the 40 that this server allows


@pytest.fixture(scope="module")
def deployment(
    generated: Path, postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Dagster's state and a collector's session in PostgreSQL; further sessions as folders."""
    place = tmp_path_factory.mktemp("postgres")
    collected, state = postgres.create("collected"), postgres.create("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", postgres.url(collected, user="postgres"))
        patch.setenv("KALSHI_WAREHOUSE", str(place / "exported"))
        patch.setenv("KALSHI_RECORDINGS", str(generated))
        told = ["--to-postgres", "--as", COLLECTED]
        assert cli.main(["sessions", "export", "902", *told]) == 0
    with postgres.admin(collected) as rows:
        rows.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    urls = {
        "DAGSTER_POSTGRES_URL": postgres.url(state, user="postgres"),
        "DATABASE_URL": postgres.url(collected),
    }
    with deployed(place, "code", "web", **urls) as found:
        copied(generated / "902", found.recordings, *SESSIONS)
        found.register(*SESSIONS, COLLECTED)
        found.stop_sensors()
        found.start("daemon")
        yield found


def over(deployment: Deployment, run: str) -> str:
    """The status of a run that is over, or of the one that took its place."""
    status = deployment.finished(run)
    return status if status == "SUCCESS" else deployment.finished(deployment.retry(run))


def test_x08_a_backfill_takes_few_connections(deployment, postgres):
    backfill = deployment.backfill(*stages.SESSION_STAGES, partitions=SESSIONS[:4])
    done, seen = threading.Event(), []

    def count() -> None:
        with postgres.admin() as rows:
            while not done.wait(0.1):
                seen.append(rows.execute(CLIENTS).fetchall()[0][0])

    counter = threading.Thread(target=count)
    counter.start()
    try:
        assert deployment.backfilled(backfill, 600) == "COMPLETED_SUCCESS"
    finally:
        done.set()
        counter.join()
    print(f"at most {max(seen)} connections")
    assert max(seen) < CONNECTIONS
    assert all(published(open_warehouse(str(deployment.warehouse)), s) for s in SESSIONS[:4])


@pytest.mark.parametrize(("outage_s", "session"), [(1, SESSIONS[4]), (20, SESSIONS[5])])
def test_x09_a_run_survives_a_restart_of_the_database_that_holds_it_or_is_tried_again(
    deployment, postgres, outage_s, session
):
    run = deployment.launch(job="session_data", partition=session)
    deployment.worker(run)
    postgres.stop()
    time.sleep(outage_s)
    postgres.start()
    deployment.revive()
    assert over(deployment, run) == "SUCCESS"
    assert published(open_warehouse(str(deployment.warehouse)), session)


def test_x09_a_session_is_read_whole_or_not_at_all_when_its_database_restarts(deployment, postgres):
    warehouse = open_warehouse(str(deployment.warehouse))
    run = deployment.launch(stages.RAW, partition=COLLECTED)
    home = warehouse.home(stages.RAW, COLLECTED)
    wait_until(home.exists, "the session is being read")
    postgres.stop()
    time.sleep(1)
    postgres.start()
    deployment.revive()
    status = deployment.finished(run)
    if status != "SUCCESS":
        assert (home / "CURRENT").exists() or not list(home.iterdir())
        assert over(deployment, deployment.launch(stages.RAW, partition=COLLECTED)) == "SUCCESS"
    assert warehouse.current(stages.RAW, COLLECTED).verified()
