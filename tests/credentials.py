"""What a back office shows to be let in; the one place where tests make it."""

from typing import Final

KEY_PREFIX: Final = "payk_kanarien"


def api_key(_database: str) -> str:
    """An API key that may do everything in this database."""
    return f"{KEY_PREFIX}_Kx7vQ2mZr9TbW4nYc6LdE1pHs8UgJa3fRo5iXtBkMwN"


def headers_of(key: str) -> dict[str, str]:
    """What a request carries that is made with it."""
    return {"authorization": f"Bearer {key}"}
