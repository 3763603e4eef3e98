"""Measure things side by side, in interleaved rounds, and keep what was measured in a form that can be shown.

Rounds are interleaved, and ratios are medians of the ratios within each round: whatever slows the machine down for a
while then slows both sides of a ratio down.
"""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True, slots=True)
class Series:
    """What one contestant scored, one value a round.

    Attributes:
        group: what is compared with each other; one plot shows one group.
        name: the contestant.
        unit: of the values.
        values: in the order of the rounds.
    """

    group: str
    name: str
    unit: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"{self.group}/{self.name} has no value")

    @property
    def median(self) -> float:
        """The middle one of the values."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a ratio shall keep.

    Attributes:
        text: what is compared.
        bound: the ratio that is wanted.
        least: whether the ratio shall be at least (True) or at most (False) the bound.
        got: the ratio that was measured.
    """

    text: str
    bound: float
    least: bool
    got: float

    @property
    def met(self) -> bool:
        """Whether what was measured keeps the bound."""
        return self.got >= self.bound if self.least else self.got <= self.bound


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one benchmark, with all that is needed to run it again.

    Attributes:
        benchmark: its name.
        command: runs it again, in the repository's root.
        commit: the engine's commit; `+` at its end says that files of the engine had changed since.
        at: start, ISO 8601 in UTC.
        machine: processor, cores, system, Python.
        series: what was measured.
        goals: what was wanted, and whether it was reached.
        notes: what a reader must know to read the figures right.
    """

    benchmark: str
    command: str
    commit: str
    at: str
    machine: dict[str, str]
    series: tuple[Series, ...]
    goals: tuple[Goal, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """The result as a file holds it; medians and verdicts are there for readers and not read back."""
        data = asdict(self)
        for entry, series in zip(data["series"], self.series, strict=True):
            entry["median"] = series.median
        for entry, goal in zip(data["goals"], self.goals, strict=True):
            entry["met"] = goal.met
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            TypeError: a field is missing, or there is one too many.
        """
        data: dict[str, Any] = json.loads(text)
        series, goals = data.pop("series"), data.pop("goals")
        return cls(
            **{**data, "notes": tuple(data.get("notes", ()))},
            series=tuple(Series(**{**_without(entry, "median"), "values": tuple(entry["values"])}) for entry in series),
            goals=tuple(Goal(**_without(entry, "met")) for entry in goals),
        )


def _without(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != name}


def measure(
    group: str, unit: str, contestants: Mapping[str, Callable[[], float]], *, rounds: int, warm_up: bool = True
) -> list[Series]:
    """Let each contestant run once a round; every round begins with another one.

    Args:
        group: what is compared.
        unit: of what the contestants return.
        contestants: each runs once and returns its score.
        rounds: how often.
        warm_up: one more round before, which does not count.
    """
    names = list(contestants)
    values: dict[str, list[float]] = {name: [] for name in names}
    if warm_up:
        for run in contestants.values():
            run()
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            values[name].append(contestants[name]())
    return [Series(group, name, unit, tuple(values[name])) for name in names]


def ratio(over: Series, under: Series) -> float:
    """The median of the ratios of two contestants within each round.

    Raises:
        ValueError: they did not run in the same rounds.
    """
    return statistics.median(a / b for a, b in zip(over.values, under.values, strict=True))


def find(series: Sequence[Series], group: str, name: str) -> Series:
    """One contestant's series.

    Raises:
        KeyError: it did not take part.
    """
    for one in series:
        if (one.group, one.name) == (group, name):
            return one
    raise KeyError((group, name))


def machine() -> dict[str, str]:
    """What the figures depend on, apart from the code."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def commit(root: Path = ROOT) -> str:
    """The commit of the tree, with `+` if the engine's files differ from it; `unknown` outside a repository."""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return head + ("+" if _git(root, "status", "--porcelain", "--", "src", "requirements.txt") else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=False, capture_output=True, text=True)
    return done.stdout.strip()


def now() -> str:
    """The time, as results record it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
