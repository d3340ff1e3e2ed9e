"""What the shop asked the payments API to give back or give up: written down before it asks, under the request's key.

A lost answer can then be asked for again by the very same request, even after the browser or the shop was closed. The
account that a refund goes to is not among it: it belongs to the buyer, who names it again.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Enum, ForeignKey, Index, String, Text, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from demo_shop.orders import Base, Sessions

KEY_PATTERN: Final = r"[A-Za-z0-9_-]{20,64}"
# Longer than one request to the payments API may take.
_ANSWERED_WITHIN: Final = timedelta(seconds=90)
_SHOWN: Final = 20


class RequestState(StrEnum):
    ASKED = "ASKED"  # no answer that decides it: the very same request may be sent again
    TAKEN_ON = "TAKEN_ON"  # the payments API finds out by itself, and its payment will show it
    DONE = "DONE"
    REFUSED = "REFUSED"


class CancelRequest(Base):
    """One intention. `amount` is None where the order was to be given up: whatever that means when it arrives."""

    __tablename__ = "cancel_requests"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.order_id"))
    amount: Mapped[int | None] = mapped_column(BigInteger)  # won
    reason: Mapped[str] = mapped_column(String(200))
    to_account: Mapped[bool]
    state: Mapped[RequestState] = mapped_column(Enum(RequestState, native_enum=False, length=32))
    code: Mapped[str | None] = mapped_column(Text)  # of the newest answer, where it has one
    message: Mapped[str | None] = mapped_column(Text)  # Toss's own words
    refund_id: Mapped[str | None] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint("amount > 0", name="ck_cancel_requests_amount"),
        Index("ix_cancel_requests_order_id", "order_id", "asked_at"),
    )

    @classmethod
    def of(
        cls, order_id: str, *, key: str, amount: int | None, reason: str, to_account: bool, asked_at: datetime
    ) -> Self:
        return cls(
            key=key,
            order_id=order_id,
            amount=amount,
            reason=reason,
            to_account=to_account,
            state=RequestState.ASKED,
            code=None,
            message=None,
            refund_id=None,
            asked_at=asked_at,
        )

    def is_same_as(self, other: "CancelRequest") -> bool:
        """Whether both want the same, as far as it is written down."""
        return (self.order_id, self.amount, self.reason, self.to_account) == (
            other.order_id,
            other.amount,
            other.reason,
            other.to_account,
        )

    def is_under_way(self, *, at: datetime) -> bool:
        """Whether the answer may still be on its way to us."""
        waits = self.state is RequestState.ASKED and self.code in {None, "request_in_progress"}
        return waits and at < self.asked_at + _ANSWERED_WITHIN


async def write_down(sessions: Sessions, request: CancelRequest) -> CancelRequest:
    """Keep the request before it is sent; what is kept under its key already stays, and is returned."""
    row = {column.key: getattr(request, column.key) for column in CancelRequest.__table__.columns}
    async with sessions.begin() as session:
        await session.execute(insert(CancelRequest).values(row).on_conflict_do_nothing())
    async with sessions() as session:
        return await session.get_one(CancelRequest, request.key)


async def find_request(sessions: Sessions, order_id: str, key: str) -> CancelRequest | None:
    chosen = select(CancelRequest).where(CancelRequest.key == key, CancelRequest.order_id == order_id)
    async with sessions() as session:
        return await session.scalar(chosen)


async def unanswered_requests(sessions: Sessions, order_id: str) -> list[CancelRequest]:
    """Those of an order that nobody has heard of since, newest first."""
    chosen = (
        select(CancelRequest)
        .where(CancelRequest.order_id == order_id, CancelRequest.state == RequestState.ASKED)
        .order_by(CancelRequest.asked_at.desc())
        .limit(_SHOWN)
    )
    async with sessions() as session:
        return list(await session.scalars(chosen))


async def note_answer(
    sessions: Sessions,
    key: str,
    *,
    state: RequestState,
    code: str | None = None,
    message: str | None = None,
    refund_id: str | None = None,
) -> None:
    """Keep what came of it. Of two answers to a double click the one that says more stays, whichever is later."""
    says_less = {
        RequestState.ASKED: [RequestState.ASKED],
        RequestState.TAKEN_ON: [RequestState.ASKED],
        RequestState.DONE: [RequestState.ASKED, RequestState.TAKEN_ON],
        RequestState.REFUSED: [RequestState.ASKED, RequestState.TAKEN_ON],
    }
    change = (
        update(CancelRequest)
        .where(CancelRequest.key == key, CancelRequest.state.in_(says_less[state]))
        .values(state=state, code=code, message=message, refund_id=refund_id)
    )
    async with sessions.begin() as session:
        await session.execute(change)
