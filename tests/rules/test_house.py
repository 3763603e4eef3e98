"""Rules 1 to 7 of the house, over all of its source; `test_rules_bite.py` has each rule against what it must find."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import pytest

from tests.rules import house

type Rule = Callable[[str, str], object]


def _every_query_takes_a_transaction(name: str, source: str) -> list[str]:
    return house.queries_without_tx(source) if name.rpartition("/")[2] == "queries.py" else []


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "functions are short": lambda _, source: house.long_functions(source),
        "files are short": lambda _, source: house.is_long_file(source),
        "SQL lives in its places": house.misplaced_sql,
        "queries name their columns": lambda _, source: house.starred(source),
        "every query takes a transaction": _every_query_takes_a_transaction,
        "tenant queries name the tenant beside the policy": lambda _, source: house.tenant_queries_without_user(source),
        "calls are of functions that take the tenant": lambda _, source: house.calls_without_tenant(source),
        "only ids mints a user id": house.minted_user_ids,
        "only doors and the composition root know the settings": house.settings_imports,
        "nothing happens at import": lambda _, source: house.import_effects(source),
        "modules keep no state": lambda _, source: house.module_state(source),
        "only the command line prints": house.prints,
    }
)


@pytest.mark.parametrize("rule", RULES)
def test_every_module_keeps_to_it(rule: str) -> None:
    found = {house.name_of(path): RULES[rule](house.name_of(path), path.read_text()) for path in house.modules()}
    assert len(found) > 100
    assert {name: faults for name, faults in found.items() if faults} == {}
