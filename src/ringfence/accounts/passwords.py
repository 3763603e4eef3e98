"""Passwords: which are accepted, and their hashes, made in threads of their own so that requests don't wait for them.

bcrypt reads 72 bytes at most and stops at a NUL, so it is given a digest: base64 of HMAC-SHA384, 64 printable bytes.
The HMAC's key is a constant that names its use: it keeps digests apart from SHA-384 sums of the same passwords leaked
elsewhere (which could stand in for the password when cracking), and is no secret, so that the installation's secret
can change and passwords stay.
"""

import asyncio
import base64
import hmac
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import bcrypt

from ringfence.errors import Invalid

MIN_LENGTH = 12
MAX_LENGTH = 256
_THREADS = 2
_USE = b"ringfence/password/1"


def require_acceptable(password: str) -> None:
    """Refuse a password that is shorter than 12 or longer than 256 characters.

    Raises:
        Invalid: `weak_password`.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Invalid("weak_password", f"A password needs {MIN_LENGTH} to {MAX_LENGTH} characters.")


def _digest(password: str) -> bytes:
    """What bcrypt sees. NFC, because keyboards differ in how they compose é; lone surrogates must not fail."""
    data = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(_USE, data, "sha384"))


class Passwords:
    """Hashes passwords and checks them.

    Args:
        cost: bcrypt's work factor; each step doubles the time.
    """

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="bcrypt")
        self._nobody = self._hash(secrets.token_hex())

    async def hash(self, password: str) -> str:
        """The hash to keep, with its own salt."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether the password made this hash. Without a hash: False, after the same work."""
        known = self._nobody if hashed is None else hashed
        right = await asyncio.get_running_loop().run_in_executor(self._executor, _check, password, known)
        return right and hashed is not None

    def close(self) -> None:
        """Let the threads end."""
        self._executor.shutdown(cancel_futures=True)

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(_digest(password), bcrypt.gensalt(self._cost)).decode()


def _check(password: str, hashed: str) -> bool:
    return bcrypt.checkpw(_digest(password), hashed.encode())
