"""All that an operator's commands need."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ringfence.accounts.admin import Administration
from ringfence.accounts.keyring import KeyRing
from ringfence.answers.questions import Questions
from ringfence.db import Database
from ringfence.documents.reembed import Moves
from ringfence.documents.service import Library
from ringfence.keys import Purpose, derive
from ringfence.services.parts import (
    default_quotas,
    make_key_ring,
    make_library,
    make_storage,
    open_database,
    require_secret,
    utc_now,
)
from ringfence.settings import Settings


@dataclass(frozen=True, slots=True)
class Admin:
    """What an operator's commands need."""

    db: Database
    users: Administration
    keys: KeyRing
    library: Library
    questions: Questions
    moves: Moves


@asynccontextmanager
async def open_admin(settings: Settings) -> AsyncGenerator[Admin]:
    """All that an operator's commands need: the secret and the database, neither models nor mail.

    Raises:
        SetupError: something has to be set up first.
        Unavailable: the database can't be reached.
    """
    secret = require_secret(settings)
    async with AsyncExitStack() as stack:
        db = await open_database(settings, stack, request=False)
        yield Admin(
            db,
            Administration(db, default_quotas(settings), audit_key=derive(secret, Purpose.AUDIT), now=utc_now),
            make_key_ring(settings, db, utc_now),
            make_library(settings, db, make_storage(settings)),
            Questions(db, default_quotas(settings), now=utc_now),
            Moves(db),
        )
