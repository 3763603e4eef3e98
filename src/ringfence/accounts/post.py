"""Letters about codes, looked at once more before they are sent.

A mail server may be away for longer than a code lives, and people ask again meanwhile. A letter whose code has been
used, or replaced by a later one, is not sent; one whose code has died on the way is written anew, with a fresh code.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from ringfence.accounts import credential_queries
from ringfence.accounts.codes import OneTimeCodes
from ringfence.accounts.letters import About, Letters
from ringfence.db import Database, SystemTx
from ringfence.ids import UserId
from ringfence.mail import Mail

log = structlog.get_logger()

RENEWED_FOR = timedelta(days=1)
"""For which a letter is written anew; what was asked for before that is given up, with its last code."""


class Post:
    """Decides what becomes of a letter when its turn has come.

    Args:
        db: where codes are kept.
        codes: makes fresh ones.
        letters: writes about them.
        now: the clock.
    """

    def __init__(self, db: Database, codes: OneTimeCodes, letters: Letters, *, now: Callable[[], datetime]) -> None:
        self._db = db
        self._codes = codes
        self._letters = letters
        self._now = now

    async def is_due(self, user_id: UserId, mail: Mail) -> bool:
        """Whether to send a letter of this user's. False: nobody waits for it any more, or another one is queued now.

        Raises:
            Unavailable: the database can't be reached.
        """
        if not mail.about:
            return True
        about = About.model_validate_json(mail.about)
        async with self._db.system() as tx:
            held = await credential_queries.hold_code(tx, user_id, about.purpose)
            if held is None or held.digest.hex() != about.digest:
                log.info("letter_withdrawn", letter=about.letter)
                return False
            if held.expires_at > self._now() or about.asked_at <= self._now() - RENEWED_FOR:
                return True
            await self._renew(tx, user_id, mail, about)
        log.info("letter_renewed", letter=about.letter)
        return False

    async def _renew(self, tx: SystemTx, user_id: UserId, mail: Mail, about: About) -> None:
        code = self._codes.new(user_id, about.purpose)
        await credential_queries.renew_code(tx, user_id, code)
        await self._letters.send_code(tx, user_id, about.letter, mail.to, code, asked_at=about.asked_at)
