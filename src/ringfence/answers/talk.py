"""A question within a conversation: what the answer rests on, and a record of how it came about."""

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from ringfence.answers import prompt
from ringfence.answers.visible import visible
from ringfence.models.base import ChatModel, Message
from ringfence.models.tokens import estimate_tokens
from ringfence.search.queries import Passage
from ringfence.search.rewrite import Turn

_HISTORY_TOKENS = 600
_TURN_CHARS = 800
_MARKER = re.compile(r"\s*\[\d{1,3}(?:\s*[,;]\s*\d{1,3})*\]")  # of a citation: it names another prompt's passage

type Found = tuple[str, Sequence[Passage]]
"""The question as it stands alone, and the passages that were found for it."""

type Part = Literal["document", "context", "text", "quoted"]
"""Which words of a passage a prompt repeats; `quoted`: its text, with every line marked."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a prompt repeats words of a passage.

    Attributes:
        n: the passage's number, from 1.
        part: which of its words.
    """

    n: int
    part: Part


type Template = tuple[tuple[str, tuple[str | Place, ...]], ...]
"""A prompt without words of passages: roles, and what each says, in pieces."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer rests on.

    Attributes:
        query: what was looked for, and what the model is asked.
        passages: numbered from 1 in the prompt, best first.
        template: the prompt; none where no model is asked.
        model: who is asked; None: nobody.
        parameters: of the answer: limits, and how it cites.
    """

    query: str
    passages: tuple[Passage, ...]
    template: Template
    model: str | None
    parameters: dict[str, int | float | bool]


@dataclass(frozen=True, slots=True)
class Talk:
    """The conversation around a question.

    Attributes:
        history: what was said before, oldest first, for the model that answers.
        find: finds passages for the question, at most so many, as the conversation has it; a model may help.
        note: is told what the answer rests on, before its first event.
    """

    history: Sequence[Turn]
    find: Callable[[str, int, ChatModel | None], Awaitable[Found]]
    note: Callable[[Basis], None]


def recent(turns: Sequence[Turn]) -> list[Turn]:
    """The last questions with their answers that fit into a model's prompt, cut where long, without citations.

    The last one always does.

    Args:
        turns: a question, its answer, a question, its answer …
    """
    cut = [replace(turn, text=_MARKER.sub("", turn.text)[:_TURN_CHARS]) for turn in turns]
    pairs = list(zip(cut[::2], cut[1::2], strict=True))[::-1]
    spent = sum(map(_tokens, pairs[:1]))

    def fits(pair: tuple[Turn, Turn]) -> bool:
        nonlocal spent
        spent += _tokens(pair)
        return spent <= _HISTORY_TOKENS

    kept = [*pairs[:1], *takewhile(fits, pairs[1:])][::-1]
    return [turn for pair in kept for turn in pair]


def _tokens(pair: tuple[Turn, Turn]) -> int:
    return sum(estimate_tokens(turn.text) for turn in pair)


def template(question: str, passages: Sequence[Passage], *, cite: bool, history: Sequence[Message]) -> Template:
    """The prompt of these passages, with places where their words stand; `filled` makes the prompt of it again."""
    tag = secrets.token_hex(8)  # so that no question and no answer says it
    blank = [_nameless(tag, n, passage) for n, passage in enumerate(passages, 1)]
    messages = prompt.build(question, blank, cite=cite, history=history)
    return tuple((message.role, _pieces(tag, message.content)) for message in messages)


def _nameless(tag: str, n: int, passage: Passage) -> Passage:
    context = f"<{tag}.{n}.context>" if passage.context else ""
    return replace(passage, document=f"<{tag}.{n}.document>", context=context, text=f"<{tag}.{n}.text>")


def _pieces(tag: str, content: str) -> tuple[str | Place, ...]:
    said, *rest = re.split(rf"({prompt.MARK} )?<{tag}\.(\d+)\.(document|context|text)>", content)
    found: list[str | Place] = [said]
    for mark, number, part, after in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True):
        found += [Place(int(number), _part(part, marked=bool(mark))), after]
    return tuple(piece for piece in found if piece)


def _part(name: str, *, marked: bool) -> Part:
    if marked:
        return "quoted"
    return "document" if name == "document" else "context" if name == "context" else "text"


def filled(made: Template, words: Callable[[Place], str]) -> list[Message]:
    """A prompt with the words that stood in its places."""
    return [Message(_role(role), "".join(_said(piece, words) for piece in pieces)) for role, pieces in made]


def _said(piece: str | Place, words: Callable[[Place], str]) -> str:
    if isinstance(piece, str):
        return piece
    said = visible(words(piece))
    return prompt.quoted(said) if piece.part == "quoted" else said


def _role(name: str) -> Literal["system", "user", "assistant"]:
    return "system" if name == "system" else "user" if name == "user" else "assistant"
