import pymupdf
import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing import pdf as reader
from ringfence.documents.parsing.wire import Count, Heading, Limits, Part
from ringfence.errors import RingfenceError
from tests.documents.parsing.made import code, extracted, pdf


def test_pages_of_a_pdf(tmp_path):
    frames = extracted(pdf("First page.", "Second page."), sniff.PDF, tmp_path)
    assert frames == [Count(2), Part(1, 0, "First page."), Part(2, 0, "Second page.")]


def test_paragraphs_lines_and_hyphens(tmp_path):
    with pymupdf.open() as document:
        page = document.new_page()
        page.insert_text((72, 72), ["The fence is meas-", "ured in Frank-", "Furt and QUI-", "ET."])
        page.insert_text((72, 300), ["It has", "a gate"])
        page.insert_text((72, 500), ["that opens."])
        data = document.tobytes()
    frames = extracted(data, sniff.PDF, tmp_path)
    text = "The fence is measured in Frank-\nFurt and QUI-\nET.\n\nIt has\na gate\nthat opens."
    assert frames == [Count(1), Part(1, 0, text)]


def test_tidying():
    assert reader._tidy(" a \x00b\ud800\u00ad\nc \r\nd\u2010\ne ") == "a  b\ufffdc\n\nde"


def test_blank_pages_keep_the_numbers(tmp_path):
    frames = extracted(pdf("", "text", "  "), sniff.PDF, tmp_path)
    assert frames == [Count(3), Part(1, 0, ""), Part(2, 0, "text"), Part(3, 0, "")]


def test_encrypted_pdf(tmp_path):
    data = pdf("secret", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="right", owner_pw="owner")
    assert code(data, sniff.PDF, tmp_path) == "document_encrypted"
    assert code(data, sniff.PDF, tmp_path, "wrong") == "wrong_password"
    assert extracted(data, sniff.PDF, tmp_path, "right")[1] == Part(1, 0, "secret")


def test_restrictions_without_a_user_password_do_not_lock_a_pdf(tmp_path):
    data = pdf("open", encryption=pymupdf.PDF_ENCRYPT_AES_256, owner_pw="owner")
    assert extracted(data, sniff.PDF, tmp_path)[1] == Part(1, 0, "open")


def test_damaged_pdf(tmp_path):
    assert code(b"%PDF-1.7 and nothing else", sniff.PDF, tmp_path) == "document_damaged"
    assert code(pdf("cut in half")[:200], sniff.PDF, tmp_path) == "document_damaged"


CATALOG = b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"


def handmade(*objects: bytes) -> bytes:
    data = CATALOG
    offsets = [9]
    for number, body in enumerate(objects, start=2):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(offsets) + 1
    trailer = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, len(data))
    return data + b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (size, table, trailer)


def test_pdf_without_pages(tmp_path):
    assert code(handmade(b"<</Type/Pages/Kids[]/Count 0>>"), sniff.PDF, tmp_path) == "document_empty"


def test_one_bad_page_does_not_cost_the_others(tmp_path):
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 5 0 R/Resources<</Font<</F 6 0 R>>>>>>"
    text = b"<</Length 30>>\nstream\nBT /F 9 Tf 9 9 Td (kept) Tj ET\nendstream"
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    tree = b"<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2>>"
    assert extracted(handmade(tree, b"[]", page, text, font), sniff.PDF, tmp_path)[-1].text == "kept"


def test_pages_that_are_all_bad(tmp_path):
    data = handmade(b"<</Type/Pages/Kids[]/Count 1>>")
    assert code(data, sniff.PDF, tmp_path) == "document_damaged"


def test_page_count_that_fails():
    class Document:
        is_repaired = False

        @property
        def page_count(self) -> int:
            raise pymupdf.mupdf.FzErrorFormat(0, "no tree")

    with pytest.raises(RingfenceError) as caught:
        reader.page_count(Document(), Limits())
    assert caught.value.code == "document_damaged"


def test_limits_of_a_pdf(tmp_path):
    assert code(pdf("a", "b", "c"), sniff.PDF, tmp_path, max_pages=2) == "too_many_pages"
    assert code(pdf("a" * 20, "b" * 20), sniff.PDF, tmp_path, max_chars=30) == "too_much_text"


def test_pictures_need_ocr_and_blank_pages_do_not(tmp_path):
    with pymupdf.open() as document:
        document.new_page()
        document.new_page().draw_rect((9, 9, 90, 90))
        document.new_page().draw_rect((9, 9, 90, 90))
        drawn = document.tobytes()
    assert code(drawn, sniff.PDF, tmp_path) == "needs_ocr"
    assert code(pdf("", ""), sniff.PDF, tmp_path) == "no_text"


def outlined_pdf(*entries: tuple[int, str, int]) -> bytes:
    with pymupdf.open() as document:
        for text in ("Gates\nA gate opens.", "Locks\nA lock does not."):
            document.new_page().insert_text((72, 72), text)
        document.set_toc([list(entry) for entry in entries])
        return document.tobytes()


def test_headings_of_a_pdf_are_those_of_its_outline(tmp_path):
    frames = extracted(outlined_pdf((1, "Gates", 1), (2, "LOCKS", 2), (2, "Keys", 2)), sniff.PDF, tmp_path)
    first, second = "Gates\nA gate opens.", "Locks\nA lock does not."
    assert frames == [Count(2), Heading(1, 0, 5, 1), Part(1, 0, first), Heading(2, 0, 5, 2), Part(2, 0, second)]


def test_an_outline_that_can_not_be_read_costs_nothing_else():
    class Document:
        def get_toc(self) -> list:
            raise RuntimeError("cycle in outline")

    assert reader._outline(Document()) == {}


@pytest.mark.parametrize("error", [MemoryError(), pymupdf.mupdf.FzErrorSystem("malloc (1 bytes) failed")])
def test_memory_is_told_from_damage(error):
    outer = RuntimeError("open failed")
    outer.__cause__ = error
    with pytest.raises(RingfenceError) as caught:
        reader.damage(outer)
    assert caught.value.code == "parser_memory"
    assert reader.damage(RuntimeError()).code == "document_damaged"
