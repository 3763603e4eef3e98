"""Text of EPUB books: one page for each chapter, that is for each document of the spine that holds text."""

from typing import BinaryIO

from ringfence.documents.parsing.encodings import decode
from ringfence.documents.parsing.package import Package, local, resolve
from ringfence.documents.parsing.pages import Pages
from ringfence.documents.parsing.web import read_html
from ringfence.documents.parsing.wire import reason

_CONTAINER = "META-INF/container.xml"
_RIGHTS = "META-INF/encryption.xml"
_FONTS = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})
_CHAPTERS = frozenset({"application/xhtml+xml", "text/html", "application/xml", ""})


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a book into `pages`.

    Raises:
        RingfenceError: `document_encrypted`, `unpacked_too_large`, or a limit of `pages`.
    """
    package = Package(file)
    if _locked(package):
        raise reason("document_encrypted")
    for number, chapter in enumerate(chapters(package)):
        if number:
            pages.turn()
        read_html(decode(package.read(chapter), html=True), pages)


def _locked(package: Package) -> bool:
    """Whether more than fonts is encrypted (fonts are so obfuscated in books that anybody may read)."""
    if _RIGHTS not in package:
        return False
    methods = (
        entry.get("Algorithm", "") for entry in package.tree(_RIGHTS).iter() if local(entry) == "EncryptionMethod"
    )
    return any(method not in _FONTS for method in methods)


def chapters(package: Package) -> list[str]:
    """The entries of the spine, in reading order."""
    [book] = [entry.get("full-path", "") for entry in package.tree(_CONTAINER).iter() if local(entry) == "rootfile"][:1]
    folder = book.rpartition("/")[0]
    items: dict[str, tuple[str, str]] = {}
    spine: list[str] = []
    for entry in package.tree(book).iter():
        if local(entry) == "item":
            items[entry.get("id", "")] = (resolve(folder, entry.get("href", "")), entry.get("media-type", ""))
        elif local(entry) == "itemref":
            spine.append(entry.get("idref", ""))
    listed = (items[name] for name in spine if name in items)
    return [path for path, kind in listed if kind in _CHAPTERS and path in package]
