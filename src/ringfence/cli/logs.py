"""From settings to logs: what each command logs, and where to."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import structlog

from ringfence.errors import SetupError
from ringfence.settings import Settings, unknown
from ringfence.telemetry.files import RotatingFile
from ringfence.telemetry.logs import STDERR, logging_to

log = structlog.get_logger()


@contextmanager
def logging_as_set(settings: Settings) -> Generator[None]:
    """Log to standard output, to a file and to Better Stack, as set, while the context lasts.

    Raises:
        SetupError: a log file was asked for and can't be written.
    """
    file, trouble = _open(settings)
    token = settings.betterstack_source_token
    betterstack = (settings.betterstack_url, token.get_secret_value()) if token else None
    with logging_to(form=settings.log_format, level=settings.log_level, file=file, betterstack=betterstack):
        if trouble:
            log.warning("log_file_unavailable", reason=trouble)
        for name in unknown():
            log.warning("setting_unknown", name=name)
        yield


@contextmanager
def quiet_logging(*, level: Literal["warning", "critical"] = "warning") -> Generator[None]:
    """Log to standard error alone, what a person at the terminal has to know: standard output is the command's own."""
    with logging_to(STDERR, level=level):
        yield


def _open(settings: Settings) -> tuple[RotatingFile | None, str | None]:
    """The log file, or why there is none: the default one may be missing, because some folders are read-only."""
    if settings.log_file == "off":
        return None, None
    file = RotatingFile(
        settings.log_file or settings.data_dir / "logs" / "ringfence.jsonl",
        max_bytes=settings.log_file_max_bytes,
        max_seconds=settings.log_file_seconds,
        keep=settings.log_files,
    )
    try:
        file.open()
    except OSError as error:
        if settings.log_file is None:
            return None, error.strerror
        raise SetupError(
            "log_file_unusable", f"Can't write the log file {file.path} (RINGFENCE_LOG_FILE): {error.strerror}."
        ) from None
    return file, None
