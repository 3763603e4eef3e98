"""Real helper processes and real children; the misbehaving ones are children that a test's own helper starts."""

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pymupdf
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from ringfence.documents import sniff
from ringfence.documents.parsing.sandbox import Box, Heading, Limits, Page, Sandbox, View, cause_of_death
from ringfence.errors import Kind, RingfenceError, SetupError, Unavailable

PATIENCE = 60.0


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with Sandbox() as running:
        yield running


def write(folder: Path, data: bytes, name: str = "document") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def pdf(*pages: str, **save: object) -> bytes:
    with pymupdf.open() as document:
        for text in pages:
            document.new_page().insert_text((72, 72), text)
        return document.tobytes(**save)


async def read(sandbox: Sandbox, path: Path, media_type: str = sniff.PLAIN, password: str | None = None) -> list[Page]:
    async with sandbox.parse(path, media_type, password) as parsing:
        return [page async for page in parsing]


async def failure(sandbox: Sandbox, path: Path, media_type: str = sniff.PLAIN, password: str | None = None) -> str:
    with pytest.raises(RingfenceError) as caught:
        await read(sandbox, path, media_type, password)
    return caught.value.code


def children(pid: int | None) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def variables(pid: int | None) -> set[str]:
    return {entry.partition("=")[0] for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if entry}


def open_files(pid: int) -> list[str]:
    return sorted(str(entry.readlink()).partition(":")[0] for entry in Path(f"/proc/{pid}/fd").iterdir())


def status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def unread(sandbox: Sandbox) -> int:
    """Bytes that the helper has not yet taken from its control socket."""
    return struct.unpack("i", fcntl.ioctl(sandbox._helper.control, termios.TIOCOUTQ, bytes(4)))[0]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # what is waited for happens in other processes
            await asyncio.sleep(0.01)


async def test_a_pdf(sandbox, tmp_path):
    path = write(tmp_path, pdf("One.", "Two."))
    async with sandbox.parse(path, sniff.PDF) as parsing:
        assert parsing.pages == 2
        assert [page async for page in parsing] == [Page(1, 0, "One."), Page(2, 0, "Two.")]
        assert [page async for page in parsing] == []


async def test_long_text_in_parts(sandbox, tmp_path):
    text = "ein sehr langer Satz 😀 über " * 50_000
    pages = await read(sandbox, write(tmp_path, text.encode()))
    assert "".join(page.text for page in pages) == text
    assert {page.number for page in pages} == {1}
    assert len(pages) > 10


async def test_utf16_and_form_feeds(sandbox, tmp_path):
    path = write(tmp_path, "eins\fzwei ü".encode("utf-16"))
    assert await read(sandbox, path) == [Page(1, 0, "eins"), Page(2, 0, "zwei ü")]


async def test_headings_come_with_the_text_that_holds_them(sandbox, tmp_path):
    path = write(tmp_path, b"# One\ntext\n\f\n## Two\n")
    assert await read(sandbox, path, sniff.MARKDOWN) == [
        Page(1, 0, "# One\ntext\n", (Heading(1, 2, 5, 1),)),
        Page(2, 0, "\n## Two\n", (Heading(2, 4, 7, 2),)),
    ]


async def test_passwords(sandbox, tmp_path):
    path = write(tmp_path, pdf("secret", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="ключ", owner_pw="owner"))
    assert await failure(sandbox, path, sniff.PDF) == "document_encrypted"
    assert await failure(sandbox, path, sniff.PDF, "wrong") == "wrong_password"
    assert await read(sandbox, path, sniff.PDF, "ключ") == [Page(1, 0, "secret")]


async def test_limits_reach_the_child(tmp_path):
    async with Sandbox(limits=Limits(max_pages=2, max_chars=1000)) as sandbox:
        assert await failure(sandbox, write(tmp_path, pdf("a", "b", "c")), sniff.PDF) == "too_many_pages"
        assert await failure(sandbox, write(tmp_path, b"a" * 1001)) == "too_much_text"


async def test_a_missing_file_may_come_back(sandbox, tmp_path):
    with pytest.raises(Unavailable) as caught:
        await read(sandbox, tmp_path / "gone")
    assert caught.value.code == "document_unreadable"


async def test_secrets_and_files_stay_outside(monkeypatch, tmp_path):
    monkeypatch.setenv("RINGFENCE_SECRET_KEY", "do-not-leak-this-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nor-this-one")
    path = write(tmp_path, b"word " * 2_000_000)
    async with Sandbox() as sandbox, sandbox.parse(path, sniff.PLAIN) as parsing:
        await anext(parsing)
        (child,) = children(sandbox.pid)
        assert variables(sandbox.pid) == variables(child) == {"PATH", "LANG"}
        assert open_files(child) == sorted(["/dev/null"] * 3 + [str(path), "pipe", "socket"])
        assert status(child)["NoNewPrivs"] == "1"
        assert os.getsid(child) == child


async def test_the_child_waits_for_a_slow_reader_and_that_is_free(tmp_path):
    path = write(tmp_path, b"word " * 400_000)
    async with Sandbox(limits=Limits(wall_seconds=2)) as sandbox, sandbox.parse(path, sniff.PLAIN) as parsing:
        first = await anext(parsing)
        (child,) = children(sandbox.pid)
        await asyncio.sleep(2.2)  # not to wait for something: time that passes is what is tested
        assert exists(child)
        assert first.text + "".join([page.text async for page in parsing]) == "word " * 400_000


async def test_a_cancelled_parse_kills_its_child(sandbox, tmp_path):
    path = write(tmp_path, b"word " * 2_000_000)
    reached = asyncio.Event()

    async def hang() -> None:
        async with sandbox.parse(path, sniff.PLAIN) as parsing:
            await anext(parsing)
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await asyncio.wait_for(reached.wait(), PATIENCE)
    (child,) = children(sandbox.pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not exists(child))
    assert await read(sandbox, write(tmp_path, b"next")) == [Page(1, 0, "next")]


async def test_documents_beyond_the_number_of_processes_wait(tmp_path):
    path = write(tmp_path, b"word " * 2_000_000)
    async with Sandbox(processes=2) as sandbox:
        async with sandbox.parse(path, sniff.PLAIN), sandbox.parse(path, sniff.PLAIN):
            third = asyncio.create_task(read(sandbox, write(tmp_path, b"third", "third")))
            await until(lambda: len(children(sandbox.pid)) == 2)
            await asyncio.sleep(0)
            assert not third.done()
        assert await asyncio.wait_for(third, PATIENCE) == [Page(1, 0, "third")]


async def test_a_killed_helper_is_replaced(sandbox, tmp_path):
    async with sandbox.parse(write(tmp_path, b"word " * 2_000_000), sniff.PLAIN) as parsing:
        helper = sandbox.pid
        (child,) = children(helper)
        os.kill(helper, signal.SIGKILL)
        with pytest.raises(Unavailable) as caught:
            [page async for page in parsing]
        assert caught.value.code == "parser_restarted"
        await until(lambda: not exists(child))
    assert await read(sandbox, write(tmp_path, b"again")) == [Page(1, 0, "again")]
    assert sandbox.pid not in {helper, None}


async def test_a_helper_that_is_killed_with_work_in_its_queue(sandbox, tmp_path):
    helper = sandbox.pid
    os.kill(helper, signal.SIGSTOP)
    task = asyncio.create_task(failure(sandbox, write(tmp_path, b"text")))
    await until(lambda: unread(sandbox))
    os.kill(helper, signal.SIGKILL)
    assert await task == "parser_restarted"
    assert await read(sandbox, write(tmp_path, b"again")) == [Page(1, 0, "again")]


async def test_closing_ends_what_runs(tmp_path):
    sandbox = Sandbox()
    assert sandbox.pid is None
    async with sandbox.parse(write(tmp_path, b"word " * 2_000_000), sniff.PLAIN) as parsing:
        (child,) = children(sandbox.pid)
        await sandbox.close()
        with pytest.raises(Unavailable) as caught:
            [page async for page in parsing]
        assert caught.value.code == "parser_restarted"
        await until(lambda: not exists(child))
    await sandbox.close()


HELPER = """
import os, resource, signal, socket, sys, time
from ringfence.documents.parsing.child import Zygote
def spawn(handles):
    pid = os.fork()
    if pid:
        return pid
    channel = socket.socket(fileno=handles.channel)
    def say(text):
        channel.sendall(text.encode() + b"\\n")
    try:
        channel.recv(65536)
        exec(os.pread(handles.document, 9999, 0))
    finally:
        os._exit(0)
Zygote(socket.socket(fileno=0), spawn).run()
"""


def interpreter(folder: Path, program: str) -> str:
    """A stand-in for Python that runs this program, whatever it is asked to run."""
    script = folder / "program.py"
    script.write_text(program)
    launcher = folder / "python"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{script}"\n')
    launcher.chmod(0o755)
    return str(launcher)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rogue(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Sandbox]:
    """A sandbox whose children do what their document says."""
    python = interpreter(tmp_path_factory.mktemp("rogue"), HELPER)
    async with Sandbox(python=python, limits=Limits(max_pages=5, max_chars=20, wall_seconds=20)) as running:
        yield running


def headed(heading: str, then: str = "", text: str = "title") -> str:
    """What makes a child say a heading and then something else, by default a part of one page."""
    part = f'{{"page": 1, "start": 0, "text": "{text}"}}'
    return f"say('{{\"pages\": 2}}'); say('{{{heading}}}'); " + (then or f"say('{part}'); ") + "\n"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("os.abort()", "parser_crashed"),
        ("pass", "parser_crashed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "parser_memory"),
        ("resource.setrlimit(resource.RLIMIT_CPU, (1, 2)); [None for _ in iter(int, 1)]", "parser_timeout"),
        ("channel.close(); time.sleep(600)", "parser_crashed"),
        ("say('no json')", "parser_crashed"),
        ("say('x' * 2**19); time.sleep(600)", "parser_crashed"),
        ("say('{\"unknown\": 1}')", "parser_crashed"),
        ("say('{\"pages\": 0}')", "parser_crashed"),
        ('say(\'{"pages": "1"}\')', "parser_crashed"),
        ("say('{\"pages\": 10}')", "parser_crashed"),
        ("say('{\"end\": true}')", "parser_crashed"),
        ("say('{\"missing\": []}'); say('{\"missing\": []}')", "parser_crashed"),
        ('say(\'{"error": "no_text"}\')', "no_text"),
        ('say(\'{"error": "made_up"}\')', "parser_crashed"),
        ('say(\'{"pages": 2}\'); say(\'{"error": "needs_ocr"}\')', "needs_ocr"),
        ("say('{\"pages\": 2}'); say('{\"pages\": 2}')", "parser_crashed"),
        ('say(\'{"pages": 2}\'); say(\'{"page": 3, "start": 0, "text": ""}\')', "parser_crashed"),
        ('say(\'{"pages": 2}\'); say(\'{"page": 0, "start": 0, "text": ""}\')', "parser_crashed"),
        ('say(\'{"pages": 2}\'); say(\'{"page": 1, "start": 1, "text": ""}\')', "parser_crashed"),
        ('say(\'{"pages": 2}\'); say(\'{"page": 1, "start": 0, "text": "\\\\u0000"}\')', "parser_crashed"),
        ('say(\'{"pages": 2}\'); say(\'{"page": 1, "start": 0, "text": "\\\\ud800"}\')', "parser_crashed"),
        ('say(\'{"pages": 2}\'); say(\'{"page": 1, "start": 0, "text": "%s"}\' % (\'a\' * 21))', "too_much_text"),
        (headed('"page": 1, "start": 0, "end": 2, "level": 7'), "parser_crashed"),
        (headed('"page": 1, "start": -1, "end": 2, "level": 1'), "parser_crashed"),
        (headed('"page": 1, "start": 2, "end": 2, "level": 1'), "parser_crashed"),
        (headed('"page": 1, "start": 2, "end": 6, "level": 1'), "parser_crashed"),
        (headed('"page": 2, "start": 0, "end": 2, "level": 1'), "parser_crashed"),
        (
            headed(
                '"page": 1, "start": 0, "end": 2, "level": 1', 'say(\'{"page": 1, "start": 1, "end": 3, "level": 1}\')'
            ),
            "parser_crashed",
        ),
        (headed('"page": 1, "start": 0, "end": 2, "level": 1', text=""), "parser_crashed"),
        (headed('"page": 2, "start": 0, "end": 2, "level": 1', "say('{\"end\": true}')"), "parser_crashed"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_child_that_misbehaves(behaviour, code, rogue, tmp_path):
    assert await failure(rogue, write(tmp_path, behaviour.encode())) == code
    await until(lambda: children(rogue.pid) == [])


async def seen(sandbox: Sandbox, path: Path, wanted: View, media_type: str = sniff.PDF):
    with path.open("rb") as file:
        return await sandbox.view(file.fileno(), media_type, wanted)


async def test_a_page_and_the_place_of_words(sandbox, tmp_path):
    path = write(tmp_path, pdf("One.", "Two words."))
    words = await seen(sandbox, path, View(2, None, 4, 9))
    assert (words.width, words.height, words.text, words.picture) == (595, 842, "words", b"")
    [box] = words.boxes
    assert 72 < box.x0 < box.x1
    assert box.y0 < 72 < box.y1
    picture = await seen(sandbox, path, View(2, 0.5))
    assert (picture.text, picture.boxes) == ("", ())
    assert pymupdf.Pixmap(picture.picture).width == 298
    with pytest.raises(RingfenceError, match="page_not_found"):
        await seen(sandbox, path, View(3, 0.5))


SHEET = 'say(\'{"pages": 1}\'); say(\'{"width": 5.0, "height": 5.0}\'); '
PNG = "say('{\"png\": \"%s\"}' % __import__('base64').b64encode(b'\\x89PNG\\r\\n\\x1a\\n').decode()); "
BOX = 'say(\'{"x0": 1.0, "y0": 1.0, "x1": 2.0, "y1": 2.0, "start": 0, "end": 2}\'); '
END = "say('{\"end\": true}'); "
WORDS = 'say(\'{"page": 1, "start": 0, "text": "ab"}\'); '


@pytest.mark.parametrize(
    ("behaviour", "scale", "code"),
    [
        ("say('{\"pages\": 1}'); " + BOX, None, "parser_crashed"),
        ('say(\'{"pages": 1}\'); say(\'{"error": "page_not_found"}\')', None, "page_not_found"),
        ('say(\'{"pages": 1}\'); say(\'{"width": -5.0, "height": 5.0}\')', None, "parser_crashed"),
        ('say(\'{"pages": 1}\'); say(\'{"width": 1e999, "height": 5.0}\')', None, "parser_crashed"),
        (SHEET + 'say(\'{"error": "no_rectangles"}\')', None, "no_rectangles"),
        (SHEET + WORDS.replace("ab", "abc"), None, "parser_crashed"),
        (SHEET + WORDS.replace("ab", "a\\\\u0007"), None, "parser_crashed"),
        (SHEET + BOX.replace('"y1": 2.0', '"y1": "NaN"'), None, "parser_crashed"),
        (
            SHEET
            + '[say(\'{"x0": 1.0, "y0": 1.0, "x1": 2.0, "y1": 2.0, "start": 0, "end": 2}\') for _ in range(10001)]',
            None,
            "parser_crashed",
        ),
        (SHEET + PNG + END, None, "parser_crashed"),
        (SHEET + END, 1.0, "parser_crashed"),
        (SHEET + 'say(\'{"png": "GIF89a=="}\'); ' + END, 1.0, "parser_crashed"),
        (SHEET + 'say(\'{"png": "no base64!"}\'); ' + END, 1.0, "parser_crashed"),
        (SHEET + "say('{\"pages\": 1}'); ", 1.0, "parser_crashed"),
        (SHEET + PNG, 1.0, "parser_crashed"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_child_that_misbehaves_over_a_page(behaviour, scale, code, rogue, tmp_path):
    with pytest.raises(RingfenceError) as caught:
        await seen(rogue, write(tmp_path, behaviour.encode()), View(1, scale, 0, 2))
    assert caught.value.code == code


@pytest.mark.asyncio(loop_scope="module")
async def test_a_child_that_says_what_it_should(rogue, tmp_path):
    words = await seen(rogue, write(tmp_path, (SHEET + WORDS + BOX + END).encode()), View(1, None, 0, 2))
    assert (words.text, words.boxes) == ("ab", (Box(1.0, 1.0, 2.0, 2.0, 0, 2),))
    picture = await seen(rogue, write(tmp_path, (SHEET + PNG + END).encode()), View(1, 1.0))
    assert picture.picture == b"\x89PNG\r\n\x1a\n"


async def test_a_child_that_says_nothing(tmp_path):
    async with Sandbox(python=interpreter(tmp_path, HELPER), limits=Limits(wall_seconds=0.2)) as sandbox:
        assert await failure(sandbox, write(tmp_path, b"time.sleep(600)")) == "parser_timeout"
        await until(lambda: children(sandbox.pid) == [])


@pytest.mark.asyncio(loop_scope="module")
async def test_missing_walls_are_logged_once(rogue, tmp_path):
    path = write(tmp_path, b'say(\'{"missing": ["network"]}\'); say(\'{"error": "no_text"}\')')
    with capture_logs() as logs:
        assert {await failure(rogue, path) for _ in range(2)} == {"no_text"}
    assert [(entry["event"], entry["missing"]) for entry in logs] == [("parser_sandbox_incomplete", ["network"])]


@pytest.mark.parametrize(
    ("program", "says"),
    [("raise SystemExit(1)", "it said nothing"), ("import not_there_at_all", "not_there_at_all")],
)
async def test_a_helper_that_does_not_start(program, says, tmp_path):
    sandbox = Sandbox(python=interpreter(tmp_path, program))
    with pytest.raises(SetupError, match=says) as caught:
        await sandbox.start()
    assert caught.value.code == "parser_broken"
    assert sandbox.pid is None
    with pytest.raises(Unavailable) as caught:
        await read(sandbox, write(tmp_path, b"text"))
    assert caught.value.code == "parser_broken"


async def test_an_interpreter_that_is_not_there(tmp_path):
    with pytest.raises(SetupError, match="No such file"):
        await Sandbox(python=str(tmp_path / "python")).start()


async def test_a_helper_that_hangs(tmp_path):
    started = time.monotonic()
    with pytest.raises(SetupError, match="it said nothing"):
        await Sandbox(python=interpreter(tmp_path, "import time; time.sleep(600)"), start_seconds=0.2).start()
    assert time.monotonic() - started < PATIENCE


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path):
    note = tmp_path / "pid"
    program = f"import os, pathlib; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); os.read(0, 1)"
    task = asyncio.create_task(Sandbox(python=interpreter(tmp_path, program)).start())
    await until(lambda: note.exists() and note.read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not exists(int(note.read_text()))


@pytest.mark.parametrize("code", ["parser_timeout", "parser_memory"])
def test_causes_of_death_are_about_size(code):
    status = signal.SIGXCPU if code == "parser_timeout" else signal.SIGKILL
    assert cause_of_death(status).code == code
    assert cause_of_death(status).kind is Kind.TOO_LARGE
