import errno
import json
import os
import resource
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ringfence.documents.parsing.confine import confine, landlock_rules
from ringfence.documents.parsing.wire import Limits, Ocr

PROBE = """
import json, os, resource, socket, sys
from ringfence.documents.parsing.confine import confine
from ringfence.documents.parsing.wire import Limits
missing = confine(Limits(cpu_seconds=7, memory_bytes=2**30)).missing
def tried(action):
    try:
        action()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"
facts = {
    "missing": missing,
    "read": tried(lambda: open("/etc/passwd")),
    "list": tried(lambda: os.listdir("/")),
    "write": tried(lambda: open("/tmp/made-by-the-probe", "w")),
    "run": tried(lambda: os.execv("/bin/true", ["true"])),
    "connect": tried(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)),
    "memory": tried(lambda: bytearray(2**30)),
    "cpu": resource.getrlimit(resource.RLIMIT_CPU),
}
print(json.dumps(facts))
"""


def test_the_real_walls_hold(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        run = subprocess.run([sys.executable, "-c", PROBE, port], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout)
    assert facts["memory"] == "MemoryError"
    assert facts["cpu"] == [7, 8]
    assert not {"memory", "limits", "privileges", "parent"} & set(facts["missing"])
    if "files" not in facts["missing"]:
        assert {facts[name] for name in ("read", "list", "write", "run")} == {"PermissionError"}
    if "network" not in facts["missing"]:
        assert facts["connect"] != "done"


class Kernel:
    """Plays libc and os, and notes what it is asked."""

    CLONE_NEWUSER = os.CLONE_NEWUSER
    CLONE_NEWNET = os.CLONE_NEWNET
    O_PATH = os.O_PATH
    O_CLOEXEC = os.O_CLOEXEC

    def __init__(self, *, refuses: str = "", abi: int = 7) -> None:
        self.calls: list[tuple] = []
        self._refuses = refuses
        self._abi = abi

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args):
            self.calls.append((name, *(getattr(arg, "value", arg) for arg in args)))
            if name == self._refuses:
                return -1
            return self._abi if name == "syscall" and args[-1] == 1 else 0

        return call

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


def test_all_walls_are_built():
    kernel = Kernel()
    walls = confine(Limits(cpu_seconds=3, memory_bytes=99), libc=kernel, system=kernel, setrlimit=kernel.setrlimit)
    assert walls.missing == ()
    assert ("setrlimit", resource.RLIMIT_AS, (99, 99)) in kernel.calls
    assert ("setrlimit", resource.RLIMIT_CPU, (3, 4)) in kernel.calls
    assert ("setrlimit", resource.RLIMIT_FSIZE, (0, 0)) in kernel.calls
    assert ("unshare", os.CLONE_NEWUSER | os.CLONE_NEWNET) in kernel.calls
    assert ("prctl", 38, 1, 0, 0, 0) in kernel.calls
    assert ("prctl", 1, 9, 0, 0, 0) in kernel.calls
    assert kernel.names().count("syscall") == 3
    assert kernel.names().count("capset") == kernel.names().count("close") == 1


def test_a_folder_that_may_be_read_and_time_for_it(tmp_path):
    kernel = Kernel()
    limits = Limits(cpu_seconds=3, ocr=Ocr(str(tmp_path), "eng", cpu_seconds=40))
    assert confine(limits, libc=kernel, system=kernel, setrlimit=kernel.setrlimit).missing == ()
    assert ("setrlimit", resource.RLIMIT_CPU, (3, 44)) in kernel.calls
    assert ("open", str(tmp_path), os.O_PATH | os.O_CLOEXEC) in kernel.calls
    assert kernel.names().count("syscall") == 4
    assert kernel.names().count("close") == 2


@pytest.mark.parametrize(
    ("refused", "missing"),
    [("capset", ("capabilities",)), ("syscall", ("files",)), ("prctl", ("privileges", "parent"))],
)
def test_a_refused_wall_is_named(refused, missing):
    kernel = Kernel(refuses=refused)
    assert confine(Limits(), libc=kernel, system=kernel, setrlimit=kernel.setrlimit).missing == missing


def test_a_system_without_a_wall():
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no")

    kernel = Kernel()
    walls = confine(Limits(), libc=kernel, system=SimpleNamespace(close=kernel.close), setrlimit=refuse)
    assert walls.missing == ("memory", "limits", "network")


@pytest.mark.parametrize(
    ("abi", "rules"),
    [(1, (0x1FFF, 0, 0)), (3, (0x7FFF, 0, 0)), (4, (0x7FFF, 3, 0)), (5, (0xFFFF, 3, 0)), (7, (0xFFFF, 3, 3))],
)
def test_landlock_forbids_all_that_the_kernel_knows(abi, rules):
    assert landlock_rules(abi) == rules
