"""What a chat completion takes and gives."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from ringfence.answers.events import Citation
from ringfence.http.openai.forms import Form, View, only

MAX_MESSAGES = 1000
_IGNORED = "Ignored."
_NULL = "Not served: null, or left out."


class TextPart(Form):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Form):
    """What was said. Of an answer that is sent back, all but its text is ignored."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[dict[str, Any]] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    @property
    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(Form):
    """What a stream has besides."""

    include_usage: bool | None = Field(default=None, description="One more chunk, with `usage`.")
    include_obfuscation: bool | None = Field(default=None, description=_IGNORED)


class ResponseFormat(Form):
    """Text, and no other form."""

    type: Literal["text"]


_Penalty = Annotated[float, Field(ge=-2, le=2)]


class ChatRequest(Form):
    """A question to one's own documents: the last message, which the ones before help to understand."""

    model: str = Field(description="As `/v1/models` names it.", examples=["ringfence"])
    messages: list[ChatMessage] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description="The last one is the user's, and is the question. The user's and the assistant's before it make "
        "a follow-up stand alone. What `system` and `developer` say is ignored.",
        examples=[[{"role": "user", "content": "How long is the notice period?"}]],
    )
    stream: bool | None = Field(default=None, description="Chunks as they are written.", examples=[False])
    stream_options: StreamOptions | None = Field(default=None, examples=[{"include_usage": True}])
    max_tokens: int | None = Field(
        default=None, ge=1, description="Of the answer; at most the engine's own limit.", examples=[300]
    )
    max_completion_tokens: int | None = Field(default=None, ge=1, description="The same.", examples=[300])
    temperature: float | None = Field(default=None, ge=0, le=2, description=_IGNORED, examples=[0.0])
    top_p: float | None = Field(default=None, ge=0, le=1, description=_IGNORED, examples=[1.0])
    frequency_penalty: _Penalty | None = Field(default=None, description=_IGNORED, examples=[0.0])
    presence_penalty: _Penalty | None = Field(default=None, description=_IGNORED, examples=[0.0])
    seed: int | None = Field(default=None, description=_IGNORED, examples=[7])
    user: str | None = Field(default=None, description=_IGNORED, examples=["ada"])
    safety_identifier: str | None = Field(default=None, description=_IGNORED, examples=["ada"])
    metadata: dict[str, str] | None = Field(default=None, description=_IGNORED, examples=[{"from": "a script"}])
    store: bool | None = Field(
        default=None, description="Ignored: answers are kept at `/api/v1/answers` in any case.", examples=[False]
    )
    service_tier: str | None = Field(default=None, description=_IGNORED, examples=["auto"])
    reasoning_effort: str | None = Field(default=None, description=_IGNORED, examples=["low"])
    verbosity: str | None = Field(default=None, description=_IGNORED, examples=["low"])
    prompt_cache_key: str | None = Field(default=None, description=_IGNORED, examples=["a"])
    prompt_cache_retention: str | None = Field(default=None, description=_IGNORED, examples=["24h"])
    parallel_tool_calls: bool | None = Field(default=None, description=_IGNORED, examples=[True])
    n: Annotated[Literal[1] | None, only("1")] = Field(default=None, description="One answer.", examples=[1])
    logprobs: Annotated[Literal[False] | None, only("false")] = Field(default=None, examples=[False])
    top_logprobs: Annotated[Literal[0] | None, only("0")] = Field(default=None, examples=[0])
    response_format: ResponseFormat | None = Field(default=None, examples=[{"type": "text"}])
    modalities: list[Literal["text"]] | None = Field(default=None, examples=[["text"]])
    tool_choice: Literal["none", "auto"] | None = Field(default=None, examples=["none"])
    function_call: Literal["none", "auto"] | None = Field(default=None, examples=["none"])
    tools: None = Field(default=None, description=_NULL, examples=[None])
    functions: None = Field(default=None, description=_NULL, examples=[None])
    stop: None = Field(default=None, description=_NULL, examples=[None])
    logit_bias: None = Field(default=None, description=_NULL, examples=[None])
    audio: None = Field(default=None, description=_NULL, examples=[None])
    prediction: None = Field(default=None, description=_NULL, examples=[None])
    web_search_options: None = Field(default=None, description=_NULL, examples=[None])

    @property
    def most_tokens(self) -> int | None:
        """The lower one of both limits."""
        return min((most for most in (self.max_tokens, self.max_completion_tokens) if most), default=None)


class UrlCitation(View):
    """Where the content cites which page."""

    start_index: int = Field(description="Of the marker's first character in the content.", examples=[31])
    end_index: int = Field(description="Behind the marker's last character.", examples=[34])
    title: str = Field(description="The document's name, and the page.", examples=["handbook.pdf, page 3"])
    url: str = Field(description="Of the document, for the same key, at its page.")


class Annotation(View):
    """A citation, as OpenAI's clients know it."""

    type: Literal["url_citation"]
    url_citation: UrlCitation


class Extra(View):
    """What OpenAI's form has no place for."""

    answer_id: UUID = Field(description="Under which the answer is kept: `/api/v1/answers/{answer_id}`.")
    refused: bool = Field(description="True where the documents do not answer the question.")
    model: str | None = Field(description="Who wrote the answer; none where evidence alone was given.")
    citations: list[Citation] = Field(description="The sources that the answer cites, each once.")
    usage_from: Literal["model", "estimate", "nothing"] = Field(
        description="Who counted the tokens: the model's server, the engine, which estimates them, or nobody, since no "
        "model was asked."
    )


class ChatUsage(View):
    """Tokens of the one prompt, with its passages, and of the answer."""

    prompt_tokens: int = Field(examples=[812])
    completion_tokens: int = Field(examples=[24])
    total_tokens: int = Field(examples=[836])


class AnswerMessage(View):
    """The answer."""

    role: Literal["assistant"]
    content: str
    refusal: None
    annotations: list[Annotation]


class Choice(View):
    """The only one."""

    index: Literal[0]
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop"]


class Completion(View):
    """An answer as a chat completion."""

    id: str = Field(examples=["chatcmpl-5b2f3c1e7a544d7c9a430f3f9d1f2a10"])
    object: Literal["chat.completion"]
    created: int = Field(description="Seconds since 1970.", examples=[1790000000])
    model: str = Field(description="As it was asked for.", examples=["ringfence"])
    choices: list[Choice]
    usage: ChatUsage
    ringfence: Extra


class Delta(View):
    """What is new."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    annotations: list[Annotation] | None = Field(default=None, description="Of the last chunk with a choice.")


class ChunkChoice(View):
    """The only one."""

    index: Literal[0]
    delta: Delta
    logprobs: None
    finish_reason: Literal["stop"] | None


class Chunk(View):
    """A piece of an answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str = Field(description="As it was asked for.", examples=["ringfence"])
    choices: list[ChunkChoice]
    usage: ChatUsage | None = Field(default=None, description="In a chunk of its own, if it was asked for.")
    ringfence: Extra | None = Field(default=None, description="Of the last chunk with a choice.")
