"""Runs the migrations against the database that `payments.schema` names, or DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import create_engine, pool

from payments import models, records  # noqa: F401 - their tables belong to the metadata
from payments.db import Base


def run() -> None:
    url = context.config.attributes.get("url") or os.environ["DATABASE_URL"]
    engine = create_engine(url, poolclass=pool.NullPool, connect_args={"options": "-c lock_timeout=5000"})
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
