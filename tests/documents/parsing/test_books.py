import pytest

from ringfence.documents import sniff
from tests.documents.parsing.made import code, headings, pages, zipped

CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
BOOK = """<package><manifest>
<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/><item id="b" href="text/b%20b.xhtml"/>
<item id="p" href="p.png" media-type="image/png"/><item id="gone" href="gone.xhtml"/></manifest>
<spine>
<itemref idref="b"/><itemref idref="p"/><itemref idref="gone"/><itemref idref="none"/><itemref idref="a"/></spine>
</package>"""


def epub(**entries: str) -> bytes:
    chapters = {
        "OEBPS/a.xhtml": "<?xml version='1.0'?><!DOCTYPE html><html><body><h2>Last</h2><p>die Größe</p></body></html>",
        "OEBPS/text/b b.xhtml": "<html><head><title>Book</title></head><body><p>first</p></body></html>",
    }
    return zipped(
        {"META-INF/container.xml": CONTAINER, "OEBPS/book.opf": BOOK, **chapters, **entries}, mimetype=sniff.EPUB
    )


def test_chapters_are_pages_in_the_order_of_the_spine(tmp_path):
    assert pages(epub(), sniff.EPUB, tmp_path) == ["# Book\n\nfirst", "## Last\n\ndie Größe"]
    assert headings(epub(), sniff.EPUB, tmp_path) == [(1, "Book", 1), (2, "Last", 2)]


@pytest.mark.parametrize(
    ("method", "locked"),
    [("http://www.idpf.org/2008/embedding", False), ("http://www.w3.org/2001/04/xmlenc#aes128-cbc", True)],
)
def test_locked_books(method, locked, tmp_path):
    rights = f'<encryption><EncryptionMethod Algorithm="{method}"/></encryption>'
    data = epub(**{"META-INF/encryption.xml": rights})
    if locked:
        assert code(data, sniff.EPUB, tmp_path) == "document_encrypted"
    else:
        assert len(pages(data, sniff.EPUB, tmp_path)) == 2


def test_a_book_without_its_list(tmp_path):
    assert code(zipped({"META-INF/container.xml": "<container/>"}), sniff.EPUB, tmp_path) == "document_damaged"
