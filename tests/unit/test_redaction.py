"""What logs may not show: each of these has to be gone, and everything else has to stay."""

import base64
import json
import time
from typing import Final

import hypothesis
import pytest
from hypothesis import strategies as st

from payments import redaction
from payments.redaction import MASK, KnownSecrets, clean, clean_trace, names_a_secret, redact, shorten

TOSS_KEY: Final = "test_sk_0123456789abcdefABCDEF"
TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJidXllciJ9.c2lnbmF0dXJlLW9mLWl0"
API_KEY: Final = "payk_a1B2c3D4_" + "x" * 43
IN_BASIC: Final = base64.b64encode(f"{TOSS_KEY}:".encode()).decode()

# A text, and what of it must not be left.
SECRETS: Final = {
    "toss_key": (f"asked with {TOSS_KEY}!", TOSS_KEY[8:]),
    "live_widget_key": ("key=live_gsk_abcdefgh", "abcdefgh"),
    "toss_key_behind_a_word": ("the_test_sk_abcdefgh", "abcdefgh"),
    "toss_key_in_base64": (f"sent {IN_BASIC}", IN_BASIC[12:]),
    "signing_secret": ("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "C2FVsBQ"),
    "api_key": (f"the key {API_KEY} is wrong", "xxxx"),
    "api_key_in_a_url": (f"/payments?key={API_KEY}", "xxxx"),
    "web_token": (f"claims of {TOKEN}", "eyJ"),
    "web_token_cut_short": (f"claims of {TOKEN[:40]}", "eyJ"),
    "basic": (f"Authorization: Basic {IN_BASIC}", IN_BASIC),
    "bearer": ("authorization=bearer abcdefgh1", "abcdefgh"),
    "bearer_encoded": ("?auth=Bearer%20abcdefgh1", "abcdefgh"),
    "headers": ("{'authorization': 'Digest username=\"me\", response=\"abcdefgh\"'}", "abcdefgh"),
    "raw_headers": ("[(b'host', b'x'), (b'cookie', b'a=1; sid=abcdefgh')]", "abcdefgh"),
    "cookie": ("Cookie: theme=dark; session=abcdefgh", "abcdefgh"),
    "set_cookie": ("set-cookie: __Host-session=abcdefgh; Secure", "abcdefgh"),
    "database": ("postgresql+psycopg://payments:abcdefgh@db:5432/payments", "abcdefgh"),
    "database_with_an_odd_password": ("postgresql://payments:a/b@abcdefgh@db/payments", "abcdefgh"),
    "user_of_url": ("GET https://user:abcdefgh@orders.example/x", "abcdefgh"),
    "conninfo": ("host=db user=payments password=abcdefgh connect_timeout=3", "abcdefgh"),
    "conninfo_in_quotes": ("host=db password='abc defgh' dbname=x", "defgh"),
    "json": ('{"password": "abc defgh", "a": 1}', "defgh"),
    "json_in_json": ('{\\"secret\\": \\"abcdefgh\\"}', "abcdefgh"),
    "named_header": ("X-Api-Key: abcdefgh", "abcdefgh"),
    "signature": ("tosspayments-webhook-signature: v1:abcdefgh", "abcdefgh"),
    "idempotency_key": ("Idempotency-Key: abcdefgh", "abcdefgh"),
    "slack": ("slack://T1/B2/abcdefgh", "abcdefgh"),
    "mail": ("mailtos://user:abcdefgh@mail.example?to=me", "abcdefgh"),
    "slack_hook": ("POST https://hooks.slack.com/services/T1/B2/abcdefgh", "abcdefgh"),
    "discord_hook": ("https://discord.com/api/webhooks/1/abcdefgh", "abcdefgh"),
    "query": ("GET https://shop.example/success?paymentKey=abcdefgh&amount=1", "abcdefgh"),
    "email": ("sent to buyer.name+shop@mail.example.co.kr.", "buyer"),
    "email_before_a_particle": ("buyer@example.com으로 보냄", "buyer"),
    "email_encoded": ("email%3Dbuyer%40example.com", "buyer%40"),
    "email_in_json": (json.dumps("buyer@example.com").replace("@", "\\u0040"), "buyer"),
    "card": ("paid with 4111 1111 1111 1111 today", "4111"),
    "card_with_dashes": ("4111-1111-1111-1111", "4111"),
    "card_behind_a_particle": ("카드4111111111111111로", "41111111"),
    "mobile": ("call 010-1234-5678", "1234"),
    "mobile_abroad": ("call +82 10 1234 5678", "1234"),
    "mobile_plain": ("번호는 01012345678입니다", "0101234"),
    "telephone": ("call 02-123-4567 or 031-123-4567", "123"),
    "resident": ("주민번호 900101-1234567", "1234567"),
    "resident_plain": ("주민번호 9001011234567", "9001011"),
    "account": ("to 110-123-456789", "110-123"),
    "account_plain": ("계좌번호110123456789는", "11012345"),
    "payment_key": ("payment tviva20260102144639Ab1Cd", "tviva2026"),
    "payment_key_of_path": ("GET /v1/payments/abcdefgh_0123456/cancel", "abcdefgh"),
    "pydantic": ("Input should be 5 [type=x, input_value='abcdefgh, x', input_type=str]", "abcdefgh"),
    "postgresql": ("duplicate key\nDETAIL:  Key (payment_key)=(abcdefgh) already exists.", "abcdefgh"),
    "postgresql_row": ("Failing row contains (1, buyer, abcdefgh).", "abcdefgh"),
}
HARMLESS: Final = (
    "request.answered",
    "/payments/orders/{orderId}/cancel",
    "order-20261122-0001",
    "0193a1b2-0000-7000-8000-000000000000",
    "2026-11-22T10:00:00.123456+09:00",
    "from 2026-11-21 to 2026-11-22",
    "15,000원을 결제했습니다",
    "at 0x7f3a12345678 in 1767225600.123456 s",
    "https://api.tosspayments.com:443/v1/payments/confirm",
    "overdue: recover, reconcile; is `payments worker` running?",
    "test_ck_0123456789 is a client key, which every browser knows",
    "결제 시간이 만료되었습니다.",
    "%s %d {} {0} {event}",
)
# Bits of what is looked for: repeated, they are what a careless pattern would take for ever to refuse.
BITS: Final = (
    *("a", "1", "1 ", "eyJ", "test_sk_", "payk_", "postgres://", "://", "a@", "@", ".a", "a.", "?a", "token", "token="),
    *(
        'token="',
        "cookie:",
        "authorization",
        "basic ",
        "010",
        "4 ",
        "4111 1111 1111 1111 ",
        "'",
        "\\",
        "/a",
        "https://",
    ),
    *("https://a/", "input_value=", "DETAIL:", "900101-1", "12-12-", "aaaaa20", "/v1/payments/", "%40", "\u202e", "\n"),
)
MEGABYTE: Final = 1_000_000
# Members may be named like what the loggers set themselves.
NAMES: Final = st.sampled_from(["timestamp", "level", "event", "note", "order_id", ""]) | st.text()
ANYTHING: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner) | st.tuples(inner) | st.sets(st.integers()),
    max_leaves=10,
)


class TestRedact:
    @pytest.mark.parametrize(("text", "gone"), SECRETS.values(), ids=SECRETS.keys())
    def test_leaves_nothing_of(self, text: str, gone: str) -> None:
        assert gone in text
        assert gone not in redact(text)

    @pytest.mark.parametrize(("text", "gone"), SECRETS.values(), ids=SECRETS.keys())
    def test_leaves_nothing_of_it_in_the_middle_of_a_sentence(self, text: str, gone: str) -> None:
        assert gone not in redact(f"결제 실패 - it said: {text} (and more), then ended")

    @pytest.mark.parametrize("text", HARMLESS)
    def test_leaves_alone(self, text: str) -> None:
        assert redact(text) == text

    def test_shows_which_key_it_was(self) -> None:
        assert redact(API_KEY) == f"payk_a1B2c3D4_{MASK}"
        assert redact(TOSS_KEY) == f"test_sk_{MASK}"
        assert redact("tviva20260102144639Ab1Cd") == "...9Ab1Cd"


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            *("secret", "webhook_secret", "TOSS_SECRET_KEY", "token", "access-token", "password", "Authorization"),
            *("cookie", "set-cookie", "api_key", "X-Api-Key", "apiKey", "toss_signature", "customerEmail", "e-mail"),
            *("accountNumber", "holderName", "account", "card", "cardNumber", "cvc", "phone", "mobile_phone"),
            *("customer_name", "idempotency_key", "Idempotency-Key", "confirm_key", "DATABASE_URL", "headers", "body"),
        ],
    )
    def test_that_promise_a_secret(self, name: str) -> None:
        assert names_a_secret(name)
        assert clean("harmless", name=name) == MASK

    @pytest.mark.parametrize(
        "name", ["event", "order_id", "method", "route", "status", "code", "amount", "kind", "toss", "payment_key_ends"]
    )
    def test_that_do_not(self, name: str) -> None:
        assert not names_a_secret(name)


class TestClean:
    def test_looks_into_what_is_nested(self) -> None:
        value = {"data": [{"password": "x", "timestamp": TOSS_KEY}, ("buyer@example.com",)], TOSS_KEY: 1}

        assert clean(value) == {
            "data": [{"password": MASK, "timestamp": f"test_sk_{MASK}"}, [MASK]],
            f"test_sk_{MASK}": 1,
        }

    def test_ends_where_a_value_does_not(self) -> None:
        endless: list[object] = []
        endless.append(endless)

        assert clean(endless) == [[[MASK]]]

    def test_is_bounded_however_much_is_nested(self) -> None:
        much = {f"{number}": ["x" * 5_000] * 1_000 for number in range(1_000)}

        assert len(json.dumps(clean({"much": [much] * 100}))) < 100_000
        assert len(json.dumps(clean(much))) < 1_000_000

    @hypothesis.given(ANYTHING)
    def test_makes_of_anything_what_can_be_written_in_one_line(self, value: object) -> None:
        line = json.dumps(clean(value), ensure_ascii=False, allow_nan=False)

        assert line.isprintable()

    @hypothesis.given(ANYTHING)
    def test_finds_a_secret_in_anything(self, value: object) -> None:
        assert TOSS_KEY[8:] not in json.dumps(clean([value, {"note": f"{value} {TOSS_KEY} {value}"}]))

    def test_shows_the_end_of_a_payment_key_alone(self) -> None:
        assert clean("a_key_of_another_pg_0123456789", name="payment_key") == "456789"

    def test_keeps_the_digits_of_ids(self) -> None:
        assert clean("20261122000112", name="order_id") == "20261122000112"
        assert clean(TOSS_KEY, name="order_id") == f"test_sk_{MASK}"

    @pytest.mark.parametrize("value", [None, True, 0, -5, 1_000_000, 12.5])
    def test_leaves_numbers_alone(self, value: object) -> None:
        assert clean(value) == value

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (110123456789, f"{MASK}6789"),
            (4111111111111111, "************1111"),
            (2**200, "a huge number"),
            (float("nan"), "nan"),
            (b"secret", "6 bytes"),
            (ValueError(TOSS_KEY), f"ValueError: test_sk_{MASK}"),
        ],
    )
    def test_shows_what_is_no_text(self, value: object, shown: object) -> None:
        assert clean(value) == shown

    def test_survives_what_cannot_be_shown(self) -> None:
        class Shy:
            def __str__(self) -> str:
                raise RuntimeError(TOSS_KEY)

        assert clean(Shy()) == "Shy that cannot be shown: RuntimeError"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("a\r\nb", "a\\r\\nb"),
            ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
            ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
            ("\u202egnp.exe\u2066\u200b\ufeff", "\\u202egnp.exe\\u2066\\u200b\\ufeff"),
            ("half \ud800", "half \\ud800"),
            ("nul\0", "nul\\x00"),
            ("%s {} {event} %(name)s", "%s {} {event} %(name)s"),
            ("한글은 그대로", "한글은 그대로"),
        ],
    )
    def test_writes_in_one_line(self, text: str, shown: str) -> None:
        assert clean(text) == shown


class TestLongTexts:
    def test_are_cut(self) -> None:
        shown = str(clean("x" * MEGABYTE))

        assert shown == f"{'x' * 2000}... (1000000 characters)"

    @pytest.mark.parametrize("bit", [text for text, _ in SECRETS.values()], ids=SECRETS.keys())
    def test_show_no_secret_that_the_cut_goes_through(self, bit: str) -> None:
        gone = dict(SECRETS.values())[bit]
        for reach in (*range(1_930, 2_010, 9), *range(4_500, 4_610, 7)):
            shown = str(clean(f"{'가' * reach} {bit} {'나' * 5_000}"))
            assert gone not in shown

    def test_show_no_secret_whose_neighbours_shrink(self) -> None:
        many = f"{TOSS_KEY * 20} " * 200

        assert "0123456789" not in str(clean(many))

    def test_are_never_read_whole(self) -> None:
        read: list[int] = []

        def note(text: str) -> str:
            read.append(len(text))
            return text

        shorten("x" * MEGABYTE, redacted=note)

        assert read == [4600]

    @pytest.mark.parametrize("bit", BITS)
    def test_cost_no_more_for_being_made_up_to_cost(self, bit: str, request: pytest.FixtureRequest) -> None:
        if not request.config.getoption("--proof"):
            pytest.skip("it measures time")
        text = bit * (MEGABYTE // len(bit))

        began = time.process_time()
        clean(text)

        assert time.process_time() - began < 0.05  # 5 ms on the machine where it was written


class TestTraces:
    def test_keep_their_lines(self) -> None:
        assert clean_trace("Traceback:\n  File x\nValueError: \x1b[2J") == "Traceback:\n  File x\nValueError: \\x1b[2J"

    def test_without_an_end_lose_their_middle(self) -> None:
        lines = [f"line {number}" for number in range(10_000)]

        shown = clean_trace("\n".join(lines)).split("\n")

        assert (shown[0], shown[25], shown[-1], len(shown)) == ("line 0", "...", "line 9999", 101)


class TestKnownSecrets:
    SECRET: Final = 'correct "horse" battery staple/+='

    @pytest.mark.parametrize(
        "line",
        [
            SECRET,
            json.dumps({"event": SECRET}),
            "correct%20%22horse%22%20battery%20staple%2F%2B%3D",
            base64.b64encode(SECRET.encode()).decode(),
            base64.b64encode(SECRET.encode() + b":").decode(),
        ],
        ids=["plain", "json", "url", "base64", "basic"],
    )
    def test_are_found_however_they_are_written(self, line: str) -> None:
        masked = KnownSecrets([self.SECRET]).mask(f"it said {line}, twice: {line}")

        assert masked.count(MASK) == 2
        assert line not in masked
        assert "horse" not in masked

    def test_are_found_as_a_whole_before_their_parts(self) -> None:
        known = KnownSecrets(["password-of-it", "db://me:password-of-it@host"])

        assert known.mask("at db://me:password-of-it@host") == f"at {MASK}"

    def test_that_are_words_are_left_to_their_looks(self) -> None:
        assert KnownSecrets(["postgres", "pay"]).mask("payment") == "payment"


class TestRules:
    def test_have_a_name_each(self) -> None:
        rules = (*redaction.CREDENTIALS, *redaction.NAMED, *redaction.PERSONS, *redaction.NUMBERS)

        assert len({rule.name for rule in rules}) == len(rules)


@pytest.mark.parametrize("separator", ["\u00a0", "\u2011", "\u2212", ""])
@pytest.mark.parametrize("first", ["4", "\uff14"], ids=["ASCII", "full width"])
def test_a_card_number_is_masked_however_it_is_written(separator: str, first: str) -> None:
    number = separator.join([f"{first}111", "1111", "1111", "1111"])

    assert number not in redact(f"card {number} end")
