"""Each rule finds what it forbids, and leaves its neighbour alone."""

import pytest

from tests.rules import house

LONG = "def f():\n" + "    x = 1\n" * 61
LONGEST = "def f():\n    '''Doc.\n\n    More.\n    '''\n" + "    x = 1\n" * 60


def test_size_rules() -> None:
    assert house.long_functions(LONG) == ["f:1 has 61 lines"]
    assert house.long_functions(LONGEST) == []
    assert house.function_lines("class P(Protocol):\n    def f(self): ...\n") == {}
    assert house.is_long_file("x\n" * 501)
    assert not house.is_long_file("x\n" * 500)


@pytest.mark.parametrize(
    "sql",
    [
        "select id from documents where user_id = $1",
        "SELECT 1",
        "\n  select set_config('app.user_id', $1, true)",
        "insert into jobs (kind) values ($1)",
        "update documents set status = $2",
        "UPDATE documents AS d SET status = $2",
        "delete from sessions",
        "with claimed as (select 1) update jobs set x = 1",
        "create table t (id int)",
        "create or replace function f() returns int",
        "alter role app nologin",
        "drop policy p on t",
        "grant select on t to app",
        "set local role owner",
        "set role owner",
        "copy chunks (id) from stdin",
        "listen jobs",
        "notify jobs, 'x'",
        "truncate table t",
        "begin isolation level serializable",
    ],
)
def test_sql_is_recognised(sql: str) -> None:
    assert house.is_sql(sql)
    assert house.misplaced_sql("answers/service.py", f"f({sql!r})") != []
    assert house.misplaced_sql("answers/queries.py", f"f({sql!r})") == []


@pytest.mark.parametrize(
    "prose",
    [
        "Select a file from the list.",
        "Set RINGFENCE_PORT to a free port.",
        "with a password",
        "update",
        "begin",
        "copy the file to the folder",
        "create an account first",
        "",
    ],
)
def test_prose_is_no_sql(prose: str) -> None:
    assert not house.is_sql(prose)


@pytest.mark.parametrize("name", ["search/scan.py", "services/api.py", "answers/more/queries.py", "queries.py"])
def test_built_sql_is_found_and_docstrings_are_not(name: str) -> None:
    assert house.misplaced_sql(name, 'x = f"select {column} from t"') != []
    assert house.misplaced_sql(name, 'def f():\n    """select 1 from t"""') == []


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select * from t", True),
        ("insert into t (a) values ($1) returning *", True),
        ("with x as (SELECT t.* from t) select a from x", True),
        ("select count(*), a * 2 from t", False),
    ],
)
def test_stars_are_found(sql: str, *, found: bool) -> None:
    assert bool(house.starred(f"x = {sql!r}")) == found


@pytest.mark.parametrize("name", ["jobs.py", "mail.py", "limits.py", "db.py", "migrations/__init__.py"])
def test_sql_may_stand_in_its_places(name: str) -> None:
    assert house.misplaced_sql(name, 'x = "select 1"') == []


@pytest.mark.parametrize(
    ("signature", "bad"),
    [
        ("tx: TenantTx", False),
        ("tx: 'SystemTx', a: int", False),
        ("tx: db.OwnerTx", False),
        ("tx: TenantTx | SystemTx", False),
        ("", True),
        ("tx", True),
        ("db: Database", True),
        ("tx: TenantTx | None", True),
        ("*, tx: TenantTx", True),
        ("a: int, tx: TenantTx", True),
    ],
)
def test_queries_need_a_transaction(signature: str, bad: bool) -> None:
    assert house.queries_without_tx(f"async def f({signature}): pass") == (["f"] if bad else [])
    assert house.queries_without_tx(f"def f({signature}): pass") == []


@pytest.mark.parametrize("tx", ["TenantTx", "SystemTx", "TenantTx | SystemTx"])
@pytest.mark.parametrize("form", ["inline", "constant"])
@pytest.mark.parametrize("column", ["user_id", "id"])
def test_tenant_queries_need_the_user(tx: str, form: str, column: str) -> None:
    sql = repr("select a from t where COLUMN = $1".replace("COLUMN", column))
    source = f"SQL = {sql}\nasync def f(tx: {tx}): await tx.fetch({sql if form == 'inline' else 'SQL'})"
    assert bool(house.tenant_queries_without_user(source)) == (tx == "TenantTx" and column == "id")


@pytest.mark.parametrize("source", ["UserId(x)", "ids.UserId(x)", "cast(UserId, x)", "typing.cast('UserId', x)"])
def test_minting_is_found(source: str) -> None:
    assert house.minted_user_ids("http/deps.py", source) == ["http/deps.py:1"]
    assert house.minted_user_ids("ids.py", source) == []
    assert house.minted_user_ids("http/deps.py", "DocumentId(x)\ncast(str, x)") == []


@pytest.mark.parametrize(
    "source",
    [
        "from ringfence.settings import Settings",
        "from ringfence.settings import load_settings",
        "from ringfence import settings",
        "import ringfence.settings",
        "def f():\n    from ringfence.settings import Settings",
    ],
)
def test_settings_imports_are_found(source: str) -> None:
    assert len(house.settings_imports("search/service.py", source)) == 1
    assert house.settings_imports("services/api.py", source) == []
    assert house.settings_imports("cli/serve.py", source) == []


def test_a_type_of_the_settings_may_be_imported() -> None:
    assert house.settings_imports("models/ollama.py", "from ringfence.settings import Seconds") == []


@pytest.mark.parametrize(
    "source",
    [
        "connect()",
        "x = connect()",
        "x: int = connect()",
        "x = [f(i) for i in y]",
        "for i in x: pass",
        "if DEBUG: x = 1",
        "try:\n    import a\nexcept ImportError:\n    a = None",
        "pool = factory()()",
        "def f():\n    connect()\nx = f()",
        "KEY = os.environ['KEY'].strip()",
        "with open('x') as f: pass",
        "class A:\n    pass\nx = A()",
        "@dataclass(frozen=True)\nclass A:\n    def __post_init__(self): connect()\nx = A()",
    ],
)
def test_effects_at_import_are_found(source: str) -> None:
    assert house.import_effects(source) != []


@pytest.mark.parametrize(
    "source",
    [
        '"""Doc."""',
        "import a",
        "log = structlog.get_logger()",
        "router = APIRouter(prefix='/x')",
        "X = re.compile('x')",
        "NAMES = frozenset({'a'})",
        "REGISTRY = CollectorRegistry()\nASKED = Counter('asked_total', 'Asked.', registry=REGISTRY)",
        "tracing = Tracing()",
        "type A = int",
        "if TYPE_CHECKING:\n    import a",
        "if __name__ == '__main__':\n    main()",
        "def f(): connect()",
        "class A:\n    x: int = field(default=0)",
        "Q = Annotated[int, Query(ge=1)]",
        "def f(x):\n    return re.escape(x)\nX = f('a')",
    ],
)
def test_definitions_are_no_effects(source: str) -> None:
    assert house.import_effects(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "cache = {}",
        "seen: set[int] = set()",
        "items = [x for x in y]",
        "CACHE = {}\ndef f(): CACHE['a'] = 1",
        "CACHE = {}\ndef f(): del CACHE['a']",
        "CACHE = []\ndef f(): CACHE.append(1)",
        "x = 1\ndef f():\n    global x\n    x = 2",
    ],
)
def test_module_state_is_found(source: str) -> None:
    assert house.module_state(source) != []


@pytest.mark.parametrize(
    "source", ["TABLE = {1: 2}\ndef f(): return TABLE[1]", "__all__ = ['f']", "def f():\n    x = []\n    x.append(1)"]
)
def test_constants_are_no_state(source: str) -> None:
    assert house.module_state(source) == []


@pytest.mark.parametrize(
    "source", ["print('x')", "sys.stdout.write('x')", "f(sys.stderr)", "f(sys.__stdout__)", "pprint.pprint(x)"]
)
def test_printing_is_found(source: str) -> None:
    assert len(house.prints("worker.py", source)) == 1
    assert house.prints("cli/ask.py", source) == []
    assert len(house.prints("telemetry/logs.py", source)) == 1
    assert house.prints("worker.py", "log.info('x')\nblueprint('x')") == []


@pytest.mark.parametrize("mark", ["TO" + "DO", "FIX" + "ME", "X" + "XX"])
def test_unfinished_work_is_found(mark: str) -> None:
    assert house.unfinished(f"x = 1\n# {mark}: later") == [f"2: # {mark}: later"]
    assert house.unfinished(f"{mark.lower()}s, a{mark}") == []


@pytest.mark.parametrize(
    "line",
    [
        "open('/wo" + "rk/x')",
        "cd /ro" + "ot/a",
        '"/ro' + 'ot"',
        "file:///opt/py" + "pi/simple",
        "https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/packages/a",
        "https://registry.npm" + "js.org/x",
    ],
)
def test_strange_places_are_found(line: str) -> None:
    assert len(house.strange_places("docs/a.md", line)) == 1


def test_ordinary_paths_are_left_alone() -> None:
    for line in ("$root/work/x", "frame/work/x", "~/work/a", "GET /roots", "./root/x"):
        assert house.strange_places("docs/a.md", line) == []


def test_only_the_manifest_of_weights_names_its_sources_and_the_release_where_it_goes() -> None:
    line = "https://py" + "pi.org/simple"
    assert house.strange_places(".github/workflows/release.yml", "gh" + "cr.io/x") == []
    assert house.strange_places(".github/workflows/ci.yml", "gh" + "cr.io/x") != []
    assert house.strange_places("src/ringfence/embedded/weights.py", line) == []
    assert house.strange_places("src/ringfence/embedded/weights.toml", "/ro" + "ot/x") != []
    assert house.strange_places("src/ringfence/embedded/weightsx.py", line) != []


PAGE = "# 1. Title\n\n" + "".join(f"## {heading}\n\nWords.\n\n" for heading in house.DECISION_HEADINGS)


def test_decision_pages() -> None:
    assert house.decision_faults(PAGE) == []
    assert house.decision_faults(PAGE.replace("## Figures", "## Numbers")) != []
    assert house.decision_faults(PAGE.replace("## Figures\n\nWords.\n\n", "")) != []
    assert house.decision_faults(PAGE.replace("## Figures\n\nWords.", "## Figures\n")) != []


def test_a_lock_or_setting_touches_no_table() -> None:
    source = "async def f(tx: TenantTx): await tx.execute('select pg_advisory_xact_lock($1)')"
    assert house.tenant_queries_without_user(source) == []


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("select a, b from f($1, $2)", 0),
        ("select a from f($1)", 0),
        ("select a from f($2, $1)", 1),
        ("select a from f($1) join documents using (a)", 1),
        ("select a from documents where user_id = $1", 1),
    ],
)
def test_what_is_no_call_for_the_tenant_is_found(sql: str, count: int) -> None:
    body = f"_SQL = {sql!r}\nasync def q(call: TenantCall): return await call.fetch(_SQL)"
    assert len(house.calls_without_tenant(body)) == count
    assert house.calls_without_tenant(body.replace("TenantCall", "TenantTx")) == []
