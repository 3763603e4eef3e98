import io
import zipfile

import pytest

from ringfence.documents.parsing import package
from ringfence.documents.parsing.package import Package, attribute, child, resolve
from ringfence.errors import RingfenceError
from tests.documents.parsing.made import relations, zipped


def opened(data: bytes) -> Package:
    return Package(io.BytesIO(data))


def refused(data: bytes) -> str:
    with pytest.raises(RingfenceError) as caught:
        opened(data)
    return caught.value.code


def test_entries():
    found = opened(zipped({"a.xml": "<a><b>1</b></a>"}))
    assert "a.xml" in found
    assert "b.xml" not in found
    assert found.read("a.xml") == b"<a><b>1</b></a>"
    assert [element.text for element in found.tree("a.xml")] == ["1"]


def test_long_entries_are_read_in_pieces():
    found = opened(zipped({"a.xml": "<a>" + "<b/>" * 50_000 + "</a>"}))
    assert sum(event == "start" for event, _ in found.elements("a.xml")) == 50_001


def test_bombs():
    """What an archive says that it unpacks to is enough to refuse it."""
    assert refused(zipped({"a": bytes(20 * 2**20)})) == "unpacked_too_large"
    assert refused(zipped(dict.fromkeys(map(str, range(package.MAX_ENTRIES + 1)), ""))) == "unpacked_too_large"
    assert refused(claiming(package.MAX_BYTES + 1)) == "unpacked_too_large"


def claiming(size: int) -> bytes:
    """An archive whose only entry is said to be of a size."""
    data = bytearray(zipped({"a": "small"}))
    central = data.index(b"PK\x01\x02")
    data[central + 20 : central + 24] = (size // 100).to_bytes(4, "little")
    data[central + 24 : central + 28] = size.to_bytes(4, "little")
    return bytes(data)


def test_no_more_is_unpacked_than_was_said():
    data = bytearray(zipped({"a": "x" * 1000}))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    with pytest.raises(zipfile.BadZipFile):
        opened(bytes(data)).read("a")


def test_entries_with_a_password():
    data = bytearray(zipped({"a": "x"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert refused(bytes(data)) == "document_encrypted"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "entity", ['<!ENTITY e SYSTEM "file:///etc/hostname">', '<!ENTITY e "ha"><!ENTITY f "&e;&e;&e;&e;">']
)
def test_document_types_are_refused(entity, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [{entity}]><a>&e;</a>'
    with pytest.raises(RingfenceError) as caught:
        opened(zipped({"a.xml": text.encode(encoding)})).tree("a.xml")
    assert caught.value.code == "document_damaged"


def test_relations_lead_within_the_package_alone():
    rels = (
        '<Relationships><Relationship Id="r1" Target="../media/a.png"/><Relationship Id="r2" Target="/x/b.xml"/>'
        '<Relationship Id="r3" Target="http://example.org/t.dotm" TargetMode="External"/></Relationships>'
    )
    found = opened(zipped({"word/_rels/document.xml.rels": rels}))
    assert found.related("word/document.xml") == {"r1": "media/a.png", "r2": "x/b.xml"}
    assert found.related("other.xml") == {}


def test_the_main_part():
    assert opened(zipped({"a": ""})).main_part("b") == "b"
    assert opened(zipped({"_rels/.rels": relations(thumbnail="t", officeDocument="/word/d2.xml")})).main_part("b") == (
        "word/d2.xml"
    )
    assert opened(zipped({"_rels/.rels": relations(thumbnail="t")})).main_part("b") == "b"


def test_references():
    assert resolve("OEBPS/text", "../a%20b.xhtml#x?y") == "OEBPS/a b.xhtml"
    assert resolve("", "../../etc/passwd") == "etc/passwd"


def test_attributes_by_their_name_alone():
    root = opened(zipped({"a.xml": '<a xmlns:x="y" b="1" x:val="2"/>'})).tree("a.xml")
    assert attribute(root, "val") == "2"
    assert attribute(root, "none", "else") == "else"


def test_children_that_are_not_there():
    root = opened(zipped({"a.xml": "<a><b/></a>"})).tree("a.xml")
    assert child(root, "b") is not None
    assert child(root, "b", "c", "d") is None
    assert child(None, "b") is None
