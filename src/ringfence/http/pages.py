"""Routes of a document's pages: what one looks like, and where on it words stand."""

import hashlib
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ringfence.documents.looking import MAX_WORDS
from ringfence.documents.parsing.sandbox import View
from ringfence.documents.passwords import MAX_BYTES
from ringfence.documents.queries import Document
from ringfence.errors import Invalid, NotFound
from ringfence.http.contract import Responses, may
from ringfence.http.deps import NamedDocument, Reader, ServicesDep
from ringfence.http.files import has_it

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])

_DRAWN = "1"  # of the way in which pages are drawn: another one makes other pictures, and other tags
_PICTURE: Responses = {
    200: {"description": "The page.", "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "You have it already, as `If-None-Match` says."},
}

type PageNumber = Annotated[int, Path(ge=1, le=1_000_000, description="From 1.")]
type Version = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Of the document: where it is another one by now, that is 409.")
]
type Password = Annotated[
    str | None,
    Header(
        alias="Document-Password",
        max_length=3 * MAX_BYTES,
        description="Opens an encrypted PDF, whose password is not kept: in UTF-8, percent-encoded.",
    ),
]


class Rect(BaseModel):
    """Where words of one line stand, in points (1/72 inch) from the page's upper left corner."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    x0: float = Field(examples=[72.0])
    y0: float = Field(examples=[91.5])
    x1: float = Field(examples=[288.3])
    y1: float = Field(examples=[105.2])
    start: int = Field(description="Of the line's words: the first character in the page's text.", examples=[118])
    end: int = Field(description="Behind the last one.", examples=[149])


class Rects(BaseModel):
    """Where words stand on a page."""

    model_config = ConfigDict(extra="forbid")

    page: int = Field(examples=[3])
    width: float = Field(description="Of the page, in points.", examples=[595.0])
    height: float = Field(description="Likewise.", examples=[842.0])
    text: str = Field(description="The words that stand there.", examples=["The notice period is six weeks."])
    rects: list[Rect] = Field(description="One for each line.")


@router.get("/{document_id}/pages/{page}/rects", responses=may(400, 409, 413, 415))
async def rects(
    document_id: NamedDocument,
    page: PageNumber,
    start: Annotated[int, Query(ge=0, le=2**31 - 1, description="As of a quote: the first character.")],
    end: Annotated[int, Query(ge=1, le=2**31 - 1, description="Behind the last one.")],
    *,
    user_id: Reader,
    services: ServicesDep,
    version: Version = None,
    password: Password = None,
) -> Rects:
    """Where on the page words stand, by their place in the page's text. Of PDF and XPS; scans have no rectangles."""
    if not start < end <= start + MAX_WORDS:
        raise Invalid("bad_range", f"`end` lies behind `start`, by at most {MAX_WORDS} characters.")
    document = await services.looking.document(user_id, document_id, version)
    seen = await services.looking.look(user_id, document, View(page, None, start, end), _plain(password))
    boxes = [Rect.model_validate(box) for box in seen.boxes]
    return Rects(page=page, width=seen.width, height=seen.height, text=seen.text, rects=boxes)


class PageTextView(BaseModel):
    """What was read on a page; a citation's `start` and `end` count its characters."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    page: int = Field(examples=[3])
    start: int = Field(description="Of the page's text, where `text` begins: what is before it is blank.", examples=[0])
    text: str = Field(examples=["The notice period is six weeks."])


@router.get("/{document_id}/pages/{page}/text")
async def text(document_id: NamedDocument, page: PageNumber, user_id: Reader, services: ServicesDep) -> PageTextView:
    """What was read on a page, of a document of any kind that is ready. Where a gap was not kept, blanks stand."""
    document = await services.library.get(user_id, document_id)
    if page > (document.pages or 0):
        raise NotFound("page_not_found", "The document has no such page.")
    return PageTextView.model_validate(await services.search.page(user_id, document_id, page))


@router.get("/{document_id}/pages/{page}.png", response_class=Response, responses=_PICTURE | may(400, 409, 413, 415))
async def picture(
    document_id: NamedDocument,
    page: PageNumber,
    request: Request,
    *,
    user_id: Reader,
    services: ServicesDep,
    scale: Annotated[float, Query(ge=0.1, le=8, description="Pixels a point; at most 12 million in all.")] = 1.5,
    version: Version = None,
    password: Password = None,
) -> Response:
    """A picture of a page, of PDF, XPS and images."""
    document = await services.looking.document(user_id, document_id, version)
    headers = {"ETag": _tag(document, page, scale), "Cache-Control": "private, no-cache"}
    if has_it(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    seen = await services.looking.look(user_id, document, View(page, scale), _plain(password))
    return Response(seen.picture, media_type="image/png", headers=headers)


def _tag(document: Document, page: int, scale: float) -> str:
    digest = hashlib.sha256(f"{_DRAWN} {document.sha256.hex()} {page} {scale}".encode())
    return f'"{digest.hexdigest()[:32]}"'


def _plain(password: str | None) -> str | None:
    return None if password is None else unquote(password)
