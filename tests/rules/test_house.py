"""Rules 1 to 7 of the house, over all of its source; `test_rules_bite.py` has each rule against what it must find."""

from collections.abc import Callable

from tests.rules import house

type Rule = Callable[[str, str], object]


def broken(rule: Rule) -> dict[str, object]:
    """What a rule, given a module's name and source, finds in each of the modules."""
    found = {house.name_of(path): rule(house.name_of(path), path.read_text()) for path in house.modules()}
    assert len(found) > 100
    return {name: faults for name, faults in found.items() if faults}


def test_functions_are_short() -> None:
    assert broken(lambda _, source: house.long_functions(source)) == {}


def test_files_are_short() -> None:
    assert broken(lambda _, source: house.is_long_file(source)) == {}


def test_sql_lives_in_its_places() -> None:
    assert broken(house.misplaced_sql) == {}


def test_queries_name_their_columns() -> None:
    assert broken(lambda _, source: house.starred(source)) == {}


def test_every_query_takes_a_transaction() -> None:
    def rule(name: str, source: str) -> list[str]:
        return house.queries_without_tx(source) if name.endswith("/queries.py") else []

    assert broken(rule) == {}


def test_tenant_queries_name_the_tenant_beside_the_policy() -> None:
    assert broken(lambda _, source: house.tenant_queries_without_user(source)) == {}


def test_calls_are_of_functions_that_take_the_tenant() -> None:
    assert broken(lambda _, source: house.calls_without_tenant(source)) == {}


def test_only_ids_mints_a_user_id() -> None:
    assert broken(house.minted_user_ids) == {}


def test_only_doors_and_the_composition_root_know_the_settings() -> None:
    assert broken(house.settings_imports) == {}


def test_nothing_happens_at_import() -> None:
    assert broken(lambda _, source: house.import_effects(source)) == {}


def test_modules_keep_no_state() -> None:
    assert broken(lambda _, source: house.module_state(source)) == {}


def test_only_the_command_line_prints() -> None:
    assert broken(house.prints) == {}
