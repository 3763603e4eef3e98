"""Commands for operators: `ringfence admin …`. They use the database directly, so an API need not run."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from ringfence import jobs
from ringfence.accounts.audit_queries import Event, UserState
from ringfence.cli.logs import quiet_logging
from ringfence.documents.queries import Usage
from ringfence.documents.reembed import Move
from ringfence.errors import Invalid, NotFound
from ringfence.limits import OwnQuota, Quota
from ringfence.models.queries import EmbeddingModel
from ringfence.services import Admin, embedding_names, open_admin
from ringfence.settings import load_settings

type _Values = dict[str, object]

_Who = Annotated[str, typer.Argument(metavar="ID_OR_ADDRESS", help="A user's id, or their verified address.")]
_Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of text.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_Number = Annotated[int | None, typer.Option(min=0, help="How many at most; 0: any number.")]
_Bytes = Annotated[int | None, typer.Option("--bytes", min=0, help="Of all documents; 0: any number.")]
_Every = Annotated[bool, typer.Option("--all", help="Those that wait or run as well.")]
_Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


def users_list(*, limit: _Limit = 1000, as_json: _Json = False) -> None:
    """Show accounts and registrations, newest first: their states and counts."""
    asyncio.run(_list(limit, as_json=as_json))


def users_disable(who: _Who, *, yes: _Yes = False, as_json: _Json = False) -> None:
    """Let nobody in as this user, and end their sessions. Nothing is deleted."""
    asyncio.run(_disable(who, yes=yes, as_json=as_json))


def users_enable(who: _Who, *, as_json: _Json = False) -> None:
    """Let a disabled user in again."""
    asyncio.run(_enable(who, as_json=as_json))


def users_sign_out(who: _Who, *, yes: _Yes = False, as_json: _Json = False) -> None:
    """End all sessions of a user: every token stops working at once."""
    asyncio.run(_sign_out(who, yes=yes, as_json=as_json))


def users_delete(who: _Who, *, yes: _Yes = False, as_json: _Json = False) -> None:
    """Delete an account: nothing opens it any more, and a worker deletes all that it has. There is no way back."""
    asyncio.run(_delete(who, yes=yes, as_json=as_json))


def users_quota(
    who: _Who,
    *,
    documents: _Number = None,
    size: _Bytes = None,
    questions: _Number = None,
    default: Annotated[bool, typer.Option("--default", help="Let the settings hold again.")] = False,
    as_json: _Json = False,
) -> None:
    """Show how much a user has and may have, or set it. 0 is no limit; questions are those of a day."""
    asyncio.run(_quota(who, OwnQuota(documents, size, questions), default=default, as_json=as_json))


def users_events(who: _Who, *, limit: _Limit = 100, as_json: _Json = False) -> None:
    """Show a user's audit log, newest first; by the id that it had, a deleted account's too."""
    asyncio.run(_events(who, limit, as_json=as_json))


def jobs_list(*, every: _Every = False, limit: _Limit = 1000, as_json: _Json = False) -> None:
    """Show the jobs that were set aside for a person, oldest first, with the reason."""
    asyncio.run(_jobs(every=every, limit=limit, as_json=as_json))


def jobs_retry(
    job_ids: Annotated[list[int], typer.Argument(metavar="ID...", help="As `list` shows them.")],
    *,
    as_json: _Json = False,
) -> None:
    """Let jobs that were set aside run again, as if they were new."""
    asyncio.run(_unpark(job_ids, as_json=as_json))


def models_list(
    *,
    tenants: Annotated[bool, typer.Option("--users", help="Each user who has documents, instead of the sums.")] = False,
    limit: _Limit = 100_000,
    as_json: _Json = False,
) -> None:
    """Show the embedding models: how many users are searched with each, or on the way to it, and their vectors."""
    asyncio.run(_models(tenants=tenants, limit=limit, as_json=as_json))


def reembed(
    who: Annotated[list[str] | None, typer.Argument(metavar="ID_OR_ADDRESS...", help="Only these users.")] = None,
    *,
    limit: _Limit = 100_000,
    as_json: _Json = False,
) -> None:
    """Move users to the model of RINGFENCE_EMBEDDING_NEXT_*, or, where that is unset, of RINGFENCE_EMBEDDING_*."""
    asyncio.run(_reembed(who or [], limit, as_json=as_json))


def rotate_keys(*, as_json: _Json = False) -> None:
    """Replace the key that signs access tokens; the old one is accepted until its tokens have expired."""
    asyncio.run(_rotate(as_json=as_json))


def build_app() -> typer.Typer:
    """`ringfence admin …`."""
    app = typer.Typer(
        help="For operators: users, jobs, models and keys. States and counts, never content.", no_args_is_help=True
    )
    users = typer.Typer(help="Users: list, disable, enable, sign out, delete, quota.", no_args_is_help=True)
    users.command(name="list")(users_list)
    users.command(name="disable")(users_disable)
    users.command(name="enable")(users_enable)
    users.command(name="sign-out")(users_sign_out)
    users.command(name="delete")(users_delete)
    users.command(name="quota")(users_quota)
    users.command(name="events")(users_events)
    app.add_typer(users, name="users")
    queue = typer.Typer(help="The queue: list, retry.", no_args_is_help=True)
    queue.command(name="list")(jobs_list)
    queue.command(name="retry")(jobs_retry)
    app.add_typer(queue, name="jobs")
    app.command(name="models")(models_list)
    app.command()(reembed)
    app.command()(rotate_keys)
    return app


@asynccontextmanager
async def _opened() -> AsyncGenerator[Admin]:
    with quiet_logging():
        async with open_admin(load_settings()) as admin:
            yield admin


async def _list(limit: int, *, as_json: bool) -> None:
    async with _opened() as admin:
        found = [(user, await admin.library.usage(user.user_id)) for user in await admin.users.users(limit)]
    if as_json:
        _echo_json([asdict(user) | asdict(usage) for user, usage in found])
    else:
        _echo_table([_shown_user(user, usage) for user, usage in found])


async def _disable(who: str, *, yes: bool, as_json: bool) -> None:
    async with _opened() as admin:
        user = await _chosen(admin, who, "Disable", yes=yes)
        changed = await admin.users.disable(user.user_id)
    _tell(user, "disabled" if changed else "disabled already", {"changed": changed}, as_json=as_json)


async def _enable(who: str, *, as_json: bool) -> None:
    async with _opened() as admin:
        user = await admin.users.find(who)
        changed = await admin.users.enable(user.user_id)
    _tell(user, "enabled" if changed else "was not disabled", {"changed": changed}, as_json=as_json)


async def _sign_out(who: str, *, yes: bool, as_json: bool) -> None:
    async with _opened() as admin:
        user = await _chosen(admin, who, "End all sessions of", yes=yes)
        ended = await admin.users.sign_out(user.user_id)
    _tell(user, f"signed out, sessions ended: {ended}", {"sessions_ended": ended}, as_json=as_json)


async def _delete(who: str, *, yes: bool, as_json: bool) -> None:
    async with _opened() as admin:
        user = await _chosen(admin, who, "Delete, for ever, all that belongs to", yes=yes)
        await admin.users.delete(user.user_id)
    _tell(user, "closed; a worker deletes all that it has", {"deleted": True}, as_json=as_json)


async def _quota(who: str, own: OwnQuota, *, default: bool, as_json: bool) -> None:
    if default and own != OwnQuota():
        raise Invalid("bad_quota", "Either --default, or numbers of this user's own.")
    async with _opened() as admin:
        user = await admin.users.find(who)
        if default:
            await admin.users.clear_quota(user.user_id)
        elif own != OwnQuota():
            await admin.users.set_quota(user.user_id, own)
        usage, asked = await admin.library.usage(user.user_id), await admin.questions.today(user.user_id)
        allowed, own = await admin.users.quota(user.user_id)
    used = Quota(usage.documents, usage.bytes, asked.questions)
    rows = [_shown_quota(name, used, allowed, own) for name in Quota.__slots__]
    if as_json:
        _echo_json({"user_id": user.user_id, **{str(row.pop("quota")): row for row in rows}})
    else:
        _echo_table([{**row, "limit": row["limit"] or "none"} for row in rows])


async def _events(who: str, limit: int, *, as_json: bool) -> None:
    async with _opened() as admin:
        found = await admin.users.events(who, limit)
    if as_json:
        _echo_json([asdict(event) for event in found])
    else:
        _echo_table([_shown_event(event) for event in found])


async def _jobs(*, every: bool, limit: int, as_json: bool) -> None:
    states = ("ready", "running", "parked") if every else ("parked",)
    async with _opened() as admin, admin.db.system() as tx:
        found = await jobs.listed(tx, states, limit)
    if as_json:
        _echo_json([asdict(job) for job in found])
    else:
        _echo_table([_shown_job(job) for job in found])


async def _unpark(job_ids: Sequence[int], *, as_json: bool) -> None:
    async with _opened() as admin, admin.db.system() as tx:
        found = await jobs.unpark(tx, job_ids)
    if as_json:
        _echo_json({"queued": sorted(found)})
    else:
        typer.echo(f"queued again: {' '.join(map(str, sorted(found))) or 'none'}")
    if missing := sorted(set(job_ids) - found):
        raise NotFound("job_not_found", f"Not set aside: {' '.join(map(str, missing))}.")


async def _models(*, tenants: bool, limit: int, as_json: bool) -> None:
    configured = embedding_names(load_settings())
    async with _opened() as admin:
        known = await admin.moves.models()
        found = [(user, await admin.moves.of(user.user_id)) for user in await admin.users.users(limit)]
    found = [(user, move) for user, move in found if move.live]
    if as_json:
        _echo_json([asdict(move) | {"user_id": user.user_id, "email": user.email} for user, move in found])
    elif tenants:
        _echo_table([_shown_move(user, move) for user, move in found])
    else:
        moves = [move for _, move in found]
        _echo_table([_shown_model(model, configured, moves) for model in known])


async def _reembed(who: Sequence[str], limit: int, *, as_json: bool) -> None:
    model = embedding_names(load_settings())[-1]
    async with _opened() as admin:
        users = [await admin.users.find(one) for one in who] if who else await admin.users.users(limit)
        moving = [user.user_id for user in users if await admin.moves.begin(user.user_id, model)]
    if as_json:
        _echo_json({"model": model, "queued": moving})
    else:
        typer.echo(f"{model}: {len(moving)} users are on their way to it.")


async def _rotate(*, as_json: bool) -> None:
    async with _opened() as admin:
        key_id = await admin.keys.rotate()
    if as_json:
        _echo_json({"key_id": key_id})
    else:
        typer.echo(f"New tokens are signed with {key_id} within a minute.")


async def _chosen(admin: Admin, who: str, act: str, *, yes: bool) -> UserState:
    """The user that was named, once the operator has seen whom they named."""
    user = await admin.users.find(who)
    if not yes:
        typer.confirm(f"{act} {user.email} ({user.user_id})?", abort=True, err=True)
    return user


def _shown_user(user: UserState, usage: Usage) -> _Values:
    state = "disabled" if user.disabled_at else "active" if user.verified_at else "not verified"
    return {
        "id": user.user_id,
        "address": user.email,
        "state": state,
        "created": _minute(user.created_at),
        "last sign-in": _minute(user.signed_in_at),
        "sessions": user.sessions,
        "documents": usage.documents,
        "bytes": usage.bytes,
    }


def _shown_quota(name: str, used: Quota, allowed: Quota, own: OwnQuota) -> _Values:
    source = "settings" if getattr(own, name) is None else "operator"
    return {"quota": name, "used": getattr(used, name), "limit": getattr(allowed, name) or None, "set by": source}


def _shown_event(event: Event) -> _Values:
    detail = " ".join(f"{name}={value}" for name, value in event.detail.items())
    return {
        "time": event.created_at.isoformat(timespec="seconds"),
        "event": event.kind,
        "address": event.address,
        "detail": detail,
        "agent": event.agent,
    }


def _shown_model(model: EmbeddingModel, configured: Sequence[str], moves: Sequence[Move]) -> _Values:
    settings = dict(zip(configured, ("EMBEDDING", "EMBEDDING_NEXT"), strict=False))
    return {
        "model": model.name,
        "dimensions": model.dimensions,
        "set up as": settings.get(model.name, "-"),
        "users": sum(move.live == model.name for move in moves),
        "on the way": sum(move.coming == model.name for move in moves),
        "vectors": sum(move.vectors.get(model.name, 0) for move in moves),
    }


def _shown_move(user: UserState, move: Move) -> _Values:
    done = min(move.vectors.get(move.coming or "", 0) / max(move.chunks, 1), 1)
    return {
        "id": user.user_id,
        "address": user.email,
        "model": move.live,
        "passages": move.chunks,
        "vectors": sum(move.vectors.values()),
        "on the way to": move.coming or "-",
        "done": f"{done:.0%}" if move.coming else "-",
    }


def _shown_job(job: jobs.Listed) -> _Values:
    return {
        "id": job.job_id,
        "user": job.user_id,
        "kind": job.kind,
        "state": job.state,
        "reason": job.reason or "-",
        "attempts": job.attempts,
        "crashes": job.crashes,
        "since": _minute(job.created_at),
        "next try": _minute(job.run_after) if job.state == "ready" else "-",
    }


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else "-"


def _tell(user: UserState, sentence: str, values: _Values, *, as_json: bool) -> None:
    if as_json:
        _echo_json({"user_id": user.user_id, **values})
    else:
        typer.echo(f"{user.email} ({user.user_id}): {sentence}")


def _echo_json(value: object) -> None:
    typer.echo(json.dumps(value, default=_plain, indent=2))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _echo_table(rows: Sequence[_Values]) -> None:
    """One line a row, however long: a terminal wraps it, a pipe need not."""
    if not rows:
        typer.echo("none")
        return
    lines = [list(rows[0]), *([_printable(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo(_columns(line, widths))


def _columns(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _printable(value: object) -> str:
    """Without what could steer a terminal: addresses and agents are said by strangers."""
    return "".join(character for character in str(value) if character.isprintable())
