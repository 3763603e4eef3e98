"""Passwords of any script and length are told apart to their last character, and hashing keeps nobody waiting."""

import asyncio
from collections.abc import Generator

import pytest

from ringfence.accounts.passwords import Passwords
from ringfence.errors import Invalid, Unavailable

FOXES = "".join(chr(0x1F400 + number % 64) for number in range(0, 64 * 37, 37))


@pytest.fixture(scope="module")
def passwords() -> Generator[Passwords]:
    passwords = Passwords(4)
    yield passwords
    passwords.close()


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "zwölf Laubfrösche singen",
        "🦊🐙🦉🐌🦔🐝🦎🐧🦜🐢🐳🦩",
        "\ud800 a lone surrogate \0 and a NUL",
        "wholly-unlikely " * 16,
        FOXES,
        "three purple bicycles sleep beside the quiet river until morning, and so on",
        "ringfence, ringfence and seventeen purple bicycles",
    ],
)
async def test_accepted(passwords, password):
    await passwords.require_acceptable(password, "ann@example.com")


@pytest.mark.parametrize("password", ["", "x7!Q-pf2_kZ", "🦊🐙🦉🐌🦔🐝🦎🐧🦜🐢🐳", "wholly-unlikely " * 16 + "x"])
async def test_a_wrong_length_is_refused(passwords, password):
    with pytest.raises(Invalid, match="A password needs 12 to 256 characters"):
        await passwords.require_acceptable(password)


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "123456789012",
        "aaaaaaaaaaaaaaaaaaaa",
        "qwertyuiopasdf",
        "iloveyou2026",
        "Ringfence2026!",
        "ringfenceringfence",
        "annalbertina1990",
        "annalbertina@example.com",
        "ringfence-admin",
        "Annalbertina-tiger7",
        "password" * 8,
        "qwertyuiop" * 7,
        "x" * 256,
    ],
)
async def test_what_would_soon_be_guessed_is_refused(passwords, password):
    with pytest.raises(Invalid, match="weak_password: This password would soon be guessed"):
        await passwords.require_acceptable(password, "annalbertina@example.com")


async def test_no_password_keeps_the_judge_for_long(passwords):
    """Each of these characters may stand for several letters; 63 of them at once took five seconds."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for _ in range(3):
        await passwords.require_acceptable("4@8({[<369|1!+706$5%2"[:21] * 3)
    assert loop.time() - start < 10  # a fraction of a second each; 15 seconds if all was read


async def test_who_waits_to_be_judged_keeps_no_sign_in_waiting_and_the_queue_ends():
    passwords = Passwords(11, waiting=2)
    try:
        judged = [asyncio.create_task(passwords.require_acceptable("4@8({[<369|1!+706$5%2")) for _ in range(10)]
        done = await asyncio.gather(*judged, return_exceptions=True)
        refused = [error for error in done if isinstance(error, Unavailable)]
        assert {error.code for error in refused} == {"passwords_busy"}
        assert len(refused) == 7  # one is judged, two wait
        await passwords.require_acceptable("4@8({[<369|1!+706$5%2")  # there is room again
        hashed = await asyncio.gather(*(passwords.hash("x") for _ in range(10)), return_exceptions=True)
        assert sum(isinstance(error, Unavailable) for error in hashed) == 6  # two are hashed, two wait
    finally:
        passwords.close()


async def test_hashing_goes_on_while_a_password_is_judged():
    passwords = Passwords(4)
    try:
        judged = asyncio.gather(*(passwords.require_acceptable("4@8({[<369|1!+706$5%2") for _ in range(20)))
        await passwords.hash("x")
        assert not judged.done()
        await judged
    finally:
        passwords.close()


async def test_who_gives_up_leaves_room():
    passwords = Passwords(10, waiting=1)
    try:
        tasks = [asyncio.create_task(passwords.hash("x")) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await asyncio.gather(*(passwords.hash("x") for _ in range(3)))
    finally:
        passwords.close()


async def test_the_context_of_one_user_is_not_anothers(passwords):
    """The estimate keeps words in a global, so two at once must not see each other's."""

    async def refused(password, email):
        try:
            await passwords.require_acceptable(password, email)
        except Invalid:
            return True
        return False

    odd = "xkvbqzjwfyg1990"
    asked = [refused(odd, f"{'xkvbqzjwfyg' if n % 2 else 'ann'}@example.com") for n in range(20)]
    assert await asyncio.gather(*asked) == [bool(n % 2) for n in range(20)]


async def test_a_hash_of_another_cost_is_outdated(passwords):
    hashed = await passwords.hash("correct horse battery")
    assert not passwords.is_outdated(hashed)
    assert passwords.is_outdated(hashed.replace("$04$", "$05$"))
    assert passwords.is_outdated("")


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


async def test_a_password_of_a_thousand_accents_keeps_nobody_waiting(passwords):
    """They would be sorted in quadratic time, with the GIL held: half a megabyte, in ten minutes."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert not await passwords.matches("a" + "\u0300\u0316" * 100_000, None)
    assert loop.time() - start < 10


async def test_the_longest_password_may_be_composed_on_one_keyboard_and_not_on_the_other(passwords):
    composed, decomposed = "\u1f82" * 256, "\u03b1\u0313\u0300\u0345" * 256
    assert await passwords.matches(decomposed, await passwords.hash(composed))


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


async def test_after_the_cost_was_raised_or_lowered_known_and_unknown_cost_the_same():
    """Of a hash from before, and of none; eight doublings apart, so that no scheduling can hide it."""
    loop = asyncio.get_running_loop()
    cheap, dear = Passwords(4), Passwords(12)

    async def seconds(passwords, hashed):
        start = loop.time()
        assert not await passwords.matches("another password, and long", hashed)
        return loop.time() - start

    try:
        old, new = await cheap.hash("correct horse battery"), await dear.hash("correct horse battery")
        raised = [await seconds(dear, hashed) for hashed in (old, None, new)]
        assert max(raised) < 5 * min(raised)
        await seconds(cheap, new)
        lowered = [await seconds(cheap, hashed) for hashed in (old, None, new)]
        assert max(lowered) < 5 * min(lowered)
        assert await dear.matches("correct horse battery", old)
        assert await cheap.matches("correct horse battery", new)
    finally:
        cheap.close()
        dear.close()


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
