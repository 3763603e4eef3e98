"""What there is of an answer, and what of it a reader has not seen yet.

Readers say what they have seen by the id of the last event that reached them: how far the stream is (its stage), and
how many characters of the answer came. So whoever knows the answer can go on with it, in this process or another,
however it was cut into pieces before.
"""

import re
from dataclasses import dataclass, field
from typing import Self

from ringfence.answers.events import DoneEvent, ErrorEvent, Event, SourcesEvent, TokenEvent
from ringfence.chats.events import StartedEvent
from ringfence.errors import Invalid

type Last = DoneEvent | ErrorEvent

_ID = re.compile(r"([0-3])\.([0-9]{1,9})(?:\.([0-9]{1,6}))?", re.ASCII)
_END = 3


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event of a stream, and the id by which a reader says that it has come."""

    id: str
    event: StartedEvent | Event


@dataclass(slots=True)
class Seen:
    """How much of an answer a reader has seen.

    Attributes:
        stage: 0: nothing; 1: `started`; 2: `sources`; 3: the end.
        chars: characters of the answer.
        extras: how many of the other events.
    """

    stage: int = 0
    chars: int = 0
    extras: int = 0

    @classmethod
    def read(cls, last_event_id: str | None) -> Self:
        """What a reader has seen who names the id of an event.

        Raises:
            Invalid: `bad_event_id`.
        """
        if not last_event_id:
            return cls()
        found = _ID.fullmatch(last_event_id)
        if found is None:
            raise Invalid("bad_event_id", "No event of such a stream has this id: begin again without one.")
        return cls(int(found[1]), int(found[2]), int(found[3] or 0))

    def __str__(self) -> str:
        """The id."""
        return f"{self.stage}.{self.chars}" + (f".{self.extras}" if self.extras else "")


@dataclass(slots=True)
class Said:
    """What there is of an answer.

    Attributes:
        started: the first event.
        sources: the second.
        text: of the answer so far.
        extras: events of other kinds, each with the number of characters before it. Other processes have none.
        last: the last event, once it has ended.
    """

    started: StartedEvent
    sources: SourcesEvent
    text: str = ""
    extras: list[tuple[int, Event]] = field(default_factory=list)
    last: Last | None = None

    def after(self, seen: Seen) -> list[Numbered]:
        """What a reader has not seen; it counts as seen from here on. Pieces that came since are one."""
        found: list[Numbered] = []
        head: tuple[StartedEvent, SourcesEvent] = (self.started, self.sources)
        for first in head[seen.stage :]:
            seen.stage += 1
            found.append(Numbered(str(seen), first))
        for chars, event in self.extras[seen.extras :]:
            found += self._words(seen, chars)
            seen.extras += 1
            found.append(Numbered(str(seen), event))
        found += self._words(seen, len(self.text))
        if self.last and seen.stage < _END:
            seen.stage = _END
            found.append(Numbered(str(seen), self.last))
        return found

    def _words(self, seen: Seen, until: int) -> list[Numbered]:
        """The answer up to there, as far as it was not seen."""
        missed, seen.chars = self.text[seen.chars : until], max(seen.chars, until)
        return [Numbered(str(seen), TokenEvent(text=missed))] if missed else []
