"""Become somebody who may run PostgreSQL, tie the life to the parent's, then turn into a command.

    python -I -S postgres_exec.py WAY SIGNAL PARENT COMMAND [ARGUMENT ...]

WAY is `user` (stay who we are), `namespace` (root only: uid 65534 in a user namespace of its own, where the files keep
belonging to root), or `UID:GID` (root only: really become that user). SIGNAL is what the command gets when its parent,
process PARENT, dies (Linux). PostgreSQL refuses to run as root, hence the ways.

A program of its own because a function between fork and exec is unsafe in a process with threads. It is run by its
path and imports the standard library only, so that it works however Python found the package.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

USER = "user"
NAMESPACE = "namespace"
NOBODY = 65534
"""The uid that root gets inside its namespace; any but 0 would do."""

_CLONE_NEWUSER = 0x10000000  # linux/sched.h
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become(way: str, *, system: Any = os, process: Path = Path("/proc/self")) -> None:
    """Change who this process is, as far as PostgreSQL can see.

    Args:
        way: see the module's words.
        system: the module `os`.
        process: this process in procfs.

    Raises:
        OSError: the kernel does not allow it.
    """
    if way == NAMESPACE:
        uid, gid = system.geteuid(), system.getegid()
        system.unshare(_CLONE_NEWUSER)
        (process / "setgroups").write_text("deny")
        (process / "uid_map").write_text(f"{NOBODY} {uid} 1")
        (process / "gid_map").write_text(f"{NOBODY} {gid} 1")
    elif way != USER:
        uid, gid = (int(part) for part in way.split(":"))
        system.setgroups([])
        system.setgid(gid)
        system.setuid(uid)


def die_with_parent(death_signal: int, parent: int, *, platform: str = sys.platform, libc: Any = None) -> None:
    """Have the kernel send `death_signal` to this process when process `parent` dies; it outlives an exec.

    Raises:
        ProcessLookupError: the parent is already dead.
        OSError: the kernel refused.
    """
    if platform == "linux":
        libc = libc or ctypes.CDLL(None)
        if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise ProcessLookupError(f"the parent process {parent} is gone")


def main(argv: Sequence[str], *, system: Any = os) -> None:
    """Do what the module's words say with `WAY SIGNAL PARENT COMMAND [ARGUMENT ...]`; does not return."""
    way, death_signal, parent, *command = argv
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, which an exec would pass on
        signal.signal(ignored, signal.SIG_DFL)
    try:
        become(way, system=system)
        die_with_parent(int(death_signal), int(parent))  # after the change of user, which would clear it
        system.execv(command[0], command)
    except (OSError, AttributeError) as error:  # AttributeError: no namespaces in this operating system
        raise SystemExit(f"can't run {command[0]} as {way}: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
