"""What an answer takes of its model: as its server counts it, or estimated."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ringfence.answers.prompt import estimate_tokens
from ringfence.models.base import ChatModel, Message, Spent, Usage


def written(chat: ChatModel, messages: Sequence[Message], max_tokens: int, spent: Spent | None) -> AsyncGenerator[str]:
    """The pieces of a model's answer; `spent`, if anybody wants to know, hears what they took before they end."""
    return _counted(chat, messages, max_tokens, spent) if spent else chat.stream(messages, max_tokens=max_tokens)


async def _counted(chat: ChatModel, messages: Sequence[Message], max_tokens: int, spent: Spent) -> AsyncGenerator[str]:
    reported: list[Usage] = []
    answer = ""
    async with aclosing(chat.stream(messages, max_tokens=max_tokens, spent=reported.append)) as pieces:
        async for piece in pieces:
            answer += piece
            yield piece
    prompt = sum(estimate_tokens(message.content) for message in messages)
    spent(reported[-1] if reported else Usage(prompt, estimate_tokens(answer), reported=False))
