"""Headings, fenced code, tables and lists, as chunks show them."""

import itertools
import re

import pytest

from ringfence.documents.chunker import Chunk, Chunker
from ringfence.documents.outline import BETWEEN, MAX_CONTEXT_CHARS
from ringfence.documents.parsing.headings import Markdown
from ringfence.documents.parsing.wire import Heading
from ringfence.models.tokens import Estimate

PROSE = "The fence stands between the tenants. Nobody sees over it. "


def chunked(
    *pages: str, size: int = 200, overlap: int = 30, parts: int = 1, ruler: Estimate | None = None
) -> list[Chunk]:
    chunker, chunks = Chunker(size, overlap, ruler), []
    for number, text in enumerate(pages, start=1):
        found = [Heading(number, *place) for place in Markdown().headings(text)]
        cuts = [len(text) * part // parts for part in range(parts)] + [len(text)]
        for first, last in itertools.pairwise(cuts):
            last = next((one.end for one in found if one.start < last < one.end), last)  # noqa: PLW2901
            first = next((one.end for one in found if one.start < first < one.end), first)  # noqa: PLW2901
            inside = [one for one in found if first <= one.start < last]
            chunks += chunker.add(number, text[first:last], inside)
    return chunks + chunker.finish()


def contexts(chunks: list[Chunk]) -> list[str]:
    return [chunk.context.replace(BETWEEN, "/") for chunk in chunks]


GUIDE = f"""# Guide

{PROSE * 3}

## Installation

{PROSE * 6}

### Linux

{PROSE * 4}

## Use

{PROSE * 4}
"""


@pytest.mark.parametrize("parts", [1, 2, 7, 50])
def test_the_headings_above_a_chunk_are_its_context(parts):
    chunks = chunked(GUIDE, parts=parts)
    for chunk in chunks:
        above: list[tuple[int, str]] = []
        for match in re.finditer(r"^(#+) (.*)$", GUIDE[: chunk.spans[0][1]], re.MULTILINE):
            above = [*(one for one in above if one[0] < len(match[1])), (len(match[1]), match[2])]
        assert chunk.context.split(BETWEEN) == [title for _, title in above] or (chunk.context, above) == ("", [])
    assert {"", "Guide", "Guide/Installation", "Guide/Installation/Linux", "Guide/Use"} <= set(contexts(chunks))


def test_contexts_go_on_over_many_rounds_and_pages():
    chunks = chunked("# One\n\n" + PROSE * 400, "more\n\n## Two\n\n" + PROSE * 400)
    assert contexts(chunks[1:3]) == ["One", "One"]
    assert contexts(chunks)[-1] == "One/Two"
    assert len(chunks) > 200


def test_chunks_start_at_headings_and_never_end_with_one():
    chunks = chunked(GUIDE)
    starts = [chunk.text.splitlines()[0] for chunk in chunks]
    assert {"# Guide", "## Installation", "### Linux", "## Use"} <= set(starts)
    for size in range(60, 300):
        for chunk in chunked(GUIDE, size=size):
            assert not chunk.text.splitlines()[-1].startswith("#")
            assert len(chunk.context) + 1 + len(chunk.text) <= size or not chunk.context


def test_the_highest_heading_wins():
    text = PROSE * 2 + "\n\n# High\n\ntext here\n\n## Low\n\n" + PROSE * 3
    assert chunked(text, size=190)[1].text.startswith("# High")


def test_headings_that_follow_each_other_stay_together():
    text = PROSE * 3 + "\n\nOne\n===\n\n## Two\n\n" + PROSE * 3
    assert [chunk.text[:3] for chunk in chunked(text, size=215)][1] == "One"


def test_a_low_heading_goes_with_the_higher_one_below_it():
    chunks = chunked("It begins.\n\n## Low\n\n" + "\n" * 40 + "# High\n\n" + PROSE * 5)
    assert [chunk.text[:4] for chunk in chunks[:2]] == ["It b", "## L"]


def test_a_heading_within_the_overlap_is_where_the_next_chunk_starts():
    text = "word " * 10 + "\n# Title\n" + "word " * 6 + "\n\n" + "other " * 30
    chunks = chunked(text, size=130, overlap=60)
    assert any(chunk.text.startswith("# Title") for chunk in chunks)


def test_long_contexts_lose_their_top():
    titles = [f"{'#' * level} {str(level) * 90}" for level in range(1, 7)]
    chunk = chunked("\n".join(titles) + "\n\n" + PROSE * 100, size=2000)[-1]
    assert chunk.context == BETWEEN.join(str(level) * 90 for level in (5, 6))
    assert len(chunk.context) <= MAX_CONTEXT_CHARS
    chunk = chunked(f"# {'x' * 300}\n\n" + PROSE * 100, size=2000)[-1]
    assert chunk.context == "x" * 120 + "…"
    chunk = chunked(f"# {'字' * 100}\n\n" + PROSE * 10, size=300, ruler=Estimate())[-1]
    assert chunk.context.endswith("…")
    assert 5 < len(chunk.context) < 26


def test_a_title_without_words_is_none():
    chunker = Chunker(100, 0)
    chunker.add(1, "   \nwords", [Heading(1, 0, 3, 1)])
    assert contexts(chunker.finish()) == [""]


def test_the_passage_has_its_context():
    first, *_, last = chunked(GUIDE)
    assert first.passage == first.text
    assert last.passage == f"Guide{BETWEEN}Use\n{last.text}"


def test_code_is_kept_whole_where_it_fits():
    code = "```python\nfirst()\n\nsecond()\n\nthird()\n```"
    for before in range(1, 400, 7):
        text = "x" * before + "\n\n" + code + "\n\n" + PROSE * 5
        assert any(code in chunk.text for chunk in chunked(text))


def test_code_that_does_not_fit_is_cut_and_what_follows_is_no_code():
    code = "~~~\n" + "line()\n\n" * 2000 + "~~~\n\n"
    code += "```\n~~~\nother()\n~~~\n# no heading\n```\n\n"
    chunks = chunked(code + GUIDE + code, size=300)
    assert "".join(chunk.text.replace("\n", "") for chunk in chunks).count("line()") >= 4000
    assert "Guide/Installation/Linux" in contexts(chunks)
    assert not any("no heading" in context for context in contexts(chunks))


@pytest.mark.parametrize("parts", [1, 5, 40])
def test_code_that_nobody_closes_is_code_to_the_end(parts):
    chunks = chunked(PROSE * 2 + "\n\n```\n" + "line()\n\n" * 4000 + "# no heading\n\nline()\n", parts=parts)
    assert set(contexts(chunks)) == {""}
    assert chunked("x" * 150 + "\n\n```\nfirst()\n\nsecond()\n" + "x" * 60)[1].text.startswith("```")


def test_rows_and_items_are_kept_whole():
    table = "".join(f"| row {number} | It is one. It is two, and more. |\n" for number in range(40))
    for chunk in chunked(table):
        assert chunk.text.splitlines()[-1].endswith("|")
    items = "".join(f"- Item {number}. It has two sentences\n  and two lines. \n" for number in range(40))
    for chunk in chunked(items):
        assert chunk.text.endswith("lines.")
