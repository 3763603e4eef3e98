"""What each command logs, and where to: settings, real processes, signals."""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from ringfence.cli.local import _worker_environment, everything
from ringfence.cli.logs import logging_as_set, quiet_logging
from ringfence.errors import SetupError
from ringfence.settings import Settings, load_settings
from tests.fakes.ingest_server import IngestServer
from tests.processes import ended, started, until_logged

TOKEN = "a-source-token-that-nobody-may-see"


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder in which nothing can be made, whoever asks: a file stands where it should be."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("")
    yield


def test_by_default_to_stdout_and_a_file_in_the_data_folder(tmp_path, capfd):
    with logging_as_set(Settings(_env_file=None, data_dir=tmp_path / "data")):
        structlog.get_logger().info("happened")
    written = (tmp_path / "data" / "logs" / "ringfence.jsonl").read_text()
    assert capfd.readouterr() == (written, "")
    assert [line["event"] for line in lines_of(written)] == ["happened"]
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["off", "elsewhere/a.log"])
def test_the_file_may_be_off_or_elsewhere(tmp_path, capfd, where):
    log_file = where if where == "off" else tmp_path / where
    with logging_as_set(Settings(_env_file=None, data_dir=tmp_path / "data", log_file=log_file)):
        structlog.get_logger().info("happened")
    assert "happened" in capfd.readouterr().out
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert files == ([] if where == "off" else [where])


def test_off_is_a_word_and_not_a_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RINGFENCE_LOG_FILE", "off")
    assert load_settings().log_file == "off"
    monkeypatch.setenv("RINGFENCE_LOG_FILE", "logs/off")
    settings = load_settings()
    assert settings.log_file == Path("logs/off")
    assert _worker_environment(settings)["RINGFENCE_LOG_FILE"] == "logs/off"


def test_a_default_file_that_can_not_be_written_costs_one_warning(tmp_path, capfd):
    with read_only(tmp_path / "data"), logging_as_set(Settings(_env_file=None, data_dir=tmp_path / "data")):
        structlog.get_logger().info("happened")
    first, second = lines_of(capfd.readouterr().out)
    assert (first["event"], first["level"], second["event"]) == ("log_file_unavailable", "warning", "happened")
    assert first["reason"] == "Not a directory"


def test_a_name_that_is_no_setting_costs_a_warning(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RINGFENCE_WORKERS", "a value that nobody may see")
    with logging_as_set(Settings(_env_file=None, data_dir=tmp_path / "data")):
        pass
    written = capfd.readouterr().out
    [line] = [line for line in lines_of(written) if line["name"] == "RINGFENCE_WORKERS"]
    assert (line["event"], line["level"]) == ("setting_unknown", "warning")
    assert "nobody may see" not in written


def test_a_file_that_was_asked_for_and_can_not_be_written_ends_the_start(tmp_path):
    settings = Settings(_env_file=None, log_file=tmp_path / "data" / "a.jsonl")
    with read_only(tmp_path / "data"), pytest.raises(SetupError, match="log_file_unusable") as caught:
        logging_as_set(settings).__enter__()
    assert "RINGFENCE_LOG_FILE" in caught.value.message


def test_rotation_level_and_form_are_as_set(tmp_path, capfd):
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        log_file_max_bytes=2**16,
        log_files=2,
        log_level="error",
        log_format="console",
    )
    with logging_as_set(settings):
        structlog.get_logger().warning("too fine")
        for _ in range(1000):
            structlog.get_logger().error("happened", pad="x" * 500)
    assert not capfd.readouterr().out.startswith("{")
    folder = tmp_path / "logs"
    assert sorted(path.name for path in folder.iterdir()) == [f"ringfence.jsonl{end}" for end in ("", ".1", ".2")]
    assert all("too fine" not in path.read_text() for path in folder.iterdir())


def test_better_stack_is_as_set_and_its_token_is_nowhere(tmp_path, capfd):
    ingest = IngestServer()
    settings = Settings(
        _env_file=None, data_dir=tmp_path, betterstack_source_token=SecretStr(TOKEN), betterstack_url=ingest.url
    )
    with ingest.up(), logging_as_set(settings):
        structlog.get_logger().info("happened", settings=settings)
    assert [event["event"] for event in ingest.accepted] == ["happened"]
    assert ingest.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"
    written = (tmp_path / "logs" / "ringfence.jsonl").read_text() + capfd.readouterr().out + str(ingest.accepted)
    assert "**********" in written
    assert TOKEN not in written


@pytest.mark.parametrize("level", ["warning", "critical"])
def test_commands_with_an_output_of_their_own_log_to_stderr(capfd, level):
    with quiet_logging(level=level):
        structlog.get_logger().info("detail")
        structlog.get_logger().warning("trouble")
    written = capfd.readouterr()
    assert written.out == ""
    assert [line["event"] for line in lines_of(written.err)] == (["trouble"] if level == "warning" else [])


@pytest.mark.parametrize(("command", "event"), [("serve", "serving"), ("worker", "working")])
async def test_several_processes_log_to_stdout_and_one_file_and_flush_at_sigterm(settings, command, event):
    ingest = IngestServer()
    to = {"betterstack_source_token": SecretStr(TOKEN), "betterstack_url": ingest.url}
    file = settings.data_dir / "logs" / "ringfence.jsonl"
    with ingest.up(), started(settings, command, **to) as one, started(settings, command, **to) as other:
        await until_logged(file, event, one, other)
        (out, err), more = await asyncio.gather(ended(one), ended(other))
    assert (err, more[1]) == ("", "")
    lines = lines_of(out + more[0])
    assert sorted(file.read_text().splitlines()) == sorted((out + more[0]).splitlines())
    assert [line["event"] for line in lines].count(event) == 2
    shipped = [{"timestamp" if key == "dt" else key: found[key] for key in found} for found in ingest.accepted]
    assert [found for found in shipped if found not in lines] == []
    # All of them arrived, unless the machine was too busy to send them within the seconds that an ending process has.
    missing = sum(int(line["n"]) for line in lines if line["event"] == "log_shipping_dropped")
    ours = [line for line in lines if not str(line["event"]).startswith("log_")]
    assert len(shipped) + missing >= len(ours)
    assert TOKEN not in out + more[0]


async def test_serve_ends_in_time_though_nobody_reads_its_stdout(settings):
    """A pipe that is full from the start: the file has the lines, and SIGTERM ends the process."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    with started(settings, "serve", stdout=writer) as process:
        await until_logged(settings.data_dir / "logs" / "ringfence.jsonl", "serving", process)
        _, err = await ended(process)
    os.close(writer)
    os.close(reader)
    assert err == ""


async def test_everything_logs_to_one_terminal_and_one_folder(settings, database_url, capfd):
    """`ringfence run`: the API in this process and its worker, which inherits the terminal."""
    local = settings.model_copy(
        update={"database_url": SecretStr(database_url), "app_database_url": None, "system_database_url": None}
    )
    file = settings.data_dir / "logs" / "ringfence.jsonl"
    with logging_as_set(local):
        async with everything(local, chat=True):
            structlog.get_logger().info("ours")
            await until_logged(file, "working")
    out = capfd.readouterr().out
    events = [line["event"] for line in lines_of(file.read_text())]
    assert {"ours", "working"} <= set(events)
    assert set(re.findall(r'"event": "([^"]*)"', out)) == set(events)
