"""A backup on disk: any change to it is found before anything is restored."""

import hashlib
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from ringfence.backup import sets
from ringfence.backup.sets import Manifest, TablePart, TableWriter
from ringfence.errors import SetupError

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
USER = str(uuid4())
ROW = b"\0\1\0\0\0\1x"


@pytest.fixture
def folder(tmp_path):
    """A small backup: two tables, three files."""
    folder = tmp_path / "set"
    for name in (folder, folder / "tables", folder / "files", folder / "files" / USER):
        name.mkdir()
    tables = {name: write(folder, name, [ROW] * rows) for name, rows in (("users", 1), ("documents", 3))}
    files = []
    for content in (b"one", b"two", b"three"):
        files.append((USER, hashlib.sha256(content).hexdigest()))
        (folder / "files" / USER / files[-1][1]).write_bytes(content)
    save(folder, tables, files)
    return folder


def write(folder, name, rows):
    with TableWriter(sets.table_path(folder, name)) as writer:
        return writer.finish()


def save(folder, tables, files, **changes):
    parts = tuple(TablePart(name=name, columns=("a", "b"), rows=1) for name in tables)
    manifest = Manifest(
        engine="1.2.3", created_at=datetime.now(UTC), migrations={"0001.sql": "ab"}, tables=parts, files=len(files)
    )
    sets.write_index(folder, manifest.model_copy(update=changes), tables, files)


def refusal(folder):
    with pytest.raises(SetupError) as caught:
        sets.read(folder)
    return caught.value.code


def test_what_was_written_is_read(folder):
    found = sets.read(folder)
    assert found.folder == folder
    assert found.manifest.engine == "1.2.3"
    assert [table.name for table in found.manifest.tables] == ["users", "documents"]
    assert len(found.files) == found.manifest.files == 3
    assert {user for user, _ in found.files} == {USER}


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_every_flipped_byte_is_found(folder, bit):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len(paths) == 7
    for path in paths:
        good = path.read_bytes()
        for place in range(len(good)):
            path.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
            assert refusal(folder) == "backup_damaged", (path, place)
        path.write_bytes(good)
    assert sets.read(folder)


def test_everything_cut_off_or_missing_is_found(folder):
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        good = path.read_bytes()
        for length in range(len(good)):
            path.write_bytes(good[:length])
            assert refusal(folder) == "backup_damaged", (path, length)
        path.unlink()
        assert refusal(folder) == ("backup_missing" if path.name == "SHA256SUMS" else "backup_damaged")
        path.write_bytes(good)
    assert sets.read(folder)


def test_lost_added_and_doubled_lines_are_found(folder):
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    assert len(lines) == 6
    for number in range(len(lines)):
        sums.write_text("".join(lines[:number] + lines[number + 1 :]))
        assert refusal(folder) == "backup_damaged"
    extra = folder / "files" / USER / ("0" * 64)
    extra.write_bytes(b"")
    sums.write_text("".join(lines) + f"{hashlib.sha256().hexdigest()}  files/{USER}/{extra.name}\n")
    assert refusal(folder) == "backup_damaged"
    sums.write_text("".join(lines))
    assert sets.read(folder)


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "files/../manifest.json", "tables/../../x.copy", "files/a/b", ""]
)
def test_no_line_leads_outside(folder, path):
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  {path}\n")
    assert refusal(folder) == "backup_damaged"


def test_a_file_whose_name_is_another_content_is_found(folder):
    name = "0" * 64
    (folder / "files" / USER / name).write_bytes(b"x")
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{hashlib.sha256(b'x').hexdigest()}  files/{USER}/{name}\n")
    assert refusal(folder) == "backup_damaged"


def rewrite(folder, change):
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(json.dumps(data))
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))


def test_a_newer_form_is_refused_whatever_it_holds(folder):
    rewrite(folder, lambda data: data.update(format=2, more="?"))
    assert refusal(folder) == "backup_newer"


@pytest.mark.parametrize("change", [lambda data: data.update(more=1), lambda data: data.pop("tables"), dict.clear])
def test_a_manifest_that_no_engine_wrote_is_refused(folder, change):
    rewrite(folder, change)
    assert refusal(folder) == "backup_damaged"


def test_what_is_no_backup_is_said(folder, tmp_path):
    assert refusal(tmp_path) == "backup_missing"
    assert refusal(tmp_path / "nothing") == "backup_missing"
    assert refusal(folder / "manifest.json") == "backup_missing"
    (tmp_path / "SHA256SUMS").mkdir()
    assert refusal(tmp_path) == "backup_damaged"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_several_copies_become_one(tmp_path, size):
    """PostgreSQL sends a COPY in pieces of any size."""
    with TableWriter(tmp_path / "t.copy") as writer:
        for rows in (2, 0, 3):
            data = HEADER + ROW * rows + b"\xff\xff"
            for start in range(0, len(data), size):
                await writer.write(data[start : start + size])
            writer.end_copy(rows)
        sha256 = writer.finish()
    data = (tmp_path / "t.copy").read_bytes()
    assert data == HEADER + ROW * 5 + b"\xff\xff"
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert writer.rows == 5
