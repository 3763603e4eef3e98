"""What may be said of a document."""

from uuid import UUID

import pytest

from ringfence.documents.labels import MAX_METADATA_BYTES, Labels, labels, read_metadata
from ringfence.errors import Invalid

ONE, TWO = UUID(int=1), UUID(int=2)


def test_labels_come_in_their_right_form():
    said = labels([TWO, ONE, TWO], ["B  c", "a", "b C"], {"n": 1, "ä": ["x", 1.5, True, None], "none": None})
    assert said == Labels((ONE, TWO), ("a", "b c"), '{"n":1,"ä":["x",1.5,true,null],"none":null}')
    assert labels() == Labels(None, None, None)
    assert not labels().given
    assert labels([], [], {}) == Labels((), (), "{}")
    assert labels([]).given


def test_as_many_as_there_may_be():
    size = MAX_METADATA_BYTES - len('{"a":""}')
    assert labels([UUID(int=n) for n in range(50)], map(str, range(50)), {"a": "x" * size}).given
    with pytest.raises(Invalid, match="too_many_collections"):
        labels([UUID(int=n) for n in range(51)])
    with pytest.raises(Invalid, match="bad_tags"):
        labels(tags=map(str, range(51)))
    with pytest.raises(Invalid, match="has at most 16384 bytes as JSON"):
        labels(metadata={"a": "x" * (size + 1)})
    with pytest.raises(Invalid, match="bad_metadata"):
        labels(metadata={"a": "ä" * (size // 2 + 1)})


@pytest.mark.parametrize("tag", ["", "a\0", "\ud800", "x" * 65])
def test_what_is_no_tag_is_refused(tag):
    with pytest.raises(Invalid, match="bad_tags: These are no tags: a tag has 1 to 64"):
        labels(tags=["good", tag])


@pytest.mark.parametrize(
    "metadata",
    [
        {"": 1},
        {"k" * 101: 1},
        {"k\0": 1},
        {"k\ud800": 1},
        {"k": {}},
        {"k": [[]]},
        {"k": [{}]},
        {"k": "a\0"},
        {"k": ["\udfff"]},
        {"k": float("nan")},
        {"k": [float("inf")]},
        {"k": 10**5000},
        {"k": b"x"},
    ],
)
def test_what_is_no_metadata_is_refused(metadata):
    with pytest.raises(Invalid, match="bad_metadata"):
        labels(metadata=metadata)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"a": NaN}', "[" * 10_000, '{"a": "\\ud800"}', "{'a': 1}"])
def test_a_form_s_metadata_is_a_json_object(text):
    with pytest.raises(Invalid, match="bad_metadata: A document's metadata is a JSON object"):
        read_metadata(text)


def test_a_form_s_metadata():
    assert read_metadata('{"a": [1, "x"]}') == {"a": [1, "x"]}
