"""What most people would write: `python -m bench.idiom --port 28200`. It keeps none of our promises.

FastAPI with a response model, SQLAlchemy's async ORM with one session for each step, httpx for the PG. Tidy, on the
server that it is usually run on, with the pools that everything has by default: what our own API is compared with.
"""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from sqlalchemy import JSON, DateTime, ForeignKey, String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.load import HOST

SECRET_KEY = "test_sk_sandbox0000000000000000000000"  # noqa: S105 - the sandbox's public test key


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), unique=True)
    payment_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    status: Mapped[str] = mapped_column(String(20))
    amount: Mapped[int]
    receipt_url: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class PaymentEvent(Base):
    __tablename__ = "payment_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), index=True)
    status: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class OutboxMessage(Base):
    __tablename__ = "outbox_messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), index=True)
    type: Mapped[str] = mapped_column(String(40))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    delivered_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class PrepareBody(Camel):
    order_id: str
    amount: int


class ConfirmBody(Camel):
    payment_key: str
    order_id: str
    amount: int


class PaymentAnswer(Camel):
    order_id: str
    payment_key: str | None
    status: str
    amount: int
    receipt_url: str | None
    created_at: datetime
    completed_at: datetime | None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = create_async_engine(os.environ["IDIOM_DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    async with httpx.AsyncClient(base_url=os.environ["IDIOM_PG_URL"], auth=(SECRET_KEY, ""), timeout=30) as pg:
        app.state.pg = pg
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


def sessions_of(request: Request) -> async_sessionmaker[AsyncSession]:
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    return sessions


def pg_of(request: Request) -> httpx.AsyncClient:
    pg: httpx.AsyncClient = request.app.state.pg
    return pg


Sessions = Annotated[async_sessionmaker[AsyncSession], Depends(sessions_of)]
Pg = Annotated[httpx.AsyncClient, Depends(pg_of)]


@app.post("/payments/prepare", status_code=201, response_model=PaymentAnswer)
async def prepare(body: PrepareBody, sessions: Sessions) -> Payment:
    now = datetime.now(UTC)
    async with sessions() as session:
        payment = Payment(order_id=body.order_id, amount=body.amount, status="CREATED", created_at=now)
        session.add(payment)
        await session.flush()
        session.add(PaymentEvent(payment_id=payment.id, status="CREATED", at=now))
        await session.commit()
    return payment


@app.post("/payments/confirm", response_model=PaymentAnswer)
async def confirm(body: ConfirmBody, sessions: Sessions, pg: Pg) -> Payment:
    await begin(body, sessions)
    answer = await pg.post("/v1/payments/confirm", json=body.model_dump(by_alias=True))
    answer.raise_for_status()
    return await complete(body, answer.json(), sessions)


async def begin(body: ConfirmBody, sessions: Sessions) -> None:
    async with sessions() as session:
        payment = await find(session, body.order_id)
        if payment.amount != body.amount or payment.status != "CREATED":
            raise HTTPException(409)
        payment.status = "PENDING"
        payment.payment_key = body.payment_key
        session.add(PaymentEvent(payment_id=payment.id, status="PENDING", at=datetime.now(UTC)))
        await session.commit()


async def complete(body: ConfirmBody, answer: dict[str, Any], sessions: Sessions) -> Payment:
    now = datetime.now(UTC)
    async with sessions() as session:
        payment = await find(session, body.order_id)
        payment.status = "COMPLETED"
        payment.completed_at = now
        payment.receipt_url = answer["receipt"]["url"]
        session.add(PaymentEvent(payment_id=payment.id, status="COMPLETED", at=now))
        told = PaymentAnswer.model_validate(payment).model_dump(mode="json", by_alias=True)
        session.add(OutboxMessage(payment_id=payment.id, type="payment.completed", payload=told, created_at=now))
        await session.commit()
    return payment


async def find(session: AsyncSession, order_id: str) -> Payment:
    payment = await session.scalar(select(Payment).where(Payment.order_id == order_id))
    if payment is None:
        raise HTTPException(404)
    return payment


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idiom", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    port: int = parser.parse_args().port
    uvicorn.run(app, host=HOST, port=port, loop="uvloop", http="httptools", access_log=False)


if __name__ == "__main__":
    main()
