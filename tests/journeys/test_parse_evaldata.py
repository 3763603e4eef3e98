"""Every document of the evaluation set ends well or with a clear reason, and the sandbox outlives the hostile ones."""

import csv
import os
import re
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from rapidfuzz.distance import Indel

from ringfence.documents import sniff
from ringfence.documents.chunker import Chunker
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.parsing.wire import REASONS
from ringfence.errors import RingfenceError

ROOT = Path(__file__).parents[2]
FOLDER = (ROOT / os.environ.get("RINGFENCE_EVALDATA", "../shared/evaldata")).resolve() / "documents"
MANIFEST = FOLDER / "manifest.tsv"
SLOWEST = 35.0  # seconds: the CPU limit and some waiting

pytestmark = [
    pytest.mark.evaldata,
    pytest.mark.skipif(not MANIFEST.exists(), reason=f"no evaluation documents in {FOLDER}; set RINGFENCE_EVALDATA"),
    pytest.mark.asyncio(loop_scope="module"),
]

SCANS = {"imagemagick-CCITTFaxDecode.pdf", "loremipsum-flat.pdf", "ocr_test.pdf", "ocr_test_rotated_90.pdf"}
BLANK = {"labelled_pages.pdf"}  # eleven pages, nothing on any
LOCKED = {"libreoffice-writer-password.pdf", "password-example.pdf", "r4-user-password.pdf"}


HOSTILE = {
    "derived-xxe.docx": "document_damaged",
    "derived-zip-bomb-300MB.docx": "unpacked_too_large",
    "derived-nul-bytes.txt": "unsupported_type",
    "quine.gz": "unsupported_type",
    "testChm_oom.chm": "unsupported_type",
    "testEXCEL_protected_passtika.xlsx": "document_encrypted",
    "testException1.doc": "unsupported_type",
    "testXXE.xml": "unsupported_type",
    "testZIP_corrupted_oom.zip": "unsupported_type",
    "testZip_relative.zip": "unsupported_type",
}
OFFICE = {
    "2206.01062.tif": "needs_ocr",
    "empty.txt": "empty_file",
    "legacy_sample.doc": "unsupported_type",
    "legacy_sample.ppt": "unsupported_type",
    "testEXCEL.xlsb": "unsupported_type",
}
OTHERWISE_SET = {"equations.docx"}  # its true text leaves out the formula in the sentence's middle, which we keep


def words(text: str) -> str:
    """Words alone: what a table's or a list's signs set apart is the same text."""
    return " ".join(re.findall(r"\w+", text))


def rows(kind: str) -> list[dict[str, str]]:
    if not MANIFEST.exists():
        return []
    with MANIFEST.open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if row["file"].startswith(kind + "/")]


def named(kind: str) -> list:
    return [pytest.param(row, id=row["file"].partition("/")[2]) for row in rows(kind)]


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with Sandbox() as running:
        yield running


async def outcome(sandbox: Sandbox, name: str, password: str | None) -> tuple[str, dict[int, str]]:
    """`ready` or the error's code, and the text of each page."""
    path = FOLDER / name
    pages: dict[int, str] = {}
    try:
        media_type = sniff.media_type(*ends(path))
        async with sandbox.parse(path, media_type, password) as parsing:
            async for page in parsing:
                pages[page.number] = pages.get(page.number, "") + page.text
    except RingfenceError as error:
        return error.code, {}
    return "ready", pages


def ends(path: Path) -> tuple[bytes, str, bytes]:
    """What `sniff.media_type` wants to see."""
    data = path.read_bytes()
    return data[: sniff.HEAD_BYTES], path.name, data[-sniff.TAIL_BYTES :]


def chunks_of(pages: dict[int, str]) -> list:
    chunker = Chunker()
    return [chunk for number, text in pages.items() for chunk in chunker.add(number, text)] + chunker.finish()


@pytest.mark.parametrize("row", named("wellformed"))
async def test_wellformed(row, sandbox):
    name = row["file"].partition("/")[2]
    got, pages = await outcome(sandbox, row["file"], row["password"] or None)
    if name in SCANS | BLANK:
        assert got == ("needs_ocr" if name in SCANS else "no_text")
        return
    assert got == "ready"
    assert any(pages.values())
    if row["pages"]:
        assert len(pages) == int(row["pages"])
    if row["true_text"]:
        number = int(row["where"].removeprefix("page "))
        assert plain(row["true_text"]) in plain(pages[number])
        beginning = " ".join(plain(row["true_text"]).split()[:4])
        holders = [chunk for chunk in chunks_of(pages) if beginning in plain(chunk.text)]
        assert any(number in {page for page, _, _ in chunk.spans} for chunk in holders)


@pytest.mark.parametrize("row", [row for row in named("wellformed") if row.id in LOCKED])
async def test_a_locked_document_asks_for_its_password(row, sandbox):
    assert (await outcome(sandbox, row["file"], None))[0] == "document_encrypted"
    assert (await outcome(sandbox, row["file"], "not the password"))[0] == "wrong_password"


@pytest.mark.parametrize("row", named("hostile"))
async def test_hostile(row, sandbox):
    helper = sandbox.pid
    started = time.monotonic()
    got, pages = await outcome(sandbox, row["file"], row["password"] or None)
    assert time.monotonic() - started < SLOWEST
    assert got in {"ready", "unsupported_type", "empty_file", *REASONS}
    assert got == HOSTILE.get(row["file"].partition("/")[2], got)
    assert sandbox.pid == helper
    assert not any("\x00" in text for text in pages.values())
    good, text = await outcome(sandbox, "wellformed/crazyones-pdfa.pdf", None)
    assert good == "ready"
    assert "crazy ones" in plain(text[1])


@pytest.mark.parametrize("row", named("office"))
async def test_office(row, sandbox):
    name = row["file"].partition("/")[2]
    got, pages = await outcome(sandbox, row["file"], None)
    assert got == OFFICE.get(name, "ready")
    if got == "ready" and row["true_text"] and name not in OTHERWISE_SET:
        assert words(row["true_text"]) in words(" ".join(pages.values()))


async def test_the_book_whose_text_is_known(sandbox):
    """Measured as py-pdf/benchmarks does, whose book it is: characters inserted and deleted, against those of both."""
    _, pages = await outcome(sandbox, "wellformed/GeoTopo-komprimiert.pdf", None)
    truth = (FOLDER / "ground-truth" / "GeoTopo-komprimiert.txt").read_text(encoding="utf-8")
    # Below the cutoff it is 0, so that most of the work need not be done.
    assert Indel.normalized_similarity(plain(truth), plain(" ".join(pages.values())), score_cutoff=0.97) >= 0.97
