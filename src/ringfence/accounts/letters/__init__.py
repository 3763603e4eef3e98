"""The letters that accounts send: one text template each, from which the HTML is laid out, so both say the same.

A template's first line is the subject. None of them holds a link: whoever has learnt to enter codes only where they
asked for them falls for no copied letter.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence import mail as mails
from ringfence.accounts.codes import CodePurpose, NewCode
from ringfence.accounts.devices import Device
from ringfence.db import SystemTx
from ringfence.ids import UserId
from ringfence.limits import Rate, RateLimits
from ringfence.mail import Mail

# What anybody may have mailed to an address whose owner did not ask for it; a quarter of it from one place and half of
# it from one site, so that neither can use up what the owner needs. Each purpose is
# counted apart, so that registrations leave letters for a new password.
_HERE = Rate("mail", 5, 3600)
_SITE = Rate("mail-site", 10, 3600)
_ADDRESS = Rate("mail-address", 20, 3600)
# What one account may have mailed to addresses that are not its own: nobody's door to a stranger's mailbox.
_ACCOUNT = Rate("mail-account", 10, 86_400)


class Letter(StrEnum):
    """The templates."""

    VERIFY = "verify"
    VERIFY_KNOWN = "verify_known"
    RESET = "reset"
    RESET_UNKNOWN = "reset_unknown"
    MOVE = "move"
    MOVE_KNOWN = "move_known"
    MOVE_ASKED = "move_asked"
    MOVED = "moved"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # a template's name
    API_KEY_CREATED = "api_key_created"


class About(BaseModel):
    """Which code a letter is about (`mail.Mail.about`): the worker looks again whether that stands (`accounts.post`).

    Attributes:
        letter: its template.
        purpose: of the code.
        digest: of the code, in hex.
        asked_at: when somebody asked for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    letter: Letter
    purpose: CodePurpose
    digest: str
    asked_at: datetime


class Letters:
    """Puts letters into the queue, sealed.

    Args:
        limits: on mail that anybody may cause.
        mail_key: 32 bytes, seals mail in the queue.
    """

    def __init__(self, limits: RateLimits, mail_key: bytes) -> None:
        self._limits = limits
        self._mail_key = mail_key
        loader = PackageLoader("ringfence.accounts", "letters")
        self._text = Environment(loader=loader, undefined=StrictUndefined, autoescape=False)  # noqa: S701  # plain text
        self._html = Environment(loader=loader, undefined=StrictUndefined, autoescape=True)

    async def allowed(self, tx: SystemTx, purpose: CodePurpose, email_key: str, device: Device) -> bool:
        """Count a letter that somebody asks for without being known; False where the address gets too many of them."""
        return (
            await self._limits.try_take(tx, _HERE, purpose, email_key, device.network)
            and await self._limits.try_take(tx, _SITE, purpose, email_key, device.site)
            and await self._limits.try_take(tx, _ADDRESS, purpose, email_key)
        )

    async def count_move(self, tx: SystemTx, user_id: UserId) -> None:
        """Count a letter to an address that an account wishes to have.

        Raises:
            RateLimited: `too_many_tries`.
        """
        await self._limits.take(tx, _ACCOUNT, str(user_id))

    async def send_code(
        self,
        tx: SystemTx,
        user_id: UserId,
        letter: Letter,
        to: str,
        code: NewCode,
        *,
        asked_at: datetime | None = None,
    ) -> None:
        """Queue a letter about a code, whether it shows the code or not. Once the code is dead, it is not sent.

        Args:
            tx: commits both or neither.
            user_id: whose code it is.
            letter: its template.
            to: the address, all ASCII.
            code: what it is about.
            asked_at: when a letter was asked for, where this one takes the place of one that came too late; else now.
        """
        minutes = int((code.expires_at - code.created_at) / timedelta(minutes=1))
        asked_at = asked_at or code.created_at
        about = About(letter=letter, purpose=code.purpose, digest=code.digest.hex(), asked_at=asked_at)
        mail = self.written(letter, to, code.expires_at, code=code.text, minutes=minutes)
        await self._queue(tx, user_id, replace(mail, about=about.model_dump_json()))

    async def send(self, tx: SystemTx, user_id: UserId, letter: Letter, to: str, **values: str) -> None:
        """Queue a letter in the transaction of its cause.

        Args:
            tx: commits both or neither.
            user_id: whose row the letter's job belongs to, and goes with.
            letter: its template.
            to: the address, all ASCII.
            values: what the template shows.
        """
        await self._queue(tx, user_id, self.written(letter, to, None, **values))

    async def _queue(self, tx: SystemTx, user_id: UserId, mail: Mail) -> None:
        await jobs.enqueue(tx, user_id, mails.KIND, mails.seal(self._mail_key, mail))

    def written(self, letter: Letter, to: str, until: datetime | None = None, **values: object) -> Mail:
        """A letter as text and as HTML, where a `code` stands out."""
        subject, _, text = self._text.get_template(f"{letter}.txt").render(values).partition("\n\n")
        code = str(values.get("code", ""))
        paragraphs = [_around(paragraph, code) for paragraph in text.strip().split("\n\n")]
        html = self._html.get_template("layout.html").render(subject=subject, paragraphs=paragraphs)
        return Mail(to=to, subject=subject, text=text.strip() + "\n", html=html, until=until)


def _around(paragraph: str, code: str) -> tuple[str, str, str]:
    before, found, after = paragraph.partition(code) if code else (paragraph, "", "")
    return before, found, after
