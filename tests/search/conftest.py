"""Tenants with documents, embedded by a model server or filled in at once."""

from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest

from ringfence.db import decode_halfvec, encode_halfvec
from ringfence.ids import UserId, new_user_id

DIMENSIONS = 32
USER = "insert into users (user_id, email, email_key, password_hash) values ($1, 'a@b.c', $2, 'x')"
DOCUMENT = """
insert into documents (user_id, document_id, name, media_type, size, sha256, state, chunks)
values ($1, $2, $3, 'text/plain', 1, $4, 'ready', $5)
"""
CHUNK = "insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, $3, '{1,0,9}', $4)"
VECTOR = "insert into embeddings (user_id, document_id, number, model_id, embedding) values ($1, $2, $3, $4, $5)"


@pytest.fixture
async def bulk(admin):
    """The administrator's connection, which can write vectors."""
    await admin.set_type_codec(
        "halfvec", schema="public", encoder=encode_halfvec, decoder=decode_halfvec, format="binary"
    )
    return admin


@pytest.fixture
async def model_id(bulk):
    return await bulk.fetchval("insert into embedding_models (name, dimensions) values ('m', $1) returning model_id",
                               DIMENSIONS)  # fmt: skip


async def new_tenant(admin: asyncpg.Connection) -> UserId:
    user_id = new_user_id()
    await admin.execute(USER, user_id, str(user_id))
    return user_id


def points(count: int, *, seed: int, spread: float = 0.35) -> np.ndarray:
    """Vectors in groups, as those of texts are."""
    random = np.random.default_rng(seed)
    middles = random.standard_normal((40, DIMENSIONS))
    found = middles[random.integers(40, size=count)] + spread * random.standard_normal((count, DIMENSIONS))
    return found.astype(np.float32)


async def fill(
    bulk: asyncpg.Connection, user_id: UserId, model_id: int, vectors: np.ndarray, *, per_document: int = 25
) -> list[UUID]:
    """Ready documents of a tenant with these vectors; their ids. A chunk's text is its number among the vectors."""
    documents = []
    for at in range(0, len(vectors), per_document):
        some, document_id = vectors[at : at + per_document], uuid4()
        documents.append(document_id)
        await bulk.execute(DOCUMENT, user_id, document_id, f"{at}.txt", document_id.bytes * 2, len(some))
        await bulk.executemany(CHUNK, [(user_id, document_id, n, str(at + n)) for n in range(len(some))])
        await bulk.executemany(VECTOR, [(user_id, document_id, n, model_id, row) for n, row in enumerate(some)])
    return documents
