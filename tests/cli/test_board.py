import io
from uuid import uuid4

import pytest
from rich.console import Console

from ringfence.cli.board import Board
from ringfence.documents.events import DocumentProgress


def document(**values):
    known = {"document_id": uuid4(), "name": "a[b].pdf", "size": 1, "stage": "parsing", "pages": 9, "pages_done": 3}
    known |= {"chunks": 8, "chunks_done": 2, "eta_seconds": None, "reason_code": None, "reason": None}
    return DocumentProgress(**known | values)


def shown(*moves, ready=()):
    file = io.StringIO()
    with Board(Console(file=file, force_terminal=True, width=120, height=50), 20) as board:
        for one in moves:
            board.moves(one)
        for one in ready:
            board.ready(one)
    return file.getvalue().split("\x1b[2K")[-1] if not ready else file.getvalue()


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({}, "parsing, page 3 of 9"),
        ({"pages": None, "pages_done": 0}, "parsing, page 0 of ?"),
        ({"stage": "embedding", "eta_seconds": 75.4}, "embedding, passage 2 of 8, 0:01:15 left"),
        ({"stage": "storing"}, "storing, passage 2 of 8"),
    ],
)
def test_a_bar_says_how_far_a_document_is(values, note):
    screen = shown(document(**values))
    assert "a[b].pdf" in screen
    assert note in screen


def test_what_waits_has_no_bar():
    assert "a[b].pdf" not in shown(document(stage="queued"))


def test_a_few_bars_are_enough():
    assert shown(*(document() for _ in range(15))).count("a[b].pdf") == 12


def test_at_its_end_a_document_is_a_line():
    one = document()
    screen = shown(one, document(stage="embedding"), ready=[one])
    assert "a[b].pdf: 9 pages, 8 passages" in screen
    assert "1 of 20" in screen
