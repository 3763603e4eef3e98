"""What tests of a library do over and over."""

from datetime import timedelta

from ringfence import jobs
from ringfence.documents.renaming import RETITLE, Retitling
from ringfence.documents.service import INGEST, PURGE, REPLACE
from ringfence.lexical import service as lexical

LEASE = timedelta(seconds=60)


async def put(library, user, content=b"some words", name="a.txt", **more):
    """The document of an upload."""
    return (await upload(library, user, content, name, **more)).document


async def upload(library, user, content=b"some words", name="a.txt", **more):
    """What became of an upload."""
    async with library.receive(user) as incoming:
        await incoming.write(content)
        return await library.add(user, name, incoming, **more)


async def replace(versions, user, document_id, content, name="b.txt", **more):
    """What became of a replacement."""
    async with versions.receive(user, document_id, len(content)) as incoming:
        await incoming.write(content)
        return await versions.replace(user, document_id, name, incoming, **more)


async def claimed(db, *kinds):
    """The jobs of these kinds, or of all, that are due."""
    async with db.system() as tx:
        found = await jobs.claim(tx, 100, LEASE)
    return [job for job in found if not kinds or job.kind in kinds]


async def due(admin):
    """Let a day pass for what was promised."""
    await admin.execute("update jobs set run_after = now() where state = 'ready'")


async def work(db, library, ingestion):
    """Run all jobs that are due, those that they bring too; which kinds there were, but for the index's."""
    index, retitling = lexical.LexicalIndex(db), Retitling(db)
    handlers = {
        lexical.KIND: lambda job: index.run(job.user_id, job.payload),
        RETITLE: lambda job: retitling.run(job.user_id, job.payload),
        INGEST: ingestion.run,
        REPLACE: ingestion.run_replacement,
        PURGE: lambda job: library.purge(job.user_id),
        "erase": lambda job: library.erase(job.user_id, job.payload),
    }
    ran = []
    while found := await claimed(db):
        for job in found:
            await handlers[job.kind](job)
            async with db.system() as tx:
                await jobs.finish(tx, job)
            ran.append(job.kind)
    return [kind for kind in ran if kind != lexical.KIND]


def files(tmp_path):
    """Names of what is stored."""
    return sorted(path.name for path in (tmp_path / "files").rglob("*") if path.is_file())
