"""What a child says, as the parent reads it: never trusted, so checked in form. `wire.py` has the other side."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Walls(_Frame):
    """Which walls of the sandbox are missing."""

    missing: list[str]


class Count(_Frame):
    """How many pages there are."""

    pages: Annotated[int, Field(ge=1)]


class Heading(_Frame):
    """Where a heading stands."""

    page: int
    start: Annotated[int, Field(ge=0)]
    end: int
    level: Annotated[int, Field(ge=1, le=6)]


class Part(_Frame):
    """Text of a page."""

    page: int
    start: int
    text: str


class Sheet(_Frame):
    """The size of a page."""

    width: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    height: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Box(_Frame):
    """Where words stand."""

    x0: Annotated[float, Field(allow_inf_nan=False)]
    y0: Annotated[float, Field(allow_inf_nan=False)]
    x1: Annotated[float, Field(allow_inf_nan=False)]
    y1: Annotated[float, Field(allow_inf_nan=False)]
    start: Annotated[int, Field(ge=0, le=2**31)]
    end: Annotated[int, Field(ge=0, le=2**31)]


class Pixels(_Frame):
    """A part of a picture."""

    png: str


class End(_Frame):
    """The end of all that was wanted."""

    end: Literal[True]


class Failure(_Frame):
    """Why there is no more."""

    error: str


type Frame = Walls | Count | Heading | Part | Sheet | Box | Pixels | End | Failure
FRAMES: TypeAdapter[Frame] = TypeAdapter(Part | Heading | Walls | Count | Sheet | Box | Pixels | End | Failure)
"""Reads one."""
