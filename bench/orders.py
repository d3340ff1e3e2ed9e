"""How the orders of a measurement are called, so that nobody has to remember them."""

AMOUNT = 15_000  # won, of every order
NAME = "토스 티셔츠 외 2건"
_KEY_BEGINS = "bench-"


def order_id(series: str, number: int) -> str:
    """The order of a series; `order_id_sql` says the same in SQL."""
    return f"{series}-{number:08}"


def payment_key(order: str) -> str:
    """What the PG calls the payment of an order."""
    return f"{_KEY_BEGINS}{order}"


def order_of(key: str) -> str:
    """The order that a payment key belongs to."""
    return key.removeprefix(_KEY_BEGINS)


def order_id_sql(series: str, number: str = "n") -> str:
    """The same as an SQL expression over a number."""
    return f"'{series}-' || lpad(({number})::text, 8, '0')"


def payment_key_sql(series: str, number: str = "n") -> str:
    """The payment key of such an order as an SQL expression."""
    return f"'{_KEY_BEGINS}' || {order_id_sql(series, number)}"
