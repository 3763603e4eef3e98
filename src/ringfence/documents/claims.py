"""The right to ingest: of a new document, whose row says how far it is, or of what is to take a document's place.

Each step of an ingestion asks whether it still has that right, in the transaction in which it writes.
"""

from dataclasses import dataclass, field
from uuid import UUID

from ringfence.db import Database, TenantTx
from ringfence.documents import indexing, ingestion_queries, queries, version_queries
from ringfence.documents.intake import erase_later
from ringfence.documents.tracking import Track
from ringfence.documents.versions import content_exists
from ringfence.ids import DocumentId, UserId
from ringfence.lexical import queries as lexical

_TRIMMED = 1000  # chunks in one transaction


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write one document, or what is to replace its content: it holds as long as the token does.

    `track`: what was done with it so far.
    """

    user_id: UserId
    document_id: DocumentId
    token: UUID
    replacement_id: UUID | None = None
    track: Track = field(default_factory=Track, compare=False)


@dataclass(frozen=True, slots=True)
class Source:
    """What is ingested, as what document. Its first chunk is to have the number `first`."""

    name: str
    media_type: str
    size: int
    sha256: bytes
    first: int


async def start(tx: TenantTx, claim: Claim) -> Source | None:
    """Begin, leaving nothing of an earlier try; None where there is nothing to do, or the job is another worker's."""
    if claim.replacement_id is None:
        document = await queries.start(tx, claim.document_id, claim.token)
        if document is None:
            return None
        return Source(document.name, document.media_type, document.size, document.sha256, 0)
    coming = await version_queries.start(tx, claim.document_id, claim.replacement_id, claim.token)
    if coming is None:
        return None
    await queries.clear(tx, claim.document_id, coming.first)
    await ingestion_queries.begin(tx, claim.document_id, claim.token)
    return Source(coming.name, coming.media_type, coming.size, coming.sha256, coming.first)


async def held(tx: TenantTx, claim: Claim) -> bool:
    """Whether it still holds."""
    known = queries.held if claim.replacement_id is None else version_queries.held
    return await known(tx, claim.document_id, claim.token)


async def progress(tx: TenantTx, claim: Claim, *, pages: int, done: int, chunks: int) -> bool:
    """Record progress, so that nobody can take over before the transaction's end; False if somebody has."""
    record = queries.progress if claim.replacement_id is None else version_queries.progress
    return await record(tx, claim.document_id, claim.token, pages=pages, done=done, chunks=chunks)


async def ready(tx: TenantTx, claim: Claim, source: Source) -> bool:
    """Let searches see what was ingested, and nothing else of the document; False if somebody has taken over.

    Raises:
        Conflict: `content_exists`, another document has got the content meanwhile.
    """
    if claim.replacement_id is None:
        return await queries.ready(tx, claim.document_id, claim.token)
    await queries.lock_content(tx, source.sha256)
    before = await queries.lock(tx, claim.document_id)
    if before is None:
        return False
    if await queries.is_taken(tx, claim.document_id, source.sha256):
        raise content_exists()
    if not await version_queries.swap(tx, claim.document_id, claim.token):
        return False
    await ingestion_queries.end(tx, claim.document_id)
    await erase_later(tx, {before.sha256})
    await indexing.clean_later(tx)
    return True


async def fail(tx: TenantTx, claim: Claim, code: str, reason: str) -> None:
    """End in failure, with a reason for people; without effect where somebody has taken over. What is live stays so."""
    if claim.replacement_id is None:
        await queries.fail(tx, claim.document_id, code, reason, claim.token)
        return
    sha256 = await version_queries.fail(
        tx, claim.document_id, claim.replacement_id, claim.token, code=code, reason=reason
    )
    if sha256:
        await ingestion_queries.end(tx, claim.document_id)
        await erase_later(tx, {sha256})


async def trim(db: Database, claim: Claim) -> None:
    """Remove what is left of versions that are neither live nor on their way, in steps that may be broken off."""
    async with db.tenant(claim.user_id) as tx:
        if await lexical.forget_unused(tx, claim.document_id):
            await indexing.clean_later(tx)
    removed = 1
    while removed:
        async with db.tenant(claim.user_id) as tx:
            removed = await version_queries.trim(tx, claim.document_id, _TRIMMED)
