"""When automation asks: on a graph like the pipeline's, with data that is changed at will."""

from contextlib import contextmanager

import dagster as dg
import pytest

from kalshi_pipeline.assets.automation import on_changed_code, on_changed_inputs
from kalshi_pipeline.assets.sensors import automations
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.plans import load_plan, plan_names

SESSIONS = dg.DynamicPartitionsDefinition(name="session")
OF_TWO = dg.SpecificPartitionsPartitionMapping(["1", "2"])


class World:
    """raw -> books -> phase_1 (of sessions 1 and 2) -> phase_2; what a session holds is a number.

    A book is half its recording, rounded down: 2 and 3 give equal books. Training is a hash of what
    it was given.
    """

    def __init__(self, instance):
        self.instance, self.cursor = instance, None
        self.content: dict[str, int] = {}
        self.broken: set[str] = set()  # sessions whose books do not pass their check
        self.fails: set[str] = set()
        self.versions = {"raw": "1", "books": "1", "phase_1": "1", "phase_2": "1"}
        self.graphs: dict[tuple, dg.Definitions] = {}

    def definitions(self):
        """The graph with the code as it is now."""
        known = tuple(self.versions.items())
        if known not in self.graphs:
            self.graphs[known] = self._definitions(dict(self.versions))
        return self.graphs[known]

    def _definitions(self, code):

        def made(name, value):
            if name in self.fails:
                raise dg.Failure(f"{name} fails")
            return dg.MaterializeResult(data_version=dg.DataVersion(str(value)))

        def sessions_asset(name, deps, condition, value):
            @dg.asset(
                name=name,
                deps=deps,
                partitions_def=SESSIONS,
                automation_condition=condition,
                code_version=code[name],
            )
            def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
                return made(name, value(self.content[context.partition_key]))

            return asset

        @dg.asset_check(asset="books", partitions_def=SESSIONS, blocking=True)
        def sound(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=context.partition_key not in self.broken)

        def phase(name, dep):
            @dg.asset(
                name=name,
                deps=[dep],
                automation_condition=on_changed_inputs("plan"),
                code_version=code[name],
            )
            def asset() -> dg.MaterializeResult:
                return made(name, [self.content[key] // 2 for key in ("1", "2")] + [code[name]])

            return asset

        return dg.Definitions(
            assets=[
                sessions_asset("raw", [], on_changed_code(), lambda n: n),
                sessions_asset(
                    "books", ["raw"], on_changed_inputs("session"), lambda held: held // 2
                ),
                phase("phase_1", dg.AssetDep("books", partition_mapping=OF_TWO)),
                phase("phase_2", dg.AssetDep("phase_1")),
            ],
            asset_checks=[sound],
        )

    def run(self, *names, session=None, **tags):
        """Materialize these in one run, as a person or a sensor would."""
        job = self.definitions().resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(name) for name in names],
            partition_key=session,
            tags={f"kalshi/{name}": value for name, value in tags.items()},
            raise_on_error=False,
        )

    @contextmanager
    def begun(self, name):
        """A run of an asset that goes on, and is cancelled."""
        job = self.definitions().resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(
            job.get_subset(asset_selection={dg.AssetKey(name)}),
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=frozenset({dg.AssetKey(name)}),
        )
        yield
        self.instance.report_run_canceled(run)

    def record(self, session, held):
        """A recording comes, or comes again, with its books: what a sensor's run does."""
        self.content[session] = held
        self.instance.add_dynamic_partitions("session", [session])
        self.run("raw", "books", session=session, together="session")

    def tick(self):
        """What is asked for now, as `asset` or `asset[session]`."""
        told = dg.evaluate_automation_conditions(
            defs=self.definitions(), instance=self.instance, cursor=self.cursor
        )
        self.cursor = told.cursor
        wanted = []
        for name in self.versions:
            keys = told.get_requested_partitions(dg.AssetKey(name))
            wanted += [(name, key) for key in sorted(keys, key=str)]
        return wanted

    def settle(self):
        """Tick and run what is asked for until nothing is; all that was asked for, in order."""
        asked = []
        for _ in range(10):
            wanted = self.tick()
            if not wanted:
                return asked
            asked += wanted
            for name, session in wanted:
                self.run(name, session=session)
        raise AssertionError(f"never still: {asked}")


@pytest.fixture
def world():
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(instance)


@pytest.fixture
def trained(world):
    """Sessions 1, 2 and 3 are there, both phases are trained."""
    for session, held in (("1", 2), ("2", 4), ("3", 6)):
        world.record(session, held)
    world.settle()
    return world


def test_phases_begin_one_by_one_once_exactly_their_sessions_are_there(world):
    world.tick()
    world.record("1", 2)
    assert world.settle() == []
    world.record("3", 2)
    assert world.settle() == []
    world.record("2", 2)
    assert world.settle() == [("phase_1", None), ("phase_2", None)]


def test_it_begins_too_where_the_data_was_there_before_it_was_turned_on(world):
    world.record("1", 2)
    world.record("2", 2)
    assert world.settle() == [("phase_1", None), ("phase_2", None)]


def test_equal_data_again_is_nothing(trained):
    trained.record("1", 2)
    assert trained.settle() == []
    trained.run("raw", session="1")
    assert trained.settle() == []


def test_a_change_that_ends_in_equal_books_trains_nothing(trained):
    trained.record("1", 3)
    assert trained.settle() == []


def test_a_recording_ingested_alone_is_followed_by_its_books_and_what_they_change(trained):
    trained.content["1"] = 8
    trained.run("raw", session="1")
    assert trained.settle() == [("books", "1"), ("phase_1", None), ("phase_2", None)]


def test_another_session_trains_nothing(trained):
    trained.record("9", 2)
    trained.record("3", 60)
    assert trained.settle() == []


def test_a_phase_that_comes_out_the_same_ends_the_chain(trained):
    trained.run("phase_1")
    assert trained.settle() == []


def test_a_change_that_lands_while_training_runs_is_not_forgotten(trained):
    trained.record("1", 10)
    assert trained.tick() == [("phase_1", None)]
    trained.record("2", 20)  # before the run that was asked for is over
    trained.run("phase_1")
    assert trained.settle()[0] == ("phase_1", None)


def test_a_session_that_fails_its_check_holds_back_what_it_would_feed_and_nothing_else(world):
    world.record("3", 2)
    world.tick()
    world.broken = {"1"}
    world.record("1", 2)
    world.record("2", 2)
    assert world.settle() == []
    assert world.tick() == []
    world.broken = set()
    world.record("1", 4)  # repaired
    assert world.settle() == [("phase_1", None), ("phase_2", None)]


def test_what_failed_is_not_tried_for_ever_and_is_tried_with_other_inputs(world):
    world.fails = {"phase_1"}
    world.record("1", 2)
    world.record("2", 2)
    assert world.settle() == [("phase_1", None)]
    assert world.tick() == []
    world.fails = set()
    world.record("1", 4)
    assert world.settle() == [("phase_1", None), ("phase_2", None)]


def test_what_was_cancelled_is_not_begun_again_before_another_input_or_a_person(world):
    world.record("1", 2)
    world.record("2", 2)
    assert world.tick() == [("phase_1", None)]
    with world.begun("phase_1"):  # as automation asked
        assert world.tick() == []
    assert world.settle() == []
    world.record("1", 4)
    assert world.tick() == [("phase_1", None)]
    with world.begun("phase_1"):
        world.record("2", 8)  # while it goes on
        assert world.tick() == []
    assert world.settle() == [("phase_1", None), ("phase_2", None)]


def test_what_a_person_begins_and_cancels_is_left_alone(world):
    world.fails = {"phase_1"}
    world.record("1", 2)
    world.record("2", 2)
    assert world.settle() == [("phase_1", None)]
    world.fails = set()
    with world.begun("phase_1"):
        assert world.tick() == []
    assert world.settle() == []
    world.run("phase_1")
    assert world.settle() == [("phase_2", None)]


def test_a_run_of_a_part_of_the_stages_is_followed_by_the_others(trained):
    trained.content["1"] = 8
    trained.run("raw", session="1", together="session")
    assert trained.settle() == [("books", "1"), ("phase_1", None), ("phase_2", None)]


def test_other_code_makes_again_what_was_made_and_nothing_that_was_not(trained):
    trained.instance.add_dynamic_partitions("session", ["8"])  # registered, never ingested
    trained.settle()
    trained.versions["raw"] = "2"
    assert trained.tick() == [("raw", "1"), ("raw", "2"), ("raw", "3")]
    trained.versions["phase_1"] = "2"
    assert trained.settle() == [("phase_1", None), ("phase_2", None)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    root = tmp_path_factory.mktemp("warehouse")
    return build_definitions([], str(root)).resolve_asset_graph()


def test_data_goes_on_by_itself_and_training_is_for_a_person_to_turn_on(graph):
    data, training = automations(load_plan(name) for name in plan_names())
    assert data.default_status == dg.DefaultSensorStatus.RUNNING
    assert training.default_status == dg.DefaultSensorStatus.STOPPED
    of_data, of_training = (each.asset_selection.resolve(graph) for each in (data, training))
    assert not of_data & of_training
    conditioned = {
        key for key in graph.materializable_asset_keys if graph.get(key).automation_condition
    }
    assert of_data | of_training == conditioned


def test_the_conditions_are_ones_the_daemon_evaluates_itself(graph):
    for key in graph.materializable_asset_keys:
        condition = graph.get(key).automation_condition
        assert condition is None or condition.is_serializable
