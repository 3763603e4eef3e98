import subprocess
import sys

import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing import formats
from tests.documents.parsing.made import code, pages, zipped

KINDS = [value for name, value in vars(sniff).items() if name.isupper() and isinstance(value, str) and "/" in value]


def test_each_kind_has_a_reader(tmp_path):
    """What is no document of its kind is damaged or without text; what has no reader would be a defect."""
    for kind in [*KINDS, *sniff.IMAGES]:
        assert code(b" ", kind, tmp_path) in {"document_damaged", "no_text"}


def test_whatever_a_reader_stumbles_over_is_damage(tmp_path):
    deep = "<a>" * 100_000 + "</a>" * 100_000
    body = f"<document><body>{deep}</body></document>"
    assert code(zipped({"word/document.xml": body}), sniff.DOCX, tmp_path) == "document_damaged"
    assert code(b"PK\x03\x04 no archive", sniff.PPTX, tmp_path) == "document_damaged"
    assert code(zipped({"word/document.xml": "<document"}), sniff.DOCX, tmp_path) == "document_damaged"


def test_too_much_text_and_too_many_pages(tmp_path):
    text = "<p>" + "word " * 100
    assert code(text.encode(), sniff.HTML, tmp_path, max_chars=100) == "too_much_text"
    assert pages(text.encode(), sniff.HTML, tmp_path, max_chars=1000)


# What a child may not do: open a file. Documents of each kind are read by a process that is told so.
LOADS_NOTHING = """
import io, sys, tempfile
from ringfence.documents.parsing import formats
from ringfence.documents.parsing.wire import Limits
from ringfence.errors import RingfenceError
formats.warm_up()
files = []
for line in sys.stdin.read().split():
    kind, _, data = line.partition(":")
    file = tempfile.TemporaryFile()
    file.write(bytes.fromhex(data))
    file.seek(0)
    files.append((kind, file))
def audit(event, arguments):
    if event == "open":
        print("opened", arguments[0])
sys.addaudithook(audit)
for kind, file in files:
    try:
        print(kind, len(list(formats.extract(file, kind, None, Limits()))))
    except RingfenceError as error:
        print(kind, error.code)
"""


@pytest.mark.parametrize("encoding", ["cp866", "shift_jis", "latin-1", "big5", "koi8-r", "iso2022_jp"])
def test_a_warm_reader_of_text_needs_no_file(encoding):
    words = {"cp866": "Привет, мир", "koi8-r": "Привет, мир", "latin-1": "Größe", "big5": "世界和平"}
    data = words.get(encoding, "こんにちは世界").encode(encoding)
    samples = [f"{kind}:{(data * times).hex()}" for kind in (sniff.PLAIN, sniff.HTML) for times in (1, 40)]
    assert "opened" not in said(samples)


def test_a_warm_reader_of_anything_needs_no_file():
    mail = formats.mails._SAMPLE
    kinds = {
        sniff.RTF: rb"{\rtf1\ansi\ansicpg932 \'83\'67}",
        sniff.JSON: b'{"a": 1}',
        sniff.CSV: b"a;b\n1;2",
        sniff.EML: mail,
        sniff.DOCX: zipped({"word/document.xml": "<document><body><p><r><t>a</t></r></p></body></document>"}),
    }
    out = said([f"{kind}:{data.hex()}" for kind, data in kinds.items()])
    assert "opened" not in out
    assert len(out.splitlines()) == len(kinds)


def said(samples: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOADS_NOTHING], input="\n".join(samples), capture_output=True, text=True, check=True
    )
    return done.stdout
