"""Rules 1 to 7 of the house, over all of its source, and each rule against what it must find."""

from pathlib import Path

import pytest

from tests.rules import house

pytestmark = pytest.mark.parametrize("path", house.modules(), ids=house.name_of)


def test_functions_and_files_are_short(path: Path) -> None:
    source = path.read_text()
    assert house.long_functions(source) == []
    assert not house.is_long_file(source)


def test_sql_lives_in_its_places(path: Path) -> None:
    assert house.misplaced_sql(house.name_of(path), path.read_text()) == []


def test_queries_name_their_columns(path: Path) -> None:
    assert house.starred(path.read_text()) == []


def test_every_query_takes_a_transaction(path: Path) -> None:
    if path.name == "queries.py":
        assert house.queries_without_tx(path.read_text()) == []


def test_tenant_queries_name_the_tenant_beside_the_policy(path: Path) -> None:
    assert house.tenant_queries_without_user(path.read_text()) == []


def test_calls_are_of_functions_that_take_the_tenant(path: Path) -> None:
    assert house.calls_without_tenant(path.read_text()) == []


def test_only_ids_mints_a_user_id(path: Path) -> None:
    assert house.minted_user_ids(house.name_of(path), path.read_text()) == []


def test_only_doors_and_the_composition_root_know_the_settings(path: Path) -> None:
    assert house.settings_imports(house.name_of(path), path.read_text()) == []


def test_nothing_happens_at_import(path: Path) -> None:
    assert house.import_effects(path.read_text()) == []


def test_modules_keep_no_state(path: Path) -> None:
    assert house.module_state(path.read_text()) == []


def test_only_the_command_line_prints(path: Path) -> None:
    assert house.prints(house.name_of(path), path.read_text()) == []
