"""The chat models that settings name: the installation's own, and those that users may choose beside it."""

from contextlib import AsyncExitStack
from decimal import Decimal

from ringfence.embedded.llama import LlamaServer
from ringfence.embedded.weights import Weights
from ringfence.embedded_chat import EmbeddedChat
from ringfence.models.base import ChatModel
from ringfence.models.desk import Desk, Offer, Patience, Price, Tell, untold
from ringfence.models.line import Room
from ringfence.models.ollama import OllamaChat
from ringfence.models.openai import OpenAIChat
from ringfence.services.parts import plain, required, timeouts
from ringfence.setting_types import ChatModelEntry
from ringfence.settings import Settings

_CHAT_WEIGHTS = "qwen2.5-coder-1.5b-instruct-q4_k_m"
_EMBEDDED_CONTEXT = 4096  # passages, question and answer need half of it; each token of context costs memory
_EMBEDDED_AT_ONCE = 2  # as many as its server has room for
_AT_ONCE = 256  # as vLLM's default; servers that do fewer have lines of their own, which know no tenants
_EMBEDDED_PASSAGE_TOKENS = 500
_PASSAGE_TOKENS = 3000


def chat_weights(settings: Settings) -> str:
    """The name of the embedded chat model: as set, or the default."""
    return settings.chat_model or _CHAT_WEIGHTS


def passage_tokens(settings: Settings, provider: str) -> int:
    """How many tokens of passages go into a prompt."""
    return settings.passage_tokens or (_EMBEDDED_PASSAGE_TOKENS if provider == "embedded" else _PASSAGE_TOKENS)


def open_desk(settings: Settings, stack: AsyncExitStack, tell: Tell = untold) -> Desk:
    """All chat models, those of settings' own first; the stack closes them.

    Args:
        settings: of this process.
        stack: of whoever opens the services.
        tell: hears of what is spent.

    Raises:
        SetupError: a setting or the weights are missing, or as of `Desk`.
    """
    entries = [*_own(settings), *settings.chat_models]
    offers = [_offer(settings, entry, stack) for entry in entries]
    return Desk(offers, tell=tell, patience=Patience(tries=settings.chat_tries))


def _own(settings: Settings) -> list[ChatModelEntry]:
    """The installation's own model, as if it were one of the others."""
    provider = settings.chat_provider
    if provider == "none":
        return []
    embedded = provider == "embedded"
    name = chat_weights(settings) if embedded else required(settings.chat_model, "CHAT_MODEL")
    return [
        ChatModelEntry.model_construct(
            name=name,
            provider=provider,
            url=None if embedded else required(settings.chat_url, "CHAT_URL"),
            api_key=settings.chat_api_key,
            context_tokens=settings.chat_context_tokens,
            prompt_price=settings.chat_prompt_price,
            completion_price=settings.chat_completion_price,
            fall_back=settings.chat_fall_back,
        )
    ]


def _offer(settings: Settings, entry: ChatModelEntry, stack: AsyncExitStack) -> Offer:
    embedded = entry.provider == "embedded"
    model = _embedded(settings, entry) if embedded else _remote(settings, entry)
    stack.push_async_callback(model.close)
    at_once = entry.at_once or settings.chat_at_once or (_EMBEDDED_AT_ONCE if embedded else _AT_ONCE)
    return Offer(
        name=entry.name,
        model=model,
        server=entry.name if embedded else f"{entry.provider} {entry.url}",
        room=Room(at_once, settings.chat_waiting, settings.chat_wait_timeout),
        cites=not embedded,
        passage_tokens=passage_tokens(settings, entry.provider),
        price=_price(settings, entry),
        fall_back=entry.fall_back,
    )


def _embedded(settings: Settings, entry: ChatModelEntry) -> ChatModel:
    name = entry.model or entry.name
    path = Weights(settings.models_dir).paths(name)["model.gguf"]
    server = LlamaServer(path, context=_EMBEDDED_CONTEXT, parallel=_EMBEDDED_AT_ONCE)
    return EmbeddedChat(name, server, context_tokens=_EMBEDDED_CONTEXT, timeouts=timeouts(settings))


def _remote(settings: Settings, entry: ChatModelEntry) -> ChatModel:
    kind = OllamaChat if entry.provider == "ollama" else OpenAIChat
    return kind(
        required(entry.url, f"CHAT_MODELS: url of {entry.name}"),
        entry.model or entry.name,
        context_tokens=entry.context_tokens,
        api_key=plain(entry.api_key),
        timeouts=timeouts(settings),
    )


def _price(settings: Settings, entry: ChatModelEntry) -> Price | None:
    if entry.prompt_price is None and entry.completion_price is None:
        return None
    free = Decimal(0)
    return Price(entry.prompt_price or free, entry.completion_price or free, settings.chat_currency)
