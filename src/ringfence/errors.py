"""The one tree of errors. Every door (HTTP, worker, CLI) translates a kind; nobody translates a library's exception."""

from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """What sort of failure it is, independent of the door that reports it."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    SETUP = "setup"
    INTERNAL = "internal"


class RingfenceError(Exception):
    """Base of every error the engine raises on purpose.

    Args:
        code: stable, machine-readable, `snake_case`; part of the API (docs/errors.md lists all of them).
        message: one or two sentences for a person; never holds secrets, tokens or document text.
    """

    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """The message, with its code in front."""
        return f"{self.code}: {self.message}"


class Invalid(RingfenceError):
    """The caller sent something that can't be right; the same call will fail again."""

    kind = Kind.INVALID


class Unauthenticated(RingfenceError):
    """No valid proof of who is calling."""

    kind = Kind.UNAUTHENTICATED


class Forbidden(RingfenceError):
    """The caller is known but may not do this."""

    kind = Kind.FORBIDDEN


class NotFound(RingfenceError):
    """No such thing, or it belongs to somebody else: the two are indistinguishable on purpose."""

    kind = Kind.NOT_FOUND


class Conflict(RingfenceError):
    """The thing's present state does not allow this."""

    kind = Kind.CONFLICT


class TooLarge(RingfenceError):
    """More bytes, pages or characters than the limit allows."""

    kind = Kind.TOO_LARGE


class Unsupported(RingfenceError):
    """A kind of content that the engine does not read."""

    kind = Kind.UNSUPPORTED


class RateLimited(RingfenceError):
    """Too many tries; later ones may succeed."""

    kind = Kind.RATE_LIMITED


class Unavailable(RingfenceError):
    """Something the engine depends on is down, slow or full; the same call may succeed later, so workers retry it."""

    kind = Kind.UNAVAILABLE


class SetupError(RingfenceError):
    """The installation or a setting is wrong; a person has to act before a start can succeed."""

    kind = Kind.SETUP
