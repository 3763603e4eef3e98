"""A browser's session in a cookie, and the refusal of other sites' requests.

A browser sends cookies along whichever site caused the request. So what may change something counts only when the
browser says that our own page caused it (decision 45): the rule of Go's `http.CrossOriginProtection`, made stricter in
that somebody who shows a cookie and says nothing of where they come from is refused too.
"""

from urllib.parse import urlsplit

from fastapi import Request, Response

from ringfence.accounts.sessions import Cookie
from ringfence.errors import Forbidden

NAME = "ringfence"
SECURE_NAME = f"__Host-{NAME}"
"""The cookie's name over HTTPS: a browser takes it from this very host alone, for no other path or domain."""

PATH = "/api/v1/"
"""Below it, and on the pages, a cookie opens something; in no other protocol."""

_SAFE = {"GET", "HEAD", "OPTIONS"}


def shown_by(request: Request) -> str | None:
    """The value of the session's cookie; over HTTPS none that another host or an open connection could have set."""
    plain = None if request.url.scheme == "https" else request.cookies.get(NAME)
    return request.cookies.get(SECURE_NAME, plain)


def give(request: Request, response: Response, cookie: Cookie) -> None:
    """Let a browser keep a session until it ends."""
    _set(response, cookie.value, cookie.seconds, secure=_is_secure(request))


def take_back(response: Response) -> None:
    """Let a browser forget its session."""
    for secure in (True, False):
        _set(response, "", 0, secure=secure)


def require_same_origin(request: Request) -> None:
    """Refuse what may change something and was not caused by a page of this very host.

    Raises:
        Forbidden: `cross_site_request`.
    """
    if request.method not in _SAFE and not _is_same_origin(request):
        raise Forbidden(
            "cross_site_request",
            "A session's cookie opens nothing to what comes from another site. Programs use a token or an API key.",
        )


def _is_same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:  # set by the browser: no script can
        return site in {"same-origin", "none"}
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == request.headers.get("host")


def _is_secure(request: Request) -> bool:
    """Whether the browser speaks HTTPS, though it may be with a proxy that we do not believe about it."""
    return "https" in {request.url.scheme, urlsplit(request.headers.get("origin", "")).scheme}


def _set(response: Response, value: str, seconds: int, *, secure: bool) -> None:
    name = SECURE_NAME if secure else NAME
    response.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax")
