"""Chats of a tenant with a document, asked through one process or several, at a quick pace."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from ringfence.answers.history import History
from ringfence.answers.models import Models
from ringfence.answers.questions import Questions
from ringfence.answers.service import Answers
from ringfence.chats.asking import Asking
from ringfence.chats.service import Chats
from ringfence.chats.writing import Pace
from ringfence.db import Database
from ringfence.limits import Quota, Quotas
from ringfence.models.http import Timeouts
from ringfence.models.openai import OpenAIChat
from ringfence.search.followups import FollowUps
from ringfence.search.service import Search
from tests.fakes.desk import desk
from tests.search.stored import store, tenant

QUESTION = "How long is the notice period?"
QUICK = Pace(beat=0.05, slow=0.05, silence=0.1, elsewhere=0.05, poll=0.02)


@pytest.fixture
async def user(admin):
    return await tenant(admin)


@pytest.fixture
async def document(db, embedder, user):
    texts = ["The notice period is six weeks to the end of a quarter.", "Anders repairs the oven."]
    return await store(db, embedder, user, texts, name="hand  book.txt")


@pytest.fixture
def chats(db):
    return Chats(db)


@pytest.fixture
async def process(db, models, embedder, document) -> AsyncGenerator[Callable[..., Asking]]:
    """Makes what an API process has of this, on the same database."""
    async with AsyncExitStack() as stack:

        def process(
            *,
            grace: float = 5.0,
            pace: Pace = QUICK,
            model: bool = True,
            questions: int = 0,
            database: Database = db,
        ) -> Asking:
            timeouts = Timeouts(connect=2, first_token=5, between_tokens=5, total=20)
            chat = OpenAIChat(models.openai_url, "extract", timeouts=timeouts)
            stack.push_async_callback(chat.close)
            search = Search(db, embedder)
            quotas = Quotas(Quota(questions=questions))
            answers = Answers(
                search,
                Models(db, desk(chat if model else None)),
                History(db),
                Questions(db, quotas, now=lambda: datetime.now(UTC)),
                passage_tokens=600,
                answer_tokens=64,
                relevance_floor=0.1,
                rewrite_timeout=5,
            )
            follow_ups = FollowUps(search, timeout=5)
            asking = Asking(database, answers, follow_ups, grace=grace, pace=pace)
            stack.push_async_callback(asking.close)
            return asking

        yield process
