"""Every rule about security, and the tests that hold it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RULES = {
    "checkpoints are numbers and JSON, and a model of others runs nothing": [
        "storage/test_foreign.py::test_a_model_that_would_run_code_does_not",
        "storage/test_foreign.py::test_code_in_the_settings_is_never_looked_at",
        "architecture/test_conventions.py::test_no_read_path_unpickles",
    ],
    "no known hole of torch, Arrow or Dagster; versions that belong together are together": [
        "security/test_files.py::test_what_is_installed_is_past_the_known_holes_and_matches_itself",
    ],
    "tables are validated and have exactly our schema; a type in a file runs nothing": [
        "storage/test_tables.py::test_values_are_validated_not_believed",
        "storage/test_tables.py::test_a_file_of_another_schema_is_refused_by_name",
        "security/test_files.py::test_an_extension_type_in_a_table_runs_nothing",
    ],
    "arrays are not unpickled; compiled kernels lie where only their owner writes": [
        "security/test_files.py::test_an_array_of_objects_is_not_unpickled",
        "security/test_files.py::test_compiled_kernels_are_kept_where_only_their_owner_writes",
    ],
    "values never pass through an IO manager": [
        "security/test_outputs.py::test_no_asset_goes_through_an_io_manager_that_pickles",
        "security/test_outputs.py::test_a_value_that_is_returned_is_refused_by_name",
    ],
    "keys become neither SQL nor paths": [
        "security/test_launches.py::test_a_session_is_a_number_wherever_it_enters",
        "security/test_launches.py::"
        "test_a_partition_somebody_added_by_hand_is_refused_by_the_asset",
        "storage/test_publish.py::test_what_is_no_session_id_never_becomes_a_path",
        "storage/test_publish.py::test_a_link_out_of_the_warehouse_is_refused",
    ],
    "the web server is on loopback, viewers launch nothing, a launch names no folder": [
        "security/test_web_server.py::"
        "test_the_units_listen_on_loopback_and_a_viewer_launches_nothing",
        "security/test_web_server.py::test_no_documented_command_listens_beyond_loopback",
        "security/test_launches.py::test_a_launch_cannot_name_another_folder",
        "security/test_launches.py::test_nothing_a_run_may_be_configured_with_is_a_path_or_a_url",
    ],
    "secrets are in the environment and in nothing that is left behind": [
        "security/test_secret_canary.py::test_a_marked_password_is_in_nothing_that_is_left_behind",
        "recordings/test_postgres_faults.py::test_the_password_is_in_no_text",
        "security/test_postgres_programs.py::"
        "test_a_password_that_is_not_encoded_is_refused_and_not_repeated",
        "pipeline/test_instance_storage.py::"
        "test_a_database_that_does_not_answer_is_named_without_its_password",
        "security/test_files.py::test_no_tracked_file_holds_a_secret",
    ],
    "what unpacks to more than its limit is refused before it does": [
        "faults/test_file_faults.py::"
        "test_d22_a_few_bytes_that_become_many_are_refused_before_they_do",
        "storage/test_tables.py::test_the_limit_is_rows_times_width_whatever_the_footer_says",
        "storage/test_foreign.py::test_a_member_that_stands_there_twice_is_refused",
    ],
    "foreign text is escaped in pages, and no spreadsheet is written": [
        "evaluation/test_report_page.py::test_the_policy_of_the_page_lets_no_foreign_script_run",
        "security/test_files.py::test_nothing_writes_a_file_a_spreadsheet_would_run",
    ],
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_held_by_tests_that_are_there(rule):
    assert RULES[rule]
    for name in RULES[rule]:
        file, _, function = name.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, name


def test_every_test_about_security_holds_a_rule():
    named = {name for names in RULES.values() for name in names}
    about = {"security/test_rules.py"}
    for path in (TESTS / "security").glob("test_*.py"):
        file = f"security/{path.name}"
        if file not in about:
            assert any(name.startswith(file) for name in named), file
