import itertools
import struct
from datetime import UTC, datetime

import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing import mails
from tests.documents.parsing.made import headings, pages

MULTIPART = b"""From: =?utf-8?q?J=C3=B6rg?= <j@example.org>
To: b@example.org
Subject: Die =?utf-8?b?R3LDtsOfZQ==?=
Date: Fri, 16 Dec 2022 17:04:16 -0500
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: multipart/alternative; boundary=y

--y
Content-Type: text/html; charset=utf-8

<p>rich</p>
--y
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

pl=E4in
--y--
--x
Content-Type: application/pdf
Content-Disposition: attachment; filename="report.pdf"

%PDF-
--x
Content-Type: image/png
Content-Disposition: attachment

x
--x--
"""


def test_a_mail(tmp_path):
    [text] = pages(MULTIPART, sniff.EML, tmp_path)
    assert text == (
        "# Die Größe\n\nFrom: Jörg <j@example.org>\nTo: b@example.org\nDate: Fri, 16 Dec 2022 17:04:16 -0500\n\n"
        "pläin\n\nAttachments:\n\n- report.pdf\n- image/png"
    )
    assert headings(MULTIPART, sniff.EML, tmp_path) == [(1, "Die Größe", 1)]


def test_html_alone_is_read_as_such(tmp_path):
    data = b"From: a@b.c\nContent-Type: text/html\n\n<ul><li>one</ul>"
    assert pages(data, sniff.EML, tmp_path) == ["From: a@b.c\n\n- one"]


@pytest.mark.parametrize("charset", ["no-such-charset", "utf-8", "ascii"])
def test_charsets_that_are_wrong(charset, tmp_path):
    data = f"From: a@b.c\nContent-Type: text/plain; charset={charset}\n\n".encode() + "größere Brücken".encode("cp1252")
    assert pages(data, sniff.EML, tmp_path) == ["From: a@b.c\n\ngrößere Brücken"]


def test_a_mail_in_utf_16(tmp_path):
    data = "From: a@b.c\nSubject: Größe\n\nTüren".encode("utf-16")
    assert pages(data, sniff.EML, tmp_path) == ["# Größe\n\nFrom: a@b.c\n\nTüren"]


def test_a_mail_without_a_body_that_is_text(tmp_path):
    data = b"From: a@b.c\nContent-Type: image/png\n\nx"
    assert pages(data, sniff.EML, tmp_path) == ["From: a@b.c"]
    several = b"From: a@b.c\nContent-Type: text/plain\nContent-Type: multipart/mixed; boundary=x\n\nx"
    assert pages(several, sniff.EML, tmp_path)


class Broken:
    """A mail whose header the library can't read."""

    def get(self, name: str, otherwise: str) -> str:
        raise IndexError(name + otherwise)

    def get_payload(self, *, decode: bool) -> None:
        assert decode


def test_what_the_library_can_not_read_is_left_out():
    assert mails._header(Broken(), "Subject") == ""
    assert mails._content(Broken(), html=False) == ""


def ole2(streams: dict[str, bytes]) -> bytes:
    """An OLE2 file of sectors of 512 bytes; a slash parts a storage from its stream."""
    names, storages = list(streams), sorted({name.partition("/")[0] for name in streams if "/" in name})
    sectors, table, starts = b"", [], {}
    for name in names:
        data = streams[name]
        data += (b"\x00\x00" if "properties" in name else b" \x00") * max((4096 - len(data)) // 2, 0)
        count = -(-len(data) // 512)
        starts[name] = (len(table), len(data))
        table += [*range(len(table) + 1, len(table) + count), 0xFFFFFFFE]
        sectors += data.ljust(count * 512, b"\x00")
    entries = [("Root Entry", 5, 0xFFFFFFFE, 0), *((name, 1, 0, 0) for name in storages)]
    entries += [(name.rpartition("/")[2], 2, *starts[name]) for name in names]
    tree = {name: index for index, name in enumerate(["", *storages, *names])}

    def chain(members: list[str]) -> dict[int, int]:
        return {tree[a]: tree[b] for a, b in itertools.pairwise(members)}

    tops = [*storages, *(name for name in names if "/" not in name)]
    inner = {storage: [name for name in names if name.startswith(f"{storage}/")] for storage in storages}
    right = chain(tops)
    for members in inner.values():
        right |= chain(members)
    below = {0: tree[tops[0]], **{tree[storage]: tree[members[0]] for storage, members in inner.items()}}
    directory = b""
    for index, (name, kind, start, size) in enumerate(entries):
        coded = name.encode("utf-16-le")
        none = 0xFFFFFFFF
        links = (none, right.get(index, none), below.get(index, none))
        directory += coded.ljust(64, b"\x00") + struct.pack("<HBB3I", len(coded) + 2, kind, 1, *links)
        directory += bytes(36) + struct.pack("<IQ", start, size)
    directory = directory.ljust(-(-len(directory) // 512) * 512, b"\x00")
    first = len(table)
    count = len(directory) // 512
    table += [*range(first + 1, first + count), 0xFFFFFFFE]
    fats = 1
    while len(table) + fats > fats * 128:
        fats += 1
    at = len(table)
    table += [0xFFFFFFFD] * fats
    fat = struct.pack(f"<{len(table)}I", *table).ljust(fats * 512, b"\xff")
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, fats, first, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    header += struct.pack("<109I", *range(at, at + fats), *([0xFFFFFFFF] * (109 - fats)))
    return header + sectors + directory + fat


SENT = int((datetime(2026, 5, 20, 10, 30, tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds()) * 10**7
PROPERTIES = bytes(32) + struct.pack("<HHIQ", 3, 1, 0, 0) + struct.pack("<HHIQ", 0x40, 0x39, 0, SENT)


def msg(**more: bytes) -> bytes:
    return ole2({"__substg1.0_0037001F": "Größe".encode("utf-16-le"), **more})


def test_outlooks_mails(tmp_path):
    data = msg(
        **{
            "__substg1.0_1000001F": "Body".encode("utf-16-le"),
            "__substg1.0_0C1A001E": "Jörg Müller".encode("cp1252").ljust(4096),
            "__properties_version1.0": PROPERTIES,
            "__attach_version1.0_#00000000/__substg1.0_3707001F": "a.pdf".encode("utf-16-le"),
            "__attach_version1.0_#00000001/__substg1.0_3704001F": "b.txt".encode("utf-16-le"),
            "__attach_version1.0_#00000002/__substg1.0_37010102": b"x",
        }
    )
    assert pages(data, sniff.MSG, tmp_path) == [
        "# Größe\n\nFrom: Jörg Müller\nDate: 2026-05-20 10:30 UTC\n\nBody\n\nAttachments:\n\n- a.pdf\n- b.txt"
    ]


def test_outlooks_html(tmp_path):
    html = b"<meta charset=utf-8><h2>Rich</h2>".ljust(4096)
    data = msg(**{"__substg1.0_10130102": html, "__properties_version1.0": bytes(4096)})
    assert pages(data, sniff.MSG, tmp_path) == ["# Größe\n\n## Rich"]
    assert pages(msg(), sniff.MSG, tmp_path) == ["# Größe"]
