"""Dockerfile and compose file, read; and their commands run here as nearly like in a container as this machine allows.

There: an unprivileged user, no capabilities, no new privileges, a read-only root, and no namespaces of one's own
(Docker's seccomp profile refuses them). Here: the same by Linux's user and mount namespaces, where they are to be had.
"""

import functools
import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"


@dataclass(frozen=True)
class Image:
    """What a Dockerfile's last stage says."""

    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    health: list[str]
    user: str
    stop_signal: str


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in order, (name, rest), continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    split = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(name.upper(), rest.strip()) for name, _, rest in split]


def image(text: str) -> Image:
    """What an image of this Dockerfile runs, and with what."""
    found: dict[str, str] = {}
    environment: dict[str, str] = {}
    for name, rest in instructions(text):
        if name == "FROM":
            found, environment = {}, {}
        elif name == "ENV":
            environment |= dict(word.split("=", 1) for word in shlex.split(rest))
        else:
            found[name] = rest
    return Image(
        environment,
        json.loads(found["ENTRYPOINT"]),
        json.loads(found["CMD"]),
        json.loads(found["HEALTHCHECK"].partition("CMD")[2]),
        found["USER"],
        found["STOPSIGNAL"],
    )


def compose(text: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """A compose file with its variables filled in.

    Raises:
        ValueError: one that must be given is not.
    """

    def fill(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if value := variables.get(name):
            return value
        if kind == "?":
            raise ValueError(f"{name} must be set: {rest}")
        return str(rest)

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return re.sub(r"\$\{(\w+):([?-])([^}]*)\}", fill, value) if isinstance(value, str) else value

    return dict(filled(yaml.safe_load(text)))


_CONFINE = """
data=$1 tmp=$2
shift 2
mount --bind "$data" "$data"
mount -t tmpfs tmpfs "$tmp"
mount -o remount,bind,ro /
echo 1 >/proc/sys/user/max_user_namespaces
exec unshare --user --map-user=10001 --map-group=10001 -- setpriv --no-new-privs --inh-caps=-all -- "$@"
"""
"""As root of a new user namespace: all read-only but two folders; then a user of no rights, who can make no further
namespace. What belongs to whoever runs the tests belongs to that user."""


def confined(command: list[str], data: Path, tmp: Path) -> list[str]:
    """The command that runs another one like in a container; only these two folders can be written to."""
    walls = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-euc", _CONFINE, "sh", str(data), str(tmp)]
    return [*walls, *command]


@functools.cache
def can_confine(folder: Path) -> bool:
    """Whether this machine lets us; `folder` is one to try with."""
    try:
        return subprocess.run(confined(["true"], folder, folder), check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
