"""What an evaluation asks a search: the best entries for a query, by one of the ways in which the search can find."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from ringfence.errors import Invalid, Unavailable
from ringfence.ids import DocumentId, UserId
from ringfence.search.queries import Passage
from ringfence.search.rerank import Ranked
from ringfence.search.service import How, Mode, Search

_PLAIN: dict[str, Mode] = {"dense": "dense", "lexical": "lexical", "hybrid": "hybrid"}
_RERANKED = "+rerank"
_SURPLUS = 3  # passages asked for to an entry that is wanted: an entry may have several
_MOST_PASSAGES = 10_000


class Ways(Protocol):
    """A search by any of its ways."""

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways there are, e.g. `dense`, `hybrid`, `hybrid+rerank`."""
        ...

    async def passages(self, user_id: UserId, query: str, mode: str, limit: int) -> list[Passage]:
        """The tenant's best passages by one of the ways, best first.

        Raises:
            Invalid: `unknown_mode`.
        """
        ...


class SearchWays:
    """The ways of the engine's search."""

    def __init__(self, search: Search) -> None:
        self._search = search
        # A further way of searching is a further name here, and a branch in `_found`.
        plain = tuple(_PLAIN)
        self.modes = plain + tuple(mode + _RERANKED for mode in plain if search.reranks)

    async def passages(self, user_id: UserId, query: str, mode: str, limit: int) -> list[Passage]:
        """The tenant's best passages by one of the ways, best first.

        Raises:
            Invalid: `unknown_mode`.
            Unavailable: `rerank_failed`, and as of `Search.passages`.
            SetupError: as of `Search.passages`.
        """
        require_modes(self, [mode])
        if mode.endswith(_RERANKED):
            how = How(_PLAIN[mode.removesuffix(_RERANKED)])
            return _reranked(await self._search.ranked(user_id, query, limit, how=how))
        return await self._search.passages(user_id, query, limit, how=How(_PLAIN[mode]))


def _reranked(ranked: Ranked) -> list[Passage]:
    """Passages in the reranker's order: what it failed to order is no figure of its."""
    if ranked.reason not in {None, "rerank_off"}:  # off: there were too few to order
        raise Unavailable("rerank_failed", f"The reranker can't be measured: it failed ({ranked.reason}).")
    return list(ranked.passages)


def require_modes(ways: Ways, modes: list[str]) -> None:
    """Refuse ways that are not there.

    Raises:
        Invalid: `unknown_mode`.
    """
    for mode in modes:
        if mode not in ways.modes:
            raise Invalid("unknown_mode", f"Here a search is one of {', '.join(ways.modes)}, not {mode!r}.")


@dataclass(frozen=True, slots=True)
class Found:
    """An entry, by its best passage."""

    entry: str
    passage: Passage


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one query found: entries, best first, each once; and how many seconds it took."""

    entries: tuple[Found, ...]
    seconds: float


class Finder:
    """Finds entries of a collection in a scratch tenant.

    Args:
        ways: how one can search.
        user_id: the tenant.
        ids: documents → entries.
    """

    def __init__(self, ways: Ways, user_id: UserId, ids: Mapping[DocumentId, str]) -> None:
        self._ways = ways
        self._user_id = user_id
        self._ids = ids

    async def find(self, query: str, mode: str, k: int) -> Ranking:
        """The `k` best entries for a query; timed is the search that found enough.

        Raises:
            Invalid: `unknown_mode`.
            Unavailable, SetupError: the search is not possible at present.
        """
        limit = k * _SURPLUS
        while True:
            begun = perf_counter()
            passages = await self._ways.passages(self._user_id, query, mode, limit)
            seconds = perf_counter() - begun
            entries: dict[DocumentId, Passage] = {}
            for passage in passages:
                entries.setdefault(passage.document_id, passage)
            if len(entries) >= k or len(passages) < limit or limit >= _MOST_PASSAGES:
                found = tuple(Found(self._ids[one], passage) for one, passage in entries.items())
                return Ranking(found[:k], seconds)
            limit *= _SURPLUS
