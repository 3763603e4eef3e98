"""Files in a bucket of S3-compatible object storage (docs/decisions/0018-object-storage.md).

An upload is streamed to a key under `incoming/`, because its final key is the digest of its content, and is copied
there by the server when it is whole. A copy or a put is there whole or not at all.
"""

import asyncio
import re
import secrets
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import S3Store

from ringfence.errors import RingfenceError, SetupError, Unavailable
from ringfence.ids import UserId
from ringfence.storage.base import (
    LEFT_OVER,
    PIECE,
    Incoming,
    in_thread,
    made_in_thread,
    mark_of,
    not_found,
    unavailable,
)

if TYPE_CHECKING:
    from obstore import AsyncWritableFile, GetOptions  # stubs alone
    from obstore.store import ClientConfig, RetryConfig, S3Config

log = structlog.get_logger()

_PART = 8 << 20  # bytes; S3 takes 10,000 parts, so 78 GiB
_PARTS_AT_ONCE = 2  # an upload takes 24 MiB of memory at most
_WHOLE = 10  # times as long as anything else: a server may say nothing until it has joined the parts, or copied all
_RETRIES = 2
_AT_ONCE = 1000  # as many keys as one request may delete
_PASSING = {"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "ServerBusy"}  # S3's codes
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_REDIRECT = "Received redirect without LOCATION"  # of a bucket in another region, as the library says it


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the files are.

    Attributes:
        name: the bucket, which exists.
        endpoint: base URL of the server; None: Amazon's, of the region.
        region: the bucket's.
        access_key_id: who asks; None: what Amazon's variables, files and roles say.
        secret_access_key: its proof.
        prefix: under which all keys are; may be empty.
        timeout: seconds without a sign of the server.
    """

    name: str
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = None
    prefix: str = ""
    timeout: float = 20.0


class S3Incoming(Incoming):
    """A file on its way into the bucket.

    Args:
        writer: sends it in parts.
        key: its temporary name.
        seconds: that sending a part may take.
        max_bytes: as for every `Incoming`.
    """

    def __init__(self, writer: "AsyncWritableFile", key: str, seconds: float, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._seconds = seconds
        self.key = key
        self.closed = False
        self._writer = writer

    async def _put(self, data: bytearray) -> None:
        with _mapped("put"):
            async with asyncio.timeout(self._seconds):
                await self._writer.write(bytes(data))

    async def _close(self) -> None:
        self.closed = True
        with _mapped("put"):
            await self._writer.close()


class S3Storage:
    """Files in a bucket: `<prefix>/<user_id>/<sha256>`.

    Beside them `incoming/<user_id>/`, what is being received, and `left/`, as in a local folder.

    Args:
        bucket: where.
        scratch: a local folder for files that something has to read by itself; they have no name there.
        now: the clock.
    """

    def __init__(self, bucket: Bucket, scratch: Path, now: Callable[[], datetime]) -> None:
        self._bucket = bucket.name
        self._store = _open(bucket, bucket.timeout)
        self._part_seconds = bucket.timeout * (_RETRIES + 1)
        self._patient = _open(bucket, bucket.timeout * _WHOLE)
        self._scratch = scratch
        self._now = now

    async def check(self) -> None:
        """Put, list and delete a file of no bytes.

        Raises:
            SetupError: `storage_refused`, `bucket_missing` or `storage_unusable` (the local folder).
            Unavailable: `storage_unavailable`.
        """
        key = f"check/{secrets.token_hex(16)}"
        try:
            await obstore.put_async(self._store, key, b"")
            await obstore.list(self._store, "check").collect_async()
            await obstore.delete_async(self._store, [key])
        except (BaseError, OSError) as error:
            raise _start_error(error, self._bucket) from None
        try:
            (await in_thread(_nameless, self._scratch)).close()
        except OSError as error:
            words = f"The folder for temporary files, {self._scratch}, can't be written: {error.strerror}."
            raise SetupError("storage_unusable", words) from None

    @asynccontextmanager
    async def receive(self, user_id: UserId, max_bytes: int) -> AsyncGenerator[S3Incoming]:
        """As the protocol says. A multipart upload that is not finished is aborted."""
        key = f"incoming/{user_id}/{secrets.token_hex(16)}"
        writer = obstore.open_writer_async(self._patient, key, buffer_size=_PART, max_concurrency=_PARTS_AT_ONCE)
        incoming = S3Incoming(writer, key, self._part_seconds, max_bytes)
        try:
            yield incoming
        finally:
            with suppress(BaseError, OSError):  # what can't be removed now will be swept
                if incoming.closed:
                    await obstore.delete_async(self._store, [key])
                else:
                    await writer.__aexit__(GeneratorExit, GeneratorExit(), None)

    async def keep(self, incoming: Incoming, user_id: UserId, sha256: bytes) -> None:
        """As the protocol says; the server copies it."""
        source = cast("S3Incoming", incoming).key  # ours: `receive` made it
        with _mapped("copy"):
            try:
                await obstore.copy_async(self._patient, source, _key(user_id, sha256))
            except FileNotFoundError:
                raise unavailable() from None

    async def read(
        self, user_id: UserId, sha256: bytes, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """As the protocol says; a piece may be larger than 1 MiB, where the server's answer came so."""
        options: GetOptions = {"range": {"offset": start} if end is None else (start, end)}
        with _mapped("get"):
            found = await obstore.get_async(self._store, _key(user_id, sha256), options=options)
            async for piece in found.stream(min_chunk_size=PIECE):
                yield piece

    @asynccontextmanager
    async def open(self, user_id: UserId, sha256: bytes) -> AsyncGenerator[IO[bytes]]:
        """As the protocol says: a copy, which has no name and is gone when it is closed."""
        async with aclosing(self.read(user_id, sha256)) as pieces:
            try:
                file = await made_in_thread(partial(_nameless, self._scratch), methodcaller("close"))
            except OSError as error:
                raise unavailable() from error
            with file:
                try:
                    async for piece in pieces:
                        await in_thread(file.write, piece)
                    await in_thread(file.seek, 0)
                except OSError as error:
                    raise unavailable() from error
                yield file

    async def delete(self, user_id: UserId, sha256: bytes) -> None:
        """As the protocol says."""
        with _mapped("delete"):
            await obstore.delete_async(self._store, [_key(user_id, sha256)])

    async def delete_all(self, user_id: UserId) -> None:
        """As the protocol says."""
        with _mapped("delete"):
            await obstore.put_async(self._store, f"left/{mark_of(str(user_id))}", b"")
            await self._delete_under(f"incoming/{user_id}")
            await self._delete_under(str(user_id))

    async def sweep(self) -> None:
        """As the protocol says. Parts of uploads whose process died are in no list: the bucket aborts them."""
        before = self._now() - timedelta(seconds=LEFT_OVER)
        with _mapped("sweep"):
            marks = {name.rpartition("/")[2] async for name in self._names("left")}
            if marks:
                for folder in (await obstore.list_with_delimiter_async(self._store))["common_prefixes"]:
                    if mark_of(folder) in marks:
                        await self._delete_under(folder)
            for place in ("incoming", "left", "check"):
                await self._delete_under(place, before)

    async def _delete_under(self, prefix: str, before: datetime | None = None) -> None:
        async for several in obstore.list(self._store, prefix, chunk_size=_AT_ONCE):
            names = [found["path"] for found in several if before is None or found["last_modified"] < before]
            if names:
                await obstore.delete_async(self._store, names)

    async def _names(self, prefix: str) -> AsyncGenerator[str]:
        async for several in obstore.list(self._store, prefix, chunk_size=_AT_ONCE):
            for found in several:
                yield found["path"]


def _open(bucket: Bucket, timeout: float) -> S3Store:
    seconds = timedelta(seconds=timeout)
    options: ClientConfig = {
        "allow_http": (bucket.endpoint or "").startswith("http://"),
        "connect_timeout": seconds,
        "read_timeout": seconds,
        "timeout": timedelta(seconds=LEFT_OVER),  # a large file takes its time, as long as it moves
    }
    config: S3Config = {"region": bucket.region}
    if bucket.endpoint is not None:
        config["endpoint"] = bucket.endpoint
    if bucket.access_key_id is not None and bucket.secret_access_key is not None:
        config["access_key_id"], config["secret_access_key"] = bucket.access_key_id, bucket.secret_access_key
    retries: RetryConfig = {"max_retries": _RETRIES, "retry_timeout": seconds}
    return S3Store(
        bucket.name, prefix=bucket.prefix or None, config=config, client_options=options, retry_config=retries
    )


def _key(user_id: UserId, sha256: bytes) -> str:
    return f"{user_id}/{sha256.hex()}"


def _nameless(folder: Path) -> IO[bytes]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """Map what the library raises; the log says why, without a key or a message of the server."""
    try:
        yield
    except FileNotFoundError as error:
        if _code(error) == "NoSuchBucket":
            raise _failed(what, error) from error
        raise not_found() from None
    except (BaseError, OSError) as error:
        raise _failed(what, error) from error


def _failed(what: str, error: Exception) -> Unavailable:
    log.warning("storage_failed", what=what, error=type(error).__name__, answer=_code(error))
    return unavailable()


def _code(error: Exception) -> str | None:
    """What the server answered, as S3's error codes or as a status; None: it did not answer."""
    found = _CODE.search(str(error)) or _STATUS.search(str(error))
    return found[1] if found else None


def _start_error(error: Exception, bucket: str) -> RingfenceError:
    """What an operator has to know who starts the engine."""
    answer = _code(error)
    if answer == "NoSuchBucket" or isinstance(error, FileNotFoundError):
        return SetupError("bucket_missing", f"There is no bucket {bucket}: make it, or mend RINGFENCE_S3_BUCKET.")
    if _REDIRECT in str(error):
        return SetupError("storage_refused", f"The bucket {bucket} is in another region: mend RINGFENCE_S3_REGION.")
    if answer is None or answer.startswith("5") or answer in _PASSING:
        return Unavailable("storage_unavailable", f"The storage of the bucket {bucket} can't be reached.")
    words = f"The storage refuses to have files put, listed or deleted in the bucket {bucket}: {answer}."
    return SetupError("storage_refused", f"{words} Mend RINGFENCE_S3_ACCESS_KEY_ID, its secret, or its rights.")
