"""What is on the shelves, and what it costs."""

from dataclasses import dataclass
from typing import Final

MAX_QUANTITY: Final = 9


@dataclass(frozen=True, kw_only=True)
class Product:
    slug: str
    name: str
    english_name: str
    description: str
    price: int  # won


PRODUCTS: Final = (
    Product(
        slug="drip-coffee",
        name="아침 드립백 커피 10개입",
        english_name="Drip coffee, 10 bags",
        description="고소한 브라질과 산뜻한 에티오피아를 반씩 담았습니다.",
        price=12_900,
    ),
    Product(
        slug="moon-mug",
        name="달항아리 머그잔",
        english_name="Moon jar mug",
        description="손에 감기는 둥근 백자 머그. 350 ml.",
        price=24_000,
    ),
    Product(
        slug="tea-blanket",
        name="양모 무릎담요",
        english_name="Wool lap blanket",
        description="찬 바람 부는 날, 무릎 위의 작은 온돌.",
        price=58_000,
    ),
)

BY_SLUG: Final = {product.slug: product for product in PRODUCTS}


def order_name(product: str, quantity: int) -> str:
    """The line that the buyer sees in the payment window and on the receipt."""
    return product if quantity == 1 else f"{product} {quantity}개"
