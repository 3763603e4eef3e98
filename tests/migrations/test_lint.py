"""What the migrations' SQL may say: squawk's rules, and those that only this engine has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence import migrations
from ringfence.migrations.forms import statements
from tests.isolation.catalog import GLOBAL_TABLES
from tests.migrations.later import EXAMPLES
from tests.rules.house import ROOT

LINT = ROOT / "scripts" / "lint_migrations"
FOLDERS = [Path(migrations.__file__).parent, Path(__file__).parent / "examples"]
ALL = [*migrations.scripts(), *EXAMPLES]
PATHS = {path.name: path for folder in FOLDERS for path in folder.glob("*.sql")}

# Statements that may be run again, in a file whose statements stand alone.
_AGAIN = (
    r"create (unique )?index concurrently if not exists \w+ on ",
    r"drop index concurrently if exists \w+$",
    r"alter table \w+ validate constraint \w+$",
)
_DML = re.compile(
    r"\b(insert\s+into|update|delete\s+from|merge\s+into|truncate(\s+table)?|copy)\s+(only\s+)?\"?(\w+)", re.IGNORECASE
)


def owners_dml(sql: str) -> list[str]:
    """Tenant tables whose rows a file changes; functions' bodies, grants, triggers and foreign keys aside."""
    bare = re.sub(r"\$(\w*)\$.*?\$\1\$|--[^\n]*|'[^']*'", "", sql, flags=re.DOTALL)
    doing = [
        part
        for part in bare.split(";")
        if not re.match(r"\s*(create|grant|revoke|alter|drop|comment)\b", part, re.IGNORECASE)
    ]
    return [
        found[4].lower() for part in doing for found in _DML.finditer(part) if found[4].lower() not in GLOBAL_TABLES
    ]


# Files that lock several tables, which must be these, by a statement at their beginning.
SEVERAL = {
    "0040_embeddings_divided.sql": ["documents", "embedding_models", "embeddings_shared"],
    "0078_pinned_passages.sql": ["documents", "traces"],
}


def locked(sql: str) -> list[str]:
    """Tables that were there before and that a file locks; more than one at a time can end in a deadlock."""
    bare = re.sub(r"\$(\w*)\$.*?\$\1\$|--[^\n]*|'[^']*'", "", sql.lower(), flags=re.DOTALL)
    new = set(re.findall(r"\bcreate\s+(?:table|view)\s+(?:if\s+not\s+exists\s+)?(\w+)", bare))
    found = re.findall(r"\b(?:alter\s+table\s+(?:only\s+)?|references\s+|\son\s+)(\w+)", bare)
    found += re.findall(r"\bdrop\s+(?:table|view)\s+(?:if\s+exists\s+)?(\w+)", bare)
    return sorted(set(found) - new - {"delete", "update", "conflict"})


def strangers(sql: str) -> list[str]:
    """Statements of a `.concurrent.sql` that may not be run again, or that the runner's simple splitting may miss."""
    flat = [" ".join(part.split()).lower() for part in statements(sql)]
    words = re.sub(r"--[^\n]*|'\w*'", "", sql)  # what a quoted word holds can't be taken for an end
    odd = ["a quote"] if re.search(r"['\"$]", words) else []
    return odd + [part for part in flat if not any(re.match(form, part) for form in _AGAIN)]


def tenant_faults(sql: str) -> list[str]:
    """What a `.tenant.sql` lacks."""
    bare = re.sub(r"--[^\n]*", "", sql)
    return [
        fault
        for fault, there in {
            "is several statements": ";" in bare.strip().rstrip(";"),
            "does not name its tenant": "user_id = $1" not in bare,
            "takes rows without a limit": not re.search(r"\blimit \d+", bare),
        }.items()
        if there
    ]


def lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    return subprocess.run([LINT, *paths], capture_output=True, text=True, check=False, env=environment)


def test_squawk_has_nothing_to_say():
    found = lint(*FOLDERS)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("name", "sql", "rule"),
    [
        ("0009_a.sql", "create index i on documents (user_id);", "require-concurrent-index-creation"),
        ("0009_a.sql", "alter table documents add column a text not null;", "adding-required-field"),
        ("0009_a.sql", "alter table documents alter column name type varchar(9);", "changing-column-type"),
        ("0009_a.sql", "alter table documents add constraint c check (size > 1);", "constraint-missing-not-valid"),
        (
            "0009_a.sql",
            "create index concurrently i on documents (user_id); drop index concurrently j;",
            "ban-concurrent-index-creation-in-transaction",
        ),
        ("0009_a.sql", "alter table documents alter column pages set not null;", "adding-not-nullable-field"),
        ("0009_a.sql", "alter table documents rename column name to title;", "renaming-column"),
        ("0009_a.concurrent.sql", "create index i on documents (user_id);", "require-concurrent-index-creation"),
        ("0009_a.sql", "drop table documents;", "ban-drop-table"),
        ("0001_initial.sql", "alter table documents alter column name type varchar(9);", "changing-column-type"),
    ],
)
def test_squawk_bites(tmp_path, name, sql, rule):
    (tmp_path / name).write_text(sql)
    found = lint(tmp_path)
    assert found.returncode != 0
    assert rule in found.stdout + found.stderr


def test_an_empty_folder_is_no_success(tmp_path):
    assert lint(tmp_path).returncode != 0


@pytest.mark.parametrize(("name", "sql"), ALL, ids=[name for name, _ in ALL])
def test_each_form_keeps_its_rules(name, sql):
    assert re.fullmatch(r"\d{4}_[a-z0-9_]+(\.concurrent|\.tenant)?\.sql", name)
    if name.endswith(".concurrent.sql"):
        assert strangers(sql) == []
    elif name.endswith(".tenant.sql"):
        assert tenant_faults(sql) == []
    else:
        assert owners_dml(sql) == []
        assert len(locked(sql)) <= 1 or locked(sql) == SEVERAL[name]


def test_numbers_are_given_once():
    numbers = [name[:4] for name, _ in ALL]
    assert len(numbers) == len(set(numbers)) == len(PATHS)


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("update documents set name = 'x'", ["documents"]),
        ("create table t (a int);\nUPDATE only chunks SET a = 1; delete from jobs;", ["chunks", "jobs"]),
        ("with x as (select 1) insert into users select * from x", ["users"]),
        ("do $x$ begin update documents set name = 'x'; end $x$", []),  # seen by squawk's reader, if by any
        ("insert into job_clock default values", []),
        ("grant select, update on users to a; create function f() returns int as $$ update users $$ language sql", []),
        (
            "create policy p on t for update using (true); alter table t add a int references b on delete cascade",
            [],
        ),
        ("-- update documents set\nselect 'update documents'", []),
    ],
)
def test_an_owners_data_migration_is_found(sql, tables):
    assert owners_dml(sql) == tables


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("alter table a add column b int; alter table only c add column d int", ["a", "c"]),
        ("create table a (b int references c on delete cascade); create index i on a (b); alter table a force", ["c"]),
        ("create table a (b int references c, d int references e)", ["c", "e"]),
        ("create trigger t after insert on a for each row execute function f(); drop table if exists b", ["a", "b"]),
        ("create function f() returns int as $$ select a from b; alter table c $$ language sql; -- alter table d", []),
    ],
)
def test_tables_that_are_locked_are_found(sql, tables):
    assert locked(sql) == tables


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("create index concurrently if not exists a on b (c);\nalter table b validate constraint d;", 0),
        ("drop index concurrently if exists a", 0),
        ("create index concurrently a on b (c)", 1),
        ("alter table b add column c int", 1),
        ("create index concurrently if not exists a on b ((c || ';'))", 2),
    ],
)
def test_what_may_not_run_again_is_found(sql, count):
    assert len(strangers(sql)) == count


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        (
            "update a set b = 1 where user_id = $1 and c in (select c from a where b is null limit 9);",
            0,
        ),
        ("update a set b = 1 where user_id = $1 and b is null", 1),
        ("update a set b = 1; update c set d = 1", 3),
    ],
)
def test_faults_of_tenant_migrations_are_found(sql, count):
    assert len(tenant_faults(sql)) == count
