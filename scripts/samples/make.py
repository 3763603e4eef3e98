"""Set the demo's PDFs anew from the texts in this folder, the same to the byte each time.

usage: python scripts/samples/make.py [FOLDER]      (default: the package's own)
"""

import html
import sys
from pathlib import Path
from typing import Any

import pymupdf as _pymupdf

pymupdf: Any = _pymupdf  # partly typed upstream

_HERE = Path(__file__).parent
_PACKAGE = _HERE.parents[1] / "src" / "ringfence" / "samples"
_PAGE_BREAK = "\n---\n"
_MARGIN = 64
_CSS = """
body { font-family: sans-serif; font-size: 13pt; line-height: 1.5; }
h1 { font-size: 22pt; } h2 { font-size: 15pt; margin-top: 18pt; } p { margin-bottom: 10pt; }
"""


def main(folder: Path) -> None:
    """Write one PDF for each text."""
    for source in sorted(_HERE.glob("*.md")):
        (folder / source.name).with_suffix(".pdf").write_bytes(pdf(source.read_text(encoding="utf-8")))


def pdf(text: str) -> bytes:
    """The PDF of a text: a title (`#`), headings (`##`) and paragraphs, with a line `---` between its pages."""
    pages = text.split(_PAGE_BREAK)
    title = pages[0].splitlines()[0].removeprefix("# ")
    with pymupdf.open() as document:
        for number, content in enumerate(pages, start=1):
            page = document.new_page(width=595, height=842)
            body = "".join(_element(block.strip()) for block in content.split("\n\n"))
            box = page.rect + (_MARGIN, _MARGIN, -_MARGIN, -_MARGIN)
            spare, scale = page.insert_htmlbox(box, body, css=_CSS, scale_low=1)
            if spare < 0 or scale != 1:
                raise ValueError(f"page {number} of {title!r} is too full")
            page.insert_text((_MARGIN, 842 - _MARGIN / 2), f"{title} - page {number} of {len(pages)}", fontsize=8)
        document.set_metadata({"title": title})
        document.subset_fonts()
        data: bytes = document.tobytes(garbage=4, deflate=True, use_objstms=1, no_new_id=True)
        return data


def _element(block: str) -> str:
    mark, _, rest = block.partition(" ")
    tag, content = {"#": ("h1", rest), "##": ("h2", rest)}.get(mark, ("p", block))
    return f"<{tag}>{html.escape(content)}</{tag}>"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _PACKAGE)
