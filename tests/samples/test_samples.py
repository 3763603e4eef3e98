"""The demo's documents: what the demo shows is really in them, and in none of the others."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pymupdf
import pytest

from ringfence import samples

ROOT = Path(__file__).parents[2]

ANSWERS = {
    samples.BAKERY: (("six weeks", 3), ("27 days of holiday", 2), ("call 555-0142", 2)),
    samples.OBSERVATORY: (("three months", 3), ("31 days of holiday", 2), ("call 555-0177", 2)),
}
SECRETS = {samples.BAKERY: "340 grams of salt", samples.OBSERVATORY: "spare mirror cell"}


def pages(tenant: samples.Tenant) -> list[tuple[str, int, str]]:
    """(document, page, text with single spaces)."""
    found = []
    with samples.files(tenant) as files:
        for file in files:
            with pymupdf.open(file, filetype=None if file.suffix == ".pdf" else "txt") as document:
                found += [(file.name, page.number + 1, " ".join(page.get_text().split())) for page in document]
    return found


def test_two_tenants_each_with_pdfs_of_several_pages_and_a_text() -> None:
    assert samples.TENANTS == (samples.BAKERY, samples.OBSERVATORY)
    for tenant in samples.TENANTS:
        assert [Path(name).suffix for name in tenant.documents] == [".pdf", ".pdf", ".md"]
        handbook, guide, _ = tenant.documents
        assert {page for name, page, _ in pages(tenant) if name == handbook} == {1, 2, 3, 4}
        assert {page for name, page, _ in pages(tenant) if name == guide} == {1, 2, 3}


def test_files_are_there_while_they_are_used_and_small() -> None:
    sizes = []
    for tenant in samples.TENANTS:
        with samples.files(tenant) as files:
            assert tuple(file.name for file in files) == tenant.documents
            sizes += [file.stat().st_size for file in files]
    assert all(sizes)
    assert sum(sizes) < 100_000


@pytest.mark.parametrize("tenant", samples.TENANTS, ids=lambda tenant: tenant.email)
def test_each_question_has_its_answer_on_its_page(tenant: samples.Tenant) -> None:
    assert len(ANSWERS[tenant]) == len(samples.QUESTIONS) == 3
    for fact, page in ANSWERS[tenant]:
        assert page in {number for _, number, text in pages(tenant) if fact in text}


def test_no_tenant_has_the_other_ones_facts() -> None:
    for tenant in samples.TENANTS:
        whole = " ".join(text for _, _, text in pages(tenant))
        for owner in samples.TENANTS:
            facts = [SECRETS[owner], ANSWERS[owner][1][0], ANSWERS[owner][2][0]]
            assert [fact in whole for fact in facts] == [tenant is owner] * 3


def test_what_is_unanswerable_is_in_no_document() -> None:
    assert "password" in samples.UNANSWERABLE
    assert not [text for tenant in samples.TENANTS for _, _, text in pages(tenant) if "password" in text.casefold()]


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", ROOT / "scripts" / "samples" / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pdfs_are_those_of_their_sources(tmp_path: Path) -> None:
    make = maker()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        make.main(tmp_path / name)
    made = sorted((tmp_path / "first").iterdir())
    committed = sorted(name for tenant in samples.TENANTS for name in tenant.documents if name.endswith(".pdf"))
    assert [file.name for file in made] == committed
    for file in made:
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
        with pymupdf.open(file) as fresh, pymupdf.open(ROOT / "src/ringfence/samples" / file.name) as old:
            assert [page.get_text() for page in fresh] == [page.get_text() for page in old]


def test_a_page_that_is_too_full_is_an_error() -> None:
    with pytest.raises(ValueError, match="page 2 of 'Title' is too full"):
        maker().pdf("# Title\n\n---\n" + "Too much. " * 2000)
