"""Question → evidence → answer, as a stream of events. No database connection is held while a model writes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from ringfence.answers import addresses, citations, evidence, prompt
from ringfence.answers.checking import Checker
from ringfence.answers.events import (
    Citation,
    CitationEvent,
    DoneEvent,
    ErrorEvent,
    Event,
    Source,
    SourcesEvent,
    TokenEvent,
)
from ringfence.answers.history import History
from ringfence.answers.observed import observed, traced
from ringfence.answers.prompt import Budget, Prompt
from ringfence.answers.questions import Questions, Stopped, never
from ringfence.answers.spending import written
from ringfence.answers.talk import Basis, Talk, template
from ringfence.errors import Invalid, RingfenceError
from ringfence.ids import AnswerId, UserId, new_answer_id
from ringfence.limits import Note, unsaid
from ringfence.models.base import ChatModel, Message, Spent
from ringfence.search.queries import Passage
from ringfence.search.rewrite import Rewriting, Turn
from ringfence.search.service import Search
from ringfence.search.terms import is_text
from ringfence.telemetry.traces import tracing

log = structlog.get_logger()

MAX_QUESTION_CHARS = 4000
_PASSAGES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a question is to be answered, beyond what the engine does anyway.

    Attributes:
        strict: whether each sentence is held back until it is checked; None: as the installation has it.
        history: questions and answers before this one, in turn: the question is made to stand alone, and the model is
            told as many of them as fit.
        max_tokens: of the answer, where that is less than the engine's own limit.
        spent: hears what the model took, if one is asked.
    """

    strict: bool | None = None
    history: Sequence[Turn] = ()
    max_tokens: int | None = None
    spent: Spent | None = None


_PLAIN = Way()


class Answers:
    """Answers questions from one tenant's documents alone."""

    def __init__(
        self,
        search: Search,
        chat: ChatModel | None,
        history: History,
        questions: Questions,
        *,
        passage_tokens: int,
        answer_tokens: int,
        relevance_floor: float,
        mark: bool,
        checker: Checker | None = None,
        rewriting: Rewriting | None = None,
        strict: bool = False,
    ) -> None:
        """Take what an answer is made of.

        Args:
            search: finds the passages.
            chat: writes the answer; without one the evidence itself is the answer.
            history: keeps what was asked and answered.
            questions: counts what is asked.
            passage_tokens: how many tokens of passages go into a prompt.
            answer_tokens: how many tokens an answer may have.
            relevance_floor: cosine below which a passage does not count; where none reaches it, nobody is asked and the
                answer is a refusal.
            mark: the engine adds the citations to what the model writes; otherwise the model is asked to cite.
            checker: checks what it writes; unset: by words alone.
            rewriting: makes follow-up questions stand alone.
            strict: whether sentences are held back until they are checked, where a question does not say.
        """
        self._search = search
        self._chat = chat
        self._history = history
        self._questions = questions
        self._passage_tokens = passage_tokens
        self._answer_tokens = answer_tokens
        self._floor = relevance_floor
        self._mark = mark
        self._checker = checker or Checker()
        self._rewriting = rewriting or Rewriting(None, timeout=0)
        self._strict = strict

    def ask(
        self, user_id: UserId, question: str, note: Note = unsaid, *, stopped: Stopped = never, way: Way = _PLAIN
    ) -> AsyncGenerator[Event]:
        """Answer a question. The first event is `sources`, the last `done` or `error`; what was said is kept.

        Args:
            user_id: from whose documents.
            question: what is asked.
            note: is told how the limit on questions stands, before the first event.
            stopped: whether the server stops; what it ends then does not count as a question.
            way: after which conversation, and the like.

        Raises (before the first event):
            Invalid: the question is empty, too long or no text.
            RateLimited: `too_many_questions`.
            Unavailable: search is not possible at present.
        """
        answer_id = new_answer_id()
        events = self._events(user_id, answer_id, question, note=note, stopped=stopped, way=way)
        return self._history.recorded(user_id, answer_id, question, events)

    def converse(
        self,
        user_id: UserId,
        answer_id: AnswerId,
        question: str,
        talk: Talk,
        note: Note = unsaid,
        *,
        stopped: Stopped = never,
        strict: bool | None = None,
    ) -> AsyncGenerator[Event]:
        """The same within a conversation. Nothing is kept here: whoever keeps the conversation keeps the answer."""
        way = Way(strict=strict, history=talk.history)
        return self._events(user_id, answer_id, question, note=note, stopped=stopped, way=way, talk=talk)

    @observed
    async def _events(
        self,
        user_id: UserId,
        answer_id: AnswerId,
        question: str,
        *,
        note: Note,
        stopped: Stopped,
        way: Way,
        talk: Talk | None = None,
    ) -> AsyncGenerator[Event]:
        question = question.strip()
        if not question or len(question) > MAX_QUESTION_CHARS or not is_text(question):
            raise Invalid("bad_question", f"A question has 1 to {MAX_QUESTION_CHARS} characters.")
        answer = self._answered(user_id, answer_id, question, way, talk)
        async with aclosing(self._questions.counted(user_id, answer, note, stopped)) as events:
            async for event in events:
                yield event

    async def _answered(
        self, user_id: UserId, answer_id: AnswerId, question: str, way: Way, talk: Talk | None
    ) -> AsyncGenerator[Event]:
        if talk:
            question, found = await talk.find(question, _PASSAGES)
        else:
            question = (await self._rewriting.standalone(question, way.history)).query
            found = (await self._search.ranked(user_id, question, _PASSAGES)).passages
        relevant = [passage for passage in found if (passage.similarity or -1.0) >= self._floor]
        sent = self._prompt(question, way, relevant)
        passages = sent.passages if sent else prompt.fit(relevant or found, self._passage_tokens)
        with tracing.span("answer.evidence", found=len(found), passages=len(passages)):
            sources = evidence.sources(question, passages)
        if talk:
            talk.note(self._basis(question, passages, sent, way))
        yield SourcesEvent(answer_id=answer_id, sources=sources)
        if not relevant:
            yield TokenEvent(text=prompt.REFUSAL)
            yield DoneEvent(refused=True, model=None, citations=[], nearest=evidence.nearest_documents(found))
        elif self._chat is None or sent is None:
            async for event in _evidence_alone(sources):
                yield event
        else:
            async with aclosing(self._written(self._chat, question, sent, sources, way)) as events:
                async for event in events:
                    yield event

    def _prompt(self, question: str, way: Way, relevant: Sequence[Passage]) -> Prompt | None:
        """What a model is sent; none where none is asked."""
        if self._chat is None or not relevant:
            return None
        budget = Budget(self._chat.context_tokens, self._most(way), self._passage_tokens)
        history = [Message(turn.role, turn.text) for turn in way.history]
        return prompt.compose(question, history, relevant, budget, cite=not self._mark)

    def _most(self, way: Way) -> int:
        return min(self._answer_tokens, way.max_tokens or self._answer_tokens)

    def _is_strict(self, way: Way) -> bool:
        return self._strict if way.strict is None else way.strict

    def _basis(self, question: str, passages: Sequence[Passage], sent: Prompt | None, way: Way) -> Basis:
        made = template(question, passages, cite=not self._mark, history=sent.history) if sent else ()
        parameters: dict[str, int | float | bool] = {
            "passages": _PASSAGES,
            "passage_tokens": self._passage_tokens,
            "answer_tokens": self._answer_tokens,
            "relevance_floor": self._floor,
            "cited_by_the_engine": self._mark,
            "strict": self._is_strict(way),
        }
        return Basis(question, tuple(passages), made, self._chat.name if self._chat and sent else None, parameters)

    async def _written(
        self, chat: ChatModel, question: str, sent: Prompt, sources: Sequence[Source], way: Way
    ) -> AsyncGenerator[Event]:
        answer, checked, passages = "", list[CitationEvent](), sent.passages
        check = self._checker.of(question, passages, sources)
        try:
            pieces = traced(written(chat, sent.messages, self._most(way), way.spent))
            pieces = addresses.kept(pieces, _known(passages, sent.messages))
            pieces = citations.marked(pieces, passages) if self._mark else pieces
            async with aclosing(citations.cited(pieces, len(sources), check, strict=self._is_strict(way))) as events:
                async for event in events:
                    if isinstance(event, TokenEvent):
                        answer += event.text
                    else:
                        checked.append(event)
                    yield event
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
        with tracing.span("answer.citations", sentences=len(checked)):
            done = _done(chat.name, answer, checked, passages)
        yield done


def _done(model: str, answer: str, checked: Sequence[CitationEvent], passages: Sequence[Passage]) -> DoneEvent:
    if prompt.is_refusal(answer):
        return DoneEvent(refused=True, model=model, citations=[], nearest=evidence.nearest_documents(passages))
    found: dict[int, Citation] = {}
    for event in checked:
        for citation in event.citations:
            found.setdefault(citation.n, citation)
    unsupported = [event.text for event in checked if event.verdict == "unsupported"]
    return DoneEvent(refused=False, model=model, citations=list(found.values()), unsupported=unsupported)


def _known(passages: Sequence[Passage], messages: Sequence[Message]) -> list[str]:
    """What an answer may repeat an address of: the passages as they stand, and what was said."""
    return [passage.text for passage in passages] + [message.content for message in messages]


async def _evidence_alone(sources: Sequence[Source]) -> AsyncGenerator[Event]:
    yield TokenEvent(text="No language model is set up; these passages bear on the question:\n")
    for source in sources:
        yield TokenEvent(text=f"\n“{addresses.unloaded(source.quote.text)}” [{source.n}]\n")
    found = [Citation(n=s.n, document_id=s.document_id, document=s.document, quote=s.quote) for s in sources]
    yield DoneEvent(refused=False, model=None, citations=found)
