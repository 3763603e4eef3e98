"""The harness's arithmetic and the form of what it writes; no figure of a machine is judged here."""

import json
import subprocess
from collections.abc import Callable

import pytest

from bench import harness, report
from bench.harness import Goal, Result, Series


def series(*values: float, group: str = "g", name: str = "n") -> Series:
    return Series(group, name, "MB/s", values)


def result(**changes: object) -> Result:
    given = {
        "benchmark": "chunk",
        "command": "make bench",
        "commit": "0123456789ab+",
        "at": "2026-01-02T03:04:05+00:00",
        "machine": {"cores": "2"},
        "series": (series(1.0, 3.0, 2.0), series(0.5, name="<peer>")),
        "goals": (Goal("ours over theirs", 1.0, least=True, got=4.0), Goal("lag", 0.05, least=False, got=0.2)),
        "notes": ("Read this.",),
    }
    return Result(**{**given, **changes})


@pytest.mark.parametrize(("values", "median"), [((5.0,), 5.0), ((9.0, 1.0, 2.0), 2.0), ((4.0, 1.0, 2.0, 100.0), 3.0)])
def test_median(values, median):
    assert series(*values).median == median


def test_a_series_without_values_is_refused():
    with pytest.raises(ValueError, match="no value"):
        series()


def test_a_ratio_is_taken_within_each_round():
    """The machine was ten times slower in the second round: that must not show."""
    ours, theirs = series(20.0, 2.0, 22.0), series(10.0, 1.0, 10.0)
    assert harness.ratio(ours, theirs) == 2.0
    assert harness.ratio(theirs, ours) == 0.5


def test_a_ratio_needs_the_same_rounds():
    with pytest.raises(ValueError, match="shorter"):
        harness.ratio(series(1.0, 2.0), series(1.0))


@pytest.mark.parametrize(
    ("bound", "least", "got", "met"),
    [(1.0, True, 1.0, True), (1.0, True, 0.99, False), (0.05, False, 0.05, True), (0.05, False, 0.06, False)],
)
def test_a_goal_is_met_at_its_bound(bound, least, got, met):
    assert Goal("t", bound, least, got).met is met


def contestant(name: str, calls: list[str]) -> Callable[[], float]:
    def run() -> float:
        calls.append(name)
        return float(len(calls))

    return run


def test_rounds_are_interleaved_and_begin_with_another_contestant_each():
    calls: list[str] = []
    found = harness.measure("g", "ms", {name: contestant(name, calls) for name in "ab"}, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert [(one.group, one.name, one.unit, one.values) for one in found] == [
        ("g", "a", "ms", (3.0, 6.0, 7.0)),
        ("g", "b", "ms", (4.0, 5.0, 8.0)),
    ]


def test_without_a_warm_up_every_run_counts():
    calls: list[str] = []
    [found] = harness.measure("g", "ms", {"a": contestant("a", calls)}, rounds=2, warm_up=False)
    assert found.values == (1.0, 2.0)


def test_find():
    two = [series(1.0, name="a"), series(2.0, name="b")]
    assert harness.find(two, "g", "b") is two[1]
    with pytest.raises(KeyError):
        harness.find(two, "another", "b")


def test_json_holds_what_a_reader_needs_and_comes_back_the_same():
    text = result().to_json()
    data = json.loads(text)
    assert set(data) == {"benchmark", "command", "commit", "at", "machine", "series", "goals", "notes"}
    assert data["series"][0] == {"group": "g", "name": "n", "unit": "MB/s", "values": [1.0, 3.0, 2.0], "median": 2.0}
    assert data["goals"][1] == {"text": "lag", "bound": 0.05, "least": False, "got": 0.2, "met": False}
    assert Result.from_json(text) == result()


@pytest.mark.parametrize("change", ['"stranger": 1, "at"', '"when"'])
def test_json_of_another_form_is_refused(change):
    with pytest.raises(TypeError):
        Result.from_json(result().to_json().replace('"at"', change))


def test_machine_names_what_figures_depend_on():
    assert set(harness.machine()) == {"processor", "cores", "system", "python", "load"}
    assert all(harness.machine().values())


def test_the_commit_says_whether_the_engine_has_changed_since(tmp_path):
    assert harness.commit(tmp_path) == "unknown"

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("a = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    head = git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "notes.md").write_text("not the engine's\n")
    assert harness.commit(tmp_path) == head
    (tmp_path / "src" / "a.py").write_text("a = 2\n")
    assert harness.commit(tmp_path) == head + "+"


def test_the_page_says_plainly_what_was_not_reached():
    page = report.markdown([result()])
    assert "| ours over theirs | ≥ 1 | 4 | met |" in page
    assert "| lag | ≤ 0.05 | 0.2 | **not met** |" in page
    assert "| g | n | 2 MB/s | 3 | 1 to 3 |" in page
    assert "commit `0123456789ab+`" in page


def test_bars_are_as_long_as_their_medians():
    drawn = report.svg(result())
    assert 'width="340"' in drawn  # the largest
    assert 'width="85"' in drawn  # a quarter of it
    assert "&lt;peer&gt;" in drawn


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.0123456, "0.0123"), (1234.5, "1,234"), (12.345, "12.3"), (0.0000123, "0.000012")]
)
def test_numbers(value, text):
    assert report.number(value) == text


def test_write_and_load(tmp_path):
    (tmp_path / "chunk.json").write_text(result().to_json())
    report.write(tmp_path, tmp_path / "page.md")
    assert report.load(tmp_path) == [result()]
    assert (tmp_path / "page.md").read_text() == report.markdown([result()])
    assert (tmp_path / "chunk.svg").read_text() == report.svg(result())


def test_the_page_in_the_repository_is_what_its_results_say():
    found = report.load()
    assert report.PAGE.read_text(encoding="utf-8") == report.markdown(found)
    for one in found:
        assert (harness.RESULTS / f"{one.benchmark}.svg").read_text(encoding="utf-8") == report.svg(one)
