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


async def test_all_of_them_end_and_the_worker_lives(live: Live, admin: asyncpg.Connection) -> None:
    wellformed, hostile = rows("wellformed"), rows("hostile")
    async with live.account("ada@example.com") as client:
        uploads = [(row, *(await upload(client, row))) for row in (*hostile, *wellformed)]
        ends = {row["file"]: await finish(client, id_) for row, said, id_ in uploads if said == "accepted"}
        alive, _ = await client.upload("alive.txt", io.BytesIO(b"The worker is alive."))
        assert (await finish(client, alive.document_id)).state == "ready"
    refused = {row["file"]: said for row, said, _ in uploads if said != "accepted"}
    assert set(refused.values()) <= {"unsupported_type", "empty_file"}
    assert not [name for name in refused if name.startswith("wellformed/")]
    codes = {row["name"]: row["reason_code"] for row in await admin.fetch("select name, reason_code from documents")}
    missing: list[str] = []
    for row in wellformed:
        end = ends[row["file"]]
        assert end.state == "ready" or codes[end.name] in REASONS, (row["file"], end)
        if row["true_text"] and end.state == "ready":
            missing += [] if await holds(admin, end, row) else [row["file"]]
    assert missing == []
    locked = {end.name for name, end in ends.items() if name.rpartition("/")[2] in LOCKED}
    assert {codes[name] for name in locked} == {"document_encrypted"}


async def holds(admin, document, row) -> bool:
    """Whether a passage of the document holds the true text, and names its page."""
    page = int(row["where"].removeprefix("page "))
    found = await admin.fetch(
        "select text, spans from chunks where document_id = $1 order by number", document.document_id
    )
    holding = [
        chunk for chunk in found if page in chunk["spans"][::3] and plain(row["true_text"]) in plain(chunk["text"])
    ]
    return bool(holding)
