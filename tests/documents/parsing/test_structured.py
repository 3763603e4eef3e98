from ringfence.documents import sniff
from tests.documents.parsing.made import code, pages


def test_what_people_laid_out_stays(tmp_path):
    data = b'{\n    "a":  1.10\n}'
    assert pages(data, sniff.JSON, tmp_path) == [data.decode()]
    lines = b'{"a": 1}\n{"a": 2}'
    assert pages(lines, sniff.JSON, tmp_path) == [lines.decode()]


def test_one_long_line_gets_lines(tmp_path):
    data = ('{"a":[1.10,{}],"\\u00fc":"x\\"\\\\u","b":"\\u12"' + "," + '"c":"' + "x" * 1000 + '"}}').encode()
    assert pages(data, sniff.JSON, tmp_path) == [
        '{\n  "a": [\n    1.10,\n    {\n      \n    }\n  ],\n  "ü": "x\\"\\\\u",\n  "b": "\\u12",\n  "c": "'
        + "x" * 1000
        + '"\n}\n}'
    ]


def test_nothing(tmp_path):
    assert code(b" \n", sniff.JSON, tmp_path) == "no_text"
