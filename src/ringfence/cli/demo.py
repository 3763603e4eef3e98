"""`ringfence demo`: the main job once, from the front door, with two tenants."""

import secrets
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from ringfence import samples
from ringfence.cli.ingest import ingest_files
from ringfence.cli.local import Running, everything
from ringfence.cli.logs import quiet_logging
from ringfence.cli.remote import print_answer
from ringfence.client import Client
from ringfence.errors import NotFound, RingfenceError
from ringfence.mail import mailed_code
from ringfence.samples import Tenant
from ringfence.settings import Settings


class DemoFailed(RingfenceError):
    """The demo saw something that must not be."""


async def demo(settings: Settings, *, chat: bool) -> None:
    """Two tenants sign up, upload, ask the same questions, and can't see each other's documents.

    Raises:
        DemoFailed: an answer without a citation, a refusal that did not come, or a foreign document that was seen.
        RingfenceError: something did not work.
    """
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="ringfence-demo-") as folder:
        free = {"port": 0, "metrics_port": settings.metrics_port and 0}  # an engine may run beside
        settings = settings.model_copy(update={"data_dir": Path(folder), "database_url": None, **free})
        with quiet_logging(level="critical"):
            async with everything(settings, chat=chat, worker_output=False) as running:
                await _show(running, console)


async def _show(running: Running, console: Console) -> None:
    async with AsyncExitStack() as stack:
        clients = []
        for tenant in samples.TENANTS:
            console.print(Rule(f"[bold]{tenant.name}[/bold] signs up and uploads"))
            client = await stack.enter_async_context(Client(running.url))
            await _sign_up(client, tenant, running.mail_folder, console)
            with samples.files(tenant) as files:
                if (await ingest_files(client, files, console)).bad:
                    raise DemoFailed("demo_failed", "A sample document could not be used.")
            clients.append(client)
        for question in samples.QUESTIONS:
            console.print(Rule(f"Both ask: [bold]{question}[/bold]"))
            for tenant, client in zip(samples.TENANTS, clients, strict=True):
                await _answered(client, tenant, question, console)
        await _fence(clients, console)


async def _sign_up(client: Client, tenant: Tenant, mail_folder: Path, console: Console) -> None:
    email, password = f"{tenant.email}@example.com", secrets.token_urlsafe(16)
    registration = await client.register(email, password)
    code = await mailed_code(mail_folder, email)
    await client.verify(registration, code)
    await client.sign_in(email, password)
    console.print(f"{email} entered the code {code} from the mail, and is signed in.")


async def _answered(client: Client, tenant: Tenant, question: str, console: Console) -> None:
    console.print(f"\n[bold]{tenant.name}[/bold]")
    done = await print_answer(client, question, console, console)
    if done.refused or not done.citations:
        raise DemoFailed("demo_failed", "This answer should have been given, with a citation.")


async def _refused(client: Client, tenant: Tenant, question: str, console: Console) -> None:
    console.print(f"\n[bold]{tenant.name}[/bold]")
    if not (await print_answer(client, question, console, console)).refused:
        raise DemoFailed("demo_failed", "This question should have been refused.")


async def _fence(clients: list[Client], console: Console) -> None:
    first, second = samples.TENANTS
    console.print(Rule(f"Nobody's documents answer: [bold]{samples.UNANSWERABLE}[/bold]"))
    await _refused(clients[0], first, samples.UNANSWERABLE, console)
    console.print(Rule(f"The fence: only {first.name} knows: [bold]{samples.SECRET}[/bold]"))
    await _refused(clients[1], second, samples.SECRET, console)
    console.print()
    foreign = (await clients[1].documents())[0]
    console.print(f"{first.name} asks for {second.name}'s document {foreign.document_id}: ", end="")
    try:
        await clients[0].document(foreign.document_id)
    except NotFound as error:
        console.print(f"404 {error.code}")
    else:
        raise DemoFailed("demo_failed", "A foreign document was seen.")
    names = ", ".join(document.name for document in await clients[0].documents())
    console.print(f"{first.name} sees: {names}")
