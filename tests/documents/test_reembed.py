# ruff: noqa: F811  # fixtures
"""A tenant's way to another embedding model, with a real database, a real sandbox and two real model servers."""

import asyncio
from datetime import timedelta

import httpx2
import pytest

from ringfence import jobs
from ringfence.documents import reembed, vector_queries
from ringfence.documents.ingest import Ingestion
from ringfence.documents.reembed import REEMBED, Moves, Reembedding, ReembedPayload
from ringfence.documents.vector_queries import Lacking, Place
from ringfence.documents.vectors import FORGET, ForgetPayload, PassageVectors
from ringfence.errors import SetupError, Unavailable
from ringfence.models import queries as models_of
from ringfence.models.openai import OpenAIEmbedder
from ringfence.models.registry import EmbeddingModels
from ringfence.search.service import How, Search
from tests.documents.test_ingest import LEASE, library, put, storage, user  # noqa: F401  # fixtures
from tests.fakes.model_server import model_server
from tests.parsers import parser
from tests.search.test_search import tenant

OLD, NEW = "openai/old", "openai/new"
FACT = "The oven is repaired by Anders, who lives in the red house."


def text(name: str, words: int = 600) -> bytes:
    return (f"{FACT} This is {name}. " + " ".join(f"{name}{n}" for n in range(words))).encode()


class Gate(httpx2.AsyncHTTPTransport):
    """Real connections, through which requests go while it is open."""

    def __init__(self):
        super().__init__()
        self.open, self.reached = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def handle_async_request(self, request):
        self.reached.set()
        await self.open.wait()
        return await super().handle_async_request(request)

    def shut(self):
        self.open.clear()
        self.reached.clear()


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
async def old(models, gate):
    embedder = OpenAIEmbedder(models.openai_url, "old", transport=gate)
    yield embedder
    await embedder.close()


@pytest.fixture
async def new_server():
    async with model_server(dimensions=48) as server:
        yield server


@pytest.fixture
async def new(new_server):
    embedder = OpenAIEmbedder(new_server.openai_url, "new")
    yield embedder
    await embedder.close()


@pytest.fixture
async def sandbox():
    async with parser(2) as running:
        yield running


@pytest.fixture
def engine(db, storage, sandbox, old, new):
    return Engine(db, storage, sandbox, old, new)


class Engine:
    """Ingestion, search and moves, before a second model was set up and after."""

    def __init__(self, db, storage, sandbox, old, new):
        self.db = db
        sizes = {"chunk_tokens": 68, "chunk_overlap_tokens": 13}
        self.before = Ingestion(db, storage, sandbox, old, **sizes)
        self.after = Ingestion(db, storage, sandbox, old, coming=new, **sizes)
        self.search = Search(db, old, coming=new)
        self.models = EmbeddingModels(db, [old, new])
        self.moves = Moves(db)
        self.reembedding = Reembedding(db, self.models, PassageVectors(db, self.models))
        self._claiming = asyncio.Lock()  # or one would find nothing while another hands its job back

    async def claim(self, *kinds):
        """The next job of such a kind; those of other kinds are handed back."""
        async with self._claiming, self.db.system() as tx:
            claimed = await jobs.claim(tx, 99, LEASE)
            chosen = [job for job in claimed if job.kind in kinds][:1]
            for job in claimed:
                if job not in chosen:
                    await jobs.release(tx, job)
        return chosen[0] if chosen else None

    async def work(self, kind, run) -> int:
        """Run and finish all jobs of a kind; how many."""
        count = 0
        while job := await self.claim(kind):
            await run(job)
            async with self.db.system() as tx:
                assert await jobs.finish(tx, job)
            count += 1
        return count

    async def forget(self):
        """As in an hour."""
        async with self.db.system() as tx:
            await tx.execute("update jobs set run_after = now() where kind = $1", FORGET)
        return await self.work(FORGET, self.reembedding.forget)

    async def move(self, user_id, to=NEW):
        assert await self.moves.begin(user_id, to)
        return await self.work(REEMBED, self.reembedding.run)


async def vectors(admin, user_id):
    """How many vectors of each model a tenant has, and how many chunks."""
    rows = await admin.fetch(
        "select name, count(*) from embeddings join embedding_models using (model_id) where user_id = $1 group by 1",
        user_id,
    )
    return dict(map(tuple, rows)), await admin.fetchval("select count(*) from chunks where user_id = $1", user_id)


async def stored(engine, library, user_id, *names):
    for name in names:
        await put(library, user_id, f"{name}.txt", text(name))
    await engine.work("ingest", engine.before.run)


async def test_a_tenant_is_asked_throughout_its_move(engine, library, user, admin):
    """While jobs are killed and documents come and go, no question fails, mixes models, or misses what is there."""
    await stored(engine, library, user, "alpha", "beta", "gamma")
    engine.reembedding._slice_seconds = 0
    asked, stop = 0, asyncio.Event()

    async def ask():
        nonlocal asked
        while not stop.is_set():
            found = await engine.search.passages(user, "Who repairs the oven?", 50)
            names = {passage.document for passage in found if FACT[:30] in passage.text}
            assert {"alpha.txt", "beta.txt", "gamma.txt"} <= names
            asked += 1

    async def ingest():
        for name in ("delta", "epsilon"):
            await put(library, user, f"{name}.txt", text(name))
            await engine.work("ingest", engine.after.run)

    async def move():
        await engine.moves.begin(user, NEW)
        slices = 0
        while job := await engine.claim(REEMBED):
            if slices % 3 == 1:  # killed in the middle, and given to another worker
                task = asyncio.create_task(engine.reembedding.run(job))
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.wait([task])
            await engine.reembedding.run(job)
            async with engine.db.system() as tx:
                await jobs.finish(tx, job)
            slices += 1
        return slices

    async with asyncio.TaskGroup() as group:
        askers = [group.create_task(ask()) for _ in range(2)]
        ingesting, moving = group.create_task(ingest()), group.create_task(move())
        await asyncio.wait([ingesting, moving])
        await engine.forget()
        seen = asked
        while asked < seen + 2 and not any(asker.done() for asker in askers):
            await asyncio.sleep(0.01)
        stop.set()
    assert moving.result() > 3
    by_model, chunks = await vectors(admin, user)
    assert by_model == {NEW: chunks}
    assert (await engine.moves.of(user)).live == NEW
    found = await engine.search.passages(user, "Who repairs the oven?", 50)
    assert {passage.document for passage in found} == {
        f"{n}.txt" for n in ("alpha", "beta", "gamma", "delta", "epsilon")
    }


async def test_a_document_begun_before_the_move_is_found_after_it(engine, library, user, admin, gate):
    await stored(engine, library, user, "alpha")
    late = (await put(library, user, "late.txt", text("late"))).document
    job = await engine.claim("ingest")
    gate.shut()
    running = asyncio.create_task(engine.before.run(job))
    await gate.reached.wait()
    assert await engine.move(user) == 1
    await engine.forget()
    gate.open.set()
    with pytest.raises(Unavailable, match="model_not_configured"):  # a worker that was not started again
        await running
    assert (await library.get(user, late.document_id)).state == "processing"
    gate.shut()
    await admin.execute(
        "update live_models set model_id = (select model_id from embedding_models where name = $1)", OLD
    )
    running = asyncio.create_task(engine.after.run(job))
    await gate.reached.wait()
    await admin.execute(
        "update live_models set model_id = (select model_id from embedding_models where name = $1)", NEW
    )
    gate.open.set()
    await running
    assert (await library.get(user, late.document_id)).state == "ready"
    assert await engine.forget() == 1
    by_model, chunks = await vectors(admin, user)
    assert by_model == {NEW: chunks}
    assert "late.txt" in {passage.document for passage in await engine.search.passages(user, "oven", 9)}


async def test_while_a_model_is_filled_in_new_documents_get_vectors_of_both(engine, library, user, admin):
    await stored(engine, library, user, "alpha", "beta")
    engine.reembedding._slice_seconds = 0
    await engine.moves.begin(user, NEW)
    await engine.reembedding.run(await engine.claim(REEMBED))
    before = (await vectors(admin, user))[0][NEW]
    await put(library, user, "gamma.txt", text("gamma"))
    await engine.work("ingest", engine.after.run)
    by_model, chunks = await vectors(admin, user)
    assert 0 < before < chunks
    assert by_model == {OLD: chunks, NEW: before + (await library.newest(user, 1))[0].chunks}
    move = await engine.moves.of(user)
    assert (move.live, move.coming, move.chunks, move.vectors) == (OLD, NEW, chunks, by_model)


async def test_a_move_goes_on_where_it_was_broken_off_and_twice_at_once_does_no_harm(
    engine,
    library,
    user,
    admin,
    new_server,
):
    await stored(engine, library, user, "alpha", "beta")
    engine.reembedding._slice_seconds = 0
    await engine.moves.begin(user, NEW)
    job = await engine.claim(REEMBED)
    await asyncio.gather(engine.reembedding.run(job), engine.reembedding.run(job))
    assert await admin.fetchval("select count(*) from jobs where kind = $1", REEMBED) in {2, 3}
    async with engine.db.system() as tx:
        await jobs.finish(tx, job)
    await engine.work(REEMBED, engine.reembedding.run)
    by_model, chunks = await vectors(admin, user)
    assert by_model == {OLD: chunks, NEW: chunks}
    sent = [text for request in new_server.embeddings for text in request.body["input"]]
    assert len(set(sent) - {"?"}) == chunks


async def test_going_back_in_the_middle_and_after_the_swap(engine, library, user, admin):
    await stored(engine, library, user, "alpha", "beta")
    _, chunks = await vectors(admin, user)
    engine.reembedding._slice_seconds = 0
    await engine.moves.begin(user, NEW)
    await engine.reembedding.run(await engine.claim(REEMBED))
    assert (await engine.moves.of(user)).coming == NEW
    assert await engine.move(user, OLD) == 1
    move = await engine.moves.of(user)
    assert (move.live, move.coming) == (OLD, None)
    assert await engine.forget() == 1
    assert (await vectors(admin, user))[0] == {OLD: chunks}
    assert not await engine.moves.begin(user, OLD)

    await engine.move(user)
    assert await engine.move(user, OLD) > 0  # within the hour: nothing has to be made anew
    assert (await engine.moves.of(user)).live == OLD
    assert await engine.forget() == 2
    assert (await vectors(admin, user))[0] == {OLD: chunks}


async def test_a_later_command_overrules_an_earlier_one(engine, library, user, admin):
    await stored(engine, library, user, "alpha", "beta")
    engine.reembedding._slice_seconds = 0
    await engine.moves.begin(user, NEW)
    first = await engine.claim(REEMBED)
    await engine.reembedding.run(first)
    rest = await engine.claim(REEMBED)
    await engine.reembedding.run(await overruled(engine, user))
    await engine.reembedding.run(rest)
    move = await engine.moves.of(user)
    assert (move.live, move.coming) == (OLD, None)
    assert move.vectors[NEW] < move.chunks


async def overruled(engine, user_id):
    """The job of a command to stay with the old model."""
    assert await engine.moves.begin(user_id, OLD)
    return await engine.claim(REEMBED)


async def test_the_swap_waits_for_every_vector(engine, library, user, admin, new_server, gate):
    """A chunk that lost its vector behind the pass is found before the swap."""
    await stored(engine, library, user, "alpha", "beta")
    await admin.execute(
        "create function lose() returns trigger language plpgsql as $$begin "
        "delete from public.embeddings where number = 0 and model_id = new.model_id and new.number > 5; "
        "return new; end$$"
    )
    await admin.execute("create trigger lose before insert on embeddings for each row execute function lose()")
    await engine.moves.begin(user, NEW)
    await engine.reembedding.run(await engine.claim(REEMBED))
    assert (await engine.moves.of(user)).live == OLD
    await admin.execute("drop trigger lose on embeddings")
    assert await engine.work(REEMBED, engine.reembedding.run) == 1
    assert (await engine.moves.of(user)).live == NEW


async def test_what_is_not_set_up_is_never_searched_with_something_else(engine, library, user, old, new):
    await stored(engine, library, user, "alpha")
    with pytest.raises(SetupError, match="model_not_configured"):
        await Search(engine.db, new).passages(user, "oven", 1)
    await engine.move(user)
    with pytest.raises(SetupError, match="model_not_configured"):
        await Search(engine.db, old).passages(user, "oven", 1)
    assert await Search(engine.db, new).passages(user, "oven", 1)
    assert await Search(engine.db, new, coming=old).passages(user, "oven", 1)


@pytest.mark.parametrize("how", [How("dense"), How(), How(diversity=0.3)], ids=["dense", "hybrid", "diverse"])
async def test_who_moves_while_its_query_is_embedded_is_asked_anew(engine, library, user, gate, new_server, how):
    await stored(engine, library, user, "alpha")
    gate.shut()
    asking = [
        asyncio.create_task(engine.search.passages(user, "Who repairs the oven?", 5, how=how)),
        asyncio.create_task(engine.search.explain(user, "Who repairs the oven?", 5, how=how)),
    ]
    await gate.reached.wait()
    await engine.move(user)
    gate.open.set()
    found, explained = await asyncio.gather(*asking)
    assert found == await engine.search.passages(user, "Who repairs the oven?", 5, how=how)
    assert (explained.passages, explained.way) == (len(found), "small")
    assert new_server.embeddings[-1].body["input"] == ["Who repairs the oven?"]


async def test_a_worker_without_the_model_leaves_the_job_to_others(engine, library, user, old):
    await stored(engine, library, user, "alpha")
    await engine.moves.begin(user, NEW)
    only_old = EmbeddingModels(engine.db, [old])
    with pytest.raises(Unavailable, match="model_not_configured"):
        await Reembedding(engine.db, only_old, PassageVectors(engine.db, only_old)).run(await engine.claim(REEMBED))
    assert (await engine.moves.of(user)).coming is None


async def test_who_has_no_vectors_has_no_way_to_go_and_begins_with_the_next_model(engine, library, user):
    assert not await engine.moves.begin(user, NEW)
    async with engine.db.tenant(user) as tx:
        await jobs.enqueue(tx, user, REEMBED, ReembedPayload(model=NEW))
        await jobs.promise(tx, FORGET, ForgetPayload(), timedelta(0))
    assert await engine.work(REEMBED, engine.reembedding.run) == 1
    assert await engine.forget() == 1
    assert await engine.search.passages(user, "oven", 1) == []
    await put(library, user, "a.txt", text("alpha"))
    await engine.work("ingest", engine.after.run)
    move = await engine.moves.of(user)
    assert (move.live, move.coming, set(move.vectors)) == (NEW, None, {NEW})


async def test_vectors_of_a_version_that_chose_no_model_are_found_and_moved(engine, library, user, admin):
    await stored(engine, library, user, "alpha")
    await admin.execute("delete from live_models")
    assert await engine.search.passages(user, "oven", 1)
    assert (await engine.moves.of(user)).live == OLD
    await engine.move(user)
    assert (await engine.moves.of(user)).live == NEW


async def test_a_chunk_that_says_something_else_meanwhile_gets_no_vector(engine, library, user, admin, new):
    await stored(engine, library, user, "alpha")
    model = await engine.models.of(new)
    rows = await admin.fetch("select document_id, number, text from chunks order by number")
    chunks = [Lacking(Place(row["document_id"], row["number"]), row["text"], "") for row in rows]
    made = await new.embed([chunk.passage for chunk in chunks])
    await admin.execute("update chunks set text = 'other' where number = 0")
    await admin.execute("delete from chunks where number = 1")
    async with engine.db.tenant(user) as tx:
        for _ in range(2):
            await vector_queries.fill(tx, model.model_id, chunks, made)
    stored_numbers = await admin.fetch("select number from embeddings where model_id = $1 order by 1", model.model_id)
    assert [row["number"] for row in stored_numbers] == list(range(2, len(chunks)))


async def test_who_is_called_back_while_its_last_vectors_are_made_stays(engine, library, user, admin, new_server):
    await stored(engine, library, user, "alpha")
    await engine.moves.begin(user, NEW)
    job = await engine.claim(REEMBED)
    new_server.script_embeddings(first_delay=0.2)
    running = asyncio.create_task(engine.reembedding.run(job))
    await new_server.wait_for(lambda: len(new_server.embeddings) > 1)
    await admin.execute("update live_models set next_model_id = null")
    await running
    move = await engine.moves.of(user)
    assert (move.live, move.coming) == (OLD, None)
    assert await engine.forget() == 1
    assert (await vectors(admin, user))[0] == {OLD: move.chunks}


async def test_another_tenant_stays_where_it_is(engine, library, user, admin, db, monkeypatch):
    monkeypatch.setattr(reembed, "_ROWS", 4)  # in several transactions
    other = await tenant(db, admin)
    await stored(engine, library, user, "alpha")
    await stored(engine, library, other, "alpha")
    before = await vectors(admin, other)
    await engine.move(user)
    await engine.forget()
    assert await vectors(admin, other) == before
    assert (await engine.moves.of(other)).live == OLD
    async with db.tenant(other) as tx:
        live = await models_of.live(tx)
    assert live is not None
    assert live.name == OLD


async def test_equal_passages_are_embedded_once_a_tenant(engine, library, user, admin, db, models):
    def sent():
        return [text for request in models.embeddings for text in request.body["input"]]

    await put(library, user, "a.txt", text("alpha"))
    await engine.work("ingest", engine.before.run)
    first = len(sent())
    await put(library, user, "b.txt", text("alpha") + b"\n\nAnd one more line, which is new.")
    await engine.work("ingest", engine.before.run)
    assert first < len(sent()) < first + 4
    other = await tenant(db, admin)
    await put(library, other, "a.txt", text("alpha"))
    await engine.work("ingest", engine.before.run)
    assert sent()[-first:] == sent()[:first]  # nobody else's vectors are looked at
    pairs = await admin.fetch(
        "select c.text, e.embedding::text from chunks c join embeddings e using (user_id, document_id, number)"
    )
    assert len({row["text"] for row in pairs}) == len(set(map(tuple, pairs)))  # each is the vector of its own text


async def test_a_page_that_says_the_same_thing_often_is_embedded_once(engine, library, user, models, admin):
    await put(library, user, "a.md", b"# Same\n\nThe same words.\n\n" * 40)
    await engine.work("ingest", engine.before.run)
    sent = [text for request in models.embeddings for text in request.body["input"]]
    chunks = await admin.fetchval("select count(*) from chunks")
    assert chunks > len(sent) == len(set(sent))
