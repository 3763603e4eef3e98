"""What the stream of an answer in a chat consists of: `started`, then what any answer's stream does."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ringfence.answers.events import Event


class StartedEvent(BaseModel):
    """Where what follows stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["started"] = "started"
    chat_id: UUID
    question_id: UUID = Field(description="The question's message.")
    message_id: UUID = Field(description="The answer's message.")
    title: str = Field(description="The chat's.", examples=["How long is the notice period?"])


type ChatEvent = Annotated[StartedEvent | Event, Field(discriminator="type")]
