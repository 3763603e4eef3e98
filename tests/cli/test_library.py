"""`ringfence documents` and `ringfence collections` against a running engine."""

from uuid import uuid4

import pytest

from ringfence.errors import Conflict, Invalid, NotFound
from tests.cli.test_remote import account, ringfence  # noqa: F401  # a fixture


async def said(live, *arguments):
    result = await ringfence(live, *arguments)
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.stdout.splitlines()


async def refused(live, *arguments):
    return (await ringfence(live, *arguments)).exception


async def listed(live, *options):
    return [line.split(maxsplit=3)[3] for line in await said(live, "documents", "list", *options)]


async def test_a_library_is_put_in_order(account, tmp_path):  # noqa: F811
    for name, text in (("b.txt", "The notice period is six weeks."), ("A.md", "# Ovens"), ("c.txt", "Holidays.")):
        (tmp_path / name).write_text(text)
        await said(account, "ingest", str(tmp_path / name))
    third, second, first = await said(account, "documents", "list", "--ids")
    assert await listed(account) == ["c.txt", "A.md", "b.txt"]
    assert await listed(account, "--sort", "name") == ["A.md", "b.txt", "c.txt"]
    assert await listed(account, "--sort", "size", "--order", "asc") == ["A.md", "c.txt", "b.txt"]
    assert await listed(account, "--name", "TXT", "--state", "ready") == ["c.txt", "b.txt"]
    assert await listed(account, "--state", "failed") == []

    [line] = await said(account, "collections", "add", "Contracts")
    assert line.endswith("      0 Contracts")
    labels = ("--tag", "Rent", "--tag", "Old", "--into", "Contracts", "--metadata", '{"year": 2026, "draft": true}')
    lines = await said(account, "documents", "label", first, second, *labels)
    assert [line.split(maxsplit=3)[3] for line in lines] == ["b.txt #old #rent", "A.md #old #rent"]
    assert await listed(account, "--tag", "RENT", "--tag", "old") == ["A.md #old #rent", "b.txt #old #rent"]
    assert await listed(account, "--collection", "Contracts", "--name", "b") == ["b.txt #old #rent"]
    assert len(await listed(account, "--filter", '{"metadata": {"draft": true, "year": {"gt": 2025}}}')) == 2
    await said(account, "documents", "label", second, "--untag", "OLD", "--out-of", "Contracts")
    await said(account, "documents", "label", second, "--metadata", '{"draft": null, "who": ["ada"]}')
    assert await listed(account, "--filter", '{"metadata": {"who": "ada", "year": 2026}}') == ["A.md #rent"]
    assert await listed(account, "--filter", '{"metadata": {"draft": {"exists": true}}}') == ["b.txt #old #rent"]
    [line] = await said(account, "documents", "rename", third, "d.txt")
    assert line.endswith(" d.txt")
    assert (await said(account, "collections", "rename", "Contracts", "Old ones"))[0].endswith(" 1 Old ones")
    assert len(await said(account, "collections", "list")) == 1
    await said(account, "collections", "delete", "Old ones")
    assert await said(account, "collections", "list") == []
    assert len(await listed(account)) == 3


async def test_what_was_deleted_is_had_back_or_purged(account, tmp_path):  # noqa: F811
    for n in range(2):
        (tmp_path / f"{n}.txt").write_text(f"words {n}")
    await said(account, "ingest", str(tmp_path / "0.txt"), str(tmp_path / "1.txt"))
    ids = await said(account, "documents", "list", "--ids")
    assert await said(account, "documents", "delete", *ids) == [f"{one} deleted" for one in ids]
    assert await listed(account) == []
    assert len(await listed(account, "--deleted")) == 2
    assert len(await said(account, "documents", "restore", ids[0])) == 1
    assert await said(account, "documents", "list", "--ids") == [ids[0]]
    assert await said(account, "documents", "delete", "--purge", ids[1]) == [f"{ids[1]} purged"]
    assert await listed(account, "--deleted") == []
    result = await ringfence(account, "documents", "delete", ids[0], ids[1])
    assert isinstance(result.exception, NotFound)
    assert result.stdout.splitlines() == [f"{ids[0]} deleted", f"{ids[1]} not_found"]


async def test_a_file_takes_the_place_of_a_documents_content(account, tmp_path):  # noqa: F811
    (tmp_path / "a.txt").write_text("old words")
    await said(account, "ingest", str(tmp_path / "a.txt"))
    [document_id] = await said(account, "documents", "list", "--ids")
    (tmp_path / "new.txt").write_text("new words")
    assert await said(account, "documents", "replace", document_id, str(tmp_path / "new.txt")) == [
        "a.txt: is being read"
    ]
    (tmp_path / "a.txt").write_text("new words")
    replaced = await said(account, "documents", "replace", document_id, str(tmp_path / "a.txt"))
    assert replaced in (["a.txt: is being read"], ["a.txt: has this content already"])


async def test_what_is_not_there_or_no_name_is_refused(account):  # noqa: F811
    nowhere = str(uuid4())
    assert isinstance(await refused(account, "documents", "list", "--collection", "None"), NotFound)
    assert isinstance(await refused(account, "documents", "list", "--tag", "\u200b"), Invalid)
    assert isinstance(await refused(account, "documents", "restore", nowhere), NotFound)
    assert isinstance(await refused(account, "documents", "rename", nowhere, "x"), NotFound)
    assert isinstance(await refused(account, "documents", "label", nowhere, "--into", "None"), NotFound)
    assert isinstance(await refused(account, "collections", "delete", "None"), NotFound)
    await said(account, "collections", "add", "One")
    assert isinstance(await refused(account, "collections", "add", "One"), Conflict)


@pytest.mark.parametrize("narrow", ["[1]", "{", '{"metadata": {"a": {"like": 1}}}', '{"colour": "red"}'])
async def test_a_filter_that_is_none_is_refused_before_anybody_is_asked(account, narrow):  # noqa: F811
    result = await ringfence(account, "documents", "list", "--filter", narrow, RINGFENCE_URL="http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "--filter" in result.stderr
