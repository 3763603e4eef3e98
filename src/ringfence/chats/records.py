"""How an answer came about: taken down when it begins, and put together again for whoever asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from ringfence.answers import evidence
from ringfence.answers.events import Citation, Quote, Source, SourcesEvent
from ringfence.answers.queries import CitedPlace
from ringfence.answers.talk import Basis, Place, filled
from ringfence.answers.visible import visible
from ringfence.chats import trace_queries
from ringfence.chats.queries import Message
from ringfence.chats.trace_queries import Pinned, Trace, Words
from ringfence.db import TenantTx
from ringfence.ids import ChatId, MessageId
from ringfence.models import base
from ringfence.search.queries import Passage

GONE = "[deleted]"
"""What stands in a prompt in the place of a deleted document's words."""

type Left = Mapping[tuple[UUID, int], Words]
"""The words that are left of passages, by the answer's message and the passage's number."""


@dataclass(frozen=True, slots=True)
class PassageRecord:
    """A passage that an answer rests on, and its words, unless its document was deleted."""

    pinned: Pinned
    words: Words | None


@dataclass(frozen=True, slots=True)
class Record:
    """How an answer came about, with the words of documents that are left.

    Attributes:
        trace: all but those.
        prompt: what the model was sent; `GONE` in the place of words that are gone. None where no model was asked.
        passages: in their order.
    """

    trace: Trace
    prompt: list[base.Message]
    passages: list[PassageRecord]


async def keep(
    tx: TenantTx,
    chat_id: ChatId,
    message_id: MessageId,
    basis: Basis,
    *,
    sources: Sequence[Source],
    as_asked: str | None,
) -> None:
    """Take down what an answer rests on. Words of documents that are gone by now are left out."""
    there = await trace_queries.versions(tx, [source.document_id for source in sources])
    pairs = list(zip(basis.passages, sources, strict=True))
    pinned = [_pinned(passage, source, there.get(source.document_id)) for passage, source in pairs]
    words = [
        (source.n, source.document_id, _words(passage, source))
        for passage, source in pairs
        if source.document_id in there
    ]
    trace = (basis.query, as_asked, basis.model, dict(basis.parameters), basis.template)
    await trace_queries.add(tx, (chat_id, message_id), trace, pinned, words)


def _pinned(passage: Passage, source: Source, live: tuple[int, int] | None) -> Pinned:
    quote = source.quote
    # Chunks of what took a document's place have higher numbers than those of before.
    version = live[0] if live and passage.number >= live[1] else None
    return Pinned(
        source.n,
        source.document_id,
        version,
        passage.number,
        passage.spans,
        passage.similarity,
        passage.lexical,
        passage.score,
        quote.page,
        quote.start,
        quote.end,
    )


def _words(passage: Passage, source: Source) -> Words:
    return Words(passage.document, passage.context, passage.text, source.quote.text, passage.spans)


def recorded(trace: Trace, left: Left) -> Record:
    """An answer's record with the words that are left."""
    words = {pinned.n: left.get((trace.message_id, pinned.n)) for pinned in trace.passages}

    def said(place: Place) -> str:
        one = words.get(place.n)
        if one is None:
            return GONE
        # As a prompt has a name: on one line.
        if place.part == "document":
            return " ".join(visible(one.document).split())
        return one.context if place.part == "context" else one.text

    passages = [PassageRecord(pinned, words[pinned.n]) for pinned in trace.passages]
    return Record(trace, filled(trace.prompt, said), passages)


def sources_of(record: Record) -> SourcesEvent:
    """The event with which the answer began; the words of deleted documents are empty in it."""
    found = [_source(one.pinned, one.words) for one in record.passages]
    return SourcesEvent(answer_id=record.trace.message_id, sources=found)


def _source(pinned: Pinned, words: Words | None) -> Source:
    return Source(
        n=pinned.n,
        document_id=pinned.document_id,
        document=words.document if words else "",
        pages=sorted({page for page, _, _ in pinned.spans}),
        score=round(pinned.similarity or 0.0, 4),
        context=words.context or None if words else None,
        quote=_quote(pinned, words, len(words.quote) if words else 0),
    )


def _quote(where: Pinned | CitedPlace, words: Words | None, length: int) -> Quote:
    """The words there, with their place on each page; without words, the first place alone."""
    if words is None:
        return Quote(text="", page=where.page, start=where.start, end=where.end)
    return evidence.quote_at(words, where.page, where.start, length or where.end - where.start)


def cited(message: Message, left: Left) -> list[tuple[CitedPlace, Words | None]]:
    """What a message cites, and the words that are left of it: `quote` is what it cites."""
    found = [(place, left.get((message.message_id, place.n))) for place in message.citations]
    return [
        (place, replace(words, quote=_quote(place, words, place.length).text) if words else None)
        for place, words in found
    ]


def citations_of(message: Message, left: Left) -> list[Citation]:
    """The same as the last event of its stream has it; the words of deleted documents are empty in it."""
    return [
        Citation(
            n=place.n,
            document_id=place.document_id,
            document=words.document if words else "",
            quote=_quote(place, words, place.length),
        )
        for place, words in cited(message, left)
    ]
