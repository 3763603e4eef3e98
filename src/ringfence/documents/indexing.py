"""When a tenant's lexical index is merged and cleaned: soon after what makes it worth it, once for several changes."""

from datetime import timedelta

from ringfence import jobs
from ringfence.db import TenantTx
from ringfence.lexical import queries as lexical
from ringfence.lexical.service import KIND, MOST_WAITING, IndexPayload

_MERGED_WITHIN = timedelta(seconds=15)
_CLEANED_WITHIN = timedelta(minutes=10)


async def merge_soon(tx: TenantTx) -> None:
    """See that what was stored is merged, if there is enough of it to slow searches down."""
    if await lexical.waiting(tx, MOST_WAITING):
        await jobs.promise_once(tx, KIND, IndexPayload(step="merge"), _MERGED_WITHIN)


async def clean_later(tx: TenantTx) -> None:
    """See that what the index holds of documents that are gone goes too."""
    await jobs.promise_once(tx, KIND, IndexPayload(step="clean"), _CLEANED_WITHIN)
