"""Passwords of documents on their way to the worker: encrypted, for no dump of the queue shall hold one."""

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ringfence.ids import DocumentId

MAX_BYTES = 1024
"""Of a document's password; PDF takes 127."""

_NONCE_BYTES = 12  # as GCM prefers (NIST SP 800-38D)


def seal(key: bytes, document_id: DocumentId, password: str) -> str:
    """Encrypt a document's password with a key of 32 bytes; it opens for this document alone."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, password.encode(), document_id.bytes)).decode()


def unseal(key: bytes, document_id: DocumentId, sealed: str) -> str | None:
    """The inverse of `seal`; None for what was sealed with another key or for another document, or is damaged."""
    try:
        data = base64.b64decode(sealed, validate=True)
        return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], document_id.bytes).decode()
    except (binascii.Error, InvalidTag, ValueError):
        return None
