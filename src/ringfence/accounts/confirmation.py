"""The password once more, before something that a stolen session must not do."""

from ringfence.accounts import credential_queries as queries
from ringfence.accounts.audit import AuditKind, record, record_throttled
from ringfence.accounts.credential_queries import Proofs
from ringfence.accounts.devices import Device
from ringfence.accounts.passwords import Passwords
from ringfence.db import Database
from ringfence.errors import Forbidden, RateLimited
from ringfence.ids import UserId
from ringfence.limits import Rate, RateLimits

_RATES = (Rate("confirmation", 10, 600), Rate("confirmation-account", 100, 86_400))


class Confirmation:
    """Asks for it, not too often.

    Args:
        db: where accounts are kept.
        passwords: checks it.
        limits: on how often that is tried.
    """

    def __init__(self, db: Database, passwords: Passwords, limits: RateLimits) -> None:
        self._db = db
        self._passwords = passwords
        self._limits = limits

    async def require(self, user_id: UserId, password: str, device: Device) -> Proofs:
        """What the account is known by, if this is its password.

        It may be changed before the caller acts upon it: `credential_queries.hold_password` in the transaction that
        does, and `not_confirmed` if it was.

        Raises:
            Forbidden: `password_not_confirmed`.
            RateLimited: `too_many_tries`.
        """
        proofs = await self._counted(user_id, device)
        right = await self._passwords.matches(password, (proofs and proofs.password_hash) or None)
        if proofs is None or not right:
            async with self._db.system() as tx:
                await record(tx, user_id, AuditKind.CONFIRMATION_FAILED, device)
            raise not_confirmed()
        async with self._db.system() as tx:
            for rate in _RATES:
                await self._limits.give_back(tx, rate, str(user_id))
        return proofs

    async def _counted(self, user_id: UserId, device: Device) -> Proofs | None:
        """What the account is known by, after a try was counted as a failure."""
        subject = str(user_id)
        try:
            async with self._db.system() as tx:
                for rate in _RATES:
                    await self._limits.take(tx, rate, subject)
                return await queries.proofs(tx, user_id)
        except RateLimited:
            async with self._db.system() as tx:
                await record_throttled(tx, self._limits, user_id, "confirmation", subject=subject, device=device)
            raise


def not_confirmed() -> Forbidden:
    """The error of who shows another password than the account's."""
    return Forbidden("password_not_confirmed", "This is not the account's password; nothing has changed.")
