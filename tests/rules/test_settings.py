"""docs/settings.md and .env.example are what the code says, and no secret is in them, nor in the settings' repr."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import Field, SecretStr, create_model
from pydantic.fields import FieldInfo

from ringfence.setting_types import Items
from ringfence.settings import Settings

ROOT = Path(__file__).parents[2]
VALUE = "a value that nobody may ever see in print"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_docs", ROOT / "scripts" / "settings_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = generator()


def is_secret(info: FieldInfo) -> bool:
    return "SecretStr" in str(info.annotation)


def secrets() -> list[str]:
    return [name for name, info in Settings.model_fields.items() if is_secret(info)]


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)


def test_both_files_are_what_the_generator_makes(tmp_path: Path) -> None:
    docs.main(tmp_path)
    for name in ("docs/settings.md", ".env.example"):
        assert (ROOT / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8"), "make docs"


def test_a_change_of_the_code_changes_both_files() -> None:
    changed = create_model("Changed", __base__=Settings, port=(int, Field(default=8001, description="Another.")))
    more = create_model("More", __base__=Settings, more=(int, Field(default=1, description="More.")))
    for make in (docs.page, docs.example):
        assert len({make(Settings), make(changed), make(more)}) == 3


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_in_both_files(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")
    variable = f"RINGFENCE_{name.upper()}"
    [row] = [line for line in docs.page(Settings).splitlines() if line.startswith(f"| `{variable}` |")]
    assert description in row
    lines = docs.example(Settings).splitlines()
    [at] = [number for number, line in enumerate(lines) if line.startswith(f"#{variable}=")]
    assert description.replace("`", "") in lines[at - 1]


def test_every_heading_begins_at_a_setting_and_every_computed_default_has_words() -> None:
    assert [name for name in docs.HEADINGS if name not in Settings.model_fields] == []
    computed = {name for name, info in Settings.model_fields.items() if info.default_factory is not None}
    assert set(docs.COMPUTED) == computed
    assert "Others" not in dict(docs.groups(Settings))


@pytest.mark.usefixtures("bare_environment")
def test_no_default_of_this_machine_is_shown() -> None:
    settings = Settings(_env_file=None)
    for name in docs.COMPUTED:
        assert str(getattr(settings, name)) not in docs.page(Settings) + docs.example(Settings)


def test_units_and_values_come_from_the_code() -> None:
    page = docs.page(Settings)
    assert "| `RINGFENCE_DB_CONNECT_TIMEOUT` | `1.5` | more than 0 seconds |" in page
    assert "| `RINGFENCE_ACCESS_TOKEN_SECONDS` | `900` | 60 to 86400 seconds |" in page
    assert "| `RINGFENCE_UPLOAD_MAX_BYTES` | `104857600` (100 MiB) | 1 or more bytes |" in page
    assert "| `RINGFENCE_SMTP_TLS` | `starttls` | `starttls`, `tls`, `none` |" in page


@pytest.mark.parametrize(
    ("kind", "field", "cells"),
    [
        (bool, Field(default=True), "| `true` | `true`, `false` |"),
        (list[str], Field(default=["a", "b"]), '| `["a", "b"]` |  |'),
        (list[str], Field(default=[]), "| `[]` |  |"),
        (Items, Field(default=("a", "b")), "| `a,b` | any number, between commas |"),
        (Items, Field(default=()), "| unset | any number, between commas |"),
        (Path, Field(default=Path("a/b")), "| `a/b` |  |"),
        (int, Field(default=1, le=9), "| `1` | 9 or less |"),
        (str | int, Field(default="a|b"), r"| `a\|b` |  |"),
    ],
)
def test_other_kinds_of_settings_are_shown_as_they_are_written(kind: object, field: FieldInfo, cells: str) -> None:
    model = create_model("Other", __base__=Settings, other=(kind, field))
    assert f"| `RINGFENCE_OTHER` {cells}" in docs.page(model)


@pytest.mark.usefixtures("bare_environment")
def test_the_example_changes_nothing_and_uncommented_says_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#RINGFENCE_")]
    written = tmp_path / "env"
    written.write_text("\n".join(lines), encoding="utf-8")
    settings = Settings(_env_file=written)
    assert settings == Settings(_env_file=None)
    assert len(settings.model_fields_set) == sum(not line.endswith("=") for line in lines) > 0


def test_what_sounds_secret_is_one() -> None:
    words = ("secret", "password", "api_key", "database_url", "token")
    sounding = {name for name in Settings.model_fields if name.endswith(words) or "secret" in name}
    assert sounding <= set(secrets())


@pytest.mark.parametrize("name", secrets())
def test_a_secret_has_no_default_and_none_would_be_printed(name: str) -> None:
    info = Settings.model_fields[name]
    assert info.default is None
    careless = create_model(
        "Careless", __base__=Settings, **{name: (SecretStr, Field(default=SecretStr(VALUE), description="Oh."))}
    )
    assert VALUE not in docs.page(careless)
    assert "| *hidden* |" in docs.page(careless)
    assert f"#RINGFENCE_{name.upper()}=\n" in docs.example(careless)
    [row] = [line for line in docs.page(Settings).splitlines() if f"`RINGFENCE_{name.upper()}`" in line]
    assert row.endswith("*Secret.* |")


@pytest.mark.parametrize("name", secrets())
@pytest.mark.parametrize("show", [repr, str, lambda settings: settings.model_dump_json()], ids=["repr", "str", "json"])
def test_settings_never_print_a_secret(name: str, show) -> None:
    settings = Settings(_env_file=None, **{name: SecretStr(VALUE)})
    assert getattr(settings, name).get_secret_value() == VALUE
    assert name in show(settings)
    assert VALUE not in show(settings)
