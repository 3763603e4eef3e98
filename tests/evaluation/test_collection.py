"""Collections: what is read, and what is said of one that can't be."""

import os

import pytest

from ringfence.errors import Invalid
from ringfence.evaluation.collection import Query, document_of, load

CORPUS = '{"_id": "d1", "title": " Notice ", "text": "Six weeks.", "more": 1}\n\n{"_id": "d2", "text": "Anders."}\n'
EMPTY = '{"_id": "d3", "title": " ", "text": "\\n"}\n'
QUERIES = '{"_id": "q1", "text": "How long?"}\n{"_id": "q2", "text": "Who?"}\n{"_id": "q3", "text": "Why?"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\r\nq3\td1\t0\n"


@pytest.fixture
def folder(tmp_path):
    for name, text in (("corpus.jsonl", CORPUS + EMPTY), ("queries.jsonl", QUERIES), ("qrels.tsv", QRELS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_folder_is_read(folder):
    collection = load(folder)
    assert collection.name == folder.name
    assert list(collection.corpus) == ["d1", "d2"]
    assert [query.id for query in collection.queries] == ["q1", "q2"]
    assert collection.qrels == {"q1": {"d1": 2}, "q2": {"d2": 1}}
    assert collection.ids == {document_of("d1"): "d1", document_of("d2"): "d2"}
    first, second = (entry.document for entry in collection.corpus.values())
    assert (first.title, first.name, first.page) == ("Notice", "Notice", "Notice\nSix weeks.")
    assert (second.title, second.name, second.page) == ("", "untitled", "Anders.")
    assert [entry.offset for entry in collection.corpus.values()] == [7, 0]


def test_qrels_need_no_header(folder):
    (folder / "qrels.tsv").write_text("q1\td1\t1\n")
    assert load(folder).qrels == {"q1": {"d1": 1}}


def test_the_digest_is_the_corpus(folder):
    before = load(folder).digest
    assert load(folder).digest == before
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "other"}')
    assert load(folder).digest == before
    (folder / "corpus.jsonl").write_text(CORPUS.replace("Six", "Ten"))
    assert load(folder).digest != before


def test_halves_depend_on_the_id_alone():
    halves = [Query(_id=f"q{n}", text="t").half for n in range(1000)]
    assert halves == [Query(_id=f"q{n}", text="other").half for n in range(1000)]
    assert 400 < halves.count("tune") < 600


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("corpus.jsonl", CORPUS + "{", "corpus.jsonl: line 4"),
        ("corpus.jsonl", '{"_id": ""}', "line 1: _id"),
        ("corpus.jsonl", EMPTY, "no entry with a text"),
        ("queries.jsonl", '{"_id": "q9", "text": "x"}', "no query with a judgement"),
        ("queries.jsonl", '{"_id": "q9"}', "line 1: text"),
        ("qrels.tsv", "q1\td1\t1\nq1 d1 1\n", "qrels.tsv: line 2"),
        ("qrels.tsv", "q1\td1\t1\nq1\td1\t0.5\n", "line 2"),
        ("qrels.tsv", None, "can't be read"),
        ("corpus.jsonl", b"\xff", "no UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(folder, name, text, said):
    path = folder / name
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Invalid, match="bad_collection") as caught:
        load(folder)
    assert said in caught.value.message


def test_a_file_of_more_than_a_gibibyte_is_not_read(folder):
    os.truncate(folder / "corpus.jsonl", 2**30 + 1)  # sparse
    with pytest.raises(Invalid, match="1 GiB"):
        load(folder)
