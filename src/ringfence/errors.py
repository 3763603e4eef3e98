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
    """The caller sent something that can't be right; the same call will fail again.

    Args:
        code: as of every error.
        message: likewise.
        param: the field of the request that it is about, where a door's clients want to hear its name.
    """

    kind = Kind.INVALID

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(code, message)
        self.param = param


class Unauthenticated(RingfenceError):
    """No valid proof of who is calling."""

    kind = Kind.UNAUTHENTICATED


class Forbidden(RingfenceError):
    """The caller is known but may not do this.

    Args:
        code: as of every error.
        message: likewise.
        scope: what an API key would have to be allowed, where that is all it lacks.
    """

    kind = Kind.FORBIDDEN

    def __init__(self, code: str, message: str, *, scope: str | None = None) -> None:
        super().__init__(code, message)
        self.scope = scope


class QuotaExceeded(Forbidden):
    """More than the caller may have; less, or after something was given up, the same call may succeed.

    Args:
        code: as of every error.
        message: likewise.
        quota: which: `documents` or `bytes`.
        limit: how much is allowed.
        used: how much there is already.
    """

    def __init__(self, code: str, message: str, *, quota: str, limit: int, used: int) -> None:
        super().__init__(code, message)
        self.quota = quota
        self.limit = limit
        self.used = used


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
    """Too many tries; later ones may succeed.

    Args:
        code: as in every error.
        message: likewise.
        retry_after: seconds after which another try makes sense; a client may not know.
        policy: the limit, as the header `RateLimit-Policy` says it.
    """

    kind = Kind.RATE_LIMITED

    def __init__(self, code: str, message: str, *, retry_after: float = 0.0, policy: str = "") -> None:
        super().__init__(code, message)
        self.retry_after = retry_after
        self.policy = policy


class Unavailable(RingfenceError):
    """Something the engine depends on is down, slow or full; the same call may succeed later, so workers retry it.

    Args:
        code: as of every error.
        message: likewise.
        retry_after: seconds after which another try makes sense, where somebody has said so.
    """

    kind = Kind.UNAVAILABLE

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class SetupError(RingfenceError):
    """The installation or a setting is wrong; a person has to act before a start can succeed."""

    kind = Kind.SETUP
