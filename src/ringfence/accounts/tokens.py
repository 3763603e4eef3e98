"""Access tokens: JWTs of the profile `at+jwt` (RFC 9068), signed with Ed25519."""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict

from ringfence.errors import Unauthenticated
from ringfence.ids import UserId, user_id_from_token
from ringfence.keys import Purpose, derive

_ALGORITHM = "EdDSA"
_LEEWAY = 30  # seconds that clocks of two machines may differ
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
    jti: str
    iat: int
    nbf: int
    exp: int


def thumbprint(public_key: bytes) -> str:
    """The name of an Ed25519 public key (32 bytes): RFC 7638's SHA-256 over its JWK, in base64url."""
    x = base64.urlsafe_b64encode(public_key).decode().rstrip("=")
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(jwk.encode()).digest()).decode().rstrip("=")


class AccessTokens:
    """Makes and checks tokens.

    Args:
        secret_key: the installation's secret, from which the signing key derives.
        issuer: the engine's own name in `iss` and `aud`: it makes tokens for itself alone.
        seconds: a token's life.
        now: the clock.
    """

    def __init__(self, secret_key: str, issuer: str, seconds: int, now: Callable[[], datetime]) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(derive(secret_key, Purpose.ACCESS_TOKENS))
        self._public_key = self._key.public_key()
        kid = thumbprint(self._public_key.public_bytes_raw())
        self._header = {"alg": _ALGORITHM, "typ": "at+jwt", "kid": kid}
        self._issuer = issuer
        self._seconds = seconds
        self._now = now

    def issue(self, user_id: UserId) -> AccessToken:
        """A token that proves to be this user until it expires."""
        now = int(self._now().timestamp())
        claims = _Claims(
            iss=self._issuer,
            aud=self._issuer,
            sub=str(user_id),
            jti=secrets.token_urlsafe(_ID_BYTES),
            iat=now,
            nbf=now,
            exp=now + self._seconds,
        )
        payload = claims.model_dump_json().encode()
        return AccessToken(jwt.PyJWS().encode(payload, self._key, _ALGORITHM, self._header), self._seconds)

    def verify(self, token: str) -> UserId:
        """Whose token it is.

        Raises:
            Unauthenticated: `invalid_token`, whatever is wrong with it.
        """
        try:
            # PyJWT checks the signature; the claims are checked here, by the engine's clock and with none optional.
            found = jwt.PyJWS().decode_complete(token, self._public_key, algorithms=[_ALGORITHM])
            claims = _Claims.model_validate_json(found["payload"])
            user_id = user_id_from_token(claims.sub)
        except (jwt.PyJWTError, ValueError):
            raise _invalid() from None
        is_padded = "=" in token  # PyJWT tolerates it; RFC 7515 doesn't, and one token should have one spelling
        if is_padded or found["header"] != self._header or not self._holds(claims):
            raise _invalid()
        return user_id

    def _holds(self, claims: _Claims) -> bool:
        now = self._now().timestamp()
        is_ours = claims.iss == self._issuer and claims.aud == self._issuer
        return is_ours and max(claims.nbf, claims.iat) - _LEEWAY <= now < claims.exp + _LEEWAY


def _invalid() -> Unauthenticated:
    return Unauthenticated("invalid_token", "This access token is wrong or has expired: sign in again.")
