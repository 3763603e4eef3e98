"""One-time codes: eight digits by mail, of which the database holds a keyed digest."""

import hmac
import secrets
from enum import StrEnum
from uuid import UUID

DIGITS = 8
MAX_ATTEMPTS = 5


class CodePurpose(StrEnum):
    """What a code proves; one made for this opens nothing else."""

    VERIFY = "verify"


def new_code() -> str:
    """Eight random digits. With five attempts, guessing succeeds once in 20 million."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"


def digest(key: bytes, user_id: UUID, purpose: CodePurpose, code: str) -> bytes:
    """HMAC-SHA256 over the code and what it is for, 32 bytes: without the key, eight digits can't be searched.

    White space in the code does not count, since people copy it along.
    """
    text = f"{purpose}\0{''.join(code.split())}".encode("utf-8", "surrogatepass")
    return hmac.digest(key, user_id.bytes + text, "sha256")
