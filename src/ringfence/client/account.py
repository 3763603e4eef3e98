"""Calls of one's account: coming in and going out, and all that it has."""

import asyncio
import os
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from ringfence.client.models import ChatModels, UsageInfo
from ringfence.client.transport import TOKEN_PATH, Connection


class AccountCalls(Connection):
    """Registration, sessions, addresses and passwords; what the account uses, and all that it has."""

    async def register(self, email: str, password: str) -> UUID:
        """Ask for an account; the registration's id, for `verify`. The code comes by mail."""
        response = await self._call("POST", "/api/v1/auth/register", json={"email": email, "password": password})
        return UUID(response.json()["registration_id"])

    async def verify(self, registration_id: UUID, code: str) -> None:
        """Prove the address with the mailed code."""
        body = {"registration_id": str(registration_id), "code": code}
        await self._call("POST", "/api/v1/auth/verify", json=body)

    async def resend(self, registration_id: UUID) -> None:
        """Ask for another code for a registration; within a minute of the last one, none is sent."""
        await self._call("POST", "/api/v1/auth/resend", json={"registration_id": str(registration_id)})

    async def forgot(self, email: str) -> None:
        """Ask for a new password; a code comes by mail, if the address has an account."""
        await self._call("POST", "/api/v1/auth/forgot", json={"email": email})

    async def reset(self, email: str, code: str, password: str) -> None:
        """Choose a new password with the mailed code; all sessions end."""
        await self._call("POST", "/api/v1/auth/reset", json={"email": email, "code": code, "password": password})

    async def change_password(self, password: str, new: str) -> None:
        """Choose another password; other sessions end."""
        await self._call("POST", "/api/v1/me/password", json={"password": password, "new_password": new})

    async def change_email(self, email: str, password: str) -> None:
        """Ask to change the account's address; a code goes to the new one."""
        await self._call("POST", "/api/v1/me/email", json={"email": email, "password": password})

    async def confirm_email(self, code: str) -> None:
        """Prove the new address with the mailed code; other sessions end."""
        await self._call("POST", "/api/v1/me/email/confirm", json={"code": code})

    async def sign_in(self, email: str, password: str) -> None:
        """Begin a session, for this client's further calls; its tokens are renewed as long as it lasts."""
        form = {"grant_type": "password", "username": email, "password": password}
        self._auth.take(await self._call("POST", TOKEN_PATH, data=form))

    @property
    def access_token(self) -> str | None:
        """The token that is shown at present; another client may show it too, until it expires."""
        return self._auth.access

    async def sign_out(self) -> None:
        """End this session, with all of its tokens."""
        await self._call("POST", "/api/v1/auth/sign-out")
        self._auth.forget()

    async def delete_account(self, password: str) -> None:
        """Delete the account and all that it has. There is no way back."""
        await self._call("DELETE", "/api/v1/me", json={"password": password})
        self._auth.forget()

    async def export(self, path: Path) -> None:
        """Write everything that the account has to a zip, readable by its owner alone.

        What is at `path` already is replaced when the whole zip is there; until then it lies beside it.
        """
        temporary = path.with_name(f"{path.name}.part")
        file = await asyncio.to_thread(_private, temporary)
        try:
            with file:
                async with self._open("GET", "/api/v1/me/export") as response:
                    async for piece in response.aiter_bytes():
                        await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(temporary.replace, path)
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)

    async def usage(self) -> UsageInfo:
        """What the account uses, and how much it may."""
        return UsageInfo.model_validate_json((await self._call("GET", "/api/v1/me/usage")).content)

    async def models(self) -> ChatModels:
        """The chat models that may be chosen, and which one is."""
        return ChatModels.model_validate_json((await self._call("GET", "/api/v1/models")).content)

    async def choose_model(self, name: str | None) -> None:
        """Let a chat model answer from now on, where a question does not say; None: the first one."""
        await self._call("PUT", "/api/v1/me/model", json={"model": name})


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
