"""The static files: under a path that names their content, where a browser may keep them for good."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import override

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"
_URL = "/static"
_FOR_GOOD = "public, max-age=31536000, immutable"


def mount(app: FastAPI) -> None:
    """Serve the static files."""
    app.mount(_URL, _Static(directory=FOLDER), name="static")


def url(name: str) -> str:
    """Where a static file is; modules find others beside them, so they name no version."""
    return f"{_URL}/{_version()}/{name}"


class _Static(StaticFiles):
    """Files below their version, kept for good; below another one or none, asked for anew each time (mostly 304)."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        version, _, name = path.partition("/")
        current = version == _version()
        # A page of the version before, or of the next one, may still ask: it gets what there is.
        response = await super().get_response(name if current or _is_version(version) else path, scope)
        response.headers["Cache-Control"] = _FOR_GOOD if current else "no-cache"
        return response


def _is_version(text: str) -> bool:
    return len(text) == len(_version()) and set(text) <= set("0123456789abcdef")


def _version() -> str:
    """A digest of all static files; they may change while the engine runs, in development."""
    return _digest(tuple((path, path.stat().st_mtime_ns) for path in sorted(FOLDER.rglob("*")) if path.is_file()))


@lru_cache(1)
def _digest(files: tuple[tuple[Path, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
