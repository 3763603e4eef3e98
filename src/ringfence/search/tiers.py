"""Tiers: a small tenant is searched exactly, a large one by an index of its own (decision 26)."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Tiers:
    """Where the limit is between small and large, and how an index is searched.

    Attributes:
        promote_at: vectors of one model from which a tenant gets a table and an index of its own.
        demote_at: vectors below which it loses them; also the chunks up to which a narrowed search is exact.
        promoted_most: tenants that have them at once.
        ef_search: candidates that a search keeps in an index of up to 25,000 vectors; more find more, and take longer.
            In a larger one there are more, by the square root of its size, up to 1,000.
    """

    promote_at: int = 20_000
    demote_at: int = 10_000
    promoted_most: int = 200
    ef_search: int = 400


class Way(StrEnum):
    """Which way a search goes.

    Exactly: of a tenant without a table of its own; of one whose own table is being filled or emptied, in both parts;
    where few chunks are meant. Or by its index.
    """

    SMALL = "small"
    BOTH = "both"
    FEW = "few"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query was searched for.

    Attributes:
        way: which way it went.
        reason: why, for people.
        vectors: how many of the model the tenant has.
        plan: PostgreSQL's, line by line, as executed, without values and without costs.
        milliseconds: by stage.
        passages: how many were found.
    """

    way: Way
    reason: str
    vectors: int
    plan: tuple[str, ...]
    milliseconds: dict[str, float]
    passages: int


def reason(way: Way, vectors: int, tiers: Tiers) -> str:
    """Why a search goes that way, for people."""
    if way is Way.INDEX:
        return f"{vectors} vectors, which have an index of their own."
    if way is Way.FEW:
        return f"Exact: the search is narrowed to {tiers.demote_at} passages or fewer."
    if way is Way.BOTH:
        return f"Exact: the table and the index of their own of {vectors} vectors are being made, or taken back."
    if vectors < tiers.promote_at:
        return f"Exact: {vectors} vectors are fewer than {tiers.promote_at}."
    return f"Exact: {vectors} vectors wait for an index of their own, which `ringfence maintain` makes."
