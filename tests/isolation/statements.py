"""All SQL that the engine runs for a tenant, found in the source, and what becomes of it without its own WHERE."""

import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import ModuleType
from uuid import UUID

import asyncpg
import numpy as np

import ringfence
from ringfence.db import TenantTx, encode_halfvec
from tests.isolation.tenants import Tenant

_WRITES = re.compile(r"\b(?:insert|update|delete)\b")
_PREDICATE = re.compile(r"\b(?:\w+\.)?user_id\s*=\s*\$1\b")
_MAX_RUNS = 400


@dataclass(frozen=True)
class Statement:
    """A constant `module.name` that a function which takes a TenantTx runs."""

    name: str
    sql: str

    @property
    def fenced(self) -> bool:
        """Whether it says itself whose rows it means."""
        return bool(_PREDICATE.search(self.sql))

    @property
    def writes(self) -> bool:
        """Whether it may change a row."""
        return bool(_WRITES.search(self.sql))

    @property
    def stripped(self) -> str:
        """The same without that: every `user_id = $1` is true."""
        return _PREDICATE.sub("($1::uuid is not null)", self.sql)


def _modules() -> list[ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(ringfence.__path__, "ringfence.")]
    others = {"ringfence.jobs", "ringfence.limits"}
    return [importlib.import_module(name) for name in names if name.endswith("queries") or name in others]


def _constants_of_tenants(module: ModuleType) -> set[str]:
    """The names of constants that stand in a function, one of whose parameters is annotated with TenantTx."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            kinds = {name.id for arg in ast.walk(node.args) for name in ast.walk(arg) if isinstance(name, ast.Name)}
            if TenantTx.__name__ in kinds:
                found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return found


def tenant_statements() -> list[Statement]:
    return [
        Statement(f"{module.__name__.removeprefix('ringfence.')}.{name}", value)
        for module in _modules()
        for names in (_constants_of_tenants(module),)
        for name, value in sorted(vars(module).items())
        if name.startswith("_") and isinstance(value, str) and name in names
    ]


def _candidates(kind: str, of: Tenant) -> list[object]:
    """Values of an SQL type that would find the tenant's rows."""
    text = of.text
    known: dict[str, list[object]] = {
        "uuid": [*of.documents.values(), of.token, UUID(int=0)],
        "bytea": [of.digest(state) for state in of.documents],
        "text": [text, "ready", "store", "parsing"],
        "int2": [0, 1, 2],
        "int4": [1, 1000],  # a number, or a limit that leaves nothing out
        "int8": [*range(1, 5), 1000, 0],  # an id, or a limit that leaves nothing out
        "float4": [0.0],
        "float8": [0.0],
        "numeric": [Decimal(1)],
        "bool": [True, False],
        "jsonb": ['{"of": "somebody"}', json.dumps({"of": text})],
        "halfvec": [np.array([1, 0], dtype=np.float32)],
        "halfvec[]": [[encode_halfvec(np.array([1, 0], dtype=np.float32))]],
        "jsonpath": [None],
        "timestamptz": [None, datetime.now(UTC)],  # none: it leaves nothing out
        "date": [datetime.now(UTC).date()],
        "interval": [timedelta(0)],
        "int2[]": [[0]],
        "int4[]": [[1, 0, 9]],
        "int8[]": [[1, 4_000_000_001]],
        "float8[]": [[1.0, 1.0]],
        "uuid[]": [[*of.documents.values(), of.token]],
        "text[]": [[text, "ready"]],
        "bytea[]": [[of.digest(state) for state in of.documents]],
    }
    return known[kind]


async def arguments(tx: TenantTx, sql: str, user: Tenant, of: Tenant) -> list[tuple[object, ...]]:
    """All combinations of arguments: `$1` names `user`, the others would find rows of `of`."""
    parameters = (await tx.connection.prepare(sql)).get_parameters()
    choices = [_candidates(parameter.name, of) for parameter in parameters]
    if parameters and parameters[0].name in ("uuid", "text"):
        choices[0] = [user.user_id if parameters[0].name == "uuid" else str(user.user_id)]
    return list(itertools.islice(itertools.product(*choices), _MAX_RUNS))


def marks(rows: list[asyncpg.Record], of: Tenant) -> bool:
    """Whether any value of the rows belongs to a tenant."""
    signs = [of.text, str(of.user_id), str(of.token), *map(str, of.documents.values())]
    signs += [repr(of.digest(state)) for state in of.documents]
    return any(sign in repr(row) for row in rows for sign in signs)
