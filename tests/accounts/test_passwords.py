"""Passwords of any script and length are told apart to their last character, and hashing keeps nobody waiting."""

import asyncio
from collections.abc import Generator

import pytest

from ringfence.accounts.passwords import Passwords, require_acceptable
from ringfence.errors import Invalid


@pytest.fixture(scope="module")
def passwords() -> Generator[Passwords]:
    passwords = Passwords(4)
    yield passwords
    passwords.close()


@pytest.mark.parametrize("password", ["a" * 12, "a" * 256, "🦊" * 12, " " * 12, "12 characters"])
def test_accepted(password):
    require_acceptable(password)


@pytest.mark.parametrize("password", ["", "a" * 11, "🦊" * 11, "a" * 257])
def test_refused(password):
    with pytest.raises(Invalid) as caught:
        require_acceptable(password)
    assert caught.value.code == "weak_password"


@pytest.mark.parametrize("start", ["a" * 72, "🦊" * 63, "a" * 255, "\0" * 20, "nul\0inside", "\ud800" * 20])
async def test_passwords_differ_by_their_tails(passwords, start):
    hashed = await passwords.hash(start + "x")
    assert await passwords.matches(start + "x", hashed)
    for other in (start + "y", start, start + "xx", start + "x\0"):
        assert not await passwords.matches(other, hashed)


async def test_each_hash_has_its_own_salt_and_the_cost_asked_for(passwords):
    first, second = await asyncio.gather(*(passwords.hash("correct horse battery") for _ in range(2)))
    assert first != second
    assert first.startswith("$2b$04$")


async def test_one_password_typed_on_two_keyboards(passwords):
    composed, decomposed = "caf\u00e9 " * 3, "cafe\u0301 " * 3
    assert composed != decomposed
    assert await passwords.matches(decomposed, await passwords.hash(composed))


async def test_without_a_hash_nothing_matches(passwords):
    assert not await passwords.matches("correct horse battery", None)


async def test_the_stand_in_for_no_hash_costs_as_much_as_a_hash():
    """Ten doublings apart, so that no scheduling can hide it if the stand-in were cheaper."""
    loop = asyncio.get_running_loop()
    cheap, dear = Passwords(4), Passwords(12)
    try:
        times = []
        for passwords in (cheap, dear):
            start = loop.time()
            assert not await passwords.matches("correct horse battery", None)
            times.append(loop.time() - start)
    finally:
        cheap.close()
        dear.close()
    assert times[1] > 5 * times[0]


async def test_the_event_loop_goes_on_while_passwords_are_hashed():
    passwords = Passwords(12)
    try:
        hashing = asyncio.gather(*(passwords.hash("correct horse battery") for _ in range(4)))
        turns = 0
        while not hashing.done():
            turns += 1
            await asyncio.sleep(0.001)
    finally:
        passwords.close()
    assert turns > 20  # hashing on the loop would leave it one turn or two
