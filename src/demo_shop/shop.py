"""What every request may use, opened once when the shop starts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import httpx
from fastapi import Depends, Request

from demo_shop.orders import Sessions
from demo_shop.settings import ShopSettings


@dataclass(frozen=True)
class Shop:
    settings: ShopSettings
    sessions: Sessions
    payments: httpx.AsyncClient


def get_shop(request: Request) -> Shop:
    shop = request.app.state.shop
    assert isinstance(shop, Shop)  # noqa: S101 - put there by create_shop; tells mypy
    return shop


def now() -> datetime:
    return datetime.now(UTC)


InShop = Annotated[Shop, Depends(get_shop)]
