"""What values look like in a traceback, a debugger or a log: nothing secret, nothing personal."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pydantic
import pytest
from pydantic import SecretStr

import payments
from payments.access import Client
from payments.alerts import AppriseAlerts
from payments.api.schemas import CancelBody, PrepareBody
from payments.db import Base, create_engine
from payments.gateways.orders import OrdersClient
from payments.gateways.subscribers import SubscriberClient
from payments.gateways.toss import TossClient
from payments.models import Payment
from payments.redaction import names_a_secret
from payments.resources import COMMAND, open_resources
from payments.settings import Environment, Settings
from payments.states import PaymentMethod
from payments.usecases.receive_webhook import Trust
from tests.integration.world import prepare_body

CANARY: Final = "kanarienvogel"
SIGNING: Final = "whsec_a2FuYXJpZW52b2dlbGthbmFyaWVudm9nZWw="
DATABASE: Final = f"postgresql+psycopg://payments:{CANARY}@127.0.0.1:1/payments"
# These names promise more than stands under them.
HARMLESS: Final = {
    ("Lane", "body"),  # the kind of body that a route takes
    ("Alert", "body"),  # what is told to the shop's own people, made of order ids and amounts
    ("Lease", "holder"),  # the id of a process
}


def classes() -> Iterator[type]:
    """Every class of the product."""
    for module in pkgutil.walk_packages(payments.__path__, "payments."):
        if not module.name.endswith("__main__"):
            members = vars(importlib.import_module(module.name)).values()
            yield from (one for one in members if isinstance(one, type) and one.__module__ == module.name)


def shown_fields(one: type) -> Iterator[str]:
    """What of its fields its repr shows."""
    if dataclasses.is_dataclass(one):
        yield from (field.name for field in dataclasses.fields(one) if field.repr)
    elif issubclass(one, pydantic.BaseModel):
        hidden = ("SecretStr",)
        yield from (
            name
            for name, field in one.model_fields.items()
            if field.repr and not any(word in str(field.annotation) for word in hidden)
        )


def settings() -> Settings:
    return Settings(
        environment=Environment.LOCAL,
        database_url=SecretStr(DATABASE),
        toss_client_key="test_ck_0",
        toss_secret_key=SecretStr(f"test_sk_{CANARY}"),
        toss_webhook_secrets=(SecretStr(f"{CANARY}-of-webhooks"),),
        orders_url=f"https://orders.example/{CANARY}",
        events_url=f"https://orders.example/{CANARY}",
        events_secrets=(SecretStr(SIGNING),),
        alert_urls=(SecretStr(f"json://user:{CANARY}@alerts.example/"),),
    )


class TestEveryClass:
    def test_hides_what_is_named_like_a_secret(self) -> None:
        shown = {
            (one.__name__, name) for one in classes() for name in shown_fields(one) if names_a_secret(name)
        } - HARMLESS

        assert shown == set()

    def test_of_the_database_shows_no_column(self) -> None:
        mapped = [mapper.class_ for mapper in Base.registry.mappers]

        assert Payment in mapped
        telling = {one for entity in mapped for one in entity.__mro__ if {"__repr__", "__str__"} & vars(one).keys()}
        assert telling == {object}


class TestSettings:
    def test_show_no_secret(self) -> None:
        assert CANARY not in f"{settings()!r} {settings()}"
        assert SIGNING[6:] not in f"{settings()!r}"


class TestResources:
    async def test_show_no_secret(self) -> None:
        async with open_resources(settings(), role=COMMAND) as resources:
            shown = f"{resources!r} {resources.engine!r} {resources.engine.url!r} {resources.presence!r}"
            shown += f"{resources.pg!r} {resources.orders!r} {resources.subscriber!r}"

        assert CANARY not in shown
        assert SIGNING[6:] not in shown

    @pytest.mark.parametrize(
        "make",
        [
            lambda: TossClient(base_url="https://toss.example", secret_key=f"test_sk_{CANARY}"),
            lambda: OrdersClient(f"https://orders.example/{CANARY}"),
            lambda: SubscriberClient("https://orders.example/events", secrets=[SIGNING]),
            lambda: AppriseAlerts([f"json://user:{CANARY}@alerts.example/"]),
            lambda: create_engine(DATABASE),
            lambda: Trust([CANARY], takes_hints=True),
        ],
        ids=["pg", "orders", "subscriber", "alerts", "database", "trust"],
    )
    def test_are_made_of_parts_that_show_none(self, make: Callable[[], object]) -> None:
        held = make()

        assert CANARY not in f"{held!r} {held}"


class TestRequests:
    def test_to_prepare_show_no_buyer(self) -> None:
        urls = {"successUrl": f"https://shop.example/{CANARY}", "failUrl": f"https://shop.example/{CANARY}"}
        body = PrepareBody.model_validate({**prepare_body(), **urls, "customerEmail": f"{CANARY}@example.com"})

        assert CANARY not in f"{body!r} {body} {body.request(buyer=CANARY)!r}"

    def test_to_cancel_show_no_account_and_nobodys_words(self) -> None:
        account = {"bank": "88", "accountNumber": "110123456789", "holderName": CANARY}
        body = CancelBody.model_validate({"cancelReason": CANARY, "refundReceiveAccount": account})

        clerk = Client("clerk", "client clerk", frozenset())

        shown = f"{body!r} {body} {body.request('order-000001', request_id=UUID(int=0), client=clerk)!r}"

        assert CANARY not in shown
        assert "110123456789" not in shown

    def test_that_became_a_payment_show_no_buyer(self) -> None:
        payment = Payment.prepare(
            order_id="order-000001",
            amount=15_000,
            method=PaymentMethod.CARD,
            customer_email=f"{CANARY}@example.com",
            order_name=CANARY,
            at=datetime.now(UTC),
        )

        assert CANARY not in f"{payment!r} {payment} {list(payment.__dict__)}"
        assert payment.created_at < datetime.now(UTC) + timedelta(seconds=1)
