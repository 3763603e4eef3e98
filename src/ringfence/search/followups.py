"""Searches that the chat model helps to word: follow-up questions, and several wordings of one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence.errors import Invalid
from ringfence.ids import UserId
from ringfence.models.base import ChatModel
from ringfence.search.queries import Passage
from ringfence.search.rerank import Ranked
from ringfence.search.rewrite import MAX_HISTORY, MAX_PARAPHRASES, Rewriting, Turn, fused
from ringfence.search.service import HYBRID, How, Search, checked
from ringfence.search.terms import is_text


@dataclass(frozen=True, slots=True)
class Asked:
    """What was looked for, and what was found.

    Attributes:
        query: the question, or what the model made of it.
        reason: why it is the question as it was asked (`Rewritten.reason`).
        wordings: what else was looked for.
        ranked: what was found, by all of them together.
    """

    query: str
    reason: str | None
    wordings: tuple[str, ...]
    ranked: Ranked


class FollowUps:
    """Finds passages for a question that a conversation has led to."""

    def __init__(self, search: Search, *, timeout: float) -> None:
        """Take what it is made of.

        Args:
            search: finds passages.
            timeout: seconds that a search waits for the model, for each of the two things that it may do.
        """
        self._search = search
        self._timeout = timeout

    async def find(
        self,
        user_id: UserId,
        question: str,
        limit: int,
        documents: Sequence[UUID] | None = None,
        *,
        history: Sequence[Turn] = (),
        paraphrases: int = 0,
        chat: ChatModel | None = None,
        how: How = HYBRID,
    ) -> Asked:
        """The tenant's best passages for a question.

        Args:
            user_id: in whose documents.
            question: what was asked last.
            limit: how many passages at most.
            documents: only in these.
            history: what was said before, oldest first, up to `MAX_HISTORY` turns.
            paraphrases: how many other wordings are looked for, too, up to `MAX_PARAPHRASES`.
            chat: the model that helps; without one, nothing is rewritten.
            how: as of `Search.find`.

        Raises:
            Invalid: `bad_query`.
            Unavailable, SetupError: as of `Search.passages`.
        """
        question = checked(question)
        if (
            len(history) > MAX_HISTORY
            or paraphrases > MAX_PARAPHRASES
            or not all(is_text(turn.text) for turn in history)
        ):
            raise Invalid("bad_query", f"A query has up to {MAX_HISTORY} turns of text before it.")
        rewriting = Rewriting(chat, timeout=self._timeout)
        rewritten = await rewriting.standalone(question, history)
        wordings = await rewriting.wordings(rewritten.query, paraphrases)
        if wordings:
            ranked = await self._found(user_id, [rewritten.query, *wordings], limit, documents, how)
        else:
            ranked = await self._search.ranked(user_id, rewritten.query, limit, documents, how)
        return Asked(rewritten.query, rewritten.reason, tuple(wordings), ranked)

    async def _found(
        self, user_id: UserId, queries: Sequence[str], limit: int, documents: Sequence[UUID] | None, how: How
    ) -> Ranked:
        wanted = self._search.wanted(limit)
        rankings: list[list[Passage]] = await asyncio.gather(
            *(self._search.passages(user_id, query, wanted, documents, how) for query in queries)
        )
        ranked = await self._search.rerank(queries[0], fused(rankings), limit)
        return await self._search.grown(user_id, ranked, how.expand)
