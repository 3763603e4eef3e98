import pytest

from ringfence.answers import evidence
from ringfence.answers.checking import Checker, verdict
from ringfence.answers.events import ClaimScores
from ringfence.answers.markers import Statement
from ringfence.answers.prompt import REFUSAL
from ringfence.ids import new_document_id
from ringfence.models.entailment import TeiEntailment
from ringfence.models.openai import OpenAIEmbedder
from ringfence.search.queries import Passage


def scores(nearest=1.0, **others):
    known = {"numbers": None, "names": None, "negation": True, "similarity": None}
    return ClaimScores(overlap=1, nearest=nearest, **{**known, "entailment": None, "contradiction": None, **others})


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (scores(1.0), "supported"),
        (scores(0.4), "partly"),
        (scores(0.1), "unsupported"),
        (scores(1.0, numbers=1, names=1), "supported"),
        (scores(1.0, numbers=0.5), "unsupported"),
        (scores(1.0, names=0.5), "unsupported"),
        (scores(1.0, negation=False), "partly"),
        (scores(0.1, similarity=0.8), "supported"),
        (scores(0.1, similarity=0.6), "partly"),
        (scores(0.1, similarity=0.8, negation=False), "partly"),
        (scores(0.5, similarity=0.2), "unsupported"),
        (scores(0.1, entailment=0.9, contradiction=0.05), "supported"),
        (scores(1.0, entailment=0.05, contradiction=0.9), "unsupported"),
        (scores(1.0, entailment=0.1, contradiction=0.1), "partly"),
        (scores(1.0, entailment=0.9, contradiction=0.05, numbers=0.5), "unsupported"),
        (scores(1.0, disputed=2), "partly"),
        (scores(0.1, disputed=2), "unsupported"),
        (scores(0.1, entailment=0.9, contradiction=0.05, disputed=2), "partly"),
    ],
)
def test_verdicts(of, expected):
    assert verdict(of) == expected


def passage(text, document="handbook.pdf", page=4):
    return Passage(new_document_id(), document, text, ((page, 10, 10 + len(text)),), 0.8)


NOTICE = passage("Wages are paid monthly. The notice period is six weeks. Some words after.")
OVEN = passage("Anders repairs the oven.", page=2)
QUESTION = "How long is the notice period?"


@pytest.fixture
async def embedder(models):
    embedder = OpenAIEmbedder(models.openai_url, "em")
    yield embedder
    await embedder.close()


@pytest.fixture
async def entailment(models):
    entailment = TeiEntailment(models.url)
    yield entailment
    await entailment.close()


async def checked(text, *numbers, checker=None, passages=(NOTICE, OVEN), question=QUESTION):
    check = (checker or Checker()).of(question, passages, evidence.sources(question, passages))
    return await check(Statement(3, 3 + len(text), text, numbers, text))


async def test_a_sentence_has_its_place_its_verdict_and_the_words_that_bear_on_it():
    event = await checked("The notice period is six weeks.", 1)
    assert (event.start, event.end, event.text) == (3, 34, "The notice period is six weeks.")
    assert (event.verdict, event.scores.numbers, event.scores.similarity) == ("supported", 1, None)
    [citation] = event.citations
    assert (citation.n, citation.document_id, citation.document) == (1, NOTICE.document_id, "handbook.pdf")
    assert citation.quote.text == "The notice period is six weeks."
    assert (citation.quote.page, citation.quote.start, citation.quote.end) == (4, 34, 65)


async def test_the_wrong_passage_does_not_support_it():
    event = await checked("The notice period is six weeks.", 2)
    assert event.verdict == "unsupported"
    assert [citation.quote.text for citation in event.citations] == ["Anders repairs the oven."]


async def test_what_the_prompt_says_of_a_passage_is_no_claim():
    event = await checked("handbook.pdf, page 4: The notice period is six weeks.", 1)
    assert (event.verdict, event.scores.numbers) == ("supported", 1)
    assert (await checked("The notice period is 4 weeks.", 1)).verdict == "unsupported"


async def test_several_passages_support_it_together():
    event = await checked("The notice period is six weeks, and Anders repairs the oven.", 1, 2)
    assert event.scores.overlap > 0.9
    assert [citation.n for citation in event.citations] == [1, 2]


async def test_what_cites_nothing_is_compared_with_all():
    event = await checked("Anders repairs the oven.")
    assert (event.verdict, event.citations) == ("supported", [])
    assert (await checked("Bananas grow in warm countries.")).verdict == "unsupported"


async def test_what_another_passage_says_with_another_figure_is_disputed():
    other = passage("Older figures are wrong. The notice period is nine weeks.", "corrections.pdf")
    for numbers in ((1,), ()):
        event = await checked("The notice period is six weeks.", *numbers, passages=(NOTICE, OVEN, other))
        assert (event.verdict, event.scores.disputed) == ("partly", 3)
    both = await checked("The notice period is six weeks.", 1, 3, passages=(NOTICE, OVEN, other))
    assert (both.verdict, both.scores.disputed) == ("supported", None)
    wrong = await checked("The notice period is six weeks.", 3, passages=(NOTICE, OVEN, other))
    assert (wrong.verdict, wrong.scores.disputed) == ("unsupported", None)


@pytest.mark.parametrize("text", ["", "…", "The answer is this:", "答案如下：", "# Notice", REFUSAL])
async def test_what_claims_nothing_is_not_checked(text):
    assert await checked(text) is None


async def test_a_marker_without_a_claim_is_at_most_partly_supported():
    event = await checked("…", 1)
    assert event.verdict == "partly"
    assert event.citations[0].quote.text == "Wages are paid monthly."


async def test_without_passages_nothing_is_checked():
    assert await checked("Tea is free.", passages=()) is None


async def test_a_long_sentence_is_quoted_in_part():
    words = " ".join(f"word{n}" for n in range(100))
    event = await checked("The treasure is buried.", 1, passages=[passage(f"{words} treasure lies buried {words}")])
    assert "treasure lies buried" in event.citations[0].quote.text
    assert len(event.citations[0].quote.text) <= evidence.MAX_QUOTE_CHARS


async def test_what_words_leave_open_vectors_tell(models, embedder):
    checker = Checker(embedder)
    models.script_embeddings(vectors=[[1.0, 0.0], [0.9, 0.1]], times=1)
    event = await checked("One leaves after a month and a half's notice.", 1, checker=checker)
    assert (event.verdict, round(event.scores.similarity, 2)) == ("supported", 0.99)
    models.script_embeddings(vectors=[[1.0, 0.0], [0.1, 0.9]], times=1)
    event = await checked("One leaves after a month and a half's notice.", 1, checker=checker)
    assert (event.verdict, round(event.scores.similarity, 2)) == ("unsupported", 0.11)
    asked = models.embeddings[0].body["input"]
    assert asked[0] == "One leaves after a month and a half's notice."
    assert "The notice period is six weeks." in asked[1]


async def test_what_words_decide_costs_no_vector(models, embedder):
    checker = Checker(embedder)
    await checked("The notice period is six weeks.", 1, checker=checker)
    await checked("Leaving takes 99 days.", 1, checker=checker)
    assert models.embeddings == []


async def test_vectors_are_not_asked_in_languages_that_they_do_not_cover(models):
    embedder = OpenAIEmbedder(models.openai_url, "em", languages=frozenset({"en"}))
    german = passage("Die Frist beträgt sechs Wochen und beginnt mit dem Ende des Monats, sagt die Leitung.")
    event = await checked("Man geht dann eben.", 1, checker=Checker(embedder), passages=[german])
    await embedder.close()
    assert (event.scores.similarity, models.embeddings) == (None, [])


@pytest.mark.parametrize("behaviour", [{"status": 500}, {"stall_after": 0, "raw": [b"x"]}])
async def test_without_an_answer_of_the_models_words_alone_decide(models, embedder, entailment, behaviour):
    models.script_embeddings(**behaviour)
    models.script_predictions(**behaviour)
    checker = Checker(embedder, entailment, timeout=0.2)
    event = await checked("Employees depart upon a period of six weeks, usually.", 1, checker=checker)
    assert (event.scores.similarity, event.scores.entailment) == (None, None)
    assert event.verdict == "partly"
    models.release()


async def test_a_model_of_inference_decides(models, embedder, entailment):
    checker = Checker(embedder, entailment)
    event = await checked("The notice period is six weeks.", 1, 2, checker=checker)
    assert (event.verdict, event.scores.entailment, event.scores.contradiction) == ("supported", 1, 0)
    assert [len(request.body["inputs"]) for request in models.predictions] == [2]
    event = await checked("Bananas grow in warm countries.", 1, 2, checker=checker)
    assert (event.verdict, event.scores.entailment, event.scores.contradiction) == ("unsupported", 0, 0.75)
    assert models.embeddings == []
