"""The house's rules as functions from source text to findings, so that each can be shown to find what it forbids."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "ringfence"

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
TX_TYPES = {"TenantTx", "TenantCall", "SystemTx", "OwnerTx"}

# A statement is written in one case; prose ("Select a file from …") is not taken for one.
_THINGS = "table|index|role|user|database|extension|schema|policy|function|view|type|trigger|default|sequence|domain"
_SQL_FORMS = (
    r"select\b.*(\bfrom\b|\$\d|\w\()|select\s+1\b",
    r"insert\s+into\b",
    r"update\s+[\w.\"]+(\s+(as\s+)?\w+)?\s+set\b",
    r"delete\s+from\b",
    r"with\s+(recursive\s+)?\w+\s*(\([^)]*\)\s*)?as\s+(materialized\s+|not\s+materialized\s+)?\(",
    rf"(create|alter|drop)\s+(or\s+replace\s+|unique\s+|unlogged\s+)*({_THINGS})\b",
    r"(grant|revoke)\b.*\b(to|from|on)\b",
    r"set\s+(local\s+|session\s+|role\b)|set\s+[\w.]+\s*(=|to\b)|reset\s+(all|role|[\w.]+)$",
    r"begin\s+(transaction|isolation|read)\b|start\s+transaction\b|savepoint\s+\w+|rollback\s+to\b",
    r"copy\s+[\w.\"]+\s*(\([^)]*\)\s*)?(from|to)\s+(stdin|stdout)\b",
    r"(listen|unlisten|notify)\s+[\w\"*]+\s*(,.*)?$",
    r"(truncate|lock)\s+table\b|(vacuum|analyze|cluster|reindex)\s+(table\s+)?[\w.\"]+$|explain\s+(select|\()",
    r"merge\s+into\b",
)
_SQL_LOWER = re.compile(rf"\s*(?:{'|'.join(_SQL_FORMS)})", re.DOTALL)
_SQL_ANY = re.compile(_SQL_LOWER.pattern, re.DOTALL | re.IGNORECASE)
_TABLE = re.compile(r"\b(from|into|update|join)\b", re.IGNORECASE)
_VERB = re.compile(r"\s*(\w+)")


def modules() -> list[Path]:
    """Every Python file of the engine."""
    return sorted(SRC.rglob("*.py"))


def name_of(path: Path) -> str:
    """As rules name a module: `answers/queries.py`."""
    return path.relative_to(SRC).as_posix()


def repository_files() -> list[Path]:
    """What is committed, or would be."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
        check=False,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:  # an exported tree
        places = ("src", "tests", "bench", "docs", "scripts", ".ci", ".github")
        found = [file for place in places for file in (ROOT / place).rglob("*") if "__pycache__" not in file.parts]
        found += list(ROOT.iterdir())
    return sorted(file for file in found if file.is_file() and not file.is_symlink())


def text_of(path: Path) -> str:
    """A file's text; what is no UTF-8 has none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


type Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_stub(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def function_lines(source: str) -> dict[str, int]:
    """Lines of each function's body without its docstring; protocols' stubs don't count."""
    lines = {}
    for function in _functions(ast.parse(source)):
        body = function.body[1:] if _is_docstring(function.body[0]) else function.body
        if body and not _is_stub(body[0]):
            lines[f"{function.name}:{function.lineno}"] = (body[-1].end_lineno or 0) - body[0].lineno + 1
    return lines


def long_functions(source: str) -> list[str]:
    """Functions whose body is longer than any may be."""
    return [f"{name} has {lines} lines" for name, lines in function_lines(source).items() if lines > MAX_FUNCTION_LINES]


def is_long_file(source: str) -> bool:
    """Whether a file has more lines than any may have."""
    return len(source.splitlines()) > MAX_FILE_LINES


def is_sql(text: str) -> bool:
    """Whether a string is an SQL statement."""
    verb = _VERB.match(text)
    if verb is None:
        return False
    return bool(_SQL_LOWER.match(text) if verb[1].islower() else verb[1].isupper() and _SQL_ANY.match(text))


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string that is no docstring; of an f-string the constant parts, with `?` between them."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Expr) and _is_docstring(node):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "?" for part in node.values]
            skipped.update(id(part) for part in node.values)
            yield node.lineno, "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def may_hold_sql(name: str) -> bool:
    """Where SQL lives."""
    return (
        name in {"jobs.py", "mail.py", "limits.py", "db.py"}
        or name.startswith("migrations/")
        or re.fullmatch(r"\w+/(\w+_)?queries\.py", name) is not None
    )


def misplaced_sql(name: str, source: str) -> list[str]:
    """SQL outside its places."""
    if may_hold_sql(name):
        return []
    return [f"{name}:{line}: {text.strip()[:60]!r}" for line, text in _strings(ast.parse(source)) if is_sql(text)]


_STAR = re.compile(r"\b(?:select|returning)\s+(?:\w+\.)?\*", re.IGNORECASE)


def starred(source: str) -> list[str]:
    """Statements that name no columns: prepared ones fail, once a connection, when a migration adds a column."""
    return [f"{line}: {text.strip()[:60]!r}" for line, text in _strings(ast.parse(source)) if _STAR.search(text)]


def _first_types(function: Function) -> set[str]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    if not arguments or arguments[0].annotation is None:
        return set()
    parts = ast.unparse(arguments[0].annotation).strip("'\"").split("|")
    return {part.strip().rpartition(".")[2] for part in parts}


def queries_without_tx(source: str) -> list[str]:
    """Async functions of a queries.py that can be called without a transaction."""
    return [
        function.name
        for function in _functions(ast.parse(source))
        if isinstance(function, ast.AsyncFunctionDef)
        and not (_first_types(function) and _first_types(function) <= TX_TYPES)
    ]


def _constants(tree: ast.Module) -> dict[str, str]:
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            text = " ".join(text for _, text in _strings(node.value))
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    found[target.id] = text
    return found


def _leaves_tenant_out(text: str) -> bool:
    return is_sql(text) and bool(_TABLE.search(text)) and "user_id" not in text


def tenant_queries_without_user(source: str) -> list[str]:
    """Statements on tables, run with a `TenantTx`, that leave the tenant to the policy alone.

    A function that takes `TenantTx | SystemTx` reads what belongs to no tenant; the system role may read nothing else.
    """
    tree = ast.parse(source)
    constants = _constants(tree)
    missing = []
    for function in _functions(tree):
        if _first_types(function) != {"TenantTx"}:
            continue
        used = [text for _, text in _strings(function)]
        used += [constants[n.id] for n in ast.walk(function) if isinstance(n, ast.Name) and n.id in constants]
        missing += [f"{function.name}: {sql.strip()[:60]!r}" for sql in used if _leaves_tenant_out(sql)]
    return missing


_FENCED_CALL = re.compile(r"\s*select [\w\s,]+ from \w+\(\$1[,)][^()]*\)?\s*", re.DOTALL)


def calls_without_tenant(source: str) -> list[str]:
    """Statements run with a `TenantCall` that are more, or less, than the call of a function for the tenant."""
    tree = ast.parse(source)
    constants = _constants(tree)
    found = []
    for function in _functions(tree):
        if _first_types(function) != {"TenantCall"}:
            continue
        used = [text for _, text in _strings(function)]
        used += [constants[n.id] for n in ast.walk(function) if isinstance(n, ast.Name) and n.id in constants]
        found += [f"{function.name}: {sql.strip()[:60]!r}" for sql in used if is_sql(sql)
                  and not _FENCED_CALL.fullmatch(sql)]  # fmt: skip
    return found


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _dotted(node.func), node


def minted_user_ids(name: str, source: str) -> list[str]:
    """Places outside ids.py that declare something to be a tenant's id."""
    if name == "ids.py":
        return []
    return [
        f"{name}:{call.lineno}"
        for called, call in _calls(ast.parse(source))
        if called.rpartition(".")[2] == "UserId"
        or (called.rpartition(".")[2] == "cast" and "UserId" in ast.unparse(call.args[0]))
    ]


def settings_imports(name: str, source: str) -> list[str]:
    """Imports of the settings object where only slices of it may be known."""
    if name in {"settings.py", "worker.py", "mcp.py"} or name.startswith(("cli", "services/")):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            imported = {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imported = {alias.name for alias in node.names}
        else:
            continue
        whole = {"ringfence.settings", "ringfence.settings.Settings", "ringfence.settings.load_settings"}
        found += [f"{name}:{node.lineno}: {what}" for what in sorted(imported & whole)]
    return found


# Constructors of constants, types, `router`, `app`, `log` and its like (metrics, `tracing`): nothing happens when they
# are called.
_PURE = {
    "APIRouter",
    "AfterValidator",
    "BeforeValidator",
    "CollectorRegistry",
    "Counter",
    "Decimal",
    "Field",
    "Gauge",
    "HTTPBearer",
    "Histogram",
    "Limits",
    "MappingProxyType",
    "NewType",
    "ParamSpec",
    "Path",
    "PlatformCollector",
    "ProcessCollector",
    "PurePosixPath",
    "Rate",
    "Struct",
    "Template",
    "Timeout",
    "TypeAdapter",
    "Tracing",
    "TypeVar",
    "Typer",
    "UUID",
    "attrgetter",
    "chr",
    "compile",
    "encode",
    "escape",
    "frozenset",
    "getLogger",
    "get_logger",
    "join",
    "json_schema",
    "lower",
    "predicate",
    "range",
    "timedelta",
    "tuple",
    "version",
    "with_name",
}
_PARAMETERS = {"Argument", "Body", "Cookie", "Depends", "File", "Form", "Header", "Option", "Query", "Security"}
_MUTATORS = {
    "add",
    "append",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "setdefault",
    "update",
}


def _module_statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        guard = ast.unparse(node.test) if isinstance(node, ast.If) else ""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        if not _is_docstring(node) and "TYPE_CHECKING" not in guard and "__name__" not in guard:
            yield node


def _impure_calls(node: ast.AST, pure: set[str]) -> list[str]:
    return [called or "something" for called, _ in _calls(node) if called.rpartition(".")[2] not in pure]


def _is_plain_record(node: ast.ClassDef) -> bool:
    frozen = any("dataclass(frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)
    return frozen and not any(isinstance(item, ast.FunctionDef) for item in node.body)


def import_effects(source: str) -> list[str]:
    """What a module does while it is imported, beyond defining constants, types, `router`, `app` and `log`.

    A constant may be built by a function of the same module that itself calls nothing else, or by a frozen dataclass
    without code of its own.
    """
    tree, found = ast.parse(source), []
    pure = _PURE | _PARAMETERS
    pure |= {node.name for node in tree.body if isinstance(node, ast.ClassDef) and _is_plain_record(node)}
    pure |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not _impure_calls(node, pure)}
    for node in _module_statements(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.TypeAlias):
            found.append(f"{node.lineno}: {type(node).__name__} at module level")
            continue
        found += [f"{node.lineno}: calls {called} at import" for called in _impure_calls(node, pure)]
    return found


def _mutable(node: ast.expr | None) -> bool:
    kinds = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    return isinstance(node, kinds) or (isinstance(node, ast.Call) and _dotted(node.func) in {"list", "dict", "set"})


def _mutates(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
        return isinstance(node.func.value, ast.Name) and node.func.value.id in names
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return isinstance(node.value, ast.Name) and node.value.id in names
    return isinstance(node, ast.Global)


def module_state(source: str) -> list[str]:
    """Module-level state: mutable values that are no constants, or constants that something changes."""
    tree = ast.parse(source)
    constants, found = set(), []
    for node in _module_statements(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and _mutable(node.value):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                name = ast.unparse(target)
                constants.add(name)
                if not name.isupper() and name != "__all__":
                    found.append(f"{node.lineno}: {name} is a mutable variable of the module")
    found += [f"{ast.unparse(node)} changes the module" for node in ast.walk(tree) if _mutates(node, constants)]
    return found


def prints(name: str, source: str) -> list[str]:
    """Writing to the terminal outside the command line. The log writes to a descriptor that it is given."""
    if name.startswith("cli"):
        return []
    tree = ast.parse(source)
    found = [f"{name}:{call.lineno}: print" for called, call in _calls(tree) if called in {"print", "pprint.pprint"}]
    streams = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    return found + [
        f"{name}:{n.lineno}: {_dotted(n)}"
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and _dotted(n) in streams
    ]


_UNFINISHED = re.compile("|".join(rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")))


def unfinished(source: str) -> list[str]:
    """Marks of unfinished work."""
    return [f"{n}: {line.strip()[:80]}" for n, line in enumerate(source.splitlines(), 1) if _UNFINISHED.search(line)]


# Split, so that this file does not hold what it looks for.
_HOSTS = ("files.python" + "hosted", "py" + "pi.org", "registry.npm" + "js", "deb.deb" + "ian", "gh" + "cr.io")
_HOST = re.compile("|".join(re.escape(host) for host in _HOSTS))
_MACHINE = re.compile(r"(?<![\w.$}~-])/(?:" + "|".join(("work", "root", "opt/py" + "pi")) + r")(?:/|\b(?=[-\"'`\s]))")
_NAMES_SOURCES = re.compile(r"src/ringfence/embedded/weights\b[^/]*(/.*)?|\.github/workflows/release\.yml")


def strange_places(name: str, source: str) -> list[str]:
    """Paths of one machine, and hosts of package registries.

    Only the manifest of model weights names its sources, and the release where it goes.
    """
    patterns = (_MACHINE,) if _NAMES_SOURCES.fullmatch(name) else (_MACHINE, _HOST)
    return [
        f"{name}:{number}: {match[0]}"
        for number, line in enumerate(source.splitlines(), 1)
        for pattern in patterns
        for match in pattern.finditer(line)
    ]


DECISION_HEADINGS = ["Context", "Decision", "Figures", "Consequences", "Enforced by"]


def decision_faults(source: str) -> list[str]:
    """What a page of docs/decisions lacks."""
    headings = re.findall(r"^## (.+?)\s*$", source, re.MULTILINE)
    faults = [] if headings == DECISION_HEADINGS else [f"headings are {headings}"]
    parts = re.split(r"^## .+$", source, flags=re.MULTILINE)
    return faults + (["an empty section"] if any(not part.strip() for part in parts) else [])
