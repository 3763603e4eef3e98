"""A child's walls: what it may use, and that it can reach neither network, files nor other processes.

Linux only, but for the resource limits; a wall that a machine does not let us build is named, never passed over.
Numbers and layouts are the kernel's: <linux/prctl.h>, <linux/capability.h>, <linux/landlock.h>.
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable
from typing import Any

from ringfence.documents.parsing.wire import Limits, Walls

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_PATH_BENEATH = 1
_READ_FILES = 1 << 2
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1
_OPEN_FILES = 16


def confine(limits: Limits, *, libc: Any = None, system: Any = os, setrlimit: Any = resource.setrlimit) -> Walls:
    """Put this process behind its walls, for good.

    Args:
        limits: CPU time and address space.
        libc: the C library; `system` and `setrlimit` likewise are arguments because no test could undo the real ones.
        system: the module `os`.
        setrlimit: `resource.setrlimit`.

    Returns:
        The walls that are missing: `memory`, `limits`, `network`, `capabilities`, `privileges`, `files`, `parent`.
    """
    libc = libc or ctypes.CDLL(None, use_errno=True)
    walls: tuple[tuple[str, Callable[[], object]], ...] = (
        ("memory", lambda: setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))),
        ("limits", lambda: _limit(limits, setrlimit)),
        ("network", lambda: system.unshare(system.CLONE_NEWUSER | system.CLONE_NEWNET)),
        ("capabilities", lambda: _check(libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)))),
        ("privileges", lambda: _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)),
        ("files", lambda: _close_files(libc, system, limits.ocr.tessdata if limits.ocr else None)),
        ("parent", lambda: _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)),
    )
    return Walls(tuple(name for name, build in walls if not _stands(build)))


def _stands(build: Callable[[], object]) -> bool:
    try:
        build()
    except (OSError, ValueError, AttributeError):  # refused, above the hard limit, or not this system's
        return False
    return True


def _limit(limits: Limits, setrlimit: Any) -> None:
    most = limits.cpu_seconds + (limits.ocr.cpu_seconds if limits.ocr else 0)
    setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, most + 1))
    for which, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        setrlimit(which, (value, value))


def _close_files(libc: Any, system: Any, readable: str | None) -> None:
    """Landlock: no file but those of a folder that may be read, no TCP port, no abstract socket, no signal outside."""
    abi = _check(libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION))
    rules = struct.pack("QQQ", *landlock_rules(abi))
    ruleset = _check(libc.syscall(_LANDLOCK_CREATE_RULESET, rules, len(rules), 0))
    if readable:
        _open_folder(libc, system, ruleset, readable)
    _check(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    system.close(ruleset)


def _open_folder(libc: Any, system: Any, ruleset: int, path: str) -> None:
    folder = system.open(path, system.O_PATH | system.O_CLOEXEC)
    rule = struct.pack("=Qi", _READ_FILES, folder)
    _check(libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, rule, 0))
    system.close(folder)


def landlock_rules(abi: int) -> tuple[int, int, int]:
    """All that a kernel's Landlock can forbid: bit masks for files, network and other processes."""
    added = {1: 0x1FFF, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
    files = sum(bits for since, bits in added.items() if since <= abi)
    network, processes = 4, 6  # the ABIs that brought them
    return files, 3 if abi >= network else 0, 3 if abi >= processes else 0


def _prctl(libc: Any, option: int, value: int) -> None:
    _check(libc.prctl(option, *(ctypes.c_ulong(argument) for argument in (value, 0, 0, 0))))


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused by the kernel")
    return result
