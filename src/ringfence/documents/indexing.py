"""When a tenant's lexical index is merged and cleaned: soon after what makes it worth it, once for several changes."""

from datetime import timedelta

from ringfence import jobs
from ringfence.db import TenantTx
from ringfence.ids import DocumentId
from ringfence.lexical import queries as lexical
from ringfence.lexical.service import KIND, MOST_WAITING, RETITLE, IndexPayload, RetitlePayload

_MERGED_WITHIN = timedelta(seconds=15)
_CLEANED_WITHIN = timedelta(minutes=10)


async def merge_soon(tx: TenantTx) -> None:
    """See that what was stored is merged, if there is enough of it to slow searches down."""
    if await lexical.waiting(tx, MOST_WAITING):
        await _promise(tx, IndexPayload(step="merge"), _MERGED_WITHIN)


async def clean_later(tx: TenantTx) -> None:
    """See that what the index holds of documents that are gone goes too."""
    await _promise(tx, IndexPayload(step="clean"), _CLEANED_WITHIN)


async def retitle(tx: TenantTx, document_id: DocumentId) -> None:
    """See that a document is found by the words of the name that it has now, and the index is cleaned of the former."""
    await jobs.enqueue(tx, tx.user_id, RETITLE, RetitlePayload(document_id=document_id))
    await clean_later(tx)


async def _promise(tx: TenantTx, payload: IndexPayload, delay: timedelta) -> None:
    if not await jobs.promised(tx, KIND, payload):
        await jobs.promise(tx, KIND, payload, delay)
