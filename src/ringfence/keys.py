"""Every key of an installation derives from its one secret, so there is one thing to keep and one to rotate."""

import base64
from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Purpose(StrEnum):
    """What a derived key is for; keys of different purposes say nothing about each other."""

    SIGNING_KEYS = "signing-keys"
    REFRESH_TOKENS = "refresh-tokens"
    ONE_TIME_CODES = "one-time-codes"
    MAIL = "mail"
    LIMITS = "limits"
    AUDIT = "audit"
    DOCUMENT_PASSWORDS = "document-passwords"
    DEMO_ACCOUNT = "demo-account"
    APP_ROLE = "role-app"
    SYSTEM_ROLE = "role-system"


def derive(secret: str, purpose: Purpose) -> bytes:
    """Derive 32 bytes for one purpose (HKDF-SHA256, RFC 5869; the secret is random, so no salt is needed)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"ringfence/{purpose}".encode()).derive(secret.encode())


def derive_password(secret: str, purpose: Purpose) -> str:
    """The same as text that may stand in a URL."""
    return base64.urlsafe_b64encode(derive(secret, purpose)).decode().rstrip("=")
