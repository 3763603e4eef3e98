"""The bootstrap decides what to do offline: a recorder stands in for uv, which is a stranger's program."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rules import house

RECORDER = """#!/bin/sh
echo "$*" >>"$RECORD"
case "$*" in
--version) echo "uv ${FAKE_VERSION:-99.0.0}" ;;
"python find"*) [ -n "${FAKE_PYTHON:-}" ] && echo "$FAKE_PYTHON" ;;
"python install"*) exit 2 ;;
venv*) rm -rf .venv && mkdir -p .venv/bin && cp /bin/sh .venv/bin/python ;;
*sync*)
    [ -z "${FAKE_FAILURE:-}" ] || exit 2
    [ -z "${FAKE_AUTHORITY:-}" ] || [ -n "${UV_SYSTEM_CERTS:-}${SSL_CERT_FILE:-}" ] || exit 2 ;;
esac
"""
OLD_PIP = """#!/bin/sh
echo "$* PIP_CERT=${PIP_CERT:-}" >>"$RECORD.pip"
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$UV" "$3/bin/uv" ;;
"-m pip install "*) [ -n "${PIP_CERT:-}" ] ;;
esac
"""
FILES = [
    "requirements.txt",
    "requirements-dev.txt",
    "pyproject.toml",
    *(f"scripts/{n}" for n in ("bootstrap", "build.txt")),
]


@dataclass
class Clone:
    """A copy of what the bootstrap reads, with programs of our own on the PATH."""

    root: Path
    programs: Path
    record: Path

    def run(self, profile: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
        self.record.write_text("")
        return subprocess.run(
            ["/bin/sh", str(self.root / "scripts" / "bootstrap"), profile],
            env={"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": str(self.programs), "RECORD": str(self.record)}
            | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def calls(self) -> list[str]:
        """What uv was asked to do: `venv`, `pip sync`, `pip install` …"""
        lines = [line.split() for line in self.record.read_text().splitlines()]
        return [
            " ".join(words[: 2 if words[0] in {"pip", "python"} else 1]) for words in lines if words[0] != "--version"
        ]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    root, programs = tmp_path / "a clone's folder", tmp_path / "programs"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(house.ROOT / name, root / name)
    programs.mkdir()
    new_python = "#!/bin/sh\nexit 0\n"
    for name, text in {"uv": RECORDER, "python3.12": new_python}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return Clone(root, programs, tmp_path / "record")


BUNDLES = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
]
ANEW = ["venv", "pip sync", "pip install"]
IN_PLACE = ["pip sync", "pip install"]


def test_the_second_time_nothing_is_done(clone: Clone) -> None:
    assert clone.run().returncode == 0
    assert clone.calls == ANEW
    assert clone.run().returncode == 0
    assert clone.calls == []


def test_the_tests_environment_serves_too(clone: Clone) -> None:
    assert clone.run("run").returncode == 0
    assert clone.run("dev").returncode == 0
    assert clone.calls == IN_PLACE
    assert clone.run("run").returncode == 0
    assert clone.calls == []


def test_an_environment_with_the_tests_tools_keeps_them(clone: Clone) -> None:
    clone.run("dev")
    for lock in ("requirements.txt", "requirements-dev.txt"):
        (clone.root / lock).write_text("changed==1\n")
    assert clone.run("run").returncode == 0
    assert "requirements-dev.txt" in clone.record.read_text()
    assert clone.run("dev").returncode == 0
    assert clone.calls == []


@pytest.mark.parametrize("name", [name for name in FILES if name != "requirements-dev.txt"])
def test_a_change_is_brought_in(clone: Clone, name: str) -> None:
    clone.run()
    with (clone.root / name).open("a") as file:
        file.write("\n# changed\n")
    assert clone.run().returncode == 0
    assert clone.calls == IN_PLACE


@pytest.mark.parametrize("before", ["fresh", "finished"])
def test_what_was_broken_off_is_made_anew(clone: Clone, before: str) -> None:
    if before == "finished":
        clone.run()
        (clone.root / "requirements.txt").write_text("changed==1\n")
    assert clone.run(FAKE_FAILURE="yes").returncode != 0
    assert clone.run().returncode == 0
    assert clone.calls == ANEW


def test_a_moved_folder_is_made_anew(clone: Clone, tmp_path: Path) -> None:
    clone.run()
    clone.root = clone.root.rename(tmp_path / "elsewhere")
    assert clone.run().returncode == 0
    assert clone.calls == ANEW


def test_another_python_is_chosen_by_name(clone: Clone) -> None:
    clone.run()
    assert clone.run(UV_PYTHON="3.13").returncode == 0
    assert clone.calls == ANEW
    assert "venv --quiet --no-project --clear --python 3.13 .venv" in clone.record.read_text()
    clone.run(UV_PYTHON="3.13")
    assert clone.calls == []


def test_a_python_that_was_removed_is_replaced(clone: Clone) -> None:
    clone.run()
    (clone.root / ".venv" / "bin" / "python").unlink()
    assert clone.run().returncode == 0
    assert clone.calls == ANEW


def test_a_registry_of_a_private_authority(clone: Clone) -> None:
    answer = clone.run(FAKE_AUTHORITY="of a company")
    assert answer.returncode == 0
    assert clone.calls == ["venv", "pip sync", "pip sync", "pip install"]
    assert "Once more, with the system's certificates" in answer.stderr


@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"])
def test_who_says_whom_to_trust_is_not_overruled(clone: Clone, setting: str) -> None:
    assert clone.run(FAKE_FAILURE="yes", **{setting: "/some/certificates"}).returncode != 0
    assert clone.calls == ["venv", "pip sync"]


def test_an_old_pip_is_told_of_the_systems_certificates(clone: Clone, tmp_path: Path) -> None:
    if not any(Path(path).exists() for path in BUNDLES):  # macOS has its own store: there is nothing to tell pip of
        pytest.skip("this system keeps its certificates in no usual place")
    recorder = (clone.programs / "uv").rename(tmp_path / "uv")
    (clone.programs / "python3").write_text(OLD_PIP)
    (clone.programs / "python3").chmod(0o755)
    (clone.root / "scripts" / "uv.txt").write_text("uv\n")
    path = f"{clone.programs}:{_without_uv(tmp_path / 'system')}"
    answer = clone.run("uv", UV=str(recorder), PATH=path)
    assert answer.stdout == f"{clone.root}/.tools/uv\n"
    tried = [line for line in Path(f"{clone.record}.pip").read_text().splitlines() if "install" in line]
    assert [line.rpartition("PIP_CERT=")[2] in BUNDLES for line in tried] == [False, True]


def _without_uv(folder: Path) -> Path:
    """The system's programs that the bootstrap uses, without a uv that may be among them."""
    folder.mkdir()
    for program in ("sh", "cat", "cmp", "cp", "dirname", "flock", "mkdir", "mv", "rm", "tail"):
        (folder / program).symlink_to(shutil.which(program, path="/usr/bin:/bin") or "")
    return folder


def test_verification_is_never_turned_off() -> None:
    for program in (house.ROOT / "scripts" / "bootstrap", house.ROOT / "bench" / "setup"):
        assert not re.search(r"trusted-host|insecure|TRUSTED_HOST|INSECURE", program.read_text())


def test_without_a_new_python_it_says_so(clone: Clone) -> None:
    for version in ("3.12", "3.13", "3.14", "3"):
        (clone.programs / f"python{version}").write_text("#!/bin/sh\nexit 1\n")
        (clone.programs / f"python{version}").chmod(0o755)
    answer = clone.run()
    assert answer.returncode == 1
    assert "found no Python 3.12 to 3.14 and could not fetch one" in answer.stderr
    assert not (clone.root / ".venv").exists()
    assert clone.run(FAKE_PYTHON="/somewhere/python3").returncode == 0


def test_an_old_uv_and_no_python_to_install_one_with(clone: Clone) -> None:
    (clone.programs / "sh").symlink_to("/bin/sh")
    for program in ("cat", "cmp", "dirname", "mkdir", "mv", "rm", "tail"):
        (clone.programs / program).symlink_to(shutil.which(program, path="/usr/bin:/bin") or "")
    answer = clone.run(FAKE_VERSION="0.7.9 (of long ago)", PATH=str(clone.programs))
    assert answer.returncode == 1
    assert "can't install uv" in answer.stderr
    assert clone.run("uv", FAKE_VERSION="0.8.0", PATH=str(clone.programs)).stdout == f"{clone.programs}/uv\n"


def test_an_unknown_profile_is_refused(clone: Clone) -> None:
    answer = clone.run("everything")
    assert answer.returncode == 1
    assert "unknown profile 'everything'" in answer.stderr
