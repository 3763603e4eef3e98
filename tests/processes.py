"""`ringfence` as real processes, with the settings of a test."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from ringfence.settings import Settings


@contextmanager
def started(
    settings: Settings, command: str, *, stdout: int = subprocess.PIPE, **more: object
) -> Iterator[subprocess.Popen[str]]:
    """A command that runs, and is gone at the end; what it writes is text."""
    settings = settings.model_copy(update={"smtp_host": "localhost"} | more)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGFENCE_")}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        environment[f"RINGFENCE_{name.upper()}"] = plain
    with subprocess.Popen(
        [sys.executable, "-m", "ringfence", command],
        env=environment,
        cwd=settings.data_dir.parent,  # no `.env` is there
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def until_logged(file: Path, event: str, *processes: subprocess.Popen[str]) -> None:
    """Wait until each process (or any, where none is given) has logged an event."""
    async with asyncio.timeout(120):
        while not file.exists() or file.read_text().count(f'"event": "{event}"') < max(1, len(processes)):
            for process in processes:
                assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.05)


async def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a process as an operator does; what was left to read of its outputs."""
    process.terminate()
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0, err
    return out, err
