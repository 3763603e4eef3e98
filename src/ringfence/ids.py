"""Identifiers. A `UserId` proves that its maker was allowed to name a tenant, so only this module makes one."""

import uuid
from typing import NewType

UserId = NewType("UserId", uuid.UUID)
DocumentId = NewType("DocumentId", uuid.UUID)


def new_user_id() -> UserId:
    """The id of a tenant that is being registered."""
    return UserId(uuid.uuid4())


def user_id_from_token(subject: str) -> UserId:
    """The tenant named by the `sub` claim of a token whose signature and claims were verified.

    Raises:
        ValueError: the claim is no UUID.
    """
    return UserId(uuid.UUID(subject))


def user_id_from_record(value: uuid.UUID) -> UserId:
    """The tenant named by a row that the system role read: a signed-in account or a claimed job."""
    return UserId(value)


def new_document_id() -> DocumentId:
    """A fresh document's id."""
    return DocumentId(uuid.uuid4())
