"""An OAuth2 client that is not of this house (authlib) signs in, calls the API, and renews its tokens by itself."""

import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError

from tests.engine import PASSWORD

EMAIL = "ada@example.com"


@pytest.fixture
async def ada(live):
    """Ada's client, not yet signed in."""
    async with (
        live.account(EMAIL),
        AsyncOAuth2Client(token_endpoint=f"{live.url}/api/v1/auth/token", base_url=live.url, timeout=30) as client,
    ):
        yield client


async def sign_in(client, password=PASSWORD, **more):
    return await client.fetch_token(username=EMAIL, password=password, grant_type="password", **more)


async def test_it_signs_in_and_calls_the_api(ada):
    token = await sign_in(ada)
    assert (token["token_type"], token["expires_in"]) == ("bearer", 900)
    assert (await ada.get("/api/v1/me")).json()["email"] == EMAIL


async def test_it_renews_its_tokens_when_they_expire(ada):
    first = dict(await sign_in(ada))
    ada.token["expires_at"] = 1  # long ago
    assert (await ada.get("/api/v1/me")).status_code == 200
    second = dict(ada.token)
    for name in ("access_token", "refresh_token"):
        assert second[name] != first[name]
    assert (await ada.get("/api/v1/me")).status_code == 200
    assert ada.token["access_token"] == second["access_token"]


async def test_it_understands_that_a_refresh_token_was_reused(ada):
    stolen = (await sign_in(ada))["refresh_token"]
    for _ in range(2):
        ada.token["expires_at"] = 1
        assert (await ada.get("/api/v1/me")).status_code == 200
    with pytest.raises(OAuthError) as caught:
        await ada.refresh_token(refresh_token=stolen)
    assert caught.value.error == "invalid_grant"
    assert (await ada.get("/api/v1/me")).status_code == 401  # it was the session's end
    ada.token["expires_at"] = 1
    with pytest.raises(OAuthError, match="invalid_grant"):
        await ada.get("/api/v1/me")


async def test_it_understands_why_it_may_not_sign_in(ada):
    for _ in range(10):
        with pytest.raises(OAuthError, match="invalid_grant"):
            await sign_in(ada, password="wrong " + PASSWORD)
    with pytest.raises(OAuthError, match="too_many_tries"):  # though OAuth2 has no word for it
        await sign_in(ada)


async def test_a_client_of_its_own_and_a_wish_for_less_change_nothing(live, ada):
    """RFC 6749: what the server does not know it ignores (3.2), and it says what scope it gave (3.3)."""
    async with AsyncOAuth2Client("an-app", "its-secret", scope="read", base_url=live.url, timeout=30) as client:
        token = await sign_in(client, url=f"{live.url}/api/v1/auth/token")
        assert token["scope"] == "ask read write"
        assert (await client.get("/api/v1/me")).status_code == 200
