"""Write docs/settings.md and .env.example from src/ringfence/settings.py; `make docs` runs it.

usage: python scripts/settings_docs.py [FOLDER]     (default: the repository)

A setting stands under the heading of the one before it, so a new one needs no change here, and a new group one line.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pydantic_settings import BaseSettings

from ringfence.settings import Settings

_ROOT = Path(__file__).parents[1]
# Headings by the first setting under them, in the code's order; settings under the same heading come together.
HEADINGS = {
    "data_dir": "Folders",
    "log_level": "Logs",
    "host": "Address and life of the API",
    "secret_key": "Secret and sign-in",
    "requests_per_minute": "Limits and quotas",
    "database_url": "Database",
    "smtp_host": "Mail",
    "embedding_provider": "Embedding model",
    "chat_provider": "Chat model and answers",
    "model_connect_timeout": "Time limits of model servers",
    "relevance_floor": "Chat model and answers",
    "storage": "Storage of files",
    "upload_max_bytes": "Limits of requests",
    "chunk_tokens": "Ingestion and workers",
    "metrics_host": "Metrics and traces",
}
# Defaults that differ from machine to machine, in words.
COMPUTED = {
    "data_dir": "`ringfence` in the user's data folder",
    "models_dir": "`ringfence/models` in the user's cache folder",
}
_UNITS = {
    "seconds": "seconds",
    "bytes": "bytes",
    "tokens": "tokens",
    "pages": "pages",
    "chars": "characters",
}
_KINDS = {"Seconds": "seconds", "Items": "any number, between commas", "ChatModelEntries": "a list in JSON"}
_MIB = 2**20

_PAGE_HEAD = """\
# Settings

Made from `src/ringfence/settings.py` by `make docs`; a test fails when the two differ.

Every setting is an environment variable, or a line in a file `.env` in the folder that the engine is started from; the
environment wins, and what is empty counts as unset. [`.env.example`](../.env.example) lists all of them to copy from.
They are read once, at the start. If one is wrong, the engine does not start; it names the setting and what is wrong
with it. Settings marked *secret* stay out of logs and messages. A name that is nearly a setting's ends the start too;
any other that begins with `RINGFENCE_` has no effect, and the log says so (`setting_unknown`).

On Linux the user's data folder is `~/.local/share` (or `$XDG_DATA_HOME`) and the cache folder is `~/.cache` (or
`$XDG_CACHE_HOME`); on macOS they are `~/Library/Application Support` and `~/Library/Caches`.
"""
_EXAMPLE_HEAD = """\
# Copy this file to .env and uncomment what you set; what stays commented has its default. Environment variables win.
# Keep .env to yourself: it holds secrets. Made from src/ringfence/settings.py by `make docs`; see docs/settings.md.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as both files show it.

    Attributes:
        name: the environment variable.
        meaning: the code's description.
        unit: what a number counts; empty where the meaning says it.
        allowed: the values that are accepted, where not all are.
        default: in Markdown.
        value: the default as `.env` holds it; empty where there is none to write down.
        secret: whether the value has to stay hidden.
        computed: whether the machine decides the default.
    """

    name: str
    meaning: str
    unit: str
    allowed: str
    default: str
    value: str
    secret: bool
    computed: bool


def main(folder: Path) -> None:
    """Write both files."""
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "settings.md").write_text(page(Settings), encoding="utf-8")
    (folder / ".env.example").write_text(example(Settings), encoding="utf-8")


def page(settings: type[BaseSettings]) -> str:
    """The documentation of all settings, in Markdown."""
    lines = [_PAGE_HEAD]
    for heading, entries in groups(settings):
        lines += [f"## {heading}", "", "| setting | default | values | meaning |", "|---|---|---|---|"]
        lines += [_row(entry) for entry in entries] + [""]
    return "\n".join(lines).rstrip() + "\n"


def example(settings: type[BaseSettings]) -> str:
    """A `.env` in which everything is commented out."""
    lines = [_EXAMPLE_HEAD]
    for heading, entries in groups(settings):
        lines += [f"# --- {heading} ---", ""]
        for entry in entries:
            lines += [f"# {_remark(entry)}", f"#{entry.name}={entry.value}", ""]
    return "\n".join(lines).rstrip() + "\n"


def groups(settings: type[BaseSettings]) -> Iterator[tuple[str, list[Entry]]]:
    """The settings under their headings, in the code's order."""
    schema = settings.model_json_schema()
    found: dict[str, list[Entry]] = {}
    heading = "Others"
    for field in settings.model_fields:
        heading = HEADINGS.get(field, heading)
        found.setdefault(heading, []).append(_entry(settings, field, schema))
    yield from found.items()


def _entry(settings: type[BaseSettings], field: str, schema: dict[str, Any]) -> Entry:
    info, form = settings.model_fields[field], _form(schema["properties"][field], schema)
    secret = form.get("format") == "password"
    computed = info.default_factory is not None
    unset = not computed and info.default in (None, "", ())
    value = "" if unset or secret or computed else _written(info.default)
    return Entry(
        name=f"{settings.model_config.get('env_prefix', '')}{field}".upper(),
        meaning=info.description or "",
        unit=_KINDS.get(form.get("unit", "")) or _UNITS.get(field.rpartition("_")[2], ""),
        allowed=_allowed(form),
        default=COMPUTED[field] if computed else "" if unset else "*hidden*" if secret else _shown(value, form),
        value=value,
        secret=secret,
        computed=computed,
    )


def _written(default: object) -> str:
    """A default as `.env` holds it: what is no text, path or choice is JSON, a round number of seconds without `.0`."""
    if isinstance(default, str | PurePath):
        return str(default)
    if isinstance(default, tuple):
        return ",".join(default)
    return json.dumps(default).removesuffix(".0")


def _form(found: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A property's own JSON schema: without null, and with what it refers to; `unit` is the name of that."""
    alternatives = [form for form in found.get("anyOf", [found]) if form.get("type") != "null"]
    form = alternatives[0] if len(alternatives) == 1 else found
    name = form.get("$ref", "").rpartition("/")[2]
    return {**form, **schema["$defs"][name], "unit": name} if name else form


def _allowed(form: dict[str, Any]) -> str:
    if "enum" in form or form.get("type") == "boolean":
        return ", ".join(f"`{value}`" for value in form.get("enum", ["true", "false"]))
    bounds = {
        ("minimum", "maximum"): "{minimum} to {maximum}",
        ("minimum",): "{minimum} or more",
        ("maximum",): "{maximum} or less",
        ("exclusiveMinimum",): "more than {exclusiveMinimum}",
        ("minLength",): "{minLength} characters or more",
    }
    return next((words.format(**form) for keys, words in bounds.items() if set(keys) <= form.keys()), "")


def _shown(value: str, form: dict[str, Any]) -> str:
    mebibytes = int(value) // _MIB if form.get("type") == "integer" else 0
    return f"`{value}` ({mebibytes} MiB)" if mebibytes and int(value) % _MIB == 0 else f"`{value}`"


def _row(entry: Entry) -> str:
    allowed = " ".join(part for part in (entry.allowed, entry.unit) if part)
    meaning = entry.meaning + (" *Secret.*" if entry.secret else "")
    cells = (f"`{entry.name}`", entry.default or "unset", allowed, meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _remark(entry: Entry) -> str:
    default = f"Default: {entry.default}." if entry.computed else "Secret." if entry.secret else ""
    allowed = " ".join(part for part in (entry.allowed, entry.unit) if part)
    remark = " ".join(part for part in (entry.meaning, f"({allowed})" if allowed else "", default) if part)
    return remark.replace("`", "")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _ROOT)
