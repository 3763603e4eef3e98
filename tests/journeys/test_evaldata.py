"""The evaluation documents, hostile ones among them, from the front door to passages that name the right page."""

import asyncio
import io

import asyncpg
import pytest

from ringfence.errors import Invalid, Unsupported
from tests.engine import Live
from tests.journeys.test_parse_evaldata import FOLDER, LOCKED, MANIFEST, plain, rows

pytestmark = [
    pytest.mark.evaldata,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not MANIFEST.exists(), reason=f"no evaluation documents in {FOLDER}; set RINGFENCE_EVALDATA"),
]
REASONS = {"needs_ocr", "no_text", "document_encrypted", "document_damaged", "document_empty"}


async def upload(client, row) -> tuple[str, object]:
    """`accepted` with the document's id, or the code with which the door refused it."""
    path = FOLDER / row["file"]
    try:
        with path.open("rb") as file:
            document, _ = await client.upload(path.name, file)
    except (Invalid, Unsupported) as error:
        return error.code, None
    return "accepted", document.document_id


async def finish(client, document_id):
    while not (document := await client.document(document_id)).final:
        await asyncio.sleep(0.1)
    return document


@pytest.mark.long
async def test_all_of_them_end_and_the_worker_lives(live: Live, admin: asyncpg.Connection) -> None:
    wellformed, hostile = rows("wellformed"), rows("hostile")
    async with live.account("ada@example.com") as client:
        uploads = [(row, *(await upload(client, row))) for row in (*hostile, *wellformed)]
        ends = {row["file"]: await finish(client, id_) for row, said, id_ in uploads if said == "accepted"}
        alive, _ = await client.upload("alive.txt", io.BytesIO(b"The worker is alive."))
        assert (await finish(client, alive.document_id)).state == "ready"
    refused = {row["file"]: said for row, said, _ in uploads if said != "accepted"}
    assert set(refused.values()) <= {"unsupported_type", "empty_file", "document_encrypted"}
    assert not [name for name in refused if name.startswith("wellformed/")]
    codes = {row["name"]: row["reason_code"] for row in await admin.fetch("select name, reason_code from documents")}
    held: dict[str, str] = {}
    for row in wellformed:
        end = ends[row["file"]]
        assert end.state == "ready" or codes[end.name] in REASONS, (row["file"], end)
        if row["true_text"] and end.state == "ready":
            held[row["file"]] = await holds(admin, end, row)
    assert [file for file, how in held.items() if how == "nowhere"] == []
    # A heading begins a passage: three of the true texts run over one. docs/formats.md has the share of all files.
    assert sum(how == "in one" for how in held.values()) >= len(held) - 3, held
    locked = {end.name for name, end in ends.items() if name.rpartition("/")[2] in LOCKED}
    assert {codes[name] for name in locked} == {"document_encrypted"}


async def holds(admin, document, row) -> str:
    """Whether a passage on the right page holds the true text, or several do, where a heading begins the next one."""
    page = int(row["where"].removeprefix("page "))
    found = await admin.fetch("select text, spans from chunks where document_id = $1", document.document_id)
    truth = plain(row["true_text"])
    if any(truth in plain(chunk["text"]) for chunk in found if page in chunk["spans"][::3]):
        return "in one"
    letters: dict[int, str] = {}
    for chunk in found:
        at, spans = 0, chunk["spans"]
        for number, start, end in zip(spans[::3], spans[1::3], spans[2::3], strict=True):
            if number == page:
                letters |= dict(enumerate(chunk["text"][at : at + end - start], start))
            at += end - start + 1
    whole = "".join(letters.get(place, " ") for place in range(max(letters, default=0) + 1))
    return "in several" if truth in plain(whole) else "nowhere"
