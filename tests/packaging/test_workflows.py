"""Workflows, image and compose file pass their linters, each of which is shown to find what it is there for."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.containers import COMPOSE, DOCKERFILE, ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DEPENDABOT = ROOT / ".github" / "dependabot.yml"
SCHEMA = ["check-jsonschema", "--builtin-schema"]
LINTERS = [
    ["zizmor", "--offline", "--quiet", ".github"],
    ["actionlint", *map(str, WORKFLOWS)],
    [*SCHEMA, "vendor.github-workflows", *map(str, WORKFLOWS)],
    [*SCHEMA, "vendor.dependabot", str(DEPENDABOT)],
    [*SCHEMA, "vendor.compose-spec", str(COMPOSE)],
    ["hadolint", str(DOCKERFILE)],
]
GOOD = """\
name: Good
on: push
permissions: {}
concurrency: good
jobs:
  job:
    name: job
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - run: echo "$REF"
        env:
          REF: ${{ github.ref }}
"""


def lint(*command: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / command[0]
    return subprocess.run([program, *command[1:]], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", LINTERS, ids=lambda command: "-".join(command[:3:2]))
def test_the_linters_find_nothing(command: list[str]) -> None:
    answer = lint(*command)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_they_are_those_of_make_and_of_pre_commit() -> None:
    makefile = (ROOT / "Makefile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = " ".join(hook["entry"] for hook in hooks)
    for command in LINTERS:
        words = command[0] if command[0] != SCHEMA[0] else command[2]
        assert words in makefile
        assert words in entries
    assert all(hook["entry"].startswith((".venv/bin/", "scripts/")) for hook in hooks)


@pytest.mark.parametrize(
    ("linter", "before", "after", "finding"),
    [
        (["zizmor"], "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "unpinned-uses"),
        (["zizmor"], "persist-credentials: false", "fetch-depth: 1", "artipacked"),
        (["zizmor"], '"$REF"', '"${{ github.head_ref }}"', "template-injection"),
        (["zizmor"], "    name: job", "    permissions: write-all", "excessive-permissions"),
        (["zizmor"], "on: push", "on: pull_request_target", "dangerous-triggers"),
        (["actionlint"], "github.ref }}", "github.reff }}", 'property "reff" is not defined'),
        (["actionlint"], "on: push", "on: pusch", "unknown Webhook event"),
        (["actionlint"], "    name: job", "    needs: other", "needs job"),
        ([*SCHEMA, "vendor.github-workflows"], "runs-on", "run-on", "'runs-on' is a required property"),
    ],
)
def test_each_finds_what_is_wrong_with_a_workflow(
    tmp_path: Path, linter: list[str], before: str, after: str, finding: str
) -> None:
    file = tmp_path / ".github" / "workflows" / "w.yml"
    file.parent.mkdir(parents=True)
    options = ["--offline", "--quiet"] if linter == ["zizmor"] else []
    file.write_text(GOOD)
    assert lint(*linter, *options, str(file)).returncode == 0
    assert before in GOOD
    file.write_text(GOOD.replace(before, after))
    answer = lint(*linter, *options, str(file))
    assert answer.returncode != 0
    assert finding in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("linter", "source", "before", "after", "finding"),
    [
        (["hadolint"], DOCKERFILE, "python:3.13-slim-trixie", "python:latest", "DL3007"),
        (["hadolint"], DOCKERFILE, 'CMD ["serve"]', "CMD serve", "DL3025"),
        ([*SCHEMA, "vendor.compose-spec"], COMPOSE, "read_only: true", "read_onli: true", "read_onli"),
        ([*SCHEMA, "vendor.dependabot"], DEPENDABOT, "weekly", "at times", "at times"),
    ],
)
def test_each_finds_what_is_wrong_with_the_other_files(
    tmp_path: Path, linter: list[str], source: Path, before: str, after: str, finding: str
) -> None:
    text = source.read_text()
    assert before in text
    (tmp_path / source.name).write_text(text.replace(before, after))
    answer = lint(*linter, str(tmp_path / source.name))
    assert answer.returncode != 0
    assert finding in answer.stdout + answer.stderr


def uses(value: Any) -> list[str]:
    """Every action and workflow that is used somewhere in there."""
    if isinstance(value, dict):
        own = [value["uses"]] if "uses" in value else []
        return own + [name for item in value.values() for name in uses(item)]
    return [name for item in value for name in uses(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version_beside(path: Path) -> None:
    found = uses(yaml.safe_load(path.read_text()))
    foreign = [name for name in found if not name.startswith("$/")]
    assert foreign
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in foreign)
    beside = re.findall(r"uses: (\S+@[0-9a-f]{40}) # v\d+\.\d+\.\d+$", path.read_text(), re.MULTILINE)
    assert sorted(beside) == sorted(foreign)


def test_an_action_has_one_commit_everywhere() -> None:
    found = {name for path in WORKFLOWS for name in uses(yaml.safe_load(path.read_text())) if "@" in name}
    assert len(found) == len({name.partition("@")[0] for name in found})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_have_their_rights_and_an_end(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        assert "permissions" in job
        assert "timeout-minutes" in job or "uses" in job


def test_who_may_write_is_written_down() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    writing = {
        name: {right for right, how in job["permissions"].items() if how == "write"} for name, job in jobs.items()
    }
    assert {name: rights for name, rights in writing.items() if rights} == {
        "attest": {"id-token", "attestations"},
        "publish": {"id-token"},
        "image": {"packages", "id-token", "attestations"},
        "announce": {"contents"},
    }


def test_ci_holds_what_it_is_there_for() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    lines = [step.get("run", "") for step in jobs["lint"]["steps"]]
    assert any("ruff check" in line for line in lines)
    assert any("ruff format --check" in line for line in lines)
    assert jobs["test"]["strategy"]["matrix"] == {"python": ["3.12", "3.13"], "database": ["pg16", "pg18"]}
    assert jobs["test"]["services"]["postgres"]["image"] == "pgvector/pgvector:${{ matrix.database }}"

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        return {*needs, *(earlier for need in needs for earlier in before(need))}

    assert all("lint" in before(name) for name in jobs if name != "lint")
    assert "types" in before("test")
