"""`chunk`: the chunker's speed beside other splitters', on text without separators, and on ever longer text."""

import gc
import time
from collections.abc import Callable
from importlib.metadata import version

from langchain_text_splitters import RecursiveCharacterTextSplitter
from semantic_text_splitter import TextSplitter

from bench import corpus
from bench.harness import Goal, Series, find, measure, ratio
from ringfence.documents.chunker import Chunk, Chunker

SIZE = 800
OVERLAP = 120
OURS = "Ringfence"
STREAMED = "Ringfence, each chunk read and let go"
FLOOR = "floor: Ringfence's chunks from known places"
LANGCHAIN = f"langchain-text-splitters {version('langchain-text-splitters')}, no offsets"
LANGCHAIN_OFFSETS = f"langchain-text-splitters {version('langchain-text-splitters')}, offsets"
SEMANTIC = f"semantic-text-splitter {version('semantic-text-splitter')}"
PARAGRAPHS = "10 MB of two books, blank lines between paragraphs"
ONCE = "the two books once, 0.8 MB, blank lines between paragraphs"
LINES = "10 MB of two books, line breaks only"
MIXED = "10 MB of five kinds of text (Chroma's chunking evaluation)"
CONTRACTS = "10 MB of contracts (CUAD)"
BARE = "0.1 MB without separators"
LENGTHS = "Ringfence by kind and length of text"


def _ours(pages: list[str]) -> list[Chunk]:
    chunker = Chunker(SIZE, OVERLAP)
    chunks = []
    for number, text in enumerate(pages, 1):
        chunks += chunker.add(number, text)
    return chunks + chunker.finish()


def _ours_streamed(pages: list[str]) -> int:
    """As ingestion does it: text and spans of every chunk are read, and no chunk is kept."""
    chunker = Chunker(SIZE, OVERLAP)
    read = 0
    for number, text in enumerate(pages, 1):
        for chunk in chunker.add(number, text):
            read += len(chunk.text) + len(chunk.spans)
    return read + sum(len(chunk.text) + len(chunk.spans) for chunk in chunker.finish())


def _floor(text: str, places: list[tuple[int, int]]) -> list[Chunk]:
    """All that is left of the work if pages are one string and nobody has to look for a place to cut."""
    new = tuple.__new__  # the fastest way to make a named tuple
    return [new(Chunk, (number, text[start:end], ((1, start, end),))) for number, (start, end) in enumerate(places)]


def _langchain(text: str) -> list[str]:
    return RecursiveCharacterTextSplitter(chunk_size=SIZE, chunk_overlap=OVERLAP).split_text(text)


def _langchain_offsets(text: str) -> list[object]:
    splitter = RecursiveCharacterTextSplitter(chunk_size=SIZE, chunk_overlap=OVERLAP, add_start_index=True)
    return list(splitter.create_documents([text]))


def _semantic(text: str) -> list[object]:
    return list(TextSplitter(SIZE, overlap=OVERLAP).chunk_indices(text))


def _speed(run: Callable[[], object], size: int) -> Callable[[], float]:
    def score() -> float:
        gc.collect()
        gc.freeze()  # nobody pays for what others have left in memory
        try:
            start = time.process_time()  # all of them work in one thread, and others may use this machine
            run()
            return size / corpus.BYTES_IN_MB / (time.process_time() - start)
        finally:
            gc.unfreeze()

    return score


def _beside(group: str, pages: list[str], rounds: int, *, semantic: bool = True) -> list[Series]:
    text = "\n".join(pages)
    size = len(text.encode())
    places = [(chunk.spans[0][1], chunk.spans[0][2]) for chunk in _ours([text])]
    contestants = {
        OURS: _speed(lambda: _ours(pages), size),
        STREAMED: _speed(lambda: _ours_streamed(pages), size),
        FLOOR: _speed(lambda: _floor(text, places), size),
        f"{OURS}, all text as one page": _speed(lambda: _ours([text]), size),
        LANGCHAIN: _speed(lambda: _langchain(text), size),
        LANGCHAIN_OFFSETS: _speed(lambda: _langchain_offsets(text), size),
    }
    if semantic:
        contestants[SEMANTIC] = _speed(lambda: _semantic(text), size)
    return measure(group, "MB/s", contestants, rounds=rounds)


def _lengths(pages: list[str], rounds: int) -> list[Series]:
    contestants = {}
    for megabytes in (1, 10, 100):
        taken = corpus.repeated(pages, megabytes)
        size = sum(len(page.encode()) for page in taken)
        contestants[f"books, {megabytes} MB"] = _speed(lambda taken=taken: _ours_streamed(taken), size)  # type: ignore[misc]  # mypy can't infer a lambda's default
    # As many characters a page as the books have, so that only the separators differ.
    length = sum(map(len, pages)) // len(pages)
    bare = ["abcdefghij" * (length // 10)] * (10 * corpus.BYTES_IN_MB // length)
    contestants["no separators, 10 MB"] = _speed(lambda: _ours_streamed(bare), sum(map(len, bare)))
    return measure(LENGTHS, "MB/s", contestants, rounds=rounds)


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer rounds."""
    rounds = 2 if quick else 5
    pages = corpus.engine_pages()
    bare = "abcdefghij" * (corpus.BYTES_IN_MB // 100)
    series = _beside(PARAGRAPHS, corpus.repeated(pages, 10), rounds)
    series += _beside(ONCE, pages, rounds)
    series += _beside(LINES, corpus.repeated(corpus.plain_pages(), 10), rounds)
    series += _beside(MIXED, corpus.repeated(corpus.texts("chroma-chunking"), 10), rounds, semantic=False)
    series += _beside(CONTRACTS, corpus.repeated(corpus.texts("cuad"), 10), rounds, semantic=False)
    series += _beside(BARE, [bare], rounds)
    series += _lengths(pages, 3 * rounds)  # short runs, so more of them
    return series, _goals(series), _NOTES


_NOTES = [
    (
        "Chunks of at most 800 characters that overlap by at most 120. MB are 10⁶ bytes of UTF-8, and seconds are the "
        "processor's: each contestant works in one thread."
    ),
    (
        "Ringfence gets the text page by page, as its parser delivers it, and gives each chunk the pages and offsets "
        "that it came from. The others get all text as one string. Offsets are what citations need, so the splitter "
        "with `add_start_index=True` is the one that does comparable work; the goal names none, so both are judged."
    ),
    (
        "The other splitter's time depends on the text's form: where blank lines part paragraphs that are shorter than "
        "a chunk, it puts few pieces together; a longer paragraph it takes apart word by word. So the goal is judged "
        "on four kinds of text: two books as PDFs give them (with blank lines, and as bare lines), the public corpora "
        "that Chroma evaluates chunkers with (a speech, chats, wiki pages, finance, papers), and contracts."
    ),
    (
        "The floor makes the same chunks of all text as one page from places known beforehand: no chunker that "
        "makes such chunks one by one in Python and keeps them can be faster."
    ),
    (
        "semantic-text-splitter's time grows faster than the text's length, so at 10 MB in one string it looks worse "
        "than it is on one book; the figures for the two books once are there to show that."
    ),
    "No bound for `linear` is named in the goals; 0.8 is ours.",
]


def _goals(series: list[Series]) -> list[Goal]:
    goals = []
    for group in (PARAGRAPHS, LINES, MIXED, CONTRACTS):
        peers = {LANGCHAIN: 10.0, LANGCHAIN_OFFSETS: 10.0} | ({SEMANTIC: 1.0} if group in {PARAGRAPHS, LINES} else {})
        for peer, bound in peers.items():
            goals += [
                Goal(
                    f"{group}: {name} over {peer}",
                    bound,
                    least=True,
                    got=ratio(find(series, group, name), find(series, group, peer)),
                )
                for name in (OURS, STREAMED)
            ]
    ten = find(series, LENGTHS, "books, 10 MB")
    bare = find(series, LENGTHS, "no separators, 10 MB")
    goals.append(Goal("speed without separators over speed on the books", 0.5, least=True, got=ratio(bare, ten)))
    for short, long in ((1, 10), (10, 100), (1, 100)):
        over, under = (find(series, LENGTHS, f"books, {size} MB") for size in (long, short))
        goals.append(
            Goal(f"linear: speed at {long} MB over speed at {short} MB", 0.8, least=True, got=ratio(over, under))
        )
    return goals
