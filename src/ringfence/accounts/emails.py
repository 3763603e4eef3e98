"""Addresses: what is accepted, and when two of them are the same."""

import hashlib
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from ringfence.errors import Invalid

MAX_LENGTH = 254
"""RFC 5321, 4.5.3.1.3, without the angle brackets."""


@dataclass(frozen=True, slots=True)
class Email:
    """A mail address.

    Attributes:
        shown: as people read it, the domain in its own script.
        wire: as it is sent, all ASCII.
        key: equal for the addresses that are the same account's.
    """

    shown: str
    wire: str
    key: str


def parse(text: str) -> Email:
    """Read an address.

    The part before the @ must be ASCII: most mail servers take no other, and look-alikes from other scripts could pass
    for somebody else's. Any domain is welcome; its ASCII form tells straße.de from strasse.de, as DNS does, where
    Unicode's case folding would make them one.

    Raises:
        Invalid: `invalid_email`, with what is wrong.
    """
    if len(text) > MAX_LENGTH:  # before it is looked at, which may take long
        raise Invalid("invalid_email", f"A mail address has {MAX_LENGTH} characters at most.")
    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError as error:
        raise Invalid("invalid_email", f"This is no mail address that can be used. {error}") from None
    wire = f"{found.local_part}@{found.ascii_domain}"
    return Email(shown=found.normalized, wire=wire, key=wire.casefold())


def key_or_none(text: str) -> str:
    """The key to look for; of what is no address, one of its own that no account has."""
    try:
        return parse(text).key
    except Invalid:
        return "? " + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
