"""Write docs/formats.md: what each file of the evaluation documents ends as, read by the real, sandboxed parser.

`python scripts/formats.py [FOLDER]`, where the folder holds manifest.tsv; by default that of RINGFENCE_EVALDATA.
"""

import asyncio
import csv
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.documents import sniff
from ringfence.documents.parsing.recognition import find
from ringfence.documents.parsing.sandbox import Limits, Sandbox
from ringfence.errors import RingfenceError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "formats.md"
KINDS = ("wellformed", "office", "hostile")
HEAD = """# What each document ends as

Written by `python scripts/formats.py` from the evaluation documents; change that, not this page. Each file went through
the sandboxed parser with the default limits, text recognition in English and German, and its password, where it has
one. *Truth* says whether the text holds the true text that is known of the file, compared word by word: on its page,
where a page is known.
"""


@dataclass(slots=True)
class Row:
    """What became of one file."""

    file: str
    ends: str = "ready"
    media_type: str = ""
    seconds: float = 0.0
    headings: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    truth: bool | None = None


def words(text: str) -> str:
    """Its words alone: white space, punctuation and Markdown's signs do not count."""
    return " ".join(re.findall(r"\w+", text))


async def read(sandbox: Sandbox, folder: Path, entry: dict[str, str]) -> Row:
    """Read one file of the manifest."""
    row, path = Row(entry["file"]), folder / entry["file"]
    data = path.read_bytes()
    started = time.perf_counter()
    try:
        row.media_type = sniff.media_type(data[: sniff.HEAD_BYTES], path.name, data[-sniff.TAIL_BYTES :])
        async with sandbox.parse(path, row.media_type, entry["password"] or None) as parsing:
            async for page in parsing:
                row.texts[page.number] = row.texts.get(page.number, "") + page.text
                row.headings += len(page.headings)
    except RingfenceError as error:
        row.ends, row.texts = error.code, {}
    row.seconds = time.perf_counter() - started
    if entry["true_text"]:
        page = re.match(r"page (\d+)$", entry["where"])
        held = row.texts.get(int(page[1]), "") if page else " ".join(row.texts.values())
        row.truth = words(entry["true_text"]) in words(held)
    return row


def table(rows: Iterable[Row]) -> list[str]:
    """The lines of a kind's table."""
    lines = [
        "| file | type | ends as | pages | characters | headings | seconds | truth |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        truth = {True: "held", False: "**missing**", None: ""}[row.truth]
        sizes = (len(row.texts), sum(map(len, row.texts.values())), row.headings) if row.texts else ("", "", "")
        cells = (row.file.partition("/")[2], row.media_type, f"`{row.ends}`", *sizes, f"{row.seconds:.2f}", truth)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


async def main(folder: Path) -> None:
    """Read them all, and write the page."""
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        entries = list(csv.DictReader(file, delimiter="\t"))
    async with Sandbox(limits=Limits(ocr=find("eng+deu"))) as sandbox:
        rows = [await read(sandbox, folder, entry) for entry in entries if entry["file"].startswith(KINDS)]
    known = [row for row in rows if row.truth is not None]
    held = sum(bool(row.truth) for row in known)
    lines = [HEAD, f"{held} of the {len(known)} files with a known text hold it ({held / len(known):.1%}).", ""]
    for kind in KINDS:
        mine = [row for row in rows if row.file.startswith(kind)]
        ready = sum(row.ends == "ready" for row in mine)
        lines += [f"## {kind}: {ready} of {len(mine)} are read", "", *table(mine), ""]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(lines[1:2]))


if __name__ == "__main__":
    DEFAULT = ROOT / os.environ.get("RINGFENCE_EVALDATA", "../shared/evaldata") / "documents"
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else DEFAULT))
