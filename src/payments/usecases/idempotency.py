"""Requests that must not happen twice: told apart by the client's key, answered again with what was answered first."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import RACES, Sessions, insist, transaction
from payments.errors import ConcurrentUpdate, IdempotencyKeyReused, RequestInProgress
from payments.ids import new_id
from payments.queries import database_now, get_request, lock_request
from payments.records import IdempotentRequest, Json

# Not known yet: the same key asks again, and gets the same bytes until it is known.
PROVISIONAL: Final = 202


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An HTTP answer, to be sent again byte for byte."""

    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that may be worked on now, by nobody else. `kept` is what was answered while it was undecided."""

    request_id: UUID
    kept: KeptAnswer | None


@dataclass(frozen=True, slots=True)
class Name:
    """What tells a request from every other one; neither the key nor the content can be read from what is kept."""

    key_hash: bytes
    fingerprint: bytes

    @classmethod
    def of(cls, client: str, key: str, *, content: str) -> "Name":
        """`content` is all that is asked, in one spelling; another one under the same key is a mistake.

        Hashed under the key, which is not kept, because a content with an account number could be guessed.
        """
        key_hash = hashlib.sha256(f"{client}\0{key}".encode()).digest()
        return cls(key_hash, hmac.digest(key.encode(), content.encode(), "sha256"))


async def begin(name: Name, *, sessions: Sessions, lease: timedelta) -> Begun | KeptAnswer:
    """Take a request up, or find its answer. A provisional one may still change.

    Whoever takes it up holds it for `lease`, which must be longer than the work; then it is taken for dead and the
    next repetition goes on with it.

    Raises:
        RequestInProgress: somebody is working on it.
        IdempotencyKeyReused: the key belongs to a request with another content.
    """
    for _ in range(RACES):
        try:
            async with transaction(sessions) as session:
                return await _take_up(session, name, lease=lease)
        except ConcurrentUpdate:  # two first ones at the same moment
            continue
    raise RequestInProgress


async def keep(request_id: UUID, answer: KeptAnswer, *, sessions: Sessions) -> KeptAnswer:
    """Keep the answer, so that every repetition gets it; nobody holds the request any more.

    Returns:
        The answer to send: another one if it has been decided while its holder was taken for dead.
    """

    async def _keep() -> KeptAnswer:
        async with transaction(sessions) as session:
            request = await get_request(session, request_id)
            kept = _kept(request)
            if kept is not None and kept.status != PROVISIONAL:
                return kept
            headers: dict[str, Json] = dict(answer.headers)
            request.status, request.headers, request.body = answer.status, headers, answer.body
            request.locked_until = await database_now(session)
            return answer

    return await insist(_keep)


async def release(request_id: UUID, *, sessions: Sessions) -> None:
    """Nothing was decided: the next repetition begins anew, or goes on with what was promised."""

    async def _release() -> None:
        async with transaction(sessions) as session:
            request = await get_request(session, request_id)
            request.locked_until = await database_now(session)

    await insist(_release)


async def _take_up(session: AsyncSession, name: Name, *, lease: timedelta) -> Begun | KeptAnswer:
    found = await lock_request(session, name.key_hash)
    if found is None:
        now = await database_now(session)
        request = IdempotentRequest(
            id=new_id(),
            key_hash=name.key_hash,
            fingerprint=name.fingerprint,
            created_at=now,
            locked_until=now + lease,
        )
        session.add(request)
        return Begun(request.id, None)
    request, now = found
    if not hmac.compare_digest(request.fingerprint, name.fingerprint):
        raise IdempotencyKeyReused("Idempotency-Key")
    if request.locked_until > now:
        raise RequestInProgress
    kept = _kept(request)
    if kept is not None and kept.status != PROVISIONAL:
        return kept
    request.locked_until = now + lease
    return Begun(request.id, kept)


def _kept(request: IdempotentRequest) -> KeptAnswer | None:
    if request.status is None or request.body is None:
        return None
    headers = {name: str(value) for name, value in (request.headers or {}).items()}
    return KeptAnswer(request.status, headers, request.body)
