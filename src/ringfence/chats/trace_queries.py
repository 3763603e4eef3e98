"""SQL of how answers in chats came about: the record, and the words of documents, which hang on their documents."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import batched, chain
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from ringfence.answers.talk import Place, Template
from ringfence.db import TenantTx
from ringfence.ids import ChatId, MessageId

# Locked, so that none goes before its words are kept beside it.
_VERSIONS = """
select document_id, version, first_chunk from documents where user_id = $1 and document_id = any($2) for key share
"""
_ADD = """
insert into traces (user_id, chat_id, message_id, query, as_asked, model, parameters, prompt, passages)
values ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9::jsonb)
"""
_PIN = """
insert into pinned_passages (user_id, chat_id, message_id, n, document_id, document, context, text, quote, spans)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_COLUMNS = "chat_id, message_id, query, as_asked, model, parameters, prompt, passages, created_at"
_TRACE = f"select {_COLUMNS} from traces where user_id = $1 and chat_id = $2 and message_id = $3"  # noqa: S608  # constants, as below
_ALL = f"""
select {_COLUMNS} from traces where user_id = $1 and (chat_id, message_id) > ($2, $3)
order by chat_id, message_id limit $4::int
"""  # noqa: S608
# What lies in the bin is out of sight.
_WORDS = """
select p.message_id, p.n, p.document, p.context, p.text, p.quote, p.spans from pinned_passages p
join documents d on d.user_id = $1 and d.document_id = p.document_id and d.deleted_at is null
where p.user_id = $1 and p.chat_id = any($2::uuid[]) and p.message_id = any($3::uuid[])
"""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A passage that an answer rests on, without its words.

    Attributes:
        n: its number in the prompt and the answer, from 1.
        document_id: whose passage it is; it may have been deleted since.
        version: of the document; None where another took its place while the passage was looked for.
        number: of the chunk.
        spans: where it stands: (page from 1, start, end), in characters of that page's text.
        similarity: cosine with the query; None where no vector was compared.
        lexical: BM25.
        score: by which it was ordered.
        page: where the sentence begins that bears most on the question.
        start: of that sentence, in that page's text.
        end: of that sentence.
    """

    n: int
    document_id: UUID
    version: int | None
    number: int
    spans: tuple[tuple[int, int, int], ...]
    similarity: float | None
    lexical: float
    score: float
    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Words:
    """A passage's words.

    Attributes:
        document: the document's name.
        context: the headings above it.
        text: of it.
        quote: what of that is shown.
        spans: where the text stands, as of `Pinned`.
    """

    document: str
    context: str
    text: str
    quote: str
    spans: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """How an answer came about.

    Attributes:
        query: what was looked for, and what the model was asked.
        as_asked: why that is the question as it was asked (`search.rewrite.Rewritten.reason`); None: it is not.
        model: who was asked; None: nobody.
        parameters: as of `Basis`.
        prompt: what the model was sent, without words of documents.
        passages: what it rests on.
    """

    chat_id: ChatId
    message_id: MessageId
    query: str
    as_asked: str | None
    model: str | None
    parameters: dict[str, Any]
    prompt: Template
    passages: tuple[Pinned, ...]
    created_at: datetime


_PASSAGES = TypeAdapter(tuple[Pinned, ...])
_TEMPLATE: TypeAdapter[Template] = TypeAdapter(tuple[tuple[str, tuple[str | Place, ...]], ...])


async def versions(tx: TenantTx, documents: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """The documents that are still there, kept from being deleted until the end: version, and its first chunk."""
    rows = await tx.fetch(_VERSIONS, tx.user_id, documents)
    return {row["document_id"]: (row["version"], row["first_chunk"]) for row in rows}


async def add(
    tx: TenantTx,
    place: tuple[ChatId, MessageId],
    trace: tuple[str, str | None, str | None, dict[str, Any], Template],
    passages: Sequence[Pinned],
    words: Sequence[tuple[int, UUID, Words]],
) -> None:
    """Keep how an answer came about: query, as_asked, model, parameters and prompt; passages, and words of theirs.

    Words of documents that are gone must not be among them.
    """
    query, as_asked, model, parameters, prompt = trace
    await tx.execute(
        _ADD,
        tx.user_id,
        *place,
        query,
        as_asked,
        model,
        json.dumps(parameters),
        _TEMPLATE.dump_json(prompt).decode(),
        _PASSAGES.dump_json(tuple(passages)).decode(),
    )
    rows = [
        (tx.user_id, *place, n, document_id, one.document, one.context, one.text, one.quote, list(chain(*one.spans)))
        for n, document_id, one in words
    ]
    await tx.executemany(_PIN, rows)


async def get(tx: TenantTx, chat_id: ChatId, message_id: MessageId) -> Trace | None:
    """How one answer came about."""
    row = await tx.fetchrow(_TRACE, tx.user_id, chat_id, message_id)
    return _trace(dict(row)) if row else None


async def all_traces(tx: TenantTx, after: tuple[UUID, UUID], limit: int) -> list[Trace]:
    """How the tenant's answers came about, in the order of their chats' ids and their own, behind one."""
    return [_trace(dict(row)) for row in await tx.fetch(_ALL, tx.user_id, *after, limit)]


async def words(tx: TenantTx, chats: Sequence[ChatId], messages: Sequence[MessageId]) -> dict[tuple[UUID, int], Words]:
    """The words that are left of the passages of answers, by message and number."""
    rows = await tx.fetch(_WORDS, tx.user_id, chats, messages)
    return {(row["message_id"], row["n"]): _words(dict(row)) for row in rows}


def _words(row: dict[str, Any]) -> Words:
    spans = tuple((page, start, end) for page, start, end in batched(row["spans"], 3))
    return Words(row["document"], row["context"], row["text"], row["quote"], spans)


def _trace(values: dict[str, Any]) -> Trace:
    parameters = json.loads(values["parameters"])
    prompt, passages = _TEMPLATE.validate_json(values["prompt"]), _PASSAGES.validate_json(values["passages"])
    return Trace(**{**values, "parameters": parameters, "prompt": prompt, "passages": passages})
