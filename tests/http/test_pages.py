import asyncio
from io import BytesIO
from urllib.parse import quote
from uuid import uuid4

import pymupdf
import pytest

from ringfence.client import Place
from ringfence.errors import Invalid
from tests.http.test_documents import ada, bob, finished, upload  # noqa: F401  # fixtures


def pdf(*pages, **save):
    with pymupdf.open() as document:
        for text in pages:
            document.new_page(width=300, height=200).insert_text((20, 40), text)
        return document.tobytes(**save)


HANDBOOK = pdf("The shop is in the lane.", "The notice period is six weeks.")


async def kept(http, content=HANDBOOK, name="handbook.pdf"):
    document_id = (await upload(http, name, content)).json()["document_id"]
    await finished(http, document_id)
    return f"/api/v1/documents/{document_id}"


async def test_what_an_answer_cites_is_found_on_its_page(ada):  # noqa: F811
    path = await kept(ada)
    found = (await ada.post("/api/v1/search", json={"query": "notice period"})).json()["results"][0]
    place = next(place for place in found["places"] if place["page"] == 2)
    asked = {"start": place["start"], "end": place["end"]}
    rects = (await ada.get(f"{path}/pages/2/rects", params=asked)).json()
    assert (rects["page"], rects["width"], rects["height"]) == (2, 300, 200)
    assert rects["text"] == "The notice period is six weeks."
    [rect] = rects["rects"]
    assert 19 < rect["x0"] < rect["x1"] < 300
    assert 20 < rect["y0"] < 40 < rect["y1"] < 60


async def test_the_clients_calls(live):
    locked = pdf("The notice.", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="ключ", owner_pw="owner")
    async with live.account("ada@example.com") as client:
        document, _ = await client.upload("locked.pdf", BytesIO(locked), password="ключ")
        place = Place(page=1, start=4, end=10)
        found = await client.page_rects(document.document_id, place, password="ключ")
        assert (found.text, len(found.rects)) == ("notice", 1)
        assert (await client.page_picture(document.document_id, 1, password="ключ")).startswith(b"\x89PNG")
        with pytest.raises(Invalid, match="document_encrypted"):
            await client.page_picture(document.document_id, 1)


async def test_a_page_is_drawn_once(ada):  # noqa: F811
    path = await kept(ada)
    first = await ada.get(f"{path}/pages/1.png", params={"scale": 2})
    assert (first.status_code, first.headers["content-type"]) == (200, "image/png")
    assert first.headers["cache-control"] == "private, no-cache"
    picture = pymupdf.Pixmap(first.content)
    assert (picture.width, picture.height) == (600, 400)
    tag = first.headers["etag"]
    again = await ada.get(f"{path}/pages/1.png", params={"scale": 2}, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    others = [f"{path}/pages/2.png?scale=2", f"{path}/pages/1.png"]
    assert tag not in [(await ada.get(other)).headers["etag"] for other in others]


REFUSED = [
    ("pages/3.png", 404, "page_not_found"),
    ("pages/0.png", 422, "bad_request"),
    ("pages/one.png", 422, "bad_request"),
    ("pages/1.png?scale=99", 422, "bad_request"),
    ("pages/1.png?scale=nan", 422, "bad_request"),
    ("pages/1.png?version=2", 409, "document_changed"),
    ("pages/3/rects?start=0&end=1", 404, "page_not_found"),
    ("pages/1/rects?start=0&end=1000", 400, "outside_page"),
    ("pages/1/rects?start=0&end=100000", 400, "bad_range"),
    ("pages/1/rects?start=5&end=5", 400, "bad_range"),
    ("pages/1/rects?start=0&end=1&version=2", 409, "document_changed"),
]


async def test_what_can_not_be_shown(ada):  # noqa: F811
    path = await kept(ada)
    for asked, status, code in REFUSED:
        response = await ada.get(f"{path}/{asked}")
        assert (response.status_code, response.json()["code"]) == (status, code), asked


async def test_what_was_read_on_a_page(ada, bob):  # noqa: F811
    path = await kept(ada)
    found = (await ada.get(f"{path}/pages/2/text")).json()
    assert found == {"page": 2, "start": 0, "text": "The notice period is six weeks."}
    whole = {"start": 0, "end": len(found["text"])}
    [rect] = (await ada.get(f"{path}/pages/2/rects", params=whole)).json()["rects"]
    assert (rect["start"], rect["end"]) == (0, len(found["text"]))
    part = (await ada.get(f"{path}/pages/2/rects", params={"start": 4, "end": 10})).json()["rects"]
    assert [(one["start"], one["end"]) for one in part] == [(4, 10)]
    missing = await ada.get(f"{path}/pages/3/text")
    assert (missing.status_code, missing.json()["code"]) == (404, "page_not_found")
    assert (await bob.get(f"{path}/pages/2/text")).json()["code"] == "document_not_found"
    plain = await kept(ada, b"The notice period is six weeks.", "handbook.txt")
    assert (await ada.get(f"{plain}/pages/1/text")).json()["text"] == "The notice period is six weeks."


async def test_text_has_no_pages(ada):  # noqa: F811
    path = await kept(ada, b"The notice period is six weeks.", "handbook.txt")
    for asked in ("pages/1.png", "pages/1/rects?start=0&end=1"):
        response = await ada.get(f"{path}/{asked}")
        assert (response.status_code, response.json()["code"]) == (415, "no_pages")


async def test_others_pages_are_like_none(ada, bob):  # noqa: F811
    path = await kept(ada)
    none = f"/api/v1/documents/{uuid4()}"
    for asked in ("pages/1.png", "pages/1/rects?start=0&end=1"):
        foreign, missing = await bob.get(f"{path}/{asked}"), await bob.get(f"{none}/{asked}")
        assert (foreign.status_code, foreign.content) == (missing.status_code, missing.content)
        assert foreign.status_code == 404
    tag = (await ada.get(f"{path}/pages/1.png")).headers["etag"]
    assert (await bob.get(f"{path}/pages/1.png", headers={"If-None-Match": tag})).status_code == 404


async def test_a_page_of_an_encrypted_document_needs_its_password(ada):  # noqa: F811
    locked = pdf("The notice.", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="ключ", owner_pw="owner")
    form = {"files": {"file": ("locked.pdf", locked)}, "data": {"password": "ключ"}}
    document_id = (await ada.post("/api/v1/documents", **form)).json()["document_id"]
    await finished(ada, document_id)
    path = f"/api/v1/documents/{document_id}/pages/1/rects?start=0&end=3"
    assert (await ada.get(path)).json()["code"] == "document_encrypted"
    wrong = await ada.get(path, headers={"Document-Password": "no"})
    assert wrong.json()["code"] == "wrong_password"
    right = await ada.get(path, headers={"Document-Password": quote("ключ")})
    assert right.json()["text"] == "The"


async def test_a_replaced_document_shows_its_new_pages(ada):  # noqa: F811
    path = await kept(ada)
    version = (await ada.get(path)).json()["version"]
    await ada.put(f"{path}/content", files={"file": ("new.pdf", pdf("Tea is free."))})
    async with asyncio.timeout(30):
        while (await ada.get(path)).json()["replacement"]:
            await asyncio.sleep(0.05)  # the worker's end sets no event here
    stale = await ada.get(f"{path}/pages/1/rects?start=0&end=3&version={version}")
    assert (stale.status_code, stale.json()["code"]) == (409, "document_changed")
    fresh = await ada.get(f"{path}/pages/1/rects?start=0&end=3&version={version + 1}")
    assert fresh.json()["text"] == "Tea"


async def test_a_file_or_a_document_that_is_gone(ada, live, settings):  # noqa: F811
    path = await kept(ada)
    for file in (settings.data_dir / "files").rglob("*"):
        if file.is_file() and file.read_bytes() == HANDBOOK:
            file.unlink()
    assert (await ada.get(f"{path}/pages/1.png")).json()["code"] == "file_not_found"
    await ada.delete(path)
    assert (await ada.get(f"{path}/pages/1.png")).json()["code"] == "document_not_found"


async def test_too_many_at_once_are_told_to_wait(ada):  # noqa: F811
    path = await kept(ada)
    responses = await asyncio.gather(*(ada.get(f"{path}/pages/1.png?scale={n / 10}") for n in range(1, 41)))
    assert {response.status_code for response in responses} == {200, 429}
    refused = next(response for response in responses if response.status_code == 429)
    assert refused.json()["code"] == "too_many_pages_at_once"
