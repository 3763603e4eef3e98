import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.answers.citations import SentenceMarker, cited
from ringfence.answers.events import CitationEvent, ClaimScores, TokenEvent
from ringfence.answers.prompt import REFUSAL
from ringfence.ids import new_document_id
from ringfence.search.queries import Passage

PASSAGES = [
    Passage(new_document_id(), "a.pdf", text, ((1, 0, len(text)),), 0.5)
    for text in (
        "The notice period is six weeks.",
        "Anders repairs the oven, e.g. on Mondays.",
        "窯はアンデルスが直す。",
    )
]


@pytest.mark.parametrize(
    ("answer", "marked"),
    [
        ("The notice period is six weeks.", "The notice period is six weeks. [1]"),
        ("It is six weeks. Anders repairs the oven!\n", "It is six weeks. [1] Anders repairs the oven! [2]\n"),
        ("Anders repairs the oven, e.g. on Mondays.", "Anders repairs the oven, e.g. on Mondays. [2]"),
        (
            "Bananas are yellow. Six weeks is the notice period",
            "Bananas are yellow. Six weeks is the notice period [1]",
        ),
        ("窯はアンデルスが直す。", "窯はアンデルスが直す。 [3]"),
        ("The period is 3.14 weeks, six weeks notice.", "The period is 3.14 weeks, six weeks notice. [1]"),
        ("", ""),
        ("The documents do not answer this question.", "The documents do not answer this question."),
    ],
)
def test_sentences_are_marked_however_the_stream_is_cut(answer, marked):
    for size in (1, 2, 3, 7, 1000):
        marker = SentenceMarker(PASSAGES)
        pieces = [marker.feed(answer[start : start + size]) for start in range(0, len(answer), size)]
        assert "".join(pieces) + marker.finish() == marked


def test_a_refusal_rests_on_nothing():
    text = "Staff return all documents and do not answer the phone in this room."
    marker = SentenceMarker([Passage(new_document_id(), "a.pdf", text, ((1, 0, len(text)),), 0.5)])
    assert marker.feed(REFUSAL) + marker.finish() == REFUSAL


@given(st.text(alphabet="ab .!?。\n", max_size=60), st.lists(st.integers(1, 9), max_size=30))
def test_marking_adds_and_never_changes_what_was_said(answer, cuts):
    marker, marked = SentenceMarker(PASSAGES), ""
    rest = answer
    for cut in cuts:
        marked += marker.feed(rest[:cut])
        rest = rest[cut:]
    marked += marker.feed(rest) + marker.finish()
    assert re.sub(r" \[\d\]", "", marked) == answer


SCORES = ClaimScores(
    overlap=1, nearest=1, numbers=None, names=None, negation=True, similarity=None, entailment=None, contradiction=None
)


async def at_once(statement):
    place = {"start": statement.start, "end": statement.end, "text": statement.text}
    return CitationEvent(**place, verdict="supported", scores=SCORES, citations=[])


async def spoken(*pieces):
    for piece in pieces:
        yield piece


async def events_of(*pieces, check=at_once, strict=False):
    return [event async for event in cited(spoken(*pieces), 2, check, strict=strict)]


def said(events):
    return [event.text if isinstance(event, TokenEvent) else f"<{event.text}>" for event in events]


async def test_words_are_passed_on_as_they_come_and_citations_follow():
    events = await events_of("Six weeks [1]", ".", " Tea", " is free [2].")
    assert said(events)[:3] == ["Six weeks [1]", ".", " Tea"]
    assert {"<Six weeks.>", "<Tea is free.>"} < set(said(events))


async def test_in_strict_mode_a_sentence_comes_behind_its_verdict():
    events = await events_of("Six weeks [1]", ".", " Tea", " is free [9]. ", strict=True)
    assert said(events) == ["<Six weeks.>", "Six weeks [1]. ", "<Tea is free.>", "Tea is free. "]


async def test_in_strict_mode_what_is_no_sentence_is_not_lost():
    assert said(await events_of(" \n", " [1]", strict=True)) == [" \n [1]"]


async def test_the_stream_does_not_wait_for_a_check():
    checked = asyncio.Event()

    async def slow(statement):
        await checked.wait()
        return await at_once(statement)

    events = []
    async for event in cited(spoken("One. ", "Two. ", "Three."), 2, slow, strict=False):
        events.append(event)
        if said(events)[-1].strip() == "Three.":
            checked.set()
    assert said(events) == ["One.", " Two.", " Three.", "<One.>", "<Two.>", "<Three.>"]


async def test_a_reader_who_leaves_ends_the_checks():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(_statement):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    events = cited(spoken("One. ", "Two. ", "Three. ", "Four. "), 2, endless, strict=False)
    async for _ in events:
        await asyncio.sleep(0)  # the checks are tasks of this loop
        if begun.is_set():
            break
    await events.aclose()
    assert ended.is_set()


async def test_a_check_that_fails_is_the_answers_failure():
    async def defective(_statement):
        raise ZeroDivisionError

    for strict in (True, False):
        with pytest.raises(ZeroDivisionError):
            await events_of("One. ", "Two.", check=defective, strict=strict)


async def nothing(_statement):
    return None


@pytest.mark.parametrize("strict", [True, False])
async def test_what_claims_nothing_has_no_citation(strict):
    events = await events_of("So: ", "[1] there.", check=nothing, strict=strict)
    assert "".join(said(events)) == "So: [1] there."


@given(
    st.text(alphabet="ab .!?。\n[]12,-`", max_size=60),
    st.lists(st.integers(1, 9), max_size=30),
    st.booleans(),
)
def test_a_reader_sees_the_same_however_the_stream_is_cut(answer, cuts, strict):
    pieces, rest = [], answer
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    cut_up = asyncio.run(events_of(*pieces, rest, strict=strict))
    whole = asyncio.run(events_of(answer, strict=False))

    def text(events):
        return "".join(event.text for event in events if isinstance(event, TokenEvent))

    def sentences(events):
        return [event.model_dump() for event in events if isinstance(event, CitationEvent)]

    assert text(cut_up) == text(whole)
    assert sentences(cut_up) == sentences(whole)
    for event in cut_up:
        if isinstance(event, CitationEvent):
            words = re.sub(r"\[[\d, ]+\]", " ", text(whole)[event.start : event.end])
            assert event.text.replace(" ", "") in text(whole)[event.start : event.end].replace(" ", "") or words
