"""How much of a text a model can read: its tokens, by the model's own tokenizer or by an estimate.

A ruler measures a text once; where a passage must end is then a matter of looking up sums. A text in words, as BERT's
tokenizers read it, is measured word by word, and words are remembered: that is an order of magnitude faster than to
tokenise anew, and as exact.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from ringfence.errors import SetupError

ASCII_PER_TOKEN = 3
"""Characters of ASCII to a token where that is only estimated, low, so that little is cut off."""

# Bytes of UTF-8 to a token: about 4 in English, 3 to 4 in other scripts; low, so that a budget is kept.
_BYTES_PER_TOKEN = 3.5
_LONGEST_WORD = 40  # characters; what is longer is looked into, and not remembered


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has for a chat model, rather too many than too few."""
    return int(len(text.encode(errors="surrogatepass")) / _BYTES_PER_TOKEN) + 1


class Marks:
    """Places in a text, in ascending order, and how many units stand before each.

    Args:
        places: offsets in characters; the first is 0, the last the text's length or one more.
        totals: units before each of them, never descending.
    """

    def __init__(self, places: Sequence[int] | NDArray[np.int64], totals: Sequence[int] | NDArray[np.int64]) -> None:
        self._places = places
        self._totals = totals

    def reach(self, start: int, units: int) -> int:
        """The last place up to which the text from `start` on has at most so many units; `start` if there is none."""
        at = bisect_right(self._places, start) - 1
        last = bisect_right(self._totals, self._totals[at] + units) - 1
        return max(int(self._places[last]), start)

    def back(self, end: int, units: int) -> int:
        """The first place from which on the text up to `end` has at most so many units; `end` if there is none."""
        at = bisect_left(self._places, end)
        first = bisect_left(self._totals, self._totals[at] - units)
        return min(int(self._places[first]), end)


class Ruler(Protocol):
    """What measures texts for a model."""

    @property
    def units(self) -> int:
        """How many of the ruler's units a token has."""
        ...

    @property
    def specials(self) -> int:
        """Tokens that the model's reader adds to each text."""
        ...

    def count(self, text: str) -> int:
        """Units of a text."""
        ...

    def measure(self, text: str) -> Marks | None:
        """Units of a text by places; None if each character is one unit."""
        ...

    def sums_up(self, text: str, index: int) -> bool:
        """Whether the text before `index` and the rest have together exactly as many units as the whole."""
        ...


class Estimate:
    """A `Ruler` where the tokenizer is not at hand: a token is one character, or three of ASCII, which is rather short.

    A token of MiniLM's tokenizer, made for English, has 4.8 characters of English, 3.0 of German, 2.4 of Turkish, 1.8
    of Hindi, 1.2 to 1.3 of Arabic, Greek and Russian and 1.1 of Chinese (XQuAD); one for many languages, more.
    """

    units = ASCII_PER_TOKEN
    specials = 2

    def count(self, text: str) -> int:
        """Units of a text."""
        return len(text) if text.isascii() else int(_widths(text).sum())

    def measure(self, text: str) -> Marks | None:
        """Units by character."""
        if text.isascii():
            return None
        return Marks(range(len(text) + 1), np.concatenate(([0], np.cumsum(_widths(text)))))

    def sums_up(self, text: str, index: int) -> bool:  # noqa: ARG002  # the protocol's
        """Always."""
        return True


def _widths(text: str) -> NDArray[np.int64]:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.where(points < 0x80, 1, ASCII_PER_TOKEN)  # noqa: PLR2004  # where ASCII ends


class Tokens:
    """A `Ruler` by a tokenizer; its unit is a token. Threads may share it.

    Args:
        path: a `tokenizer.json`, as Hugging Face's library writes it.
        most_words: that are remembered; 200,000 take about 25 MB.

    Raises:
        SetupError: `tokenizer_unusable`.
    """

    units = 1

    def __init__(self, path: Path, *, most_words: int = 200_000) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exceptions
            message = f"The tokenizer {path} can't be loaded ({error})."
            raise SetupError("tokenizer_unusable", message) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._by_word = _reads_words(self._tokenizer)
        self._words: dict[str, int] = {"": 0}
        self._most_words = most_words

    @property
    def specials(self) -> int:
        """Tokens that the model's reader adds to each text."""
        return int(self._tokenizer.num_special_tokens_to_add(is_pair=False))

    def count(self, text: str) -> int:
        """Tokens of a text, without the special ones."""
        return len(self._tokenizer.encode(_clean(text), add_special_tokens=False))

    def measure(self, text: str) -> Marks:
        """Tokens by word, and by token where words are long."""
        text = _clean(text)
        if self._by_word:
            pieces, gap = text.replace("\n", " ").replace("\r", " ").replace("\t", " ").split(" "), 1
        else:
            pieces, gap = text.splitlines(keepends=True), 0
        known = self._known(pieces) if self._by_word else {}
        counts = [known.get(piece, -1) for piece in pieces]
        long = [number for number, count in enumerate(counts) if count < 0] if -1 in counts else []
        encodings = self._tokenizer.encode_batch([pieces[number] for number in long], add_special_tokens=False)
        for number, encoding in zip(long, encodings, strict=True):
            counts[number] = len(encoding)
        places = list(accumulate((len(piece) + gap for piece in pieces), initial=0))
        totals = list(accumulate(counts, initial=0))
        return _refined(places, totals, dict(zip(long, encodings, strict=True))) if long else Marks(places, totals)

    def sums_up(self, text: str, index: int) -> bool:
        """Where words are counted, beside white space; elsewhere nobody knows."""
        return self._by_word and (text[index - 1 : index].isspace() or text[index : index + 1].isspace())

    def _known(self, pieces: list[str]) -> dict[str, int]:
        """The words' tokens; long words are missing."""
        known = self._words
        fresh = [word for word in set(pieces).difference(known) if len(word) <= _LONGEST_WORD]
        if len(known) + len(fresh) > self._most_words:  # other threads go on with the old ones
            known = self._words = {"": 0}
            fresh = [word for word in set(pieces) if 0 < len(word) <= _LONGEST_WORD]
        encodings = self._tokenizer.encode_batch_fast(fresh, add_special_tokens=False)
        known.update(zip(fresh, map(len, encodings), strict=True))
        return known


def _refined(places: list[int], totals: list[int], inside: dict[int, Encoding]) -> Marks:
    """Add a place for each token of some pieces, by their numbers, that begins at a character of its own."""
    all_places, all_totals, done = list[int](), list[int](), 0
    for number, encoding in inside.items():
        all_places += places[done : number + 1]
        all_totals += totals[done : number + 1]
        done = number + 1
        place, total, last = places[number], totals[number], 0
        for before, (start, _) in enumerate(encoding.offsets):
            if start > last:
                all_places.append(place + start)
                all_totals.append(total + before)
                last = start
    return Marks(all_places + places[done:], all_totals + totals[done:])


def _reads_words(tokenizer: Tokenizer) -> bool:
    """Whether it reads each word without regard to what is beside it: BERT's form does."""
    form = json.loads(tokenizer.to_str())
    kinds = [(form[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"]


def _clean(text: str) -> str:
    """The text without lone surrogates, which have no UTF-8; as many characters as before."""
    return text.encode("utf-8", "replace").decode("utf-8")
