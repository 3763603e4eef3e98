"""Routes of chat models: which there are, and which one answers."""

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ringfence.answers.models import Models
from ringfence.http.contract import may
from ringfence.http.deps import Asker, ServicesDep
from ringfence.models.desk import Offer

router = APIRouter(prefix="/api/v1", tags=["answers"])

WantedModel = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=200,
        description="The model that shall answer, by its name of `/api/v1/models`; unset: as you have chosen there.",
        examples=["mistral-small"],
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PriceView(_Model):
    """For a million tokens of what the model reads, and of what it writes."""

    prompt: Decimal = Field(examples=["0.15"])
    completion: Decimal = Field(examples=["0.6"])
    currency: str = Field(examples=["USD"])


class ChatModelView(_Model):
    """A chat model that you may choose."""

    name: str = Field(examples=["mistral-small"])
    context_tokens: int = Field(description="Of prompt and answer together.", examples=[32_768])
    price: PriceView | None = Field(description="null: nobody has said what it costs.")
    answering: bool = Field(
        description="false: it has failed again and again just now, and is left alone for half a minute.",
        examples=[True],
    )
    fall_back: list[str] = Field(description="Those that answer where it can't, in turn.", examples=[["qwen2.5-7b"]])


class ChatModels(_Model):
    """The chat models; where there is none, answers are quotations."""

    models: list[ChatModelView] = Field(description="The first one answers those who have chosen none.")
    chosen: str | None = Field(description="What you have chosen; null: nothing.", examples=["mistral-small"])


class ModelChoice(_Model):
    """Which model shall answer your questions."""

    model: str | None = Field(
        min_length=1,
        max_length=200,
        description="Its name; null: the first one, whichever that is.",
        examples=["mistral-small"],
    )


@router.get("/models")
async def listed(user_id: Asker, services: ServicesDep) -> ChatModels:
    """List the chat models that you may choose, and which one you have."""
    models = services.models
    views = [_view(models, offer) for offer in models.offers]
    return ChatModels(models=views, chosen=await models.chosen(user_id))


def _view(models: Models, offer: Offer) -> ChatModelView:
    price = offer.price
    shown = PriceView(prompt=price.prompt, completion=price.completion, currency=price.currency) if price else None
    return ChatModelView(
        name=offer.name,
        context_tokens=offer.model.context_tokens,
        price=shown,
        answering=models.answers(offer),
        fall_back=list(offer.fall_back),
    )


@router.put("/me/model", status_code=204, responses=may(404))
async def choose(body: ModelChoice, user_id: Asker, services: ServicesDep) -> None:
    """Choose the model that answers your questions, where they do not say."""
    await services.models.choose(user_id, body.model)
