"""How often signing in may fail."""

from ringfence.accounts.audit import record_throttled
from ringfence.accounts.devices import Device
from ringfence.db import SystemTx
from ringfence.ids import UserId
from ringfence.limits import Rate, RateLimits

# Somebody who fails from one place does not lock the owner out, who signs in from another: not within minutes, and, by
# the second rate, not within a day. At one account a hundred failures at once, wherever they come from (NIST SP
# 800-63B-4, 3.2.2), and then one more each 14.4 minutes.
_HERE = Rate("sign-in", 10, 600)
_SITE = Rate("sign-in-site", 30, 86_400)
_NETWORK = Rate("sign-in-network", 100, 1000)
_ACCOUNT = Rate("sign-in-account", 100, 86_400)


class SignInLimits:
    """Counts failures: from here at this account, from here at all accounts, at this account from everywhere."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits

    async def count_try(self, tx: SystemTx, email_key: str, device: Device) -> None:
        """Count a try as a failure, before it is known whether it is one: so a hundred at once are a hundred.

        Raises:
            RateLimited: `too_many_tries`.
        """
        for rate, subject in _buckets(email_key, device):
            await self._limits.take(tx, rate, *subject)

    async def uncount_try(self, tx: SystemTx, email_key: str, device: Device) -> None:
        """Give back what a sign-in that was in order had been counted for."""
        for rate, subject in _buckets(email_key, device):
            await self._limits.give_back(tx, rate, *subject)

    async def forget(self, tx: SystemTx, email_key: str, device: Device) -> None:
        """Let the owner, who has proved to be it, sign in from here, however often others failed."""
        await self._limits.clear(tx, _HERE, email_key, device.network)
        await self._limits.clear(tx, _SITE, email_key, device.site)
        await self._limits.clear(tx, _ACCOUNT, email_key)

    async def record_refusal(self, tx: SystemTx, user_id: UserId | None, email_key: str, device: Device) -> None:
        """Let the audit log say that tries were refused; `user_id`: whose account it is, if there is one."""
        await record_throttled(tx, self._limits, user_id, "sign_in", subject=email_key, device=device)


def _buckets(email_key: str, device: Device) -> list[tuple[Rate, tuple[str, ...]]]:
    return [
        (_HERE, (email_key, device.network)),
        (_SITE, (email_key, device.site)),
        (_NETWORK, (device.network,)),
        (_ACCOUNT, (email_key,)),
    ]
