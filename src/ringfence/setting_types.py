"""What settings consist of: kinds of values that several of them have, and what is declared in JSON."""

import json
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode


def _split(value: object) -> object:
    return tuple(filter(None, (item.strip() for item in value.split(",")))) if isinstance(value, str) else value


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_float=Decimal)
    except ValueError:
        raise ValueError("it takes a list in JSON") from None


type Seconds = Annotated[float, Field(gt=0)]
type Provider = Literal["embedded", "ollama", "openai"]
type Money = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]

type Items = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several values in one variable, between commas."""


class ChatModelEntry(BaseModel):
    """A chat model that users may choose, beside the installation's own.

    Attributes:
        name: by which they do.
        provider: whose protocol it speaks.
        url: base URL of its server; of the embedded: none.
        model: its name there; unset: `name`.
        api_key: of its server, if that wants one.
        context_tokens: its window.
        at_once: requests that its server answers at once, from each process; unset: as of the installation's own.
        prompt_price: for a million tokens that it reads, in the installation's currency.
        completion_price: for a million that it writes.
        fall_back: names of those that answer where it can't.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    provider: Provider = "openai"
    url: str | None = Field(default=None, pattern=r"^https?://[^\s/]")
    model: str | None = Field(default=None, min_length=1)
    api_key: SecretStr | None = None
    context_tokens: int = Field(default=8192, ge=1024)
    at_once: int | None = Field(default=None, ge=1)
    prompt_price: Money | None = None
    completion_price: Money | None = None
    fall_back: tuple[str, ...] = ()


type ChatModelEntries = Annotated[tuple[ChatModelEntry, ...], NoDecode, BeforeValidator(_read)]
"""Several of them in one variable, as JSON."""


def is_web_address(value: str, *, path: bool) -> bool:
    """Whether a value is an HTTP URL of a host, with or without a path, and nothing else."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username) and (path or not parts.path)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain
