"""Migrations as a later version might bring them; imports little, since processes that are killed begin with it."""

from pathlib import Path

from ringfence.migrations import scripts
from ringfence.migrations.forms import Pace

EXAMPLES = [(file.name, file.read_text()) for file in sorted((Path(__file__).parent / "examples").glob("*.sql"))]
LATER = [*scripts(), *EXAMPLES]
QUICK = Pace(lock=0.2, statement=30, pause=0.05, longest_pause=0.2, patience=60, report=0)
