"""Documents that are ZIP archives of XML (Office Open XML, OpenDocument, EPUB), opened with their traps in mind.

What an archive says of its sizes is used against it only: no more than that is ever unpacked. XML is read by expat
without external entities; a document type, which none of these formats needs, is refused, and with it all that entities
can do. Nothing is fetched: links and templates elsewhere are not followed. Whatever else goes wrong in an archive
is raised as the library raises it; `formats.extract` calls it `document_damaged`.
"""

import posixpath
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote
from xml.etree import ElementTree as ET  # `_Prologue` refuses what makes it unsafe
from xml.parsers import expat

from ringfence.documents.parsing.wire import reason

MAX_ENTRIES = 20_000
MAX_BYTES = 2**30
"""Most bytes that an archive may unpack to."""

MAX_RATIO = 200
"""Most bytes that one packed byte of a large entry may become; sheets of numbers reach some dozens."""

_LARGE = 16 * 2**20
_ENCRYPTED = 1
_READ_BYTES = 65_536


class Package:
    """An archive whose entries are read one by one.

    Raises:
        RingfenceError: `document_encrypted`, `unpacked_too_large`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(file)
        entries = self._archive.infolist()
        if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise reason("unpacked_too_large")
        for entry in entries:
            if entry.flag_bits & _ENCRYPTED:
                raise reason("document_encrypted")
            if entry.file_size > max(_LARGE, MAX_RATIO * entry.compress_size):
                raise reason("unpacked_too_large")
        self._names = {entry.filename for entry in entries}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        """One entry.

        Raises:
            KeyError: there is no such entry.
        """
        return self._archive.read(name)

    def tree(self, name: str) -> ET.Element:
        """One entry as XML, whole.

        Raises:
            KeyError: there is no such entry.
        """
        *_, (_, root) = self.elements(name, ("end",))
        return root

    def elements(
        self, name: str, events: Sequence[Literal["start", "end"]] = ("start", "end")
    ) -> Iterator[tuple[str, ET.Element]]:
        """An entry's elements as they start and end; who has used one clears it, and memory stays flat.

        Raises:
            KeyError: there is no such entry.
            RingfenceError: `document_damaged`; it has a document type.
        """
        parser: ET.XMLPullParser[Any] = ET.XMLPullParser(events)
        prologue = _Prologue()
        with self._archive.open(name) as entry:
            while data := entry.read(_READ_BYTES):
                prologue.feed(data)
                parser.feed(data)
                yield from parser.read_events()  # type: ignore[misc]  # pairs, for the events that we ask for
            parser.close()
            yield from parser.read_events()  # type: ignore[misc]  # as above

    def related(self, part: str) -> dict[str, str]:
        """What a part of an Office Open XML package refers to within it: relation id → name of an entry."""
        folder, name = posixpath.split(part)
        table = posixpath.join(folder, "_rels", f"{name}.rels")
        relations = self.tree(table) if table in self else ()
        inner = (relation for relation in relations if relation.get("TargetMode") != "External")
        return {relation.get("Id", ""): resolve(folder, relation.get("Target", "")) for relation in inner}

    def main_part(self, otherwise: str) -> str:
        """The part that an Office Open XML package is about."""
        for relation in self.tree("_rels/.rels") if "_rels/.rels" in self else ():
            if relation.get("Type", "").endswith("/officeDocument"):
                return resolve("", relation.get("Target", ""))
        return otherwise


class _Prologue:
    """Reads an XML text up to its first element, and refuses a document type."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._pass
        self._passed = False

    def feed(self, data: bytes) -> None:
        if not self._passed:
            self._parser.Parse(data)

    def _refuse(self, *_: object) -> None:
        raise reason("document_damaged")

    def _pass(self, *_: object) -> None:
        self._passed = True


def resolve(folder: str, target: str) -> str:
    """The entry that a reference means which stands in an entry of `folder`; fragments and queries are cut off."""
    path = unquote(target.partition("#")[0].partition("?")[0])
    return posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")


def local(element: ET.Element) -> str:
    """An element's name without its namespace: Office Open XML has two for each, and OpenDocument's do not clash."""
    return element.tag.rpartition("}")[2]


def attribute(element: ET.Element, name: str, default: str = "") -> str:
    """An attribute's value, by its name without its namespace."""
    for key, value in element.items():
        if key.rpartition("}")[2] == name:
            return value
    return default


def child(element: ET.Element | None, *path: str) -> ET.Element | None:
    """The first child with a name, its first child with the next name, and so on."""
    for name in path:
        element = next((one for one in element if local(one) == name), None) if element is not None else None
    return element
