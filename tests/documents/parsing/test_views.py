"""Pages as they look, and where words stand on them: what is said to be a word's place has its ink."""

import base64

import numpy as np
import pymupdf
import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing import views
from ringfence.documents.parsing.wire import Box, Count, Part, Pixels, Sheet, View
from ringfence.errors import RingfenceError
from tests.documents.parsing.made import pages, pdf, viewed

SCALE = 2.0


def drawn(data, folder, page=1, scale=SCALE, media_type=sniff.PDF):
    found = viewed(data, media_type, folder, View(page, scale))
    return pymupdf.Pixmap(b"".join(base64.b64decode(one.png) for one in found if isinstance(one, Pixels)))


def placed(data, folder, words, page=1):
    """The words that are found at the place of these, and their boxes."""
    start = pages(data, sniff.PDF, folder)[page - 1].index(words)
    found = viewed(data, sniff.PDF, folder, View(page, None, start, start + len(words)))
    assert isinstance(found[0], Count)
    assert isinstance(found[1], Sheet)
    assert found[2] == Part(page, start, words)
    return [box for box in found[3:] if isinstance(box, Box)]


def ink(picture, boxes):
    """The share of a picture's dark points that lie in boxes."""
    points = np.frombuffer(picture.samples, np.uint8).reshape(picture.height, picture.width, picture.n)
    y, x = np.nonzero(points.astype(int).sum(axis=2) < 300)
    inside = np.zeros(len(x), bool)
    for box in boxes:
        x0, y0, x1, y1 = (SCALE * edge for edge in (box.x0, box.y0, box.x1, box.y1))
        inside |= (x >= x0 - 1) & (x <= x1 + 1) & (y >= y0 - 1) & (y <= y1 + 1)
    return inside.mean()


def small(*lines, rotation=0, crop=None, **insert):
    with pymupdf.open() as document:
        page = document.new_page(width=240, height=120)
        for number, line in enumerate(lines):
            page.insert_text((20, 40 + 13 * number), line, **insert)
        if crop:
            page.set_cropbox(pymupdf.Rect(*crop))
        page.set_rotation(rotation)
        return document.tobytes()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (10, 10, 200, 110)])
def test_boxes_hold_the_ink_of_their_words(tmp_path, rotation, crop):
    data = small("hidden treasure", rotation=rotation, crop=crop)
    whole = placed(data, tmp_path, "hidden treasure")
    part = placed(data, tmp_path, "treasure")
    picture = drawn(data, tmp_path)
    assert ink(picture, whole) == 1
    assert 0.4 < ink(picture, part) < 0.7


def test_words_of_several_lines_have_a_box_for_each(tmp_path):
    data = small("one two", "three four", "five")
    boxes = placed(data, tmp_path, "two\nthree four\nfive")
    assert len(boxes) == 3
    assert boxes[0].x0 > boxes[1].x0
    assert boxes[0].y0 < boxes[1].y0 < boxes[2].y0
    assert ink(drawn(data, tmp_path), [*boxes, *placed(data, tmp_path, "one")]) == 1


def test_hyphens_at_a_lines_end_are_passed_over(tmp_path):
    data = small("The treas-", "ure is here.")
    assert [len(placed(data, tmp_path, words)) for words in ("treasure", "ure is", "The")] == [2, 1, 1]


def test_words_of_other_scripts_and_ligatures(tmp_path):
    data = small("窯は直す、三百円。", "fine", fontname="japan")
    assert len(placed(data, tmp_path, "三百円")) == 1
    assert len(placed(data, tmp_path, "。\nfi")) == 2


def test_an_empty_range_between_words_has_no_box(tmp_path):
    assert placed(small("one two"), tmp_path, " ") == []


def test_a_page_has_its_own_size_and_scale(tmp_path):
    data = pdf("one", "two")
    assert viewed(data, sniff.PDF, tmp_path, View(2, 0.5))[:2] == [Count(2), Sheet(595.0, 842.0)]
    assert (drawn(data, tmp_path, scale=1).width, drawn(data, tmp_path, scale=0.1).width) == (595, 60)


def test_what_would_be_too_large_is_drawn_smaller(tmp_path):
    with pymupdf.open() as document:
        document.new_page(width=14_000, height=14_000)
        picture = drawn(document.tobytes(), tmp_path, scale=8)
    assert picture.width * picture.height <= views.MAX_PIXELS * 1.01


def test_a_large_picture_comes_in_several_frames(tmp_path):
    noise = pymupdf.Pixmap(pymupdf.csRGB, 400, 400, bytes(i * i * 7919 >> 5 & 255 for i in range(480_000)), False)
    found = viewed(noise.tobytes("png"), "image/png", tmp_path, View(1, 2.0))
    assert sum(isinstance(frame, Pixels) for frame in found) > 1
    assert drawn(noise.tobytes("png"), tmp_path, media_type="image/png").width >= 400


def code(data, folder, view, media_type=sniff.PDF, password=None, **limits):
    with pytest.raises(RingfenceError) as caught:
        viewed(data, media_type, folder, view, password, **limits)
    return caught.value.code


def test_what_can_not_be_seen(tmp_path):
    data = small("one two")
    assert code(data, tmp_path, View(2, 1.0)) == "page_not_found"
    assert code(data, tmp_path, View(1, None, 0, 8)) == "outside_page"
    assert code(pdf("a", "b"), tmp_path, View(1, 1.0), max_pages=1) == "too_many_pages"
    assert code(b"%PDF-1.7 and nothing else", tmp_path, View(1, 1.0)) == "document_damaged"
    picture = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 9, 9)).tobytes("png")
    assert code(picture, tmp_path, View(1, None, 0, 1), "image/png") == "no_rectangles"
    locked = pdf("secret", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="key", owner_pw="owner")
    assert code(locked, tmp_path, View(1, 1.0)) == "document_encrypted"
    assert code(locked, tmp_path, View(1, 1.0), password="no") == "wrong_password"
    assert viewed(locked, sniff.PDF, tmp_path, View(1, None, 0, 6), "key")[2] == Part(1, 0, "secret")


class Odd:
    """A page whose characters are not those of its text."""

    number = 0

    def __init__(self, *characters):
        self._characters = characters

    def get_textpage(self, flags):
        return self

    def extractRAWDICT(self):  # the library's name
        spans = [{"chars": [{"c": character, "bbox": (0, 0, 1, 1)} for character in self._characters]}]
        return {"blocks": [{"lines": [{"spans": spans}]}]}


@pytest.mark.parametrize("characters", ["axc", "ab"])
def test_words_that_can_not_be_placed(characters):
    with pytest.raises(RingfenceError) as caught:
        list(views._placed(Odd(*characters), "a b c"))
    assert caught.value.code == "no_rectangles"


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("secret"), "document_damaged"), (pymupdf.mupdf.FzErrorSystem("malloc failed"), "parser_memory")],
)
def test_whatever_the_library_raises_is_damage(error, code):
    def load():
        raise error

    with pytest.raises(RingfenceError) as caught:
        list(views.shown(load, View(1, 0.5)))
    assert caught.value.code == code
    assert "secret" not in caught.value.message


def test_no_memory_is_no_damage():
    def load():
        raise MemoryError

    with pytest.raises(MemoryError):
        list(views.shown(load, View(1, 0.5)))


def test_warming_up_reads_and_draws():
    views.warm_up()
