"""Access tokens: what is ours passes, and nothing else does."""

import base64
import json
import uuid

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringfence.accounts.keyring import thumbprint
from ringfence.errors import Unauthenticated
from ringfence.ids import Identity, new_session_id, new_user_id

ISSUER = "https://rag.example.org"
ME = Identity(new_user_id(), new_session_id())


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture
async def key(keys) -> Ed25519PrivateKey:
    return (await keys.signing()).private


@pytest.fixture
async def claims(tokens) -> dict:
    return jwt.decode((await tokens.issue(ME)).token, options={"verify_signature": False})


@pytest.fixture
async def header(tokens) -> dict:
    return jwt.get_unverified_header((await tokens.issue(ME)).token)


@pytest.fixture
def forge(key):
    """Makes a token of parts, signed as ours are, so that only what a test changed can be what is refused."""

    def forge(claims, header, *, signed_by=key) -> str:
        signing_input = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{signing_input}.{b64(signed_by.sign(signing_input.encode()))}"

    return forge


async def refused(tokens, token) -> bool:
    with pytest.raises(Unauthenticated) as caught:
        await tokens.verify(token)
    return caught.value.code == "invalid_token"


async def test_a_token_names_its_user(tokens):
    issued = await tokens.issue(ME)
    assert issued.expires_in == 900
    assert await tokens.verify(issued.token) == ME
    assert issued.token not in repr(issued)


async def test_what_a_token_says(tokens, claims, header, clock, key):
    now = int(clock().timestamp())
    assert len(base64.urlsafe_b64decode(claims.pop("jti") + "==")) == 16
    assert claims == {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": str(ME.user_id),
        "sid": str(ME.session_id),
        "iat": now,
        "nbf": now,
        "exp": now + 900,
    }
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": thumbprint(key.public_key().public_bytes_raw())}


async def test_no_two_tokens_are_the_same(tokens):
    assert (await tokens.issue(ME)).token != (await tokens.issue(ME)).token


async def test_a_forged_token_with_nothing_changed_passes(tokens, claims, header, forge):
    assert await tokens.verify(forge(claims, header)) == ME


def test_the_thumbprint_is_rfc_7638s():
    public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # RFC 8037, A.2 and A.3
    assert thumbprint(base64.urlsafe_b64decode(public + "==")) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_a_token_lives_its_time_and_the_leeway(tokens, clock):
    token = (await tokens.issue(ME)).token
    clock.advance(929)
    assert await tokens.verify(token) == ME
    clock.advance(1)
    assert await refused(tokens, token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_from_the_future(tokens, claims, header, claim, forge):
    assert await tokens.verify(forge({**claims, claim: claims[claim] + 30}, header)) == ME
    assert await refused(tokens, forge({**claims, claim: claims[claim] + 31}, header))


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"])
async def test_no_claim_may_be_missing_or_null(tokens, claims, header, claim, forge):
    assert await refused(tokens, forge({name: value for name, value in claims.items() if name != claim}, header))
    assert await refused(tokens, forge({**claims, claim: None}, header))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://elsewhere.example.org"},
        {"iss": ISSUER + "/"},
        {"aud": "https://elsewhere.example.org"},
        {"aud": [ISSUER]},
        {"aud": [ISSUER, "https://elsewhere.example.org"]},
        {"sub": "ann"},
        {"sid": "one"},
        {"sid": ""},
        {"sub": ""},
        {"sub": 1},
        {"exp": "9999999999"},
        {"exp": 1e12},
        {"exp": True},
        {"exp": -1},
        {"admin": True},
    ],
)
async def test_wrong_claims(tokens, claims, header, change, forge):
    assert await refused(tokens, forge({**claims, **change}, header))


@pytest.mark.parametrize("payload", [[], "text", 1, None])
async def test_claims_that_are_none(tokens, header, payload, forge):
    assert await refused(tokens, forge(payload, header))


@pytest.mark.parametrize(
    "change",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"kid": "other"},
        {"kid": ""},
        {"kid": 1},
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "ES256"},
        {"alg": ["EdDSA"]},
        {"alg": None},
        {"crit": ["exp"]},
        {"b64": False},
        {"b64": False, "crit": ["b64"]},
        {"jku": "https://evil.example.org"},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}},
    ],
)
async def test_wrong_headers(tokens, claims, header, change, forge):
    assert await refused(tokens, forge(claims, {**header, **change}))


@pytest.mark.parametrize("name", ["typ", "kid", "alg"])
async def test_no_header_may_be_missing(tokens, claims, header, name, forge):
    assert await refused(tokens, forge(claims, {key: value for key, value in header.items() if key != name}))


@pytest.mark.parametrize("algorithm", ["none", "NONE", "nOnE"])
async def test_unsigned(tokens, claims, header, algorithm):
    parts = f"{b64(json.dumps({**header, 'alg': algorithm}).encode())}.{b64(json.dumps(claims).encode())}"
    signature = (await tokens.issue(ME)).token.rpartition(".")[2]
    for token in (f"{parts}.", parts, f"{parts}.{signature}"):
        assert await refused(tokens, token)


async def test_an_hmac_keyed_with_the_public_key(tokens, claims, header, key):
    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    hs256 = jwt.get_algorithm_by_name("HS256")
    for secret in (public.public_bytes_raw(), pem):
        for algorithm in ("HS256", "EdDSA"):
            parts = f"{b64(json.dumps({**header, 'alg': algorithm}).encode())}.{b64(json.dumps(claims).encode())}"
            assert await refused(tokens, f"{parts}.{b64(hs256.sign(parts.encode(), secret))}")


async def test_another_key(tokens, claims, header, forge):
    assert await refused(tokens, forge(claims, header, signed_by=Ed25519PrivateKey.generate()))


async def test_any_changed_character(tokens):
    token = (await tokens.issue(ME)).token
    for place, found in enumerate(token):
        for other in {"A", "_", "."} - {found}:
            assert await refused(tokens, token[:place] + other + token[place + 1 :])


async def test_another_users_claims_under_a_good_signature(tokens, claims, header, forge):
    good = (await tokens.issue(ME)).token
    other = forge({**claims, "sub": str(uuid.uuid4())}, header)
    head, _, signature = good.split(".")
    assert await refused(tokens, f"{head}.{other.split('.')[1]}.{signature}")


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b.c", "ü.ü.ü", "\ud800", "\0", "Bearer x", b64(b"[" * 30_000) + ".e30.e30", "x" * 10**6],
)
async def test_what_is_no_token(tokens, token):
    assert await refused(tokens, token)


@pytest.mark.parametrize("change", [" {}", "{} ", "\n{}", "{}.{}", "{}=", "{}=="])
async def test_additions_to_a_good_token(tokens, change):
    token = (await tokens.issue(ME)).token
    assert await refused(tokens, change.format(token, token))
