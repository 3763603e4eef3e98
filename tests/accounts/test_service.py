"""Register, verify, sign in: what works, what is refused, and what nobody may learn."""

import asyncio
import uuid
from dataclasses import dataclass

import asyncpg
import pytest
from structlog.testing import capture_logs

from ringfence.accounts.passwords import Passwords
from ringfence.accounts.service import Accounts
from ringfence.accounts.sessions import Device
from ringfence.errors import Invalid, RingfenceError, Unauthenticated, Unavailable
from ringfence.ids import UserId, new_user_id
from tests.accounts.test_passwords import FOXES

DEVICE = Device("203.0.113.9", "a test")
EMAIL = "ann@example.com"
PASSWORD = "correct horse battery staple"
OTHER_PASSWORD = "another staple, another horse"
TABLES = ("users", "one_time_codes", "jobs", "job_lanes", "documents")


@pytest.fixture
async def ann(accounts, mailbox) -> UserId:
    """A verified account."""
    return await verified(accounts, mailbox, EMAIL, PASSWORD)


async def verified(accounts, mailbox, email, password) -> UserId:
    registration = await accounts.register(email, password, DEVICE)
    await accounts.verify(registration, await mailbox.code(registration), DEVICE)
    return registration


async def outcome(call) -> str:
    """`ok`, or the code of the error."""
    try:
        await call
    except RingfenceError as error:
        return error.code
    return "ok"


async def counts(admin: asyncpg.Connection) -> dict[str, int]:
    return {table: await admin.fetchval(f"select count(*) from {table}") for table in TABLES}  # constants


def wrong(code: str, number: int = 1) -> str:
    return f"{(int(code) + number) % 10**8:08}"


# What works


async def test_from_registration_to_me(accounts, mailbox, tokens):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    mail = await mailbox.of(registration)
    assert mail.to == EMAIL
    assert "10 minutes" in mail.text
    await accounts.verify(registration, await mailbox.code(registration), DEVICE)
    signed_in = await accounts.sign_in(EMAIL, PASSWORD, DEVICE)
    assert signed_in.expires_in == 900
    assert (await tokens.verify(signed_in.access)).user_id == registration
    account = await accounts.me(registration)
    assert (account.user_id, account.email) == (registration, EMAIL)


@pytest.mark.parametrize("spelling", ["ann@example.com", "ANN@Example.COM"])
async def test_the_case_of_an_address_does_not_matter(accounts, ann, spelling, tokens):
    assert (await tokens.verify((await accounts.sign_in(spelling, PASSWORD, DEVICE)).access)).user_id == ann


async def test_an_international_domain_is_shown_as_written_and_mailed_as_ascii(accounts, mailbox):
    registration = await verified(accounts, mailbox, "Ann@München.de", PASSWORD)
    assert (await accounts.me(registration)).email == "Ann@münchen.de"
    assert (await mailbox.of(registration)).to == "Ann@xn--mnchen-3ya.de"
    assert (await accounts.sign_in("ann@xn--mnchen-3ya.de", PASSWORD, DEVICE)).access


async def test_a_code_may_be_pasted_with_spaces(accounts, mailbox):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    code = await mailbox.code(registration)
    await accounts.verify(registration, f" {code[:4]} {code[4:]}\n", DEVICE)


@pytest.mark.parametrize("password", [PASSWORD + " and so on" * 4 + "12345", FOXES])  # 73 bytes, 64 characters of 4
async def test_long_passwords_count_to_their_end(accounts, mailbox, password):
    await verified(accounts, mailbox, EMAIL, password)
    assert await outcome(accounts.sign_in(EMAIL, password, DEVICE)) == "ok"
    assert await outcome(accounts.sign_in(EMAIL, password[:-1], DEVICE)) == "invalid_grant"
    assert await outcome(accounts.sign_in(EMAIL, password[:-1] + "z", DEVICE)) == "invalid_grant"


async def test_many_accounts_side_by_side(accounts, mailbox, tokens):
    addresses = [f"user{number}@example.com" for number in range(12)]
    registrations = await asyncio.gather(*(accounts.register(address, PASSWORD, DEVICE) for address in addresses))
    codes = [await mailbox.code(registration) for registration in registrations]
    await asyncio.gather(*(accounts.verify(*pair, DEVICE) for pair in zip(registrations, codes, strict=True)))
    signed_in = await asyncio.gather(*(accounts.sign_in(address, PASSWORD, DEVICE) for address in addresses))
    assert [(await tokens.verify(token.access)).user_id for token in signed_in] == registrations
    shown = await asyncio.gather(*(accounts.me(registration) for registration in registrations))
    assert [account.email for account in shown] == addresses


# What is refused


@pytest.mark.parametrize(
    ("email", "password", "code"),
    [
        ("ann", PASSWORD, "invalid_email"),
        (f"{EMAIL}\r\nBcc: eve@example.com", PASSWORD, "invalid_email"),
        (EMAIL, "short", "weak_password"),
        (EMAIL, "x" * 257, "weak_password"),
    ],
)
async def test_bad_registrations_leave_nothing(accounts, admin, email, password, code):
    assert await outcome(accounts.register(email, password, DEVICE)) == code
    assert set((await counts(admin)).values()) == {0}


@pytest.mark.parametrize("code", ["", "0", "ä", "\ud800", "\0", "1" * 10_000])
async def test_odd_codes_are_wrong_codes(accounts, code):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    assert await outcome(accounts.verify(registration, code, DEVICE)) == "wrong_code"


async def test_all_failures_to_verify_look_alike(accounts, mailbox, ann, clock):
    """Wrong, of a registration that never was, of an address that is known, used, and expired."""
    fresh, known, late = [
        await accounts.register(email, PASSWORD, DEVICE) for email in ("new@example.com", EMAIL, "late@example.com")
    ]
    late_code = await mailbox.code(late)
    seen = []
    for registration, code in [
        (fresh, wrong(await mailbox.code(fresh))),
        (uuid.uuid4(), "01234567"),
        (known, "01234567"),
        (ann, "01234567"),
    ]:
        with pytest.raises(Invalid) as caught:
            await accounts.verify(registration, code, DEVICE)
        seen.append((caught.value.code, caught.value.message))
    clock.advance(600)
    with pytest.raises(Invalid) as caught:
        await accounts.verify(late, late_code, DEVICE)
    seen.append((caught.value.code, caught.value.message))
    assert set(seen) == {("wrong_code", caught.value.message)}


async def test_a_code_lives_ten_minutes(accounts, mailbox, clock):
    in_time, late = [await accounts.register(f"{name}@example.com", PASSWORD, DEVICE) for name in ("in-time", "late")]
    codes = [await mailbox.code(registration) for registration in (in_time, late)]
    clock.advance(599)
    assert await outcome(accounts.verify(in_time, codes[0], DEVICE)) == "ok"
    clock.advance(1)
    assert await outcome(accounts.verify(late, codes[1], DEVICE)) == "wrong_code"


async def test_a_code_stays_good_where_no_more_mail_may_be_sent(accounts, mailbox, clock, admin):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    async with asyncio.timeout(30):
        mailed, digest = 0, b""
        while mailed != (mailed := await admin.fetchval("select count(*) from jobs where kind = 'mail'")):
            digest = await admin.fetchval("select digest from one_time_codes")
            clock.advance(61)
            await accounts.resend(registration, DEVICE)
    assert 1 < mailed < 20
    assert await admin.fetchval("select digest from one_time_codes") == digest


async def test_a_code_works_once_even_at_once(accounts, mailbox):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    code = await mailbox.code(registration)
    outcomes = await asyncio.gather(*(outcome(accounts.verify(registration, code, DEVICE)) for _ in range(50)))
    assert sorted(outcomes) == ["ok"] + ["wrong_code"] * 49
    assert await outcome(accounts.verify(registration, code, DEVICE)) == "wrong_code"
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "ok"


async def test_a_hundred_guesses_at_once_are_five(accounts, mailbox, admin):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    code = await mailbox.code(registration)
    guesses = [wrong(code, number) for number in range(1, 101)]
    outcomes = await asyncio.gather(*(outcome(accounts.verify(registration, guess, DEVICE)) for guess in guesses))
    assert set(outcomes) == {"wrong_code"}
    assert await admin.fetchval("select attempts from one_time_codes") == 5
    assert await outcome(accounts.verify(registration, code, DEVICE)) == "wrong_code"
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "invalid_grant"


async def test_four_wrong_codes_and_the_right_one(accounts, mailbox):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    code = await mailbox.code(registration)
    for number in range(1, 5):
        assert await outcome(accounts.verify(registration, wrong(code, number), DEVICE)) == "wrong_code"
    assert await outcome(accounts.verify(registration, code, DEVICE)) == "ok"


async def test_an_attempt_counts_even_if_the_caller_gives_up(accounts, mailbox, admin):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    code = await mailbox.code(registration)
    for number in range(1, 11):
        task = asyncio.create_task(outcome(accounts.verify(registration, wrong(code, number), DEVICE)))
        while not task.done():
            await asyncio.sleep(0)
            if await admin.fetchval("select attempts from one_time_codes") >= min(number, 5):
                task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await admin.fetchval("select attempts from one_time_codes") == 5
    assert await outcome(accounts.verify(registration, code, DEVICE)) == "wrong_code"


async def test_only_the_verified_sign_in(accounts):
    await accounts.register(EMAIL, PASSWORD, DEVICE)
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "invalid_grant"


@pytest.mark.parametrize(
    "email", ["eve@example.com", "not an address", "", "\0", "ann\ud800@example.com", "a" * 10_000]
)
async def test_who_is_unknown_is_told_what_a_wrong_password_is_told(accounts, ann, passwords, email):
    answers = set()
    for address in (EMAIL, email):
        before = passwords.checked
        with pytest.raises(Invalid) as caught:
            await accounts.sign_in(address, OTHER_PASSWORD, DEVICE)
        answers.add((caught.value.code, caught.value.message, passwords.checked - before))
    assert answers == {("invalid_grant", caught.value.message, 1)}


async def test_no_password_opens_what_nobody_has(accounts, ann):
    for password in ("", "\0", "x" * 10_000, "\ud800"):
        assert await outcome(accounts.sign_in(EMAIL, password, DEVICE)) == "invalid_grant"


async def test_me_of_nobody(accounts):
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await accounts.me(new_user_id())


async def test_me_of_somebody_unverified(accounts):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await accounts.me(registration)


async def test_a_lost_database_is_said_so(accounts, ann, db):
    await db.close()
    for call in (
        accounts.register(EMAIL, PASSWORD, DEVICE),
        accounts.verify(ann, "01234567", DEVICE),
        accounts.sign_in(EMAIL, PASSWORD, DEVICE),
        accounts.me(ann),
    ):
        with pytest.raises(Unavailable, match="database_unavailable"):
            await call


# What nobody may learn


async def test_registering_looks_the_same_for_a_known_address(accounts, mailbox, admin, passwords, ann):
    """The same answer, the same hashes, the same rows; the mailbox alone is told."""
    registrations, work = [], []
    for email in ("new@example.com", EMAIL, EMAIL.upper()):
        before, hashed = await counts(admin), (passwords.hashed, passwords.checked)
        registrations.append(await accounts.register(email, OTHER_PASSWORD, DEVICE))
        after = await counts(admin)
        rows = {table: after[table] - before[table] for table in TABLES}
        work.append((rows, passwords.hashed - hashed[0], passwords.checked - hashed[1]))
    assert work[0] == ({"users": 1, "one_time_codes": 1, "jobs": 1, "job_lanes": 1, "documents": 0}, 1, 0)
    assert work[1:] == work[:1] * 2
    assert len(set(registrations)) == 3
    assert {type(registration) for registration in registrations} == {uuid.UUID}
    new, known, _ = [await mailbox.of(registration) for registration in registrations]
    assert new.subject == known.subject
    assert "already has an account" in known.text
    assert "already has an account" not in new.text
    assert not any(character.isdigit() for character in known.text)


async def test_registering_a_known_address_changes_nothing(accounts, ann, admin):
    before = await admin.fetchrow("select * from users where user_id = $1", ann)
    registration = await accounts.register(EMAIL, OTHER_PASSWORD, DEVICE)
    assert await outcome(accounts.verify(registration, "01234567", DEVICE)) == "wrong_code"
    assert await admin.fetchrow("select * from users where user_id = $1", ann) == before
    assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)) == "invalid_grant"
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "ok"


async def test_registering_somebody_elses_address_gains_nothing(accounts, mailbox, tokens, admin):
    """Eve registers Ann's address first and waits for Ann to prove it."""
    eves = await accounts.register(EMAIL, OTHER_PASSWORD, DEVICE)
    anns = await accounts.register(EMAIL, PASSWORD, DEVICE)
    later = await accounts.register(EMAIL, OTHER_PASSWORD, DEVICE)
    code = await mailbox.code(anns)
    for registration in (eves, later):
        assert await outcome(accounts.verify(registration, code, DEVICE)) == "wrong_code"
    assert await outcome(accounts.verify(anns, code, DEVICE)) == "ok"
    assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)) == "invalid_grant"
    assert (await tokens.verify((await accounts.sign_in(EMAIL, PASSWORD, DEVICE)).access)).user_id == anns
    assert await counts(admin) == {"users": 1, "one_time_codes": 0, "jobs": 1, "job_lanes": 1, "documents": 0}


async def test_proving_an_address_leaves_other_addresses_alone(accounts, mailbox):
    other = await accounts.register("other@example.com", PASSWORD, DEVICE)
    await verified(accounts, mailbox, EMAIL, PASSWORD)
    assert await outcome(accounts.verify(other, await mailbox.code(other), DEVICE)) == "ok"


async def test_of_many_registrations_proved_at_once_one_has_the_address(accounts, mailbox, admin, tokens):
    pairs = []
    for number in range(12):
        password = f"{PASSWORD} {number}"
        somewhere = Device(f"203.0.113.{number}", "a test")
        registration = await accounts.register(EMAIL, password, somewhere)
        pairs.append((registration, await mailbox.code(registration), password))
    outcomes = await asyncio.gather(
        *(outcome(accounts.verify(registration, code, DEVICE)) for registration, code, _ in pairs)
    )
    assert sorted(outcomes) == ["ok"] + ["wrong_code"] * 11
    winner, _, password = pairs[outcomes.index("ok")]
    assert (await tokens.verify((await accounts.sign_in(EMAIL, password, DEVICE)).access)).user_id == winner
    assert await admin.fetchval("select array_agg(user_id) from users") == [winner]


async def test_a_code_in_hand_is_worth_nothing_once_the_address_is_taken(accounts, mailbox, admin):
    """Should a registration outlive the proof of its address by another, its right code is a wrong code."""
    late = await accounts.register(EMAIL, OTHER_PASSWORD, DEVICE)
    code = await mailbox.code(late)
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, '', now())",
        uuid.uuid4(),
        EMAIL,
    )
    assert await outcome(accounts.verify(late, code, DEVICE)) == "wrong_code"
    assert await admin.fetchval("select count(*) from one_time_codes") == 0
    assert await admin.fetchval("select verified_at from users where user_id = $1", late) is None


async def test_the_database_allows_an_address_one_verified_account(admin):
    insert = "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, '', now())"
    await admin.execute(insert, uuid.uuid4(), EMAIL)
    with pytest.raises(asyncpg.UniqueViolationError, match="users_verified_email"):
        await admin.execute(insert, uuid.uuid4(), EMAIL)


@dataclass
class Secrets:
    """What was said in confidence."""

    known: list[str]

    def found_in(self, text: str) -> list[str]:
        folded = text.casefold()
        return [
            secret
            for secret in self.known
            if secret.casefold() in folded or secret.encode("utf-8", "surrogatepass").hex() in folded
        ]


@pytest.fixture
async def told(accounts: Accounts, mailbox) -> tuple[Secrets, list]:
    """A life with codes, passwords and tokens, right and wrong, and all that was logged meanwhile."""
    with capture_logs() as logs:
        waiting = await accounts.register("waiting@example.com", OTHER_PASSWORD, DEVICE)
        ann = await accounts.register(EMAIL, PASSWORD, DEVICE)
        secrets = [PASSWORD, OTHER_PASSWORD, await mailbox.code(waiting), await mailbox.code(ann)]
        await outcome(accounts.verify(waiting, wrong(secrets[2]), DEVICE))
        await accounts.verify(ann, secrets[3], DEVICE)
        again = await accounts.register(EMAIL, OTHER_PASSWORD, DEVICE)
        await outcome(accounts.verify(again, secrets[3], DEVICE))
        await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE))
        secrets.append((await accounts.sign_in(EMAIL, PASSWORD, DEVICE)).access)
    return Secrets(secrets), logs


async def test_no_table_holds_a_code_a_password_or_a_token(told, admin):
    tables = await admin.fetch(
        "select oid::regclass::text as name from pg_class"
        " where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
    )
    lines = []
    for table in tables:
        query = f"select t::text as line from {table['name']} t"  # a name that regclass quoted
        lines += [row["line"] for row in await admin.fetch(query)]
    dump = "\n".join(lines)
    assert EMAIL in dump
    assert "$2b$04$" in dump
    assert '"sealed"' in dump
    assert "already has an account" not in dump
    assert told[0].found_in(dump) == []


async def test_no_log_line_holds_a_code_a_password_or_a_token(told):
    secrets, logs = told
    assert {line["event"] for line in logs} == {"registered", "verified", "signed_in"}
    assert secrets.found_in(str(logs)) == []
    assert EMAIL not in str(logs)


HERE, THERE = Device("203.0.113.9", "a browser"), Device("198.51.100.7", "a browser")


async def test_ten_failures_from_one_place_are_enough_for_ten_minutes(accounts, ann, passwords, clock):
    for _ in range(10):
        assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, HERE)) == "invalid_grant"
    passwords.checked = 0
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, HERE)) == "too_many_tries"
    assert passwords.checked == 0
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, THERE)) == "ok"  # the owner is not locked out
    clock.advance(60)
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, HERE)) == "ok"


async def test_a_hundred_guesses_of_a_password_at_once_are_ten(accounts, ann, passwords):
    passwords.checked = 0
    outcomes = await asyncio.gather(*(outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, HERE)) for _ in range(100)))
    assert outcomes.count("invalid_grant") == passwords.checked == 10
    assert outcomes.count("too_many_tries") == 90


async def test_sign_ins_that_succeed_do_not_count(accounts, ann):
    for _ in range(25):
        assert await outcome(accounts.sign_in(EMAIL, PASSWORD, HERE)) == "ok"


async def test_an_unknown_address_is_limited_like_a_known_one(accounts, ann):
    for address in (EMAIL, "nobody@example.com"):
        device = Device("192.0.2.1", "a browser")
        outcomes = [await outcome(accounts.sign_in(address, OTHER_PASSWORD, device)) for _ in range(12)]
        assert outcomes == ["invalid_grant"] * 10 + ["too_many_tries"] * 2


async def test_many_places_together_have_a_hundred_failures_a_day(accounts, ann, clock):
    for n in range(100):
        assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, Device(f"192.0.2.{n}", ""))) == "invalid_grant"
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, Device("198.51.100.1", ""))) == "too_many_tries"
    clock.advance(86_400)
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, Device("198.51.100.1", ""))) == "ok"


async def test_one_place_has_a_hundred_failures_at_all_accounts_together(accounts, ann):
    outcomes = [
        await outcome(accounts.sign_in(f"user{n}@example.com", PASSWORD, Device(f"2001:db8::{n:x}", "")))
        for n in range(105)
    ]
    assert outcomes.count("too_many_tries") == 5
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, Device("2001:db8:0:1::1", ""))) == "ok"


async def test_a_hash_of_another_cost_is_made_anew_at_the_next_sign_in(accounts, ann, admin):
    five = Passwords(5)
    old = await five.hash(PASSWORD)
    five.close()
    await admin.execute("update users set password_hash = $1", old)
    assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)) == "invalid_grant"
    assert await admin.fetchval("select password_hash from users") == old
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "ok"
    new = await admin.fetchval("select password_hash from users")
    assert new.startswith("$2b$04$")
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "ok"
    assert await admin.fetchval("select password_hash from users") == new


async def test_who_mistypes_an_address_is_not_limited_by_others_who_did(accounts, ann):
    for number in range(110):
        device = Device(f"192.0.2.{number}", "")
        assert await outcome(accounts.sign_in(f"mistyped {number}", PASSWORD, device)) == "invalid_grant"
    assert await outcome(accounts.sign_in("also mistyped", PASSWORD, DEVICE)) == "invalid_grant"


@pytest.mark.parametrize("site", [["192.0.2.1"], [f"2001:db8:0:{number:x}::1" for number in range(40)]])
async def test_one_place_does_not_use_up_the_failures_of_a_day(accounts, ann, clock, site):
    """However patient it is, and however many networks one customer of a provider has."""
    for number in range(200):
        await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, Device(site[number % len(site)], "")))
        clock.advance(60)
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "ok"
