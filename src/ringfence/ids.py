"""Identifiers. A `UserId` proves that its maker was allowed to name a tenant, so only this module makes one."""

import uuid
from dataclasses import dataclass
from typing import NewType

UserId = NewType("UserId", uuid.UUID)
DocumentId = NewType("DocumentId", uuid.UUID)
BatchId = NewType("BatchId", uuid.UUID)
CollectionId = NewType("CollectionId", uuid.UUID)
AnswerId = NewType("AnswerId", uuid.UUID)
ChatId = NewType("ChatId", uuid.UUID)
MessageId = NewType("MessageId", uuid.UUID)
EvaluationId = NewType("EvaluationId", uuid.UUID)
SessionId = NewType("SessionId", uuid.UUID)
ApiKeyId = NewType("ApiKeyId", uuid.UUID)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, and the session by which they are here."""

    user_id: UserId
    session_id: SessionId


def new_user_id() -> UserId:
    """The id of a tenant that is being registered."""
    return UserId(uuid.uuid4())


def identity_from_token(subject: str, session: str) -> "Identity":
    """Who is named by the claims `sub` and `sid` of a token whose signature and claims were verified.

    Raises:
        ValueError: a claim is no UUID.
    """
    return Identity(UserId(uuid.UUID(subject)), SessionId(uuid.UUID(session)))


def identity_from_record(user_id: uuid.UUID, session_id: uuid.UUID) -> "Identity":
    """Who is named by a session's row that the system role read."""
    return Identity(UserId(user_id), SessionId(session_id))


def user_id_from_record(value: uuid.UUID) -> UserId:
    """The tenant named by a row that the system role read: a signed-in account or a claimed job."""
    return UserId(value)


def new_document_id() -> DocumentId:
    """A fresh document's id."""
    return DocumentId(uuid.uuid4())


def new_batch_id() -> BatchId:
    """A fresh batch's id."""
    return BatchId(uuid.uuid4())


def new_collection_id() -> CollectionId:
    """A fresh collection's id."""
    return CollectionId(uuid.uuid4())


def new_answer_id() -> AnswerId:
    """A fresh answer's id."""
    return AnswerId(uuid.uuid4())


def new_chat_id() -> ChatId:
    """A fresh chat's id."""
    return ChatId(uuid.uuid4())


def new_message_id() -> MessageId:
    """The id of a fresh message of a chat."""
    return MessageId(uuid.uuid4())


def new_evaluation_id() -> EvaluationId:
    """A fresh evaluation's id."""
    return EvaluationId(uuid.uuid4())


def new_session_id() -> SessionId:
    """A fresh session's id."""
    return SessionId(uuid.uuid4())


def new_api_key_id() -> ApiKeyId:
    """A fresh API key's id."""
    return ApiKeyId(uuid.uuid4())
