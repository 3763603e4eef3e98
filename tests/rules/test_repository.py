"""Rules over the whole repository: sizes on the whole, words, decisions, locks."""

import re
import statistics
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.rules import house

DECISIONS = sorted((house.ROOT / "docs" / "decisions").glob("*.md"))
LOCKS = ["requirements.txt", "requirements-dev.txt", "scripts/build.txt", "scripts/release.txt", "scripts/uv.txt"]


def lines_of_all_functions() -> list[int]:
    return sorted(n for path in house.modules() for n in house.function_lines(path.read_text()).values())


def test_functions_are_short_on_the_whole() -> None:
    lines = lines_of_all_functions()
    assert statistics.median(lines) <= 10
    assert lines[int(len(lines) * 0.9)] <= 35


def test_nothing_is_marked_as_unfinished() -> None:
    found = {str(path): house.unfinished(house.text_of(path)) for path in house.repository_files()}
    assert {path: marks for path, marks in found.items() if marks} == {}


def test_no_file_names_a_machine_or_a_registry() -> None:
    files = [(path.relative_to(house.ROOT).as_posix(), house.text_of(path)) for path in house.repository_files()]
    assert [place for name, text in files for place in house.strange_places(name, text)] == []


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_decisions_have_their_five_parts(path: Path) -> None:
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name)
    assert house.decision_faults(path.read_text()) == []


def test_decisions_are_numbered_once() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers
    assert len(numbers) == len(set(numbers))


def pins(lock: str) -> dict[str, list[tuple[Version, bool]]]:
    """Each package of a lock with its versions (there are several where platforms differ), and whether it is hashed."""
    text = (house.ROOT / lock).read_text().replace("\\\n", " ")
    found: dict[str, list[tuple[Version, bool]]] = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            name, version, rest = re.fullmatch(r"([\w.-]+)==([^\s;]+)(.*)", line).groups()  # type: ignore[union-attr]  # no match is a failure
            found.setdefault(canonicalize_name(name), []).append((Version(version), "--hash=sha256:" in rest))
    return found


def project() -> dict[str, Any]:
    return tomllib.loads((house.ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    assert pins(lock)
    assert all(hashed for versions in pins(lock).values() for _, hashed in versions)


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_option_of_this_machine(lock: str) -> None:
    lines = (house.ROOT / lock).read_text().splitlines()
    assert [line for line in lines if line.startswith("-") or "://" in line] == []


def unmet(requirements: list[str], lock: str) -> list[str]:
    """Requirements that a lock does not meet: somebody changed them without `make lock`."""
    locked = pins(lock)
    wanted = [Requirement(text) for text in requirements]
    return [
        str(want)
        for want in wanted
        if not any(want.specifier.contains(version) for version, _ in locked.get(canonicalize_name(want.name), []))
    ]


def test_locks_meet_the_requirements() -> None:
    data = project()
    assert unmet(data["project"]["dependencies"], "requirements.txt") == []
    assert unmet(data["project"]["dependencies"] + data["dependency-groups"]["dev"], "requirements-dev.txt") == []
    assert unmet(data["build-system"]["requires"], "scripts/build.txt") == []
    assert unmet(["fastapi>=9999", "nobody-needs-this"], "requirements.txt") == ["fastapi>=9999", "nobody-needs-this"]


def test_the_two_locks_agree() -> None:
    run, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    assert {name: dev.get(name) for name in run} == run


def test_the_lock_holds_nothing_that_nobody_asks_for() -> None:
    blocks = re.split(r"\n(?=\w)", (house.ROOT / "requirements.txt").read_text())
    direct = {canonicalize_name(block.partition("==")[0]) for block in blocks if "ringfence (pyproject.toml)" in block}
    asked = project()["project"]["dependencies"] + project()["project"]["optional-dependencies"]["eval"]
    assert direct == {canonicalize_name(Requirement(text).name) for text in asked}


def undecided(requirements: list[str], decisions: str) -> list[str]:
    """Dependencies that no decision names; a family is named as one."""
    words = set(re.findall(r"[a-z0-9-]+", decisions.lower()))
    names = [canonicalize_name(Requirement(text).name) for text in requirements]
    return [name for name in names if not words & {name, re.sub(r"^(opentelemetry)-.*", r"\1", name)}]


def test_a_decision_names_each_dependency() -> None:
    data = project()["project"]
    wanted = data["dependencies"] + [text for extra in data["optional-dependencies"].values() for text in extra]
    assert undecided(wanted, "\n".join(path.read_text() for path in DECISIONS)) == []
    assert undecided(["left-pad>=1", "fastapi>=1"], "FastAPI, of course; we pad on the left") == ["left-pad"]
