"""Access tokens: JWTs of the profile `at+jwt` (RFC 9068), signed with Ed25519."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import jwt
from pydantic import BaseModel, ConfigDict

from ringfence.accounts.keyring import KeyRing
from ringfence.errors import Unauthenticated
from ringfence.ids import Identity, identity_from_token

_ALGORITHM = "EdDSA"
LEEWAY_SECONDS = 30
"""By which the clocks of two machines may differ."""

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token to show at each request, and its life in seconds."""

    token: str = field(repr=False)
    expires_in: int


class _Claims(BaseModel):
    """All claims of a token; none may be missing and no other may be there. Times in seconds since 1970."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    iss: str
    aud: str
    sub: str
    sid: str
    jti: str
    iat: int
    nbf: int
    exp: int


class AccessTokens:
    """Makes and checks tokens.

    Args:
        keys: sign the tokens.
        issuer: the engine's own name in `iss` and `aud`: it makes tokens for itself alone.
        seconds: a token's life.
        now: the clock.
    """

    def __init__(self, keys: KeyRing, issuer: str, seconds: int, now: Callable[[], datetime]) -> None:
        self._keys = keys
        self._issuer = issuer
        self._seconds = seconds
        self._now = now

    async def issue(self, identity: Identity) -> AccessToken:
        """A token that proves to be this session of this user until it expires.

        Raises:
            Unavailable: the keys can't be read.
        """
        key = await self._keys.signing()
        now = int(self._now().timestamp())
        claims = _Claims(
            iss=self._issuer,
            aud=self._issuer,
            sub=str(identity.user_id),
            sid=str(identity.session_id),
            jti=secrets.token_urlsafe(_ID_BYTES),
            iat=now,
            nbf=now,
            exp=now + self._seconds,
        )
        payload = claims.model_dump_json().encode()
        token = jwt.PyJWS().encode(payload, key.private, _ALGORITHM, _header(key.key_id))
        return AccessToken(token, self._seconds)

    async def verify(self, token: str) -> Identity:
        """Whose token it is. Whether the session still stands is not asked here.

        Raises:
            Unauthenticated: `invalid_token`, whatever is wrong with it.
            Unavailable: the keys can't be read.
        """
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, UnicodeError):
            raise _invalid() from None
        key_id = header.get("kid", "")
        public_key = await self._keys.public(key_id) if header == _header(key_id) else None
        is_padded = "=" in token  # PyJWT tolerates it; RFC 7515 doesn't, and one token should have one spelling
        if public_key is None or is_padded:
            raise _invalid()
        try:
            # PyJWT checks the signature; the claims are checked here, by the engine's clock and with none optional.
            claims = _Claims.model_validate_json(jwt.PyJWS().decode(token, public_key, algorithms=[_ALGORITHM]))
            identity = identity_from_token(claims.sub, claims.sid)
        except (jwt.PyJWTError, ValueError):
            raise _invalid() from None
        if not self._holds(claims):
            raise _invalid()
        return identity

    def _holds(self, claims: _Claims) -> bool:
        now = self._now().timestamp()
        is_ours = claims.iss == self._issuer and claims.aud == self._issuer
        return is_ours and max(claims.nbf, claims.iat) - LEEWAY_SECONDS <= now < claims.exp + LEEWAY_SECONDS


def _header(key_id: str) -> dict[str, str]:
    """The header of every token, so that none chooses its own algorithm or brings its own key (RFC 8725)."""
    return {"alg": _ALGORITHM, "typ": "at+jwt", "kid": key_id}


def _invalid() -> Unauthenticated:
    return Unauthenticated("invalid_token", "This access token is wrong or has expired: sign in again.")
