"""Sample documents for `ringfence demo`: two small companies of our own invention, on the same topics.

The PDFs are set by `scripts/samples/make.py` from the texts beside it.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tenant:
    """A company of the demo.

    Attributes:
        name: as shown to people.
        email: the part of its address before the @.
        documents: names of its files.
    """

    name: str
    email: str
    documents: tuple[str, ...]


BAKERY = Tenant("Hazelbrook Bakery", "hazelbrook", ("bakery-handbook.pdf", "bakery-ovens.pdf", "bakery-shop.md"))
OBSERVATORY = Tenant(
    "Skerry Point Observatory",
    "skerrypoint",
    ("observatory-handbook.pdf", "observatory-telescopes.pdf", "observatory-visitors.md"),
)
TENANTS = (BAKERY, OBSERVATORY)

QUESTIONS = (
    "How long is the notice period after the probation?",
    "How many days of holiday does a full-time employee get?",
    "Which number do I call in an emergency?",
)
"""Both tenants' documents answer these, each in its own way."""

UNANSWERABLE = "How do I reset the password of the office computer?"
"""Plausible, and in nobody's documents."""

SECRET = "How much salt goes into a batch of the Hazelbrook rye?"  # noqa: S105 (a question)
"""Only the bakery's documents answer this: the observatory has to be refused."""


@contextmanager
def files(tenant: Tenant) -> Generator[tuple[Path, ...]]:
    """A tenant's files as paths, which hold for the length of the block."""
    folder = resources.files(__name__)
    with ExitStack() as stack:
        yield tuple(stack.enter_context(resources.as_file(folder / name)) for name in tenant.documents)
