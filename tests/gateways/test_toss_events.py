"""What a webhook may look like: bodies as Toss's page on webhook events shows them, and what others may send."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from payments.gateways.toss_events import MalformedEvent, TossEvent, read_event
from tests.gateways.toss_builders import (
    ORDER_ID,
    PAYMENT_KEY,
    SECRET,
    a_cancel,
    a_payment,
    a_refunded_payment,
    as_bytes,
)

CREATED = "2026-01-02T14:46:59.653270"
WITH_OFFSET = "2026-01-02T14:46:59+09:00"


def an_event(event_type: str, data: object) -> bytes:
    return as_bytes({"eventType": event_type, "createdAt": CREATED, "data": data})


def a_deposit_callback(**changes: object) -> bytes:
    callback = {
        "createdAt": CREATED,
        "secret": SECRET,
        "status": "DONE",
        "transactionKey": "9FF15E1A29D0E77C218F57262BFA4986",
        "orderId": ORDER_ID,
    }
    return as_bytes({**callback, **changes})


def malformed(body: bytes) -> str:
    with pytest.raises(MalformedEvent) as caught:
        read_event(body)
    return str(caught.value)


class TestEnvelopes:
    def test_a_change_of_a_payment_names_it(self) -> None:
        assert read_event(an_event("PAYMENT_STATUS_CHANGED", a_payment())) == TossEvent(
            event_type="PAYMENT_STATUS_CHANGED",
            order_id=ORDER_ID,
            payment_key=PAYMENT_KEY,
            transaction_key="txrd_a01k0000000000000000000000",
            status="DONE",
            secret=SECRET,
            created_at=CREATED,
        )

    def test_a_refund_event_is_read_the_same_way(self) -> None:
        event = read_event(an_event("REFUND_STATUS_CHANGED", a_refunded_payment(4_000)))

        assert (event.order_id, event.payment_key, event.status) == (ORDER_ID, PAYMENT_KEY, "PARTIAL_CANCELED")
        assert event.transaction_key == "cancel-down-to-11000"

    @pytest.mark.parametrize("created_at", [CREATED, "2026-01-02T14:46:59.65327", WITH_OFFSET])
    def test_a_deposit_callback_is_flat_and_does_not_say_what_it_is(self, created_at: str) -> None:
        assert read_event(a_deposit_callback(createdAt=created_at)) == TossEvent(
            event_type="DEPOSIT_CALLBACK",
            order_id=ORDER_ID,
            payment_key=None,
            transaction_key="9FF15E1A29D0E77C218F57262BFA4986",
            status="DONE",
            secret=SECRET,
            created_at=created_at,
        )

    def test_a_cancel_event_holds_one_cancel(self) -> None:
        event = read_event(an_event("CANCEL_STATUS_CHANGED", a_cancel(4_000, 11_000, cancelStatus="ABORTED")))

        assert (event.transaction_key, event.status) == ("cancel-down-to-11000", "ABORTED")
        assert (event.payment_key, event.order_id) == (None, None)

    def test_a_cancel_event_that_names_its_payment_is_taken_at_its_word(self) -> None:
        cancel = a_cancel(4_000, 11_000, paymentKey=PAYMENT_KEY, orderId=ORDER_ID)

        event = read_event(an_event("CANCEL_STATUS_CHANGED", cancel))

        assert (event.payment_key, event.order_id) == (PAYMENT_KEY, ORDER_ID)

    def test_a_payout_keeps_its_status_in_the_body_of_an_entity(self) -> None:
        body = as_bytes(
            {
                "eventType": "payout.changed",
                "createdAt": WITH_OFFSET,
                "version": "2022-11-16",
                "eventId": "e",
                "entityType": "payout",
                "entityBody": {
                    "id": "FPA_12345",
                    "amount": {"currency": "KRW", "value": 5000.0},
                    "status": "COMPLETED",
                },
            }
        )

        event = read_event(body)

        assert (event.event_type, event.status, event.created_at) == ("payout.changed", "COMPLETED", WITH_OFFSET)
        assert (event.order_id, event.payment_key, event.secret) == (None, None, None)

    @pytest.mark.parametrize(
        "body",
        [
            an_event("BILLING_DELETED", {"billingKey": "b", "reason": None}),
            an_event("CUSTOMER_STATUS_CHANGED", {"customerKey": "c", "status": "CREATED", "anythingNew": [1]}),
            an_event("brand.new-event", "한 마디"),
            an_event("새 이벤트", [1, 2]),
            as_bytes({"eventType": "NOTHING_ELSE"}),
            as_bytes({"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": None, "data": None}),
            as_bytes({"eventType": "payout.changed", "createdAt": 5, "entityBody": None}),
        ],
    )
    def test_whatever_else_toss_invents_is_an_event_about_none_of_our_payments(self, body: bytes) -> None:
        event = read_event(body)

        assert event.event_type == json.loads(body)["eventType"]
        assert (event.order_id, event.payment_key, event.transaction_key, event.secret) == (None, None, None, None)


class TestFields:
    @pytest.mark.parametrize("name", ["createdAt", "secret", "status", "transactionKey", "orderId", "eventType"])
    def test_that_are_null_are_tolerated(self, name: str) -> None:
        assert read_event(a_deposit_callback(**{name: None})).event_type == "DEPOSIT_CALLBACK"

    @pytest.mark.parametrize(
        "order_id",
        ["", "short", "../../settlements", "order 00001", "x" * 65, "주문-000001", "a" * 6 + "\n", 12, [], {}],
    )
    def test_an_order_id_that_is_none_is_dropped(self, order_id: object) -> None:
        assert read_event(a_deposit_callback(orderId=order_id)).order_id is None

    @pytest.mark.parametrize("key", ["", "..", "../settlements", "a/cancel", "a?x=1", "a#b", "%2e", "x" * 201, 1, None])
    def test_a_payment_key_that_is_none_is_dropped(self, key: object) -> None:
        assert read_event(an_event("PAYMENT_STATUS_CHANGED", a_payment(paymentKey=key))).payment_key is None

    @pytest.mark.parametrize("status", ["", "x" * 65, "DONE\n", "\ud800", 1, True, {"a": 1}])
    def test_a_status_that_is_no_word_is_dropped(self, status: object) -> None:
        body = json.dumps({"eventType": "PAYMENT_STATUS_CHANGED", "data": {"status": status}}).encode()

        assert read_event(body).status is None

    @pytest.mark.parametrize("secret", [SECRET, "", "\0", "비밀", "x" * 10_000])
    def test_a_secret_is_kept_as_it_is_to_be_compared(self, secret: str) -> None:
        assert read_event(a_deposit_callback(secret=secret)).secret == secret

    @pytest.mark.parametrize("secret", [0, 1.5, False, [SECRET], {"a": SECRET}])
    def test_a_secret_that_is_no_text_is_there_and_nobodys(self, secret: object) -> None:
        assert read_event(a_deposit_callback(secret=secret)).secret == ""

    def test_the_secret_is_not_shown(self) -> None:
        assert SECRET not in repr(read_event(a_deposit_callback()))


class TestMalformed:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b'"DONE"',
            b"<html>",
            b"\xff\xfe{}",
            b'{"eventType":"A","eventType":"B"}',
            b'{"eventType":"A","data":{"orderId":"order-000001","orderId":"order-000002"}}',
            b'{"eventType":"A","data":NaN}',
            b'{"eventType":"A"} {}',
            b"[" * 100_000,
            b'{"eventType":"A","data":' + b"9" * 5_000 + b"}",
            as_bytes(a_payment()).replace(b"}", b"", 1),
        ],
    )
    def test_what_is_no_json_object_is_no_event(self, body: bytes) -> None:
        assert malformed(body).startswith("body: ")

    @pytest.mark.parametrize("kind", ["", "x" * 65, "A\nB", "\0", 1, True, [], {}])
    def test_a_type_that_is_no_word_is_refused(self, kind: object) -> None:
        assert malformed(as_bytes({"eventType": kind, "data": a_payment()})) == "eventType: not a word"

    @pytest.mark.parametrize("body", [{}, {"data": a_payment()}, {"orderId": ORDER_ID}, {"status": "DONE"}])
    def test_what_does_not_say_what_it_is_is_refused(self, body: object) -> None:
        assert malformed(as_bytes(body)) == "eventType: missing"

    def test_the_content_is_not_told(self) -> None:
        assert SECRET not in malformed(as_bytes({"eventType": SECRET * 10, "secret": SECRET}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
named = ("orderId", "paymentKey", "transactionKey", "lastTransactionKey", "status", "secret")
inner = st.fixed_dictionaries({}, optional=dict.fromkeys(named, json_values))
events = st.fixed_dictionaries(
    {},
    optional={
        "eventType": st.sampled_from(["PAYMENT_STATUS_CHANGED", "payout.changed"]) | json_values,
        "createdAt": json_values,
        "data": inner | json_values,
        "entityBody": inner | json_values,
        "orderId": json_values,
        "status": json_values,
    },
)


class TestAnything:
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary() | events.map(lambda event: json.dumps(event).encode()))
    def test_is_an_event_or_malformed_and_nothing_else(self, body: bytes) -> None:
        try:
            event = read_event(body)
        except MalformedEvent:
            return

        assert 1 <= len(event.event_type) <= 64
        assert len(event.created_at) <= 64
        event.created_at.encode()
