"""API keys: made, shown once, found again by what a client shows, revoked at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from payments.access import Client, KeyText, Scope, new_key
from payments.db import Sessions, transaction
from payments.errors import ApiKeyNotFound, CredentialsInvalid
from payments.hot_path import HotPath, ValidKey
from payments.ids import new_id
from payments.queries import api_key, api_keys, database_now, valid_api_key
from payments.records import ApiKey

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key is to be. `text` is a key that was made elsewhere; None has one made."""

    name: str
    scopes: frozenset[Scope]
    by: str
    lives: timedelta | None = None
    refund_limit: int | None = None  # won, of one payment in all
    text: KeyText | None = None


async def create_key(wanted: NewKey, *, sessions: Sessions) -> KeyText:
    """Keep what tells the key from every other text, and answer the key itself: nobody can ask for it again.

    A key that was made elsewhere may be given again and again.

    Raises:
        CredentialsInvalid: the prefix of such a key belongs to another one, or to one that was revoked.
    """
    text = wanted.text or new_key()
    async with transaction(sessions) as session:
        known = await api_key(session, text.prefix)
        if known is not None:
            _check_same(known, text)
            return text
        now = await database_now(session)
        session.add(
            ApiKey(
                id=new_id(),
                name=wanted.name,
                prefix=text.prefix,
                key_hash=text.digest,
                scopes=sorted(wanted.scopes),
                refund_limit=wanted.refund_limit,
                created_at=now,
                created_by=wanted.by,
                expires_at=now + wanted.lives if wanted.lives else None,
            )
        )
    log.info(
        "api_key.created",
        name=wanted.name,
        prefix=text.prefix,
        scopes=[scope.value for scope in sorted(wanted.scopes)],
        by=wanted.by,
    )
    return text


def _check_same(known: ApiKey, text: KeyText) -> None:
    if not text.is_same_as(known.key_hash) or known.revoked_at is not None:
        raise CredentialsInvalid


async def find_client(text: KeyText, *, sessions: Sessions, hot: HotPath | None) -> Client:
    """Whose key this is, as the database says at this moment: what was revoked before is not valid any more.

    Raises:
        CredentialsInvalid: nobody's, or no longer.
    """
    known: ApiKey | ValidKey | None
    if hot is not None:
        known = await hot.valid_api_key(text.prefix)
    else:
        async with transaction(sessions) as session:
            known = await valid_api_key(session, text.prefix)
    # Compared in every case, so that an unknown prefix takes as long as a wrong key.
    is_same = text.is_same_as(known.key_hash if known else bytes(32))
    if known is None or not is_same:
        raise CredentialsInvalid
    scopes = frozenset(Scope(scope) for scope in known.scopes)
    return Client(known.name, f"client {known.name}", scopes, known.refund_limit)


async def list_keys(*, sessions: Sessions, revoked_too: bool) -> Sequence[ApiKey]:
    """Every key without what it is, newest first."""
    async with transaction(sessions) as session:
        return await api_keys(session, revoked_too=revoked_too)


async def revoke_key(prefix: str, *, by: str, sessions: Sessions) -> ApiKey:
    """From the moment this is committed on the key opens nothing. Doing it again changes nothing.

    Raises:
        ApiKeyNotFound: no key has this prefix.
    """
    async with transaction(sessions) as session:
        key = await api_key(session, prefix)
        if key is None:
            raise ApiKeyNotFound
        if key.revoked_at is None:
            key.revoked_at, key.revoked_by = await database_now(session), by
            log.info("api_key.revoked", name=key.name, prefix=prefix, by=by)
    return key
