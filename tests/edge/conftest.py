"""What the API is told. It needs no database to refuse what never gets that far."""

from typing import Final

from tests.integration.world import CLIENT_KEY, SECRET_KEY, SHOP

LOCAL: Final = {
    "ENVIRONMENT": "local",
    "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nowhere",
    "TOSS_CLIENT_KEY": CLIENT_KEY,
    "TOSS_SECRET_KEY": SECRET_KEY,
    "ALLOWED_ORIGINS": SHOP,
}
