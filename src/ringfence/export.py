"""Everything that a user has, as a zip that is sent while it is made.

No connection is held between two pieces and no file is read whole: memory grows by the names and states of the
documents, as the zip's own table of contents does, and not with what is in them.
"""

import re
import unicodedata
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict

from ringfence.accounts.queries import Scope
from ringfence.accounts.service import Accounts
from ringfence.answers.models import Models
from ringfence.answers.queries import AnswerState
from ringfence.answers.questions import Questions
from ringfence.documents.queries import Document, State
from ringfence.documents.service import Library
from ringfence.errors import NotFound
from ringfence.evaluation.queries import Evaluation, EvaluationState, Expected, ModeFigures, Question, WorstQuestion
from ringfence.evaluation.service import Evaluations
from ringfence.ids import UserId
from ringfence.limits import Gate, Note, unsaid
from ringfence.storage.base import in_thread

type List = Callable[[UserId], AsyncGenerator[Sequence[BaseModel]]]
"""What one of the export's files lists of a user, page by page."""

# What Windows forbids, which is more than others do. No folders, no control characters: names were cleaned at upload,
# and are cleaned here again, because whoever opens the zip relies on it.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
_NAME_BYTES = 120
_SUFFIX_CHARS = 10


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


class ExportedAccount(_Model):
    """`account.json`. `format` is 1 as long as what is here keeps its name and meaning; more may be added."""

    format: Literal[1] = 1
    exported_at: datetime
    user_id: UUID
    email: str
    created_at: datetime


class ExportedSession(_Model):
    """One of `sessions.json`: where one is signed in."""

    session_id: UUID
    address: str
    agent: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime


class ExportedApiKey(_Model):
    """One of `api-keys.json`: an API key, but for its secret, which nobody has."""

    key_id: UUID
    name: str
    prefix: str
    scopes: Annotated[list[Scope], AfterValidator(sorted)]
    expires_at: datetime | None
    used_at: datetime | None
    created_at: datetime


class ExportedEvent(_Model):
    """One of `audit.json`: what happened to the account, when and from where."""

    event_id: UUID
    kind: str
    address: str
    agent: str
    detail: dict[str, str | int]
    created_at: datetime


class ExportedCollection(_Model):
    """One of `collections.json`: a named set of documents."""

    collection_id: UUID
    name: str
    created_at: datetime


class ExportedDocument(_Model):
    """One of `documents.json`, in the bin since `deleted_at`, if it is.

    `file` is its original's place in the zip; none where it is no longer stored.
    """

    document_id: UUID
    name: str
    media_type: str
    size: int
    sha256: str
    state: State
    reason_code: str | None
    reason: str | None
    pages: int | None
    chunks: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int
    language: str | None
    collections: list[UUID]
    tags: list[str]
    metadata: dict[str, Any]
    file: str | None


class ExportedCitation(_Model):
    """Where the words stand that an answer cited: characters `start` to `end` of a page's text, pages from 1."""

    n: int
    document_id: UUID
    page: int
    start: int
    end: int


class ExportedAnswer(_Model):
    """One of `answers.json`: a question, and the answer as it was given."""

    answer_id: UUID
    question: str
    state: AnswerState
    text: str
    citations: list[ExportedCitation]
    error_code: str | None
    model: str | None
    created_at: datetime


class ExportedModelUsage(_Model):
    """One of `model-usage.json`: what a chat model took on a day; without a currency, nobody knew what it costs."""

    day: date
    model: str
    currency: str
    requests: int
    questions: int
    estimated: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal


class ExportedQuestion(_Model):
    """A question of an evaluation, and where its answer was expected: documents, or pages of them."""

    text: str
    expected: tuple[Expected, ...]


class ExportedEvaluation(_Model):
    """One of `evaluations.json`: an evaluation of one's own questions, and how the search did."""

    evaluation_id: UUID
    name: str
    state: EvaluationState
    questions: list[ExportedQuestion]
    embedding_model: str | None
    modes: tuple[ModeFigures, ...]
    worst: tuple[WorstQuestion, ...]
    reason_code: str | None
    reason: str | None
    created_at: datetime
    finished_at: datetime | None


class ExportedUsage(_Model):
    """The one entry of `usage.json`: what one keeps and has asked today, and how much one may; 0: there is no limit.

    `chat_model` is the one that one has chosen.
    """

    documents: int
    bytes: int
    questions: int
    documents_limit: int
    bytes_limit: int
    questions_limit: int
    chat_model: str | None


def usage(library: Library, questions: Questions, models: Models) -> List:
    """What a user uses, as the export shows it."""

    async def found(user_id: UserId) -> AsyncGenerator[list[BaseModel]]:
        kept, quota = await library.usage(user_id), await library.quota(user_id)
        asked = await questions.today(user_id)
        yield [
            ExportedUsage(
                documents=kept.documents,
                bytes=kept.bytes,
                questions=asked.questions,
                documents_limit=quota.documents,
                bytes_limit=quota.bytes,
                questions_limit=quota.questions,
                chat_model=await models.chosen(user_id),
            )
        ]

    return found


def evaluations_list(evaluations: Evaluations) -> List:
    """A user's evaluations with what they ask, as the export shows them."""

    async def found(user_id: UserId) -> AsyncGenerator[list[BaseModel]]:
        async with aclosing(evaluations.all(user_id)) as several:
            async for page in several:
                yield [_exported(*one) for one in page]

    return found


def _exported(evaluation: Evaluation, questions: Sequence[Question]) -> ExportedEvaluation:
    values = {name: getattr(evaluation, name, None) for name in ExportedEvaluation.model_fields}
    asked = [ExportedQuestion.model_validate(question) for question in questions]
    return ExportedEvaluation(**{**values, "questions": asked})


def one_page(model: type[BaseModel], find: Callable[[UserId], Awaitable[Iterable[object]]]) -> List:
    """A list of few rows, as the export shows them."""

    async def found(user_id: UserId) -> AsyncGenerator[list[BaseModel]]:
        yield [model.model_validate(row) for row in await find(user_id)]

    return found


def pages(model: type[BaseModel], find: Callable[[UserId], AsyncGenerator[Iterable[object]]]) -> List:
    """A list of any length, as the export shows it."""

    async def found(user_id: UserId) -> AsyncGenerator[list[BaseModel]]:
        async with aclosing(find(user_id)) as several:
            async for page in several:
                yield [model.model_validate(row) for row in page]

    return found


class Export:
    """Exports accounts.

    Args:
        accounts: who is asking.
        library: the documents, with their originals.
        lists: everything else: the name of each file, and what it lists of a user.
        gate: lets each user through now and then; it is much work.
        now: the clock.
    """

    def __init__(
        self,
        accounts: Accounts,
        library: Library,
        lists: Mapping[str, List],
        gate: Gate,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._accounts = accounts
        self._library = library
        self._lists = lists
        self._gate = gate
        self._now = now

    async def begin(self, user_id: UserId, note: Note = unsaid) -> None:
        """Count an export, which `zip` makes then.

        Raises:
            RateLimited: `too_many_tries`.
        """
        await self._gate.admit(str(user_id), note=note)

    async def zip(self, user_id: UserId) -> AsyncGenerator[bytes]:
        """The zip's bytes as they come into being.

        Raises:
            Unauthenticated: `unknown_account`; before the first piece.
            Unavailable: the database or the disk. What came before is no whole zip then, and can't be opened.
        """
        with _Zip(self._now()) as archive:
            async with aclosing(self._files(user_id)) as files:
                async for file in files:
                    async with aclosing(archive.add(file)) as pieces:
                        async for piece in pieces:
                            yield piece
            yield archive.end()

    async def _files(self, user_id: UserId) -> AsyncGenerator["_File"]:
        me = await self._accounts.me(user_id)
        account = ExportedAccount(exported_at=self._now(), user_id=user_id, email=me.email, created_at=me.created_at)
        yield _File("account.json", _once(account.model_dump_json(indent=2).encode() + b"\n"))
        for name, rows in self._lists.items():
            yield _File(name, _array(rows(user_id)))
        listed: list[ExportedDocument] = []
        async with aclosing(self._originals(user_id, listed)) as originals:
            async for original in originals:
                yield original
        yield _File("documents.json", _array(_once(listed)))

    async def _originals(self, user_id: UserId, listed: list[ExportedDocument]) -> AsyncGenerator["_File"]:
        """The files of documents, each of which is listed then."""
        names: set[str] = set()
        async with aclosing(self._library.all(user_id)) as found:
            async for page in found:
                for document in page:
                    name: str | None = f"documents/{_unique(_safe(document.name), names)}"
                    data = self._library.original(user_id, document)
                    try:
                        first = await anext(data)
                    except NotFound:  # deleted since the page was read
                        name = None
                    else:
                        yield _File(str(name), _chained(first, data), document.size, document.created_at)
                    listed.append(_listed(document, name))


@dataclass(frozen=True, slots=True)
class _File:
    """What goes into the zip. `size` in bytes, if it may be 2 GiB or more; `modified`: now, unless it is known."""

    name: str
    data: AsyncGenerator[bytes]
    size: int = 0
    modified: datetime | None = None


class _Zip:
    """A zip in the making, whose bytes are taken away as they come.

    All is deflated: where something is merely stored, readers that can't seek do not find its end.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._out = _Out()
        self._zip = zipfile.ZipFile(self._out, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    async def add(self, file: _File) -> AsyncGenerator[bytes]:
        """Add a file; the bytes that have come of it."""
        time = file.modified or self._now
        info = zipfile.ZipInfo(file.name, (time.year, time.month, time.day, time.hour, time.minute, time.second))
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, file.size
        async with aclosing(file.data) as data:
            with self._zip.open(info, "w") as entry:
                async for piece in data:
                    await in_thread(entry.write, piece)
                    yield self._out.take()
        yield self._out.take()

    def end(self) -> bytes:
        """The last bytes, the table of contents."""
        self._zip.close()
        return self._out.take()


class _Out:
    """A file that can be written alone, and forgets what is taken from it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is held."""

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


async def _once[T](item: T) -> AsyncGenerator[T]:
    yield item


async def _array(rows: AsyncGenerator[Sequence[BaseModel]]) -> AsyncGenerator[bytes]:
    """Rows as a JSON array, each on a line of its own."""
    before = "[\n"
    async with aclosing(rows):
        async for page in rows:
            if page:
                yield (before + ",\n".join(row.model_dump_json() for row in page)).encode()
                before = ",\n"
    yield b"[]\n" if before == "[\n" else b"\n]\n"


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _listed(document: Document, file: str | None) -> ExportedDocument:
    values = {name: getattr(document, name, None) for name in ExportedDocument.model_fields}
    return ExportedDocument(**{**values, "sha256": document.sha256.hex(), "file": file})


def _safe(name: str) -> str:
    """A file name that no system takes for anything else: a folder, a device, a stream, something hidden."""
    plain = _FORBIDDEN.sub("_", name).strip(". ")
    if _RESERVED.match(plain):
        plain = f"_{plain}"
    stem, suffix = _split(plain)
    return stem.encode()[:_NAME_BYTES].decode(errors="ignore").rstrip(". ") + suffix or "document"


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    return (path.stem, path.suffix) if len(path.suffix) <= _SUFFIX_CHARS else (name, "")


def _unique(name: str, taken: set[str]) -> str:
    """A name that differs from those taken, also where case and composition of letters do not count."""
    stem, suffix = _split(name)
    found, number = name, 1
    while (key := unicodedata.normalize("NFC", found).casefold()) in taken:
        number += 1
        found = f"{stem} ({number}){suffix}"
    taken.add(key)
    return found
