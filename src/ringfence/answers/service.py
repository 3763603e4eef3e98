"""Question → evidence → answer, as a stream of events. No database connection is held while a model writes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from ringfence.answers import addresses, citations, evidence, prompt
from ringfence.answers.checking import Checker
from ringfence.answers.events import (
    Citation,
    CitationEvent,
    Disputed,
    DoneEvent,
    ErrorEvent,
    Event,
    Source,
    SourcesEvent,
    TokenEvent,
)
from ringfence.answers.history import History
from ringfence.answers.models import Models
from ringfence.answers.observed import observed, traced
from ringfence.answers.prompt import Budget, Prompt
from ringfence.answers.questions import Questions, Stopped, never
from ringfence.answers.talk import Basis, Talk, template
from ringfence.errors import Invalid, RingfenceError
from ringfence.ids import AnswerId, UserId, new_answer_id
from ringfence.limits import Note, unsaid
from ringfence.models.base import Message, Spent
from ringfence.models.desk import Turn as Model
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
        model: the name of the one that shall answer; None: as the user has chosen.
    """

    strict: bool | None = None
    history: Sequence[Turn] = ()
    max_tokens: int | None = None
    spent: Spent | None = None
    model: str | None = None


_PLAIN = Way()


class Answers:
    """Answers questions from one tenant's documents alone."""

    def __init__(
        self,
        search: Search,
        models: Models,
        history: History,
        questions: Questions,
        *,
        passage_tokens: int,
        answer_tokens: int,
        relevance_floor: float,
        rewrite_timeout: float,
        checker: Checker | None = None,
        strict: bool = False,
    ) -> None:
        """Take what an answer is made of.

        Args:
            search: finds the passages.
            models: one of them writes the answer; without one the evidence itself is the answer.
            history: keeps what was asked and answered.
            questions: counts what is asked.
            passage_tokens: how many tokens of passages are the evidence where no model is asked.
            answer_tokens: how many tokens an answer may have.
            relevance_floor: cosine below which a passage does not count; where none reaches it, nobody is asked and the
                answer is a refusal.
            rewrite_timeout: seconds in which the model may make a follow-up question stand alone.
            checker: checks what it writes; unset: by words alone.
            strict: whether sentences are held back until they are checked, where a question does not say.
        """
        self._search = search
        self._models = models
        self._history = history
        self._questions = questions
        self._passage_tokens = passage_tokens
        self._answer_tokens = answer_tokens
        self._floor = relevance_floor
        self._checker = checker or Checker()
        self._rewrite_timeout = rewrite_timeout
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
            NotFound: `model_not_found`.
            RateLimited: `too_many_questions`.
            Unavailable: search is not possible at present; or `model_busy`, too many wait for the model.
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
        way: Way = _PLAIN,
    ) -> AsyncGenerator[Event]:
        """The same within a conversation. Nothing is kept here: whoever keeps the conversation keeps the answer."""
        way = replace(way, history=talk.history)
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
        if model := await self._models.of(user_id, way.model):
            model.require_room()
        answer = self._answered(user_id, answer_id, question, way, talk, model)
        async with aclosing(self._questions.counted(user_id, answer, note, stopped)) as events:
            async for event in events:
                yield event

    async def _answered(  # noqa: PLR0917  # all that an answer is about
        self, user_id: UserId, answer_id: AnswerId, question: str, way: Way, talk: Talk | None, model: Model | None
    ) -> AsyncGenerator[Event]:
        helper = model.aside() if model else None
        if talk:
            question, found = await talk.find(question, _PASSAGES, helper)
        else:
            rewriting = Rewriting(helper, timeout=self._rewrite_timeout)
            question = (await rewriting.standalone(question, way.history)).query
            found = (await self._search.ranked(user_id, question, _PASSAGES)).passages
        relevant = [passage for passage in found if (passage.similarity or -1.0) >= self._floor]
        sent = self._prompt(question, way, relevant, model)
        passages = sent.passages if sent else prompt.fit(relevant or found, self._passage_tokens)
        with tracing.span("answer.evidence", found=len(found), passages=len(passages)):
            sources = evidence.sources(question, passages)
        if talk:
            talk.note(self._basis(question, passages, way, model if sent else None, sent))
        yield SourcesEvent(answer_id=answer_id, sources=sources)
        if not relevant:
            yield TokenEvent(text=prompt.REFUSAL)
            yield DoneEvent(refused=True, model=None, citations=[], nearest=evidence.nearest_documents(found))
        elif model is None or sent is None:
            async for event in _evidence_alone(sources):
                yield event
        else:
            async with aclosing(self._written(model, question, sent, sources, way)) as events:
                async for event in events:
                    yield event

    def _prompt(self, question: str, way: Way, relevant: Sequence[Passage], model: Model | None) -> Prompt | None:
        """What a model is sent; none where none is asked."""
        if model is None or not relevant:
            return None
        budget = Budget(model.context_tokens, self._most(way), model.offer.passage_tokens)
        history = [Message(turn.role, turn.text) for turn in way.history]
        return prompt.compose(question, history, relevant, budget, cite=model.offer.cites)

    def _most(self, way: Way) -> int:
        return min(self._answer_tokens, way.max_tokens or self._answer_tokens)

    def _is_strict(self, way: Way) -> bool:
        return self._strict if way.strict is None else way.strict

    def _basis(
        self, question: str, passages: Sequence[Passage], way: Way, model: Model | None, sent: Prompt | None
    ) -> Basis:
        """What an answer rests on; `model` and `sent` are of the model that is asked, if one is."""
        parameters: dict[str, int | float | bool] = {
            "passages": _PASSAGES,
            "passage_tokens": model.offer.passage_tokens if model else self._passage_tokens,
            "answer_tokens": self._answer_tokens,
            "relevance_floor": self._floor,
            "cited_by_the_engine": bool(model and not model.offer.cites),
            "strict": self._is_strict(way),
        }
        if model is None or sent is None:
            return Basis(question, tuple(passages), (), None, parameters)
        made = template(question, passages, cite=model.offer.cites, history=sent.history)
        return Basis(question, tuple(passages), made, model.name, parameters)

    async def _written(
        self, model: Model, question: str, sent: Prompt, sources: Sequence[Source], way: Way
    ) -> AsyncGenerator[Event]:
        answer, checked, passages = "", list[CitationEvent](), sent.passages
        check = self._checker.of(question, passages, sources)
        try:
            pieces = traced(model.stream(sent.messages, max_tokens=self._most(way), spent=way.spent))
            pieces = addresses.kept(pieces, _known(passages, sent.messages))
            pieces = pieces if model.offer.cites else citations.marked(pieces, passages)
            async with aclosing(citations.cited(pieces, len(sources), check, strict=self._is_strict(way))) as events:
                async for event in events:
                    if isinstance(event, TokenEvent):
                        answer += event.text
                    else:
                        checked.append(event)
                    yield event
        except RingfenceError as error:
            log.warning("answer_broke_off", code=error.code, model=model.name)
            yield ErrorEvent(code=error.code, message=error.message)
            return
        except Exception:  # a defect: the client has to hear of the end
            log.exception("answer_defect", model=model.name)
            yield ErrorEvent(code="internal", message="Something went wrong inside the engine.")
            return
        if not answer.strip():
            yield ErrorEvent(code="model_empty", message="The model gave no answer. Please ask again.")
            return
        with tracing.span("answer.citations", sentences=len(checked)):
            done = _done(model.name, answer, checked, passages)
        yield done


def _done(model: str, answer: str, checked: Sequence[CitationEvent], passages: Sequence[Passage]) -> DoneEvent:
    if prompt.is_refusal(answer):
        return DoneEvent(refused=True, model=model, citations=[], nearest=evidence.nearest_documents(passages))
    found: dict[int, Citation] = {}
    for event in checked:
        for citation in event.citations:
            found.setdefault(citation.n, citation)
    unsupported = [event.text for event in checked if event.verdict == "unsupported"]
    disputed = [
        Disputed(text=event.text, n=n, document=passages[n - 1].document)
        for event in checked
        if (n := event.scores.disputed)
    ]
    cited = list(found.values())
    return DoneEvent(refused=False, model=model, citations=cited, unsupported=unsupported, disputed=disputed)


def _known(passages: Sequence[Passage], messages: Sequence[Message]) -> list[str]:
    """What an answer may repeat an address of: the passages as they stand, and what was said."""
    return [passage.text for passage in passages] + [message.content for message in messages]


async def _evidence_alone(sources: Sequence[Source]) -> AsyncGenerator[Event]:
    yield TokenEvent(text="No language model is set up; these passages bear on the question:\n")
    for source in sources:
        yield TokenEvent(text=f"\n“{addresses.unloaded(source.quote.text)}” [{source.n}]\n")
    found = [Citation(n=s.n, document_id=s.document_id, document=s.document, quote=s.quote) for s in sources]
    yield DoneEvent(refused=False, model=None, citations=found)
