"""Opaque tokens: random secrets which name the record that knows them. Refresh tokens and API keys are such."""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from uuid import UUID

SECRET_BYTES = 32
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Opaque:
    """A token taken apart. What it says of itself is a claim until its digest was found.

    Attributes:
        record_id: names the record; it comes first in the text, so that a user's tokens begin differently.
        user_id: whose record it is.
        secret: 32 bytes.
    """

    record_id: UUID
    user_id: UUID
    secret: bytes = field(repr=False)

    def text(self, prefix: str) -> str:
        """The token as it is shown, behind a prefix that says its sort."""
        data = self.record_id.bytes + self.user_id.bytes + self.secret
        return prefix + base64.urlsafe_b64encode(data).decode()

    @property
    def digest(self) -> bytes:
        """What the database holds; the secret is random, so there is nothing to salt."""
        return hashlib.sha256(self.secret).digest()


def parse(prefix: str, text: str) -> Opaque | None:
    """Take a token apart; None if it is none of this sort, or not in its one spelling."""
    try:
        data = base64.b64decode(text.removeprefix(prefix), altchars=b"-_", validate=True)
        record_id, user_id = UUID(bytes=data[:_ID_BYTES]), UUID(bytes=data[_ID_BYTES : 2 * _ID_BYTES])
    except (binascii.Error, ValueError):
        return None
    token = Opaque(record_id, user_id, data[2 * _ID_BYTES :])
    return token if len(token.secret) == SECRET_BYTES and token.text(prefix) == text else None
