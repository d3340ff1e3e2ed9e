"""Who may claim to have sent a webhook; what the signatures must be is computed here by hand."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.signing import is_same, is_signed_by, is_signed_by_toss

BODY = '{"eventType":"payout.changed","data":"결제"}'.encode()
SECRET = "a-secret-of-the-shop"
OTHER = "the-secret-that-replaces-it"
SECURITY_KEY = "0123456789abcdef" * 4
SENT = "2026-01-02T14:46:59+09:00"
AT = datetime(2026, 1, 2, 5, 47, 30, tzinfo=UTC)

anything = st.text() | st.text(st.characters(categories=["Cs", "Cc", "Lo"])) | st.just("x" * 10_000)


def hex_of(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def value_of(body: bytes, key: bytes, sent: str = SENT) -> str:
    mac = hmac.new(key, body + b":" + sent.encode(), hashlib.sha256).digest()
    return f"v1:{base64.b64encode(mac).decode()}"


def by_toss(
    header: str, *, sent: str = SENT, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,), at: datetime = AT
) -> bool:
    return is_signed_by_toss(header, sent, body, secrets, at=at)


GENUINE = value_of(BODY, SECRET.encode())


class TestSame:
    @given(anything, anything)
    def test_is_what_equals_and_nothing_raises(self, a: str, b: str) -> None:
        assert is_same(a, b) is (a == b)
        assert is_same(a, a)


class TestSignedBody:
    @pytest.mark.parametrize("write", [str, str.upper, "sha256={}".format])
    def test_is_recognised_however_the_digest_is_written(self, write: Callable[[str], str]) -> None:
        assert is_signed_by(write(hex_of(BODY)), BODY, [SECRET])

    def test_may_be_signed_with_either_live_secret(self) -> None:
        assert is_signed_by(hex_of(BODY, OTHER), BODY, [SECRET, OTHER])

    def test_with_a_retired_secret_is_refused(self) -> None:
        assert not is_signed_by(hex_of(BODY, OTHER), BODY, [SECRET])

    @pytest.mark.parametrize("secrets", [(), ("",), ("", SECRET)])
    def test_is_not_signed_by_an_empty_secret_which_everybody_knows(self, secrets: tuple[str, ...]) -> None:
        assert not is_signed_by(hex_of(BODY, ""), BODY, secrets)

    @pytest.mark.parametrize(
        "header",
        [
            "",
            hex_of(BODY)[:-1],
            hex_of(BODY) + "0",
            hex_of(BODY) + "\n",
            " " + hex_of(BODY),
            "sha1=" + hex_of(BODY),
            "sha256=sha256=" + hex_of(BODY),
            f"{hex_of(BODY)},{hex_of(BODY)}",
            base64.b64encode(bytes.fromhex(hex_of(BODY))).decode(),
            "\uff10" * 64,
            "\0" * 64,
            "가" * 64,
            "\ud800" * 64,
            "a" * 10_000,
        ],
    )
    def test_with_a_header_that_is_no_digest_is_refused(self, header: str) -> None:
        assert not is_signed_by(header, BODY, [SECRET])

    @pytest.mark.parametrize("changed", [BODY + b"\n", BODY.replace(b":", b": "), b" " + BODY, b""])
    def test_is_the_raw_bytes_and_not_what_they_mean(self, changed: bytes) -> None:
        assert not is_signed_by(hex_of(BODY), changed, [SECRET])

    def test_is_refused_when_any_byte_of_it_is_another(self) -> None:
        header = hex_of(BODY)

        assert not any(is_signed_by(header, changed, [SECRET]) for changed in mutations(BODY))

    @given(anything, st.binary(max_size=100), st.lists(anything, max_size=3))
    def test_nothing_raises_and_nothing_invented_passes(self, header: str, body: bytes, secrets: list[str]) -> None:
        assert not is_signed_by(header, body, secrets)


class TestSignedByToss:
    def test_is_recognised(self) -> None:
        assert by_toss(GENUINE)

    def test_may_be_signed_with_either_of_two_keys_in_any_place(self) -> None:
        with_other = value_of(BODY, OTHER.encode())

        assert by_toss(f"{with_other},{GENUINE}")
        assert by_toss(f"{GENUINE}, {with_other}")
        assert by_toss(with_other, secrets=(SECRET, OTHER))
        assert not by_toss(with_other)

    @pytest.mark.parametrize("key", [SECURITY_KEY.encode(), bytes.fromhex(SECURITY_KEY)], ids=["text", "bytes"])
    def test_the_security_key_counts_as_text_and_as_the_bytes_it_spells(self, key: bytes) -> None:
        assert by_toss(value_of(BODY, key), secrets=(SECURITY_KEY,))

    def test_a_version_that_we_do_not_know_stands_in_nobodys_way(self) -> None:
        assert by_toss(f"v2:whatever,{GENUINE}")
        assert not by_toss(GENUINE.replace("v1:", "v2:"))

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "v1:",
            "v1",
            GENUINE.removeprefix("v1:"),
            GENUINE.replace("v1:", "V1:"),
            GENUINE.replace("v1:", "v1,"),
            GENUINE.rstrip("="),
            GENUINE + "=",
            GENUINE[:10] + "!" + GENUINE[10:],
            GENUINE[:10] + "\n" + GENUINE[10:],
            GENUINE + "\n",
            "v1:" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
            "v1:" + "가" * 44,
            "v1:\0",
            "v1:\ud800",
            "v1:" + "A" * 10_000,
        ],
    )
    def test_with_a_header_that_is_no_signature_is_refused(self, header: str) -> None:
        assert not by_toss(header)

    def test_spare_bits_of_the_last_digit_make_another_text_and_no_signature(self) -> None:
        digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        last = GENUINE[-2]
        twin = GENUINE[:-2] + digits[digits.index(last) + 1] + "="

        assert base64.b64decode(twin[3:]) == base64.b64decode(GENUINE[3:])
        assert not by_toss(twin)

    def test_a_long_list_is_not_worked_through(self) -> None:
        assert by_toss(",".join(["v1:AAAA"] * 4 + [GENUINE]))
        assert not by_toss(",".join(["v1:AAAA"] * 5 + [GENUINE]))
        assert not by_toss(",".join([GENUINE] * 1_000))

    @pytest.mark.parametrize("minutes", [-5, 0, 5])
    def test_a_transmission_of_these_minutes_is_believed(self, minutes: int) -> None:
        at = datetime.fromisoformat(SENT) + timedelta(minutes=minutes)

        assert by_toss(GENUINE, at=at)

    @pytest.mark.parametrize("seconds", [-301, 301, 600, -600])
    def test_an_old_or_a_future_one_is_not(self, seconds: int) -> None:
        at = datetime.fromisoformat(SENT) + timedelta(seconds=seconds)

        assert not by_toss(GENUINE, at=at)

    @pytest.mark.parametrize(
        "sent",
        [
            "",
            "now",
            "1767332819",
            "2026-01-02T14:46:59",
            "2026-01-02",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+23:59",
            "2026-01-02T14:46:59+09:00\0",
            "\uff12026-01-02T14:46:59+09:00",
            "2026-01-02가14:46:59+09:00",
            "\ud800",
            "2" * 10_000,
        ],
    )
    def test_a_time_that_proves_nothing_is_refused_though_it_is_signed(self, sent: str) -> None:
        mac = hmac.new(SECRET.encode(), BODY + b":" + sent.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

        assert not by_toss(f"v1:{base64.b64encode(mac).decode()}", sent=sent)

    @pytest.mark.parametrize("sent", ["2026-01-02T14:47:00+09:00", "2026-01-02T05:46:59+00:00"])
    def test_the_time_is_signed_as_it_is_written(self, sent: str) -> None:
        assert not by_toss(GENUINE, sent=sent)

    def test_is_refused_when_any_byte_of_the_body_is_another(self) -> None:
        assert not any(by_toss(GENUINE, body=changed) for changed in mutations(BODY))

    def test_is_refused_when_any_character_of_the_signature_is_another(self) -> None:
        changed = {
            GENUINE[:place] + chr(ord(GENUINE[place]) ^ 1) + GENUINE[place + 1 :] for place in range(len(GENUINE))
        }

        assert not any(by_toss(header) for header in changed)

    @pytest.mark.parametrize("secrets", [(), ("",)])
    def test_is_not_signed_by_an_empty_secret(self, secrets: tuple[str, ...]) -> None:
        assert not by_toss(value_of(BODY, b""), secrets=secrets)

    @given(anything, anything | st.just(SENT), st.binary(max_size=100), st.lists(anything, max_size=3))
    def test_nothing_raises_and_nothing_invented_passes(
        self, header: str, sent: str, body: bytes, secrets: list[str]
    ) -> None:
        assert not is_signed_by_toss(header, sent, body, secrets, at=AT)


def mutations(body: bytes) -> list[bytes]:
    """Every body that differs from this one in a single bit, or in a byte that is gone."""
    flipped = [
        body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]
        for place in range(len(body))
        for bit in range(8)
    ]
    return [*flipped, *(body[:place] + body[place + 1 :] for place in range(len(body)))]
