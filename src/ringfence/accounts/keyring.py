"""The keys that sign access tokens: made by the engine, kept sealed in the database, shared by all processes."""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ringfence.accounts import queries
from ringfence.accounts.queries import StoredKey
from ringfence.db import Database, SystemTx
from ringfence.errors import SetupError

_NONCE_BYTES = 12  # as GCM prefers (NIST SP 800-38D)
_FRESH = timedelta(minutes=1)
_SOON = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs at present, and the name by which tokens say so."""

    key_id: str
    private: Ed25519PrivateKey = field(repr=False)


def thumbprint(public_key: bytes) -> str:
    """The name of an Ed25519 public key (32 bytes): RFC 7638's SHA-256 over its JWK, in base64url."""
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": _b64(public_key)}, separators=(",", ":"), sort_keys=True)
    return _b64(hashlib.sha256(jwk.encode()).digest())


class KeyRing:
    """The installation's signing keys, as this process last saw them in the database.

    A key signs until it is too old or `rotate` is called; then a new one does, and the old one is accepted until every
    token that it signed has expired.

    Args:
        db: where they are kept.
        seal_key: 32 bytes that encrypt the private keys there.
        max_age: after which a key is replaced at the next use.
        keep: for how long a replaced key is accepted: a token's life, and what clocks may differ.
        now: the clock.
    """

    def __init__(
        self, db: Database, seal_key: bytes, *, max_age: timedelta, keep: timedelta, now: Callable[[], datetime]
    ) -> None:
        self._db = db
        self._seal_key = seal_key
        self._max_age = max_age
        # Another process signs with a key that was replaced until it has looked again.
        self._keep = keep + 2 * _FRESH
        self._now = now
        self._keys: dict[str, StoredKey] = {}
        self._active: SigningKey | None = None
        self._read_at: datetime | None = None

    async def signing(self) -> SigningKey:
        """The key that signs now; the first one is made here, and so is the successor of one that is too old.

        Raises:
            Unavailable: the database can't be reached.
            SetupError: `signing_key_sealed`, the keys were sealed under another installation's secret.
        """
        if self._active is None or self._read_before(_FRESH) or self._needs_new(self._keys.values()):
            async with self._db.system() as tx:
                stored = await queries.signing_keys(tx)
                if self._needs_new(stored):
                    await queries.lock_signing_keys(tx)  # another process may be about to make one
                    stored = await queries.signing_keys(tx)
                    stored = await self._with_new(tx) if self._needs_new(stored) else stored
            return self._take(stored)
        return self._active

    async def public(self, key_id: str) -> Ed25519PublicKey | None:
        """The key of a name, if a token may still be signed by it; asks the database where the name is not known.

        Raises:
            Unavailable: the database can't be reached.
        """
        if self._read_before(_FRESH) or (key_id not in self._keys and self._read_before(_SOON)):
            await self._read()
        key = self._keys.get(key_id)
        return Ed25519PublicKey.from_public_bytes(key.public_key) if key and self._accepts(key) else None

    async def jwks(self) -> dict[str, list[dict[str, str]]]:
        """All keys that tokens may be signed by, as a JWK set (RFC 7517, RFC 8037).

        Raises:
            Unavailable: the database can't be reached.
        """
        await self.signing()
        common = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
        accepted = [key for key in self._keys.values() if self._accepts(key)]
        return {"keys": [{**common, "kid": key.key_id, "x": _b64(key.public_key)} for key in accepted]}

    async def rotate(self) -> str:
        """Replace the key that signs; the name of the new one.

        Raises:
            Unavailable: the database can't be reached.
        """
        async with self._db.system() as tx:
            await queries.lock_signing_keys(tx)
            stored = await self._with_new(tx)
        return self._take(stored).key_id

    def _read_before(self, age: timedelta) -> bool:
        return self._read_at is None or self._read_at <= self._now() - age

    def _accepts(self, key: StoredKey) -> bool:
        return key.retired_at is None or key.retired_at > self._now() - self._keep

    async def _read(self) -> None:
        async with self._db.system() as tx:
            self._keys = {key.key_id: key for key in await queries.signing_keys(tx)}
        self._active = None  # another process may have replaced it
        self._read_at = self._now()

    def _needs_new(self, stored: Iterable[StoredKey]) -> bool:
        return not any(key.retired_at is None and key.created_at > self._now() - self._max_age for key in stored)

    async def _with_new(self, tx: SystemTx) -> list[StoredKey]:
        """All keys, after a new one was put in the place of the one that signed."""
        await queries.retire_signing_keys(tx, self._now())
        await queries.forget_signing_keys(tx, self._now() - self._keep)
        await self._add(tx)
        return await queries.signing_keys(tx)

    async def _add(self, tx: SystemTx) -> None:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        key_id, nonce = thumbprint(public), secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(self._seal_key).encrypt(nonce, private.private_bytes_raw(), key_id.encode())
        await queries.add_signing_key(tx, StoredKey(key_id, public, sealed, self._now(), None))

    def _take(self, stored: list[StoredKey]) -> SigningKey:
        """Remember what the database holds; the key that signs."""
        [signing] = [key for key in stored if key.retired_at is None]
        self._active = self._opened(signing)
        self._keys = {key.key_id: key for key in stored}
        self._read_at = self._now()
        return self._active

    def _opened(self, key: StoredKey) -> SigningKey:
        nonce, sealed = key.sealed[:_NONCE_BYTES], key.sealed[_NONCE_BYTES:]
        try:
            private = AESGCM(self._seal_key).decrypt(nonce, sealed, key.key_id.encode())
        except InvalidTag:
            raise SetupError(
                "signing_key_sealed",
                "The keys that sign tokens were sealed with another RINGFENCE_SECRET_KEY. Set that one again, or run "
                "`ringfence admin rotate-keys`.",
            ) from None
        return SigningKey(key.key_id, Ed25519PrivateKey.from_private_bytes(private))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
