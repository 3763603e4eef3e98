import os
import shutil
import socket
from pathlib import Path

import pytest

from ringfence.cli.files import Unreadable, Wanted, find


@pytest.fixture
def folder(tmp_path):
    for name in ("b.pdf", "a.txt", ".hidden.txt", "deep/c.pdf", "deep/er/d.md", ".git/config", "drafts/e.pdf"):
        file = tmp_path / "papers" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "papers"


def names(folder, **wanted):
    return [path.relative_to(folder).as_posix() for path in find([folder], Wanted(**wanted))]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["a.txt", "b.pdf", "deep/c.pdf", "deep/er/d.md", "drafts/e.pdf"]),
        ({"hidden": True, "exclude": ("d*",)}, [".hidden.txt", "a.txt", "b.pdf", ".git/config"]),
        ({"include": ("*.pdf",)}, ["b.pdf", "deep/c.pdf", "drafts/e.pdf"]),
        ({"include": ("deep/*",)}, ["deep/c.pdf", "deep/er/d.md"]),
        ({"include": ("*.pdf", "*.md"), "exclude": ("drafts",)}, ["b.pdf", "deep/c.pdf", "deep/er/d.md"]),
        ({"exclude": ("deep/er", "*.txt", "drafts/*")}, ["b.pdf", "deep/c.pdf"]),
        ({"include": ("*.PDF",)}, []),
    ],
)  # fmt: skip
def test_what_is_wanted_is_found_in_order(folder, wanted, found):
    assert names(folder, **wanted) == found


def test_a_file_that_is_named_is_wanted(folder):
    wanted = Wanted(include=("*.pdf",), exclude=("*",))
    assert list(find([folder / ".hidden.txt"], wanted)) == [folder / ".hidden.txt"]


def test_links_are_followed_and_no_folder_is_entered_twice(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.txt").write_text("f")
    (folder / "deep" / "round").symlink_to(folder)
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "out again").symlink_to(tmp_path / "elsewhere")
    (folder / "same.txt").symlink_to(folder / "a.txt")
    found = names(folder, include=("*.txt",))
    assert found == ["a.txt", "same.txt", "out/f.txt"]


def test_what_can_not_be_read_is_said(folder):
    (folder / "nowhere.txt").symlink_to(folder / "missing")
    (folder / "circle.txt").symlink_to(folder / "circle.txt")
    found = list(find([folder], Wanted(include=("*.txt",))))
    assert found == [
        folder / "a.txt",
        Unreadable(folder / "circle.txt", "Too many levels of symbolic links"),
        Unreadable(folder / "nowhere.txt", "No such file or directory"),
    ]


def test_a_folder_that_can_not_be_opened_is_said(folder):
    found = find([folder], Wanted())
    assert next(found) == folder / "a.txt"
    shutil.rmtree(folder / "deep")
    assert list(found)[-1] == Unreadable(folder / "deep", "No such file or directory")


def test_what_is_no_file_is_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is short
        try:
            one.bind("socket.txt")
        finally:
            os.chdir(here)
        assert list(find([tmp_path, tmp_path / "pipe.txt"], Wanted())) == []
