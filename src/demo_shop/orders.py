"""The orders of the shop's own database, and the short transactions that change them."""

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    Index,
    String,
    case,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from demo_shop.catalogue import Product

Sessions = async_sessionmaker[AsyncSession]

ORDER_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{6,64}$"  # what Toss takes as an orderId

# Serialises shops that start at the same moment on an empty database. Any number that nobody else there uses.
_CREATE_TABLES_LOCK: Final = 7_204_118

_Won = Annotated[int, mapped_column(BigInteger)]
_Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]


class Base(DeclarativeBase):
    pass


class OrderStatus(StrEnum):
    CREATED = "CREATED"
    PAID = "PAID"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"


class Order(Base):
    """An order as the shop believes it to be. Read it freely; it is changed only by the functions below."""

    __tablename__ = "orders"

    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    product: Mapped[str] = mapped_column(String(100))
    quantity: Mapped[int]
    amount: Mapped[_Won]
    status: Mapped[OrderStatus] = mapped_column(Enum(OrderStatus, native_enum=False, length=32))
    customer_email: Mapped[str | None] = mapped_column(String(100))
    refunded_amount: Mapped[_Won]
    payment_key: Mapped[str | None] = mapped_column(String(200))
    # The newest state of the payment that this order has followed: an answer that comes late changes nothing.
    payment_version: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[_Moment]
    paid_at: Mapped[_Moment | None]
    # When we saw that the bank took a deposit back; the same account waits again since then.
    deposit_reversed_at: Mapped[_Moment | None]

    __table_args__ = (
        CheckConstraint("amount > 0", name="ck_orders_amount"),
        CheckConstraint("quantity > 0", name="ck_orders_quantity"),
        CheckConstraint("refunded_amount BETWEEN 0 AND amount", name="ck_orders_refunded_amount"),
        CheckConstraint(
            "status IN ({})".format(", ".join(f"'{status}'" for status in OrderStatus)), name="ck_orders_status"
        ),
        CheckConstraint(
            "(status = 'CREATED' OR status = 'CANCELLED') OR paid_at IS NOT NULL", name="ck_orders_paid_at"
        ),
    )


# The moment by which orders are listed and cut into business days: of the payment, or of the order while unpaid.
listed_at = func.coalesce(Order.paid_at, Order.created_at)
Index("ix_orders_listed_at", listed_at, Order.order_id)


def open_engine(url: str) -> AsyncEngine:
    """An engine that gives up after 3 s rather than hang on a database that is away; statements after 5 s."""
    return create_async_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=3,
        connect_args={"connect_timeout": 3, "application_name": "demo_shop", "options": "-c statement_timeout=5000"},
    )


def open_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


async def create_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(select(func.pg_advisory_xact_lock(_CREATE_TABLES_LOCK)))
        await connection.run_sync(Base.metadata.create_all)
        # A shop that was started before deposits could be taken back has the table without it.
        await connection.execute(
            text("ALTER TABLE orders ADD COLUMN IF NOT EXISTS deposit_reversed_at TIMESTAMP WITH TIME ZONE")
        )


async def create_order(sessions: Sessions, product: Product, *, quantity: int, at: datetime) -> Order:
    """Store a new, unpaid order at the shop's own price, under a number that cannot be guessed."""
    order = Order(
        order_id=f"order-{secrets.token_urlsafe(15)}",  # 20 characters, 120 bits
        product=product.name,
        quantity=quantity,
        amount=product.price * quantity,
        status=OrderStatus.CREATED,
        customer_email=None,
        refunded_amount=0,
        payment_key=None,
        payment_version=0,
        created_at=at,
        paid_at=None,
        deposit_reversed_at=None,
    )
    async with sessions.begin() as session:
        session.add(order)
    return order


async def find_order(sessions: Sessions, order_id: str) -> Order | None:
    async with sessions() as session:
        return await session.get(Order, order_id)


async def find_orders(sessions: Sessions, order_ids: list[str]) -> list[Order]:
    """Those of the orders that exist, in the order in which they were made."""
    chosen = select(Order).where(Order.order_id.in_(order_ids)).order_by(Order.created_at, Order.order_id)
    async with sessions() as session:
        return list(await session.scalars(chosen))


async def recent_orders(sessions: Sessions, limit: int) -> list[Order]:
    newest_first = select(Order).order_by(Order.created_at.desc(), Order.order_id).limit(limit)
    async with sessions() as session:
        return list(await session.scalars(newest_first))


async def list_orders(
    sessions: Sessions,
    *,
    status: OrderStatus | None,
    since: datetime | None,
    until: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Order]:
    """Orders of which `listed_at` is in [since, until), oldest first, those behind the place `after`."""
    chosen = select(Order).order_by(listed_at, Order.order_id).limit(limit)
    if status is not None:
        chosen = chosen.where(Order.status == status)
    if since is not None:
        chosen = chosen.where(listed_at >= since)
    if until is not None:
        chosen = chosen.where(listed_at < until)
    if after is not None:
        chosen = chosen.where(tuple_(listed_at, Order.order_id) > after)
    async with sessions() as session:
        return list(await session.scalars(chosen))


async def note_email(sessions: Sessions, order_id: str, *, email: str) -> bool:
    """Keep the buyer's address with an order that is still unpaid. False if there is no such order."""
    change = (
        update(Order)
        .where(Order.order_id == order_id, Order.status == OrderStatus.CREATED)
        .values(customer_email=email)
        .returning(Order.order_id)
    )
    async with sessions.begin() as session:
        return await session.scalar(change) is not None


async def follow_payment(
    session: AsyncSession,
    order_id: str,
    *,
    amount: int,
    version: int,
    status: OrderStatus,
    refunded_amount: int,
    payment_key: str | None,
    paid_at: datetime | None,
    at: datetime,
) -> bool:
    """Bring the order to where its payment stands: compare-and-set in one statement, so repeating it is harmless.

    The caller commits. False if the amounts differ, or if this order has already followed the same or a newer version
    of the payment.
    """
    # Only a bank makes a paid order unpaid again without a refund.
    reversed_at = case((Order.paid_at.is_not(None), at), else_=Order.deposit_reversed_at)
    change = (
        update(Order)
        .where(Order.order_id == order_id, Order.amount == amount, Order.payment_version < version)
        .values(
            payment_version=version,
            status=status,
            refunded_amount=refunded_amount,
            payment_key=payment_key,
            paid_at=paid_at,
            deposit_reversed_at=reversed_at if status is OrderStatus.CREATED else None,
        )
        .returning(Order.order_id)
    )
    return await session.scalar(change) is not None


async def close_unpaid(sessions: Sessions, order_id: str, *, version: int) -> bool:
    """Cancel an order to which no payment belongs that could still take money.

    `version` is the state of the payment from which that was concluded, 0 where there is none. False if the order has
    moved on since.
    """
    change = (
        update(Order)
        .where(Order.order_id == order_id, Order.status == OrderStatus.CREATED, Order.payment_version == version)
        .values(status=OrderStatus.CANCELLED)
        .returning(Order.order_id)
    )
    async with sessions.begin() as session:
        return await session.scalar(change) is not None
