"""Which models there are: the engine's answers, by each of its chat models, and its embedding model."""

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from ringfence.errors import NotFound
from ringfence.http.deps import CallerDep, ServicesDep
from ringfence.http.openai.forms import View
from ringfence.services import Services

router = APIRouter(prefix="/v1/models", tags=["openai"])

ANSWERS = "ringfence"
"""The model whose chat completions are answers from one's own documents, by the chat model that one has chosen."""


class ModelView(View):
    """A model."""

    id: str = Field(examples=[ANSWERS])
    object: Literal["model"]
    created: int = Field(description="Always 0: nobody knows.", examples=[0])
    owned_by: Literal["ringfence"]


class ModelList(View):
    """All models."""

    object: Literal["list"]
    data: list[ModelView]


def require_model(name: str, *known: str) -> None:
    """Refuse a model that is not there for this.

    Raises:
        NotFound: `model_not_found`.
    """
    if name not in known:
        raise NotFound("model_not_found", f"There is no such model for this. There is: {', '.join(known)}.")


def _names(services: Services) -> list[str]:
    return [*answering(services), services.embedder.name]


def answering(services: Services) -> list[str]:
    """The models that answer; chat models by their own names, where there are several to choose from."""
    offers = services.models.offers
    return [ANSWERS, *(offer.name for offer in offers if len(offers) > 1)]


def _view(name: str) -> ModelView:
    return ModelView(id=name, object="model", created=0, owned_by="ringfence")


@router.get("")
async def listed(_caller: CallerDep, services: ServicesDep) -> ModelList:
    """List the models."""
    return ModelList(object="list", data=[_view(name) for name in _names(services)])


@router.get("/{model:path}")
async def read(model: str, _caller: CallerDep, services: ServicesDep) -> ModelView:
    """A model."""
    require_model(model, *_names(services))
    return _view(model)
