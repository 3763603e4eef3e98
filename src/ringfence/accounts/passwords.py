"""Passwords: which are accepted, and their hashes, made in threads of their own so that requests don't wait for them.

Judging and hashing have threads apart, each with a queue that may fill up: then one is asked to come again, and nobody
waits without end behind somebody else's passwords.

bcrypt reads 72 bytes at most and stops at a NUL, so it is given a digest: base64 of HMAC-SHA384, 64 printable bytes.
The HMAC's key is a constant that names its use: it keeps digests apart from SHA-384 sums of the same passwords leaked
elsewhere (which could stand in for the password when cracking), and is no secret, so that the installation's secret
can change and passwords stay.
"""

import asyncio
import base64
import hmac
import re
import secrets
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import bcrypt

from ringfence.errors import Invalid, Unavailable

MIN_LENGTH = 12
MAX_LENGTH = 256
MIN_GUESSES = 10**8
"""zxcvbn's score 3: out of reach of guessing online, and costly offline against bcrypt."""

# zxcvbn's time grows much faster than what it reads (20 characters of substitutes like @ and 3: 0.2 s; 63: 5 s), so it
# is given parts. The whole is at least as hard to guess as any of them.
_PART = 20
_PARTS = 4
_SERVICE = "ringfence"
_WORD = re.compile(r"\w{3,}")
_CONTEXT_LENGTH = 5  # shorter words of an address stand in others by chance
# A keyboard may give four characters where another gives one. Of more than that nothing is anybody's password, and
# composing it may take minutes: Python sorts accents that follow each other in quadratic time, and holds the GIL.
_COMPOSED_LENGTH = 4 * MAX_LENGTH
_THREADS = 2
_WAITING = 128
_USE = b"ringfence/password/1"


def _digest(password: str) -> bytes:
    """What bcrypt sees. NFC, because keyboards differ in how they compose é; lone surrogates must not fail."""
    composed = unicodedata.normalize("NFC", password) if len(password) <= _COMPOSED_LENGTH else password
    data = composed.encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(_USE, data, "sha384"))


class _Threads:
    """A few threads, and so many calls that may wait for them."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threading.Semaphore(threads + waiting)

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it there.

        Raises:
            Unavailable: `passwords_busy`, too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise Unavailable("passwords_busy", "Too many passwords are being checked. Please try again in a moment.")
        future = self._executor.submit(call, *args, **kwargs)
        future.add_done_callback(self._left)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the threads end."""
        self._executor.shutdown(cancel_futures=True)

    def _left[T](self, _future: Future[T]) -> None:
        self._room.release()


class Passwords:
    """Hashes passwords and checks them.

    Args:
        cost: bcrypt's work factor; each step doubles the time.
        waiting: how many calls may wait to be judged, and how many to be hashed.
    """

    def __init__(self, cost: int, *, waiting: int = _WAITING) -> None:
        self._cost = cost
        self._dearest = cost
        self._hashing = _Threads("bcrypt", _THREADS, waiting)
        self._judging = _Threads("zxcvbn", 1, waiting)  # one: it keeps the words in a global
        self._nobody = self._hash(secrets.token_hex())

    async def require_acceptable(self, password: str, *context: str) -> None:
        """Refuse a password that is too short, too long, or soon guessed.

        Nothing is asked of its composition (NIST SP 800-63B-4, 3.1.1.2). What is soon guessed is zxcvbn's business:
        common passwords and words, names, keyboard rows, repetitions, dates, and words of the context. Those count for
        nothing: what is beside them has to be hard to guess.

        Args:
            password: what a user wants.
            context: words that would be tried for this user first, such as their address.

        Raises:
            Invalid: `weak_password`.
            Unavailable: `passwords_busy`.
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise Invalid("weak_password", f"A password needs {MIN_LENGTH} to {MAX_LENGTH} characters.")
        words = [_SERVICE, *context, *(word for text in context for word in _WORD.findall(text))]
        if await self._judging.run(_is_soon_guessed, _without(words, password), words):
            raise Invalid(
                "weak_password", "This password would soon be guessed. Several unrelated words make a good one."
            )

    async def hash(self, password: str) -> str:
        """The hash to keep, with its own salt.

        Raises:
            Unavailable: `passwords_busy`.
        """
        return await self._hashing.run(self._hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether the password made this hash. Without a hash: False, after the same work.

        A hash of a lower cost is checked in the time of the highest: else, after the cost was raised, who has an
        account would be told by how soon a wrong password is refused. Where the cost was lowered, the first dear hash
        that is seen makes all checks as dear.

        Raises:
            Unavailable: `passwords_busy`.
        """
        known = self._nobody if hashed is None else hashed
        self._dearest = max(self._dearest, _cost_of(known))
        right = await self._hashing.run(_check, password, known, self._dearest)
        return right and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Whether a hash was made at another cost than new ones are."""
        return hashed.split("$")[2:3] != [f"{self._cost:02}"]

    def close(self) -> None:
        """Let the threads end."""
        self._hashing.close()
        self._judging.close()

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(_digest(password), bcrypt.gensalt(self._cost)).decode()


def _without(words: list[str], password: str) -> str:
    """What there is in a password beside the words of its context."""
    long = sorted({word for word in words if len(word) >= _CONTEXT_LENGTH}, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, long)), "", password, flags=re.IGNORECASE)


def _is_soon_guessed(password: str, words: list[str]) -> bool:
    """Whether a clever attacker needs few guesses for each part of it. Takes some ms."""
    from zxcvbn import zxcvbn  # noqa: PLC0415  # 0.1 s, and only who chooses a password needs its dictionaries

    parts = [password[start : start + _PART] for start in range(0, len(password), _PART)][:_PARTS]
    inputs = [*words, *(word[:_PART] for word in words)]
    return all(zxcvbn(part, user_inputs=inputs)["guesses"] < MIN_GUESSES for part in parts)


def _cost_of(hashed: str) -> int:
    return int(hashed.split("$")[2])


def _check(password: str, hashed: str, cost: int) -> bool:
    """Compare, in the time that a hash of this cost takes: 2^c and 2^c + 2^(c+1) + … + 2^(cost-1) are 2^cost."""
    digest = _digest(password)
    right = bcrypt.checkpw(digest, hashed.encode())
    for step in range(_cost_of(hashed), cost):
        bcrypt.hashpw(digest, bcrypt.gensalt(step))
    return right
