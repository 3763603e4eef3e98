"""Collections: a folder with `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`, as BEIR has them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ringfence.documents.texts import Text
from ringfence.errors import Invalid
from ringfence.ids import DocumentId

MAX_FILE_BYTES = 2**30

type Half = Literal["tune", "report"]
"""Parameters are chosen on one half of the queries, and the other half is reported."""

_COLUMNS = 3
_NAMESPACE = UUID("5e1a3c52-7d0e-4b5f-9a59-0d1f2a6b7c11")


class Entry(BaseModel):
    """A line of `corpus.jsonl`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(alias="_id", min_length=1)
    title: str = ""
    text: str = ""

    @property
    def offset(self) -> int:
        """Where its text begins in its document's page: behind its title."""
        title = self.title.strip()
        return len(title) + 1 if title else 0

    @property
    def document(self) -> Text:
        """As it is stored; its id follows from the entry's, so that a hit names its entry."""
        return Text(document_of(self.id), self.title.strip() or "untitled", self.title.strip(), self.text)


class Query(BaseModel):
    """A line of `queries.jsonl`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(alias="_id", min_length=1)
    text: str

    @property
    def half(self) -> Half:
        """By the digest of its id: the same in every run, whatever else is in the set."""
        return "tune" if hashlib.sha256(self.id.encode()).digest()[0] % 2 else "report"


@dataclass(frozen=True)
class Collection:
    """What is searched, what is asked, and what should be found.

    Attributes:
        name: the folder's.
        corpus: entries with a text, by id.
        queries: those with a judgement, in the file's order.
        qrels: for each query the entries that are relevant, and how much (above 0).
    """

    name: str
    corpus: Mapping[str, Entry]
    queries: tuple[Query, ...]
    qrels: Mapping[str, Mapping[str, int]]

    @cached_property
    def digest(self) -> str:
        """Of the corpus: another text, another digest."""
        whole = hashlib.sha256()
        for entry in self.corpus.values():
            whole.update(hashlib.sha256(f"{entry.id}\0{entry.title}\0{entry.text}".encode("utf-8", "replace")).digest())
        return whole.hexdigest()

    @cached_property
    def ids(self) -> Mapping[DocumentId, str]:
        """Documents → entries."""
        return {document_of(entry): entry for entry in self.corpus}


def document_of(entry: str) -> DocumentId:
    """The id of the document that an entry becomes."""
    return DocumentId(uuid5(_NAMESPACE, entry))


def load(folder: Path) -> Collection:
    """Read a collection.

    Raises:
        Invalid: `bad_collection`: a file is missing, too large or malformed; the message says where.
    """
    corpus = {entry.id: entry for entry in _lines(folder / "corpus.jsonl", Entry) if (entry.title + entry.text).strip()}
    qrels = _qrels(folder / "qrels.tsv")
    judged = {query: {entry: score for entry, score in found.items() if score > 0} for query, found in qrels.items()}
    judged = {query: found for query, found in judged.items() if found}
    queries = tuple(query for query in _lines(folder / "queries.jsonl", Query) if query.id in judged)
    if not corpus or not queries:
        raise _bad(folder, "it has no entry with a text, or no query with a judgement")
    return Collection(folder.resolve().name, corpus, queries, {query.id: judged[query.id] for query in queries})


def _lines[M: BaseModel](path: Path, kind: type[M]) -> Iterator[M]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                what = error.errors()[0]
                where = ".".join(map(str, what["loc"]))
                raise _bad(path, f"line {number}: {where} {what['msg']}".replace(":  ", ": ")) from None


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    """Query, entry and score between tabs; a header is told by its score, which is no number."""
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        row = line.rstrip("\r").split("\t")
        if line.strip() and not (number == 1 and not row[-1].isdecimal()):
            if len(row) != _COLUMNS or not row[-1].lstrip("-").isdecimal():
                raise _bad(path, f"line {number}: it takes query-id, corpus-id and a whole number, with tabs between")
            found.setdefault(row[0], {})[row[1]] = int(row[2])
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _bad(path, "it is larger than 1 GiB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _bad(path, f"it can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise _bad(path, "it is no UTF-8") from None


def _bad(path: Path, what: str) -> Invalid:
    return Invalid("bad_collection", f"{path}: {what}.")
