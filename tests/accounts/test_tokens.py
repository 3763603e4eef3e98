"""Access tokens: what is ours passes, and nothing else does."""

import base64
import json
import uuid

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringfence.accounts.tokens import AccessTokens, thumbprint
from ringfence.errors import Unauthenticated
from ringfence.ids import new_user_id
from ringfence.keys import Purpose, derive

SECRET = "a secret for tests of tokens alone, 0123456789ab"
ISSUER = "https://rag.example.org"
USER = new_user_id()


def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derive(SECRET, Purpose.ACCESS_TOKENS))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture
def tokens(clock) -> AccessTokens:
    return AccessTokens(SECRET, ISSUER, 900, clock)


@pytest.fixture
def claims(tokens) -> dict:
    return jwt.decode(tokens.issue(USER).token, options={"verify_signature": False})


@pytest.fixture
def header(tokens) -> dict:
    return jwt.get_unverified_header(tokens.issue(USER).token)


def forge(claims, header, *, signed_by=None) -> str:
    """A token of these parts, signed as ours are, so that only what a test changed can be what is refused."""
    signing_input = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signing_input}.{b64((signed_by or key()).sign(signing_input.encode()))}"


def refused(tokens, token) -> bool:
    with pytest.raises(Unauthenticated) as caught:
        tokens.verify(token)
    return caught.value.code == "invalid_token"


def test_a_token_names_its_user(tokens):
    issued = tokens.issue(USER)
    assert issued.expires_in == 900
    assert tokens.verify(issued.token) == USER
    assert issued.token not in repr(issued)


def test_what_a_token_says(tokens, claims, header, clock):
    now = int(clock().timestamp())
    assert len(base64.urlsafe_b64decode(claims.pop("jti") + "==")) == 16
    assert claims == {"iss": ISSUER, "aud": ISSUER, "sub": str(USER), "iat": now, "nbf": now, "exp": now + 900}
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": thumbprint(key().public_key().public_bytes_raw())}


def test_no_two_tokens_are_the_same(tokens):
    assert tokens.issue(USER).token != tokens.issue(USER).token


def test_a_forged_token_with_nothing_changed_passes(tokens, claims, header):
    assert tokens.verify(forge(claims, header)) == USER


def test_the_thumbprint_is_rfc_7638s():
    public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # RFC 8037, A.2 and A.3
    assert thumbprint(base64.urlsafe_b64decode(public + "==")) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_token_lives_its_time_and_the_leeway(tokens, clock):
    token = tokens.issue(USER).token
    clock.advance(929)
    assert tokens.verify(token) == USER
    clock.advance(1)
    assert refused(tokens, token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future(tokens, claims, header, claim):
    assert tokens.verify(forge({**claims, claim: claims[claim] + 30}, header)) == USER
    assert refused(tokens, forge({**claims, claim: claims[claim] + 31}, header))


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"])
def test_no_claim_may_be_missing_or_null(tokens, claims, header, claim):
    assert refused(tokens, forge({name: value for name, value in claims.items() if name != claim}, header))
    assert refused(tokens, forge({**claims, claim: None}, header))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://elsewhere.example.org"},
        {"iss": ISSUER + "/"},
        {"aud": "https://elsewhere.example.org"},
        {"aud": [ISSUER]},
        {"aud": [ISSUER, "https://elsewhere.example.org"]},
        {"sub": "ann"},
        {"sub": ""},
        {"sub": 1},
        {"exp": "9999999999"},
        {"exp": 1e12},
        {"exp": True},
        {"exp": -1},
        {"admin": True},
    ],
)
def test_wrong_claims(tokens, claims, header, change):
    assert refused(tokens, forge({**claims, **change}, header))


@pytest.mark.parametrize("payload", [[], "text", 1, None])
def test_claims_that_are_none(tokens, header, payload):
    assert refused(tokens, forge(payload, header))


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
def test_wrong_headers(tokens, claims, header, change):
    assert refused(tokens, forge(claims, {**header, **change}))


@pytest.mark.parametrize("name", ["typ", "kid", "alg"])
def test_no_header_may_be_missing(tokens, claims, header, name):
    assert refused(tokens, forge(claims, {key: value for key, value in header.items() if key != name}))


@pytest.mark.parametrize("algorithm", ["none", "NONE", "nOnE"])
def test_unsigned(tokens, claims, header, algorithm):
    parts = f"{b64(json.dumps({**header, 'alg': algorithm}).encode())}.{b64(json.dumps(claims).encode())}"
    signature = tokens.issue(USER).token.rpartition(".")[2]
    for token in (f"{parts}.", parts, f"{parts}.{signature}"):
        assert refused(tokens, token)


def test_an_hmac_keyed_with_the_public_key(tokens, claims, header):
    public = key().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    hs256 = jwt.get_algorithm_by_name("HS256")
    for secret in (public.public_bytes_raw(), pem):
        for algorithm in ("HS256", "EdDSA"):
            parts = f"{b64(json.dumps({**header, 'alg': algorithm}).encode())}.{b64(json.dumps(claims).encode())}"
            assert refused(tokens, f"{parts}.{b64(hs256.sign(parts.encode(), secret))}")


def test_another_key(tokens, claims, header):
    assert refused(tokens, forge(claims, header, signed_by=Ed25519PrivateKey.generate()))


def test_another_installations_token(tokens, clock):
    other = AccessTokens("another secret, as long as it has to be 0123", ISSUER, 900, clock)
    assert refused(tokens, other.issue(USER).token)
    assert refused(other, tokens.issue(USER).token)


def test_any_changed_character(tokens):
    token = tokens.issue(USER).token
    for place, found in enumerate(token):
        for other in {"A", "_", "."} - {found}:
            assert refused(tokens, token[:place] + other + token[place + 1 :])


def test_another_users_claims_under_a_good_signature(tokens, claims, header):
    good = tokens.issue(USER).token
    other = forge({**claims, "sub": str(uuid.uuid4())}, header)
    head, _, signature = good.split(".")
    assert refused(tokens, f"{head}.{other.split('.')[1]}.{signature}")


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b.c", "ü.ü.ü", "\ud800", "\0", "Bearer x", b64(b"[" * 30_000) + ".e30.e30", "x" * 10**6],
)
def test_what_is_no_token(tokens, token):
    assert refused(tokens, token)


@pytest.mark.parametrize("change", [" {}", "{} ", "\n{}", "{}.{}", "{}=", "{}=="])
def test_additions_to_a_good_token(tokens, change):
    token = tokens.issue(USER).token
    assert refused(tokens, change.format(token, token))
