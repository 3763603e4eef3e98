"""What the bodies of this protocol have in common."""

import json
from typing import Any, Literal, Never

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError


class Form(BaseModel):
    """What clients send. A field that is not here is not served, and refused as such."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """What clients get."""

    model_config = ConfigDict(extra="forbid")


def unserved(what: str) -> Never:
    """Refuse a value that is understood, but not served.

    Raises:
        PydanticCustomError: of the type that becomes `unsupported_parameter`.
    """
    raise PydanticCustomError("unsupported", "{what}", {"what": what})


def only(served: Literal["0", "1", "false"]) -> BeforeValidator:
    """For a field that may have this one value, as JSON has it, or none: to Python, 1 and true are equal."""

    def check(value: Any) -> Any:
        same = value is None or json.dumps(value) == served
        return value if same else unserved(f"no other value than {served} is served")

    return BeforeValidator(check)


def _empty(value: Any) -> Any:
    return unserved("it would not be kept here") if value else value


NotKept = BeforeValidator(_empty)
"""For a field that may be there, but empty: what it says would be forgotten."""
