"""The blocking client: the same calls on a loop of its own."""

import asyncio
import inspect
import io
import signal
import threading
from concurrent.futures import CancelledError
from uuid import uuid4

import httpx2
import pytest

from ringfence.client import Client, SyncClient
from ringfence.errors import Invalid, NotFound
from tests.engine import PASSWORD


def calls(kind):
    return {name for name in dir(kind) if not name.startswith("_")} - {"close"}


def blocking(handler):
    return SyncClient("http://engine", token="t", transport=httpx2.MockTransport(handler))


def test_every_call_is_there_with_its_words():
    assert calls(SyncClient) == calls(Client)
    for name in calls(Client) - {"access_token"}:
        awaited, blocked = getattr(Client, name), getattr(SyncClient, name)
        assert blocked.__doc__ == awaited.__doc__
        assert inspect.signature(blocked) == inspect.signature(awaited)


def test_errors_come_through():
    with blocking(lambda _: httpx2.Response(404, json={"code": "document_not_found"})) as engine:
        with pytest.raises(NotFound, match="document_not_found"):
            engine.document(uuid4())
        with pytest.raises(NotFound):
            next(engine.ask("?"))


class Slow(httpx2.AsyncByteStream):
    """An answer that sends its next event when it is allowed to, and knows whether it was closed."""

    def __init__(self):
        self.more = threading.Semaphore(0)
        self.asked = threading.Event()
        self.closed = threading.Event()

    async def __aiter__(self):
        for n in range(3):
            self.asked.set()
            while not self.more.acquire(blocking=False):
                await asyncio.sleep(0.005)
            yield f'data: {{"type": "token", "text": "{n}"}}\n\n'.encode()

    async def aclose(self):
        self.closed.set()


def test_streams_come_as_they_are_sent():
    slow = Slow()
    with blocking(lambda _: httpx2.Response(200, stream=slow)) as engine:
        events = engine.ask("?")
        slow.more.release()
        assert next(events).text == "0"
        slow.more.release(2)
        assert [event.text for event in events] == ["1", "2"]
    assert slow.closed.wait(10)


@pytest.mark.parametrize("how", ["close", "forget", "client"])
def test_a_stream_that_is_left_is_closed(how):
    slow = Slow()
    engine = blocking(lambda _: httpx2.Response(200, stream=slow))
    events = engine.ask("?")
    slow.more.release()
    next(events)
    if how == "close":
        events.close()
    elif how == "forget":
        del events
    else:
        engine.close()
    assert slow.closed.wait(10)
    engine.close()
    engine.close()
    if how == "client":
        with pytest.raises(RuntimeError, match="closed"):
            next(events)
    with pytest.raises(RuntimeError, match="closed"):
        engine.documents()


def test_an_interrupted_call_is_broken_off():
    slow = Slow()
    with blocking(lambda _: httpx2.Response(200, stream=slow)) as engine:

        def interrupt():  # as Ctrl-C does
            slow.asked.wait(10)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            next(engine.ask("?"))
        assert slow.closed.wait(10)


def test_closing_ends_the_calls_of_other_threads():
    slow, ended = Slow(), []
    engine = blocking(lambda _: httpx2.Response(200, stream=slow))

    def ask():
        with pytest.raises(CancelledError):
            next(engine.ask("?"))
        ended.append(True)

    asking = threading.Thread(target=ask)
    asking.start()
    assert slow.asked.wait(10)
    engine.close()
    asking.join(10)
    assert ended == [True]


def test_several_threads_call_at_once():
    together = threading.Barrier(3)

    def answer(_):
        return httpx2.Response(200, json={"documents": []})

    with blocking(answer) as engine:

        def call():
            together.wait()
            assert engine.documents() == []
            done.append(True)

        done = []
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(done) == 3


async def test_a_loop_that_runs_already_is_no_obstacle():
    with blocking(lambda _: httpx2.Response(200, json={"documents": []})) as engine:
        assert engine.documents() == []


async def test_with_a_real_engine(live):
    async with live.account("ada@example.com"):
        await asyncio.to_thread(_uploads_and_asks, live.url)


def _uploads_and_asks(url):
    with SyncClient(url) as engine:
        with pytest.raises(Invalid, match="invalid_grant"):
            engine.sign_in("ada@example.com", "wrong")
        engine.sign_in("ada@example.com", PASSWORD)
        assert engine.access_token
        document, new = engine.upload("a.txt", io.BytesIO(b"The notice period is six weeks."))
        assert new
        stages = [event.document.stage for event in engine.follow([document.document_id])]
        assert stages[-1] == "ready"
        assert "six weeks" in "".join(
            event.text for event in engine.ask("How long is the notice period?") if event.type == "token"
        )
        assert [hit.document for hit in engine.search("notice")] == ["a.txt"]
