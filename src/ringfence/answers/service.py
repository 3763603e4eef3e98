"""Question → evidence → answer, as a stream of events. No database connection is held while a model writes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import structlog

from ringfence.answers import citations, evidence, prompt
from ringfence.answers.citations import SentenceMarker
from ringfence.answers.events import DoneEvent, ErrorEvent, Event, Source, SourcesEvent, TokenEvent
from ringfence.errors import Invalid, RingfenceError
from ringfence.ids import UserId
from ringfence.models.base import ChatModel
from ringfence.search.queries import Passage
from ringfence.search.service import Search

log = structlog.get_logger()

MAX_QUESTION_CHARS = 4000
_PASSAGES = 8


class Answers:
    """Answers questions from one tenant's documents alone."""

    def __init__(
        self,
        search: Search,
        chat: ChatModel | None,
        *,
        passage_tokens: int,
        answer_tokens: int,
        relevance_floor: float,
        mark: bool,
    ) -> None:
        """Take what an answer is made of.

        Args:
            search: finds the passages.
            chat: writes the answer; without one the evidence itself is the answer.
            passage_tokens: how many tokens of passages go into a prompt.
            answer_tokens: how many tokens an answer may have.
            relevance_floor: cosine below which a passage does not count; where none reaches it, nobody is asked and the
                answer is a refusal.
            mark: the engine adds the citations to what the model writes; otherwise the model is asked to cite.
        """
        self._search = search
        self._chat = chat
        self._passage_tokens = passage_tokens
        self._answer_tokens = answer_tokens
        self._floor = relevance_floor
        self._mark = mark

    async def ask(self, user_id: UserId, question: str) -> AsyncGenerator[Event]:
        """Answer a question. The first event is `sources`, the last `done` or `error`.

        Raises (before the first event):
            Invalid: the question is empty or too long.
            Unavailable: search is not possible at present.
        """
        question = question.strip()
        if not question or len(question) > MAX_QUESTION_CHARS:
            raise Invalid("bad_question", f"A question has 1 to {MAX_QUESTION_CHARS} characters.")
        found = await self._search.passages(user_id, question, _PASSAGES)
        relevant = [passage for passage in found if passage.score >= self._floor]
        passages = prompt.fit(relevant or found, self._passage_tokens)
        sources = evidence.sources(question, passages)
        yield SourcesEvent(sources=sources)
        if not relevant:
            yield TokenEvent(text=prompt.REFUSAL)
            yield DoneEvent(refused=True, model=None, citations=[])
        elif self._chat is None:
            async for event in _evidence_alone(sources):
                yield event
        else:
            async with aclosing(self._written(self._chat, question, passages, sources)) as events:
                async for event in events:
                    yield event

    async def _written(
        self, chat: ChatModel, question: str, passages: Sequence[Passage], sources: Sequence[Source]
    ) -> AsyncGenerator[Event]:
        marker = SentenceMarker(passages if self._mark else ())
        answer = marked = ""
        try:
            messages = prompt.build(question, passages, cite=not self._mark)
            async with aclosing(chat.stream(messages, max_tokens=self._answer_tokens)) as pieces:
                async for piece in pieces:
                    answer += piece
                    text = marker.feed(piece)
                    marked += text
                    yield TokenEvent(text=text)
        except RingfenceError as error:
            log.warning("answer_broke_off", code=error.code, model=chat.name)
            yield ErrorEvent(code=error.code, message=error.message)
            return
        except Exception:  # a defect: the client has to hear of the end
            log.exception("answer_defect", model=chat.name)
            yield ErrorEvent(code="internal", message="Something went wrong inside the engine.")
            return
        if not answer.strip():
            yield ErrorEvent(code="model_empty", message="The model gave no answer. Please ask again.")
            return
        if last := marker.finish():
            marked += last
            yield TokenEvent(text=last)
        refused = prompt.is_refusal(answer)
        found = [] if refused else citations.cited(marked, sources)
        yield DoneEvent(refused=refused, model=chat.name, citations=found)


async def _evidence_alone(sources: Sequence[Source]) -> AsyncGenerator[Event]:
    yield TokenEvent(text="No language model is set up; these passages bear on the question:\n")
    for source in sources:
        yield TokenEvent(text=f"\n“{source.quote.text}” [{source.n}]\n")
    yield DoneEvent(refused=False, model=None, citations=citations.cited("".join(f"[{s.n}]" for s in sources), sources))
