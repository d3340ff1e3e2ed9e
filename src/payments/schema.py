"""The database schema as Alembic manages it: bringing it to head, and telling whether it is there."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import NOT_ALLOWED, one_transaction
from payments.errors import DatabaseUnavailable
from payments.roles import grant_rights

if TYPE_CHECKING:
    from alembic.config import Config

# The revision that this program was built for: Alembic's head, which a test compares it with. The API asks for it, and
# has no other use for Alembic, which takes 9 MB.
HEAD: Final = "0006"

# Beside `src`: migrations are run from a checkout or from the image that is built of one.
ROOT: Final = Path(__file__).resolve().parents[2]


class NotTheOwner(Exception):
    """The role of the address may not change the tables."""


def alembic_config(url: str | None = None) -> "Config":
    """Alembic's configuration; `url` is the database to work on."""
    from alembic.config import Config  # noqa: PLC0415 - see HEAD

    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    return config


def migrate(url: str) -> list[str]:
    """Bring the database at `url` to the newest version, and grant the roles that exist their rights; answers which.

    Running it again changes nothing.

    Raises:
        DatabaseUnavailable: it cannot be reached, or somebody holds a lock on its tables.
        NotTheOwner: this role may not.
    """
    from alembic import command  # noqa: PLC0415 - see HEAD

    try:
        command.upgrade(alembic_config(url), "head")
        with one_transaction(url) as connection:
            return grant_rights(connection)
    except OperationalError:
        raise DatabaseUnavailable from None
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == NOT_ALLOWED:
            raise NotTheOwner from None
        raise


async def present_revision(session: AsyncSession) -> str | None:
    """The revision that the database is at; None where nothing was ever migrated."""
    if await session.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def is_read_only(session: AsyncSession) -> bool:
    """Whether the server takes no writes: a standby, or a primary that was told so."""
    setting: str | None = await session.scalar(text("SHOW transaction_read_only"))
    return setting == "on"
