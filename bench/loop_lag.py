"""`loop-lag`: how late a 5 ms ticker runs while PDFs are parsed in the sandbox, and in `asyncio.to_thread`."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import corpus
from bench.harness import ROOT, Goal, Series, find, measure, ratio
from bench.loop_lag_child import HEARTBEAT

SECONDS = 90
MEMORY = 3 * 2**30
SANDBOX = "Ringfence's sandbox"
THREAD = "asyncio.to_thread"
IDLE = "nothing to do"
BOOKS = "worst lag, eight PDFs of 100 pages"
_MODES = {SANDBOX: "sandbox", THREAD: "thread", IDLE: "idle"}


@dataclass(slots=True)
class Runs:
    """Runs processes, and keeps what became of each."""

    folder: Path
    ends: dict[str, list[str]] = field(default_factory=dict)

    def worst(self, mode: str, paths: list[Path]) -> float:
        """The worst lag in ms of a fresh process; one that is stuck counts from its ticker's last run on."""
        heartbeat = self.folder / "heartbeat"
        heartbeat.write_bytes(bytes(HEARTBEAT.size))
        command = [sys.executable, "-m", "bench.loop_lag_child", mode, str(heartbeat), *map(str, paths)]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=_confined if mode == "thread" else None,  # noqa: PLW1509  # this process has no threads
        ) as process:
            try:
                said, _ = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
        ended = time.monotonic()
        last, worst = HEARTBEAT.unpack(heartbeat.read_bytes())
        if process.returncode:
            worst = max(worst, ended - last)
        self._note(mode, len(paths), process.returncode, said)
        return 1000.0 * float(worst)

    def _note(self, mode: str, asked: int, code: int, said: str) -> None:
        if mode == "idle":
            return
        if code == 0:
            done, read = said.split()
            end = f"{done} of {asked} documents ended, {read} of them read"
        else:
            end = f"the process was dead or stuck (status {code}) with {asked} documents to read"
        self.ends.setdefault(mode, []).append(end)


def _confined() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _contestants(runs: Runs, paths: list[Path]) -> dict[str, Callable[[], float]]:
    return {name: lambda mode=mode: runs.worst(mode, paths) for name, mode in _MODES.items()}  # type: ignore[misc]  # mypy can't infer a lambda's default


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer rounds."""
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(name))
        books = corpus.hundred_pages(runs.folder)
        damaged = corpus.damaged_paths()
        group = f"worst lag, {len(damaged)} damaged PDFs"
        both = f"worst lag, eight PDFs of 100 pages and {len(damaged)} damaged ones"
        series = measure(BOOKS, "ms", _contestants(runs, books), rounds=2 if quick else 5, warm_up=False)
        series += measure(group, "ms", _contestants(runs, damaged), rounds=1 if quick else 2, warm_up=False)
        series += measure(both, "ms", _contestants(runs, books + damaged), rounds=1 if quick else 2, warm_up=False)
    goals = [
        Goal(
            f"{name}: sandbox over to_thread",
            0.05,
            least=False,
            got=ratio(find(series, name, SANDBOX), find(series, name, THREAD)),
        )
        for name in (both, BOOKS, group)
    ]
    failures = sum("dead or stuck" in end for end in runs.ends["sandbox"])
    goals.append(Goal("processes lost that used the sandbox", 0, least=False, got=failures))
    notes = [
        "Lower is better. Each round has fresh processes; two documents are read at once in either way.",
        (
            f"`asyncio.to_thread` runs the same extraction in an own process with {MEMORY >> 30} GiB, {SECONDS} s. "
            "If it dies or is stuck, the time since its ticker last ran counts, so the figure is a lower bound."
        ),
        (
            "`nothing to do` is what the machine and asyncio's timers alone cost. No sandbox can be better: where "
            "1/20 of `asyncio.to_thread` is less, the goal can't be reached on such a machine."
        ),
        *(f"{mode}, round by round: {'; '.join(ends)}." for mode, ends in runs.ends.items()),
    ]
    return series, goals, notes
