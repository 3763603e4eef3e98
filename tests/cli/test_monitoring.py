"""The operators' port and traces, as settings open them in each process."""

import asyncio
import signal
import socket

import httpx2
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ringfence.cli.local import _worker_environment
from ringfence.cli.monitoring import observed
from ringfence.cli.serving import run_api, run_worker
from ringfence.errors import SetupError
from ringfence.settings import Settings, load_settings
from ringfence.telemetry.traces import tracing
from tests.fakes.otlp_collector import otlp_collector
from tests.scraping import samples


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def handled():
    """SIGTERM may be raised in this process."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


def with_(settings, **values):
    return settings.model_copy(update=values)


async def test_by_default_nothing_is_opened(settings, db):
    with capture_logs() as logs:
        async with observed(settings, db):
            assert not tracing.on
    assert logs == []


@pytest.mark.parametrize("run", [run_api, run_worker])
async def test_a_port_that_is_taken_ends_the_start(settings, taken, run):
    with pytest.raises(SetupError, match="address_taken"):
        await run(with_(settings, smtp_host="localhost", metrics_port=taken))


async def test_the_port_is_closed_afterwards(settings, db):
    async with httpx2.AsyncClient() as client:
        with capture_logs() as logs:
            async with observed(with_(settings, metrics_port=0, metrics_host="::1"), db):
                url = f"{logs[0]['url']}/livez"
                assert (await client.get(url)).status_code == 200
        with pytest.raises(httpx2.ConnectError):
            await client.get(url)


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("run", [run_api, run_worker])
async def test_api_and_worker_alike_tell_of_themselves_until_a_signal(settings, run):
    with capture_logs() as logs:
        task = asyncio.create_task(run(with_(settings, smtp_host="localhost", metrics_port=0)))
        async with asyncio.timeout(60):
            while not any(line["event"] in {"working", "serving"} for line in logs):
                await asyncio.sleep(0.02)
    [url] = [line["url"] for line in logs if line["event"] == "monitoring"]
    async with httpx2.AsyncClient(base_url=url, timeout=30) as operator:
        assert (await operator.get("/readyz")).status_code == 200
        assert samples((await operator.get("/metrics")).text)["ringfence_database_up{}"] == 1
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 30)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, {}),
        ("", {}),
        ("authorization=Bearer%20key%3D", {"authorization": "Bearer key="}),
        (" x-a = 1 , x-b=b=c ,", {"x-a": "1", "x-b": "b=c"}),
    ],
)
async def test_headers_reach_the_collector(settings, db, given, sent):
    async with otlp_collector() as collector:
        secret = None if given is None else SecretStr(given)
        async with observed(with_(settings, otlp_endpoint=collector.url, otlp_headers=secret), db):
            with tracing.span("a"):
                pass
        await collector.one("a")
        [(_, headers)] = collector.requests
    assert {name: headers.get(name) for name in ("authorization", "x-a", "x-b") if name in headers} == sent
    assert not tracing.on


@pytest.mark.parametrize("given", ["nonsense", "a=1,b", "=x", "a b=c", "a=b\r\nx: y", "a=ö"])
async def test_headers_that_are_none_end_the_start_without_being_shown(settings, db, given):
    wrong = with_(settings, otlp_endpoint="http://127.0.0.1:1", otlp_headers=SecretStr(given))
    with pytest.raises(SetupError, match="RINGFENCE_OTLP_HEADERS") as caught:
        async with observed(wrong, db):
            pass
    assert caught.value.code == "bad_setting"
    assert given not in caught.value.message
    assert not tracing.on


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics_port", 65536),
        ("metrics_port", -1),
        ("otlp_endpoint", "collector:4318"),
        ("otlp_endpoint", "http://"),
        ("trace_sample_ratio", 1.1),
    ],
)
def test_wrong_settings_are_named(name, value):
    with pytest.raises(SetupError, match=f"RINGFENCE_{name.upper()}"):
        load_settings(_env_file=None, **{name: value})


@pytest.mark.parametrize(("api", "worker"), [(9464, "9465"), (65535, "0"), (0, "0")])
def test_the_worker_of_a_machine_has_a_port_of_its_own(api, worker):
    settings = Settings(_env_file=None, metrics_port=api)
    assert _worker_environment(settings)["RINGFENCE_METRICS_PORT"] == worker
