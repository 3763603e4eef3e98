"""A tenant moves to another embedding model while its workers are killed, and is asked throughout."""

import asyncio

import pytest

from tests.fakes.model_server import model_server
from tests.life_cycle.processes import mailbox, process
from tests.life_cycle.test_faults import ADDRESS, accept, engine, reached

pytestmark = pytest.mark.timeout(600)

KILLS = 2
QUERY = {"query": "Who repairs the oven on weekdays?", "mode": "dense", "limit": 20}
_MODELS = "insert into embedding_models (name, dimensions) values ('openai/hash', 384)"
_LIVE = "insert into live_models (user_id, model_id) select user_id, 1 from users where email = $1"
_VECTORS = "select count(*) from embeddings join embedding_models using (model_id) where name = 'openai/next'"


@pytest.fixture
async def box():
    async with mailbox() as box:
        yield box


@pytest.fixture
async def next_server():
    async with model_server(dimensions=48) as server:
        yield server


@pytest.fixture
async def moving(settings, box, next_server, admin):
    """An engine with a next model, and an account that has begun with the live one."""
    options = {
        "embedding_next_provider": "openai",
        "embedding_next_url": next_server.openai_url,
        "embedding_next_model": "next",
        "embedding_batch_texts": 4,
    }
    async with engine(settings, box, **options) as made:
        await admin.execute(_MODELS)
        await admin.execute(_LIVE, ADDRESS)
        for number in range(3):
            words = " ".join(f"word{number}x{n}" for n in range(900))
            await accept(made.http, f"The oven is repaired by Anders, says text {number}. {words}".encode())
        await reached(admin, 3)
        yield made


async def asked(http):
    """What a search answers, in short: places and scores, which tell of which model they are."""
    response = await http.post("/api/v1/search", json=QUERY)
    assert response.status_code == 200, response.text
    return tuple((one["document_id"], one["scores"]["dense"]) for one in response.json()["results"])


async def filled(admin, wanted):
    async with asyncio.timeout(120):
        while (there := await admin.fetchval(_VECTORS)) < wanted:
            await asyncio.sleep(0.01)
    return there


@pytest.mark.long
async def test_a_tenant_is_asked_throughout_its_move(moving, next_server, admin):
    """Each answer is wholly the old model's until one is wholly the new one's, and so is each after that."""
    old, answers, stop = await asked(moving.http), [], asyncio.Event()

    async def ask():
        while not stop.is_set():
            answers.append(await asked(moving.http))

    next_server.script_embeddings(first_delay=0.02)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask())
        async with process(moving.settings, "admin", "reembed", **moving.options) as command:
            assert await command.ended() == 0
        done = 0
        for _ in range(KILLS):
            done = await filled(admin, done + 9)
            await moving.kill_worker()
            assert await admin.fetchval("select next_model_id from live_models") is not None
            await moving.worker()
        async with asyncio.timeout(120):
            while await admin.fetchval("select next_model_id from live_models") is not None:
                await asyncio.sleep(0.01)
        new, seen = await asked(moving.http), len(answers)
        while len(answers) < seen + 2 and not asking.done():
            await asyncio.sleep(0.01)
        stop.set()
    assert len(old) == len(new) == 20
    assert old != new
    first = answers.index(new)
    assert answers == [old] * first + [new] * (len(answers) - first)
    assert first > KILLS
    chunks = await admin.fetchval("select count(*) from chunks")
    assert await admin.fetchval(_VECTORS) == chunks
    assert await admin.fetchval("select count(*) from embeddings") == 2 * chunks
    assert await admin.fetchval("select count(*) from jobs where kind = 'forget_vectors'") == 1
    assert len({text for request in next_server.embeddings for text in request.body["input"]} - {"?"}) <= chunks + 1
