"""Whether the passages that a sentence cites carry it: by words, numbers, names, vectors, and a model of inference.

The bounds are chosen on one half of the cases of `bench/citations.py` and reported on the other (decision 42).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from ringfence.answers import claims, evidence, prompt
from ringfence.answers.claims import Basis, Claim, Support, Weights
from ringfence.answers.events import Citation, CitationEvent, ClaimScores, Source, Verdict
from ringfence.answers.markers import Statement
from ringfence.errors import RingfenceError
from ringfence.lexical import languages
from ringfence.models.base import Embedder, Entailment, Inference
from ringfence.search.queries import Passage
from ringfence.telemetry.metrics import SENTENCES

log = structlog.get_logger()

_FEW = 40  # sentences of passages
_LEAD_IN = (":", "：")  # noqa: RUF001  # "The steps are:" claims nothing; the full-width colon is East Asian


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where verdicts change.

    Attributes:
        sure: `ClaimScores.nearest` from which on the words are the passage's own, and no vector is asked.
        unlike: cosine below which a sentence speaks of something else.
        low: `ClaimScores.nearest` below which it does, where no vector tells.
        high: `ClaimScores.nearest` from which on a sentence is supported.
        alike: cosine from which on it is.
    """

    sure: float = 0.6
    unlike: float = 0.45
    low: float = 0.22
    high: float = 0.5
    alike: float = 0.75


BOUNDS = Bounds()


def verdict(scores: ClaimScores, bounds: Bounds = BOUNDS) -> Verdict:
    """What the scores of a sentence come to.

    A number or a name that does not stand there makes a sentence unsupported, whatever else does. A model of inference,
    where one was asked, decides the rest; else words do, and vectors where words leave it open. What denies something
    where the passage does not, or the other way round, is never more than partly supported; nor is what another passage
    says with another figure.
    """
    if not _exact(scores.numbers, scores.names):
        return "unsupported"
    if scores.entailment is not None and scores.contradiction is not None:
        found = _inferred(scores.entailment, scores.contradiction)
    else:
        found = _compared(scores, bounds)
    return "partly" if found == "supported" and scores.disputed else found


def _compared(scores: ClaimScores, bounds: Bounds) -> Verdict:
    if _far(scores.nearest, scores.similarity, bounds):
        return "unsupported"
    near = scores.nearest >= bounds.high or (scores.similarity is not None and scores.similarity >= bounds.alike)
    return "supported" if near and scores.negation else "partly"


def _exact(numbers: float | None, names: float | None) -> bool:
    return all(share is None or share == 1 for share in (numbers, names))


def _far(nearest: float, similarity: float | None, bounds: Bounds) -> bool:
    if similarity is None:
        return nearest < bounds.low
    return similarity < bounds.unlike


def _inferred(entailment: float, contradiction: float) -> Verdict:
    neither = 1 - entailment - contradiction
    if entailment >= max(contradiction, neither):
        return "supported"
    return "unsupported" if contradiction > neither else "partly"


class Checker:
    """Checks answers' sentences.

    Args:
        embedder: compares by meaning what words leave open; None: nothing does.
        entailment: a model that reads both; None: words and vectors decide.
        timeout: seconds for the models in a check; then words alone decide.
    """

    def __init__(
        self, embedder: Embedder | None = None, entailment: Entailment | None = None, *, timeout: float = 2.0
    ) -> None:
        self._embedder = embedder
        self._entailment = entailment
        self._timeout = timeout

    def of(self, question: str, passages: Sequence[Passage], sources: Sequence[Source]) -> "Check":
        """What checks one answer.

        Args:
            question: that is answered; names in it need not stand in a passage.
            passages: that the answer may rest on.
            sources: the same, as they were sent.
        """
        return Check(self, question, passages, sources)

    async def similarity(self, sentence: str, text: str) -> float | None:
        """Cosine of two texts; None where nothing can tell."""
        if self._embedder is None or not await asyncio.to_thread(_covers, self._embedder, text):
            return None
        try:
            async with asyncio.timeout(self._timeout):
                one, other = await self._embedder.embed([sentence, text])
        except (RingfenceError, TimeoutError) as error:
            log.warning("similarity_unknown", error=type(error).__name__)
            return None
        return round(float(one @ other), 4)

    async def inference(self, texts: Sequence[str], sentence: str) -> Inference | None:
        """What follows for a sentence from the text that says most about it; None where no model tells."""
        if self._entailment is None:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._entailment.infer([(text, sentence) for text in texts])
        except (RingfenceError, TimeoutError) as error:
            log.warning("entailment_unknown", error=type(error).__name__)
            return None
        entailing = max(found, key=lambda one: one.entailment)
        denying = max(found, key=lambda one: one.contradiction)
        return entailing if entailing.entailment >= denying.contradiction else denying


def _covers(embedder: Embedder, text: str) -> bool:
    return embedder.languages is None or languages.detect(text)[0] in embedder.languages


@dataclass(frozen=True, slots=True)
class _Prepared:
    bases: list[Basis]
    weights: Weights
    known: frozenset[str]

    @property
    def small(self) -> bool:
        """Whether a sentence is set against them in less time than another thread takes to hear of it."""
        return sum(len(one.grounds) for one in self.bases) <= _FEW


@dataclass(frozen=True, slots=True)
class _Measured:
    """A claim set against passages.

    Attributes:
        prepared: all of them.
        numbers: of those that shall carry it.
        found: how far they do.
        disputed: number of another one that says the same with another figure, where they have all of its own.
    """

    prepared: _Prepared
    numbers: Sequence[int]
    found: Support
    disputed: int | None

    def window(self) -> str:
        """The two sentences in a row that are nearest to the claim."""
        place, first, last = self.found.window
        basis = self.prepared.bases[self.numbers[place] - 1]
        return basis.text[basis.grounds[first].start : basis.grounds[last].end]


class Check:
    """Checks the sentences of one answer."""

    def __init__(self, checker: Checker, question: str, passages: Sequence[Passage], sources: Sequence[Source]) -> None:
        self._checker = checker
        self._question = question
        self._passages = passages
        self._sources = sources
        self._prepared: _Prepared | None = None

    async def __call__(self, statement: Statement) -> CitationEvent | None:
        """The sentence's verdict; None where it claims nothing."""
        said = claims.claim(self._without_places(statement.text))
        if prompt.is_refusal(statement.text) or not self._passages:
            return None
        if not statement.numbers and (said.empty or statement.text.endswith(_LEAD_IN) or statement.text[:1] == "#"):
            return None
        if self._prepared and self._prepared.small:
            measured = self._measured(said, statement.numbers)
        else:  # in a thread: others' tokens must not wait for it
            measured = await asyncio.to_thread(self._measured, said, statement.numbers)
        scores = await self._scores(statement.text, measured)
        outcome = verdict(scores) if not said.empty else "partly"
        SENTENCES.labels(outcome).inc()
        return CitationEvent(
            start=statement.start,
            end=statement.end,
            text=statement.text,
            verdict=outcome,
            scores=scores,
            citations=[
                self._citation(n, measured, measured.found.best[place], said)
                for place, n in enumerate(statement.numbers)
            ],
        )

    def _without_places(self, sentence: str) -> str:
        """The sentence without what the prompt says of the passages, which is no claim: "handbook.pdf, page 3"."""
        for place in {prompt.place(passage) for passage in self._passages}:
            sentence = sentence.replace(place, "")
        return sentence

    def _measured(self, said: Claim, cited: Sequence[int]) -> _Measured:
        prepared = self._prepared = self._prepared or self._prepare()
        bases, weights = prepared.bases, prepared.weights
        numbers = cited or range(1, len(bases) + 1)
        found = claims.support(said, [bases[n - 1] for n in numbers], weights, known=prepared.known)
        others = [n for n in range(1, len(bases) + 1) if n not in cited] if found.numbers == 1 else []
        place = claims.disputing(said, [bases[n - 1] for n in others])
        return _Measured(prepared, numbers, found, None if place is None else others[place])

    def _prepare(self) -> _Prepared:
        bases = [claims.basis(one.text, one.document, one.context) for one in self._passages]
        return _Prepared(bases, Weights(bases), claims.names(self._question))

    async def _scores(self, sentence: str, measured: _Measured) -> ClaimScores:
        inferred = similarity = None
        found = measured.found
        if _exact(found.numbers, found.names):  # else it is decided
            inferred = await self._checker.inference([self._passages[n - 1].text for n in measured.numbers], sentence)
            if inferred is None and found.nearest < BOUNDS.sure:
                similarity = await self._checker.similarity(sentence, measured.window())
        return ClaimScores(
            overlap=round(found.overlap, 4),
            nearest=round(found.nearest, 4),
            numbers=found.numbers,
            names=found.names,
            negation=found.negation,
            similarity=similarity,
            entailment=inferred and inferred.entailment,
            contradiction=inferred and inferred.contradiction,
            disputed=measured.disputed,
        )

    def _citation(self, n: int, measured: _Measured, best: int, said: Claim) -> Citation:
        """The passage, with the sentence of it that bears most on this one."""
        passage, source = self._passages[n - 1], self._sources[n - 1]
        ground = measured.prepared.bases[n - 1].grounds[best]
        weight = {term: measured.prepared.weights(term) for term in said.terms}
        words = evidence.quote(passage, *evidence.shortened(passage.text, ground.start, ground.end, weight))
        return Citation(n=n, document_id=source.document_id, document=source.document, quote=words)
