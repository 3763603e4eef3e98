"""Chat models as an operator offers them, for tests."""

from typing import Any

from ringfence.models.base import ChatModel
from ringfence.models.desk import Desk, Offer, Patience
from ringfence.models.line import Room

ONCE = Patience(tries=1)


def offer(model: ChatModel, **more: Any) -> Offer:
    """A model on offer under its own name, on a server of its own."""
    usual = {"name": model.name, "server": more.get("name", model.name), "cites": True, "passage_tokens": 600}
    return Offer(**{"model": model, "room": Room(100), **usual, **more})


def desk(model: ChatModel | None, **more: Any) -> Desk:
    """One model, or none, which is tried once."""
    return Desk([offer(model, **more)] if model else [], patience=ONCE)
