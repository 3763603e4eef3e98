"""The client for programs that block: the same calls, run on an event loop in a thread of its own.

A thread, so that it works where a loop runs already (a notebook), from several threads at once, and keeps connections
and streams alive between two calls.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Concatenate, Self

import httpx2

from ringfence.client.calls import Client


class _Portal:
    """A client, and the loop that it lives on."""

    def __init__(
        self, url: str, *, token: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._client = Client(url, token=token, transport=transport)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ringfence-client", daemon=True)
        self._thread.start()
        self._lock = threading.RLock()  # re-entrant: garbage may be collected, and a stream left, while it is held
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, streams among them; the client is of no use any more."""
        with self._lock:  # what was scheduled before is known to `_end`, and nothing is after it
            if self._closed:
                return
            self._closed = True
            ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        try:
            ended.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._client.__aexit__(None, None, None)

    def _run[T](self, call: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._closed:
                call.close()
                raise RuntimeError("This client is closed.")
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C here; where it is the call's own, it is over
            future.cancel()
            raise

    def _leave[T](self, stream: "_Stream[T]") -> None:
        """Close a stream, without waiting for it: whoever collects garbage may be the loop itself."""
        with self._lock:
            if not self._closed:
                asyncio.run_coroutine_threadsafe(stream.close(), self._loop)


class _Stream[T]:
    """An asynchronous generator that is asked for its items one by one, and may be closed at any time."""

    def __init__(self, source: AsyncGenerator[T]) -> None:
        self._source = source
        self._lock = asyncio.Lock()
        self._asking: set[asyncio.Task[Any] | None] = set()

    async def next(self) -> list[T]:
        """The next item; none at the end."""
        async with self._lock:
            self._asking = {asyncio.current_task()}
            with suppress(StopAsyncIteration):
                return [await anext(self._source)]
        return []

    async def close(self) -> None:
        """Break off what an interrupted caller left, and when that has ended, the rest."""
        for task in filter(None, self._asking):
            task.cancel()
        async with self._lock:
            await self._source.aclose()


def _blocking[**P, T](
    call: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Portal, P], T]:
    @functools.wraps(call)
    def method(self: _Portal, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(self._client, *args, **kwargs))

    return method


def _streaming[**P, T](
    call: Callable[Concatenate[Client, P], AsyncGenerator[T]],
) -> Callable[Concatenate[_Portal, P], Generator[T]]:
    @functools.wraps(call)
    def method(self: _Portal, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T]:
        stream = _Stream(call(self._client, *args, **kwargs))
        try:
            while item := self._run(stream.next()):
                yield item[0]
        finally:
            self._leave(stream)

    return method


class SyncClient(_Portal):
    """One account's access to a server; as `Client`, but each call returns when it is done.

    What streams is a generator: closing it, or no longer referring to it, closes its connection. A call that is
    interrupted (Ctrl-C) is broken off.

    Args:
        url: of the server, e.g. `http://127.0.0.1:8000`.
        token: an API key, or a session's access token; or call `sign_in`.
        transport: takes the place of real connections.
    """

    @property
    def access_token(self) -> str | None:
        """The token that is shown at present; another client may show it too, until it expires."""
        return self._client.access_token

    # A line for each of the client's calls (tests/client/test_blocking.py).
    register = _blocking(Client.register)
    verify = _blocking(Client.verify)
    resend = _blocking(Client.resend)
    forgot = _blocking(Client.forgot)
    reset = _blocking(Client.reset)
    change_password = _blocking(Client.change_password)
    change_email = _blocking(Client.change_email)
    confirm_email = _blocking(Client.confirm_email)
    sign_in = _blocking(Client.sign_in)
    sign_out = _blocking(Client.sign_out)
    delete_account = _blocking(Client.delete_account)
    export = _blocking(Client.export)
    usage = _blocking(Client.usage)
    models = _blocking(Client.models)
    choose_model = _blocking(Client.choose_model)
    upload = _blocking(Client.upload)
    document = _blocking(Client.document)
    page_picture = _blocking(Client.page_picture)
    page_rects = _blocking(Client.page_rects)
    documents = _blocking(Client.documents)
    retry = _blocking(Client.retry)
    replace = _blocking(Client.replace)
    change = _blocking(Client.change)
    delete = _blocking(Client.delete)
    restore = _blocking(Client.restore)
    collections = _blocking(Client.collections)
    add_collection = _blocking(Client.add_collection)
    rename_collection = _blocking(Client.rename_collection)
    delete_collection = _blocking(Client.delete_collection)
    known = _blocking(Client.known)
    document_progress = _blocking(Client.document_progress)
    batch = _blocking(Client.batch)
    follow = _streaming(Client.follow)
    progress = _streaming(Client.progress)
    search = _blocking(Client.search)
    search_all = _blocking(Client.search_all)
    explain_search = _blocking(Client.explain_search)
    ask = _streaming(Client.ask)
    evaluate = _blocking(Client.evaluate)
    evaluation = _blocking(Client.evaluation)
    evaluations = _blocking(Client.evaluations)
    delete_evaluation = _blocking(Client.delete_evaluation)
    add_chat = _blocking(Client.add_chat)
    chats = _blocking(Client.chats)
    chat = _blocking(Client.chat)
    change_chat = _blocking(Client.change_chat)
    delete_chat = _blocking(Client.delete_chat)
    export_chat = _blocking(Client.export_chat)
    say = _streaming(Client.say)
    regenerate = _streaming(Client.regenerate)
    stop = _blocking(Client.stop)
    message = _blocking(Client.message)
    rate = _blocking(Client.rate)
    trace = _blocking(Client.trace)
