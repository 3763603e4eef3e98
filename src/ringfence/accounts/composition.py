"""How the parts of accounts are put together."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringfence.accounts.api_keys import ApiKeys
from ringfence.accounts.changes import Changes
from ringfence.accounts.codes import OneTimeCodes
from ringfence.accounts.confirmation import Confirmation
from ringfence.accounts.keyring import KeyRing
from ringfence.accounts.leaving import Leaving
from ringfence.accounts.letters import Letters
from ringfence.accounts.passwords import Passwords
from ringfence.accounts.post import Post
from ringfence.accounts.recovery import Recovery
from ringfence.accounts.service import Accounts
from ringfence.accounts.sessions import Sessions
from ringfence.accounts.sign_in import SignInLimits
from ringfence.accounts.tokens import AccessTokens
from ringfence.db import Database
from ringfence.keys import Purpose, derive
from ringfence.limits import RateLimits, Requests, rate


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """What an operator may choose.

    Attributes:
        bcrypt_cost: work factor of password hashes.
        issuer: of access tokens.
        access_token_seconds: their life.
        session_days: a session's life, from sign-in.
        code_seconds: a one-time code's life.
        requests_per_minute: by one key, or by one user's sessions; 0: any number.
    """

    bcrypt_cost: int
    issuer: str
    access_token_seconds: int
    session_days: int
    code_seconds: int
    requests_per_minute: int


@dataclass(frozen=True, slots=True)
class AccountServices:
    """Who may come in, what they show, and how they change and leave."""

    accounts: Accounts
    recovery: Recovery
    changes: Changes
    leaving: Leaving
    sessions: Sessions
    api_keys: ApiKeys


@contextmanager
def account_services(
    db: Database,
    secret: str,
    keys: KeyRing,
    limits: RateLimits,
    options: AccountOptions,
    *,
    now: Callable[[], datetime],
) -> Generator[AccountServices]:
    """Put them together; the threads that hash passwords end with the context.

    Args:
        db: where accounts are kept.
        secret: the installation's.
        keys: sign access tokens.
        limits: on how often something may be tried.
        options: what an operator may choose.
        now: the clock.
    """
    requests = Requests(limits, rate("requests", options.requests_per_minute, 60))
    sessions = Sessions(
        db,
        AccessTokens(keys, options.issuer, options.access_token_seconds, now),
        refresh_key=derive(secret, Purpose.REFRESH_TOKENS),
        life=timedelta(days=options.session_days),
        limits=limits,
        now=now,
        requests=requests,
    )
    life = timedelta(seconds=options.code_seconds)
    codes = OneTimeCodes(derive(secret, Purpose.ONE_TIME_CODES), life=life, limits=limits, now=now)
    letters = Letters(limits, derive(secret, Purpose.MAIL))
    sign_in = SignInLimits(limits)
    passwords = Passwords(options.bcrypt_cost)
    confirmation = Confirmation(db, passwords, limits)
    try:
        yield AccountServices(
            accounts=Accounts(db, passwords, sessions, sign_in, codes=codes, letters=letters, now=now),
            recovery=Recovery(db, passwords, codes, letters=letters, sign_in_limits=sign_in, now=now),
            changes=Changes(db, passwords, confirmation, codes, letters=letters, now=now),
            leaving=Leaving(db, confirmation),
            sessions=sessions,
            api_keys=ApiKeys(db, confirmation, letters, now=now, requests=requests),
        )
    finally:
        passwords.close()


def make_post(db: Database, secret: str, code_seconds: int, *, now: Callable[[], datetime]) -> Post:
    """What a worker asks about letters before it sends them.

    Args:
        db: where codes are kept.
        secret: the installation's.
        code_seconds: a one-time code's life.
        now: the clock.
    """
    limits = RateLimits(derive(secret, Purpose.LIMITS), now)
    codes = OneTimeCodes(
        derive(secret, Purpose.ONE_TIME_CODES), life=timedelta(seconds=code_seconds), limits=limits, now=now
    )
    return Post(db, codes, Letters(limits, derive(secret, Purpose.MAIL)), now=now)
