"""The API key that stories show: it is in every migrated database, and may do everything."""

from typing import Final

import psycopg

from payments.access import KeyText, Scope, read_key
from payments.ids import new_id

API_KEY: Final = f"payk_Test0001_{'k' * 43}"
CLIENT: Final = "back-office"
AUTHORIZATION: Final = {"authorization": f"Bearer {API_KEY}"}


def as_key(text: str) -> KeyText:
    key = read_key(text)
    assert key is not None
    return key


def let_in(
    database: str,
    text: str = API_KEY,
    *,
    name: str = CLIENT,
    scopes: tuple[Scope, ...] = tuple(Scope),
    refund_limit: int | None = None,
    is_revoked: bool = False,
    has_expired: bool = False,
) -> None:
    """Make a key valid, as `payments keys create --from-file` does, or one that was."""
    key = as_key(text)
    with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
        connection.execute(
            "INSERT INTO api_keys"
            " (id, name, prefix, key_hash, scopes, refund_limit,"
            " created_at, created_by, revoked_at, revoked_by, expires_at)"
            " SELECT %s, %s, %s, %s, %s, %s::bigint, now(), 'a story', ended.at, ended.by, CASE WHEN %s THEN now() END"
            " FROM (SELECT CASE WHEN %s THEN now() END, CASE WHEN %s THEN 'a story' END) AS ended (at, by)",
            [
                *(new_id(), name, key.prefix, key.digest, [scope.value for scope in scopes], refund_limit),
                *(has_expired, is_revoked, is_revoked),
            ],
        )
