"""The rotating file: modes, size, age, count, and several real processes at once."""

import fcntl
import json
import os
import resource
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ringfence.telemetry.files import RotatingFile

DAY = 86400


def rotating(path: Path, **changes: Any) -> RotatingFile:
    return RotatingFile(
        path, **{"max_bytes": 100, "max_seconds": DAY, "keep": 3, "clock": lambda: DAY * 20_000.5} | changes
    )


def texts(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(path.parent.iterdir())}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "a.jsonl"


def test_folders_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    file = rotating(tmp_path / "data" / "logs" / "a.jsonl")
    file.open()
    file.append(b"x" * 99 + b"\n")
    file.append(b"y\n")
    file.close()
    file.close()
    found = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert found == {"data": 0o700, "data/logs": 0o700, "data/logs/a.jsonl": 0o600, "data/logs/a.jsonl.1": 0o600}


def test_size_begins_a_new_file_and_the_oldest_go(path: Path) -> None:
    file = rotating(path)
    for number in range(12):
        file.append(b"%49d\n" % number)  # two fill a file
    file.close()
    assert {name: text.split() for name, text in texts(path).items()} == {
        "a.jsonl": ["10", "11"],
        "a.jsonl.1": ["8", "9"],
        "a.jsonl.2": ["6", "7"],
        "a.jsonl.3": ["4", "5"],
    }


def test_more_than_fits_gets_a_file_of_its_own(path: Path) -> None:
    file = rotating(path)
    for text in (b"a\n", b"b" * 500 + b"\n", b"c\n"):
        file.append(text)
    file.close()
    assert [text[0] for text in texts(path).values()] == ["c", "b", "a"]


def test_age_begins_a_new_file_at_midnight(path: Path) -> None:
    after = 0
    file = rotating(path, clock=lambda: DAY * 20_000.0 + after)
    for seconds, text in ((0, b"a\n"), (DAY - 1, b"b\n"), (DAY, b"c\n"), (9 * DAY, b"d\n")):
        after = seconds
        file.append(text)
    file.close()
    assert texts(path) == {"a.jsonl": "d\n", "a.jsonl.1": "c\n", "a.jsonl.2": "a\nb\n"}


def test_clocks_that_differ_around_midnight_rotate_once(path: Path) -> None:
    ahead, behind = (rotating(path, clock=lambda now=now: now) for now in (DAY * 20_000.0 + 1, DAY * 20_000.0 - 1))
    for file in (behind, ahead, behind, ahead, behind):
        file.append(b"x\n")
    ahead.close()
    behind.close()
    assert texts(path) == {"a.jsonl": "x\n" * 4, "a.jsonl.1": "x\n"}


def test_fewer_may_be_kept_than_before_and_other_files_stay(path: Path) -> None:
    file = rotating(path)
    for number in range(8):
        file.append(b"%99d\n" % number)
    path.with_name("a.jsonl.bak").write_text("mine")
    path.with_name("b.jsonl.1").write_text("mine")
    fewer = rotating(path, keep=1)
    fewer.append(b"%99d\n" % 8)
    fewer.close()
    file.close()
    assert list(texts(path)) == ["a.jsonl", "a.jsonl.1", "a.jsonl.bak", "b.jsonl.1"]
    assert texts(path)["a.jsonl.1"].strip() == "7"


def test_a_file_that_was_rotated_by_another_or_removed_is_found_again(path: Path) -> None:
    one, other = rotating(path), rotating(path)
    one.append(b"a" * 60 + b"\n")
    other.append(b"b" * 60 + b"\n")
    one.append(b"c\n")
    assert path.read_text() == "b" * 60 + "\nc\n"
    path.unlink()
    one.append(b"d\n")
    assert path.read_text() == "d\n"
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    other.append(b"e\n")
    assert path.read_text() == "e\n"
    one.close()
    other.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        yield


def test_a_lock_is_waited_for_but_not_for_ever(path: Path) -> None:
    file = rotating(path)
    file.open()
    with locked(path), pytest.raises(TimeoutError, match="another process"):
        file.append(b"a\n")
    with locked(path):
        thread = threading.Thread(target=file.append, args=(b"b\n",))
        thread.start()
        assert path.read_text() == ""
    thread.join(30)
    file.close()
    assert path.read_text() == "b\n"


def test_a_full_disk_tears_no_line(path: Path) -> None:
    file = rotating(path, max_bytes=10**6)
    file.append(b"a" * 99 + b"\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            file.append(b"b" * 99 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "a" * 99 + "\n"
    file.append(b"c\n")
    file.close()
    assert path.read_text() == "a" * 99 + "\nc\n"


def test_only_a_regular_file_is_taken(path: Path) -> None:
    with pytest.raises(OSError, match="no regular file"):
        rotating(Path("/dev/null")).open()
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        rotating(path).open()


WRITER = """
import json, sys
from pathlib import Path
from ringfence.telemetry.files import RotatingFile
path, who, keep = sys.argv[1:]
file = RotatingFile(Path(path), max_bytes=20_000, max_seconds=3, keep=int(keep))
print("ready", flush=True)
sys.stdin.readline()
number = 0
for batch in range(600):
    lines = [json.dumps({"who": who, "n": number + i, "pad": "x" * (i * 7)}) for i in range(batch % 9 + 1)]
    number += len(lines)
    file.append("".join(line + "\\n" for line in lines).encode())
print(number)
"""


def written_by_two(path: Path, keep: int) -> dict[str, int]:
    """Let two processes write and rotate at once; how many lines each wrote."""
    command = [sys.executable, "-c", WRITER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {who: subprocess.Popen([*command, who, str(keep)], **pipes) for who in "ab"}
    for process in processes.values():
        assert process.stdout.readline() == "ready\n"
    for process in processes.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    written = {who: process.communicate(timeout=120)[0] for who, process in processes.items()}
    assert all(process.returncode == 0 for process in processes.values())
    return {who: int(out) for who, out in written.items()}


def lines_left(path: Path) -> Counter[tuple[str, int]]:
    found = [json.loads(line) for text in texts(path).values() for line in text.splitlines()]
    return Counter((line["who"], line["n"]) for line in found)


def test_two_processes_lose_and_tear_no_line(path: Path) -> None:
    written = written_by_two(path, keep=10_000)
    assert len(texts(path)) > 10
    assert lines_left(path) == Counter({(who, n): 1 for who, count in written.items() for n in range(count)})


def test_two_processes_keep_the_newest_lines(path: Path) -> None:
    written = written_by_two(path, keep=4)
    left = lines_left(path)
    assert set(left.values()) == {1}
    assert sorted(texts(path)) == ["a.jsonl", *(f"a.jsonl.{n}" for n in range(1, 5))]
    for who, count in written.items():
        numbers = sorted(n for name, n in left if name == who)
        assert numbers == list(range(count - len(numbers), count))
