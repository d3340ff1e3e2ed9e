"""Bytes that are no request, or could be taken for two, against the real server."""

from contextlib import suppress
from typing import Final

import pytest

from tests.edge.wire import GET, HOST, JSON, POST, Wire, ask, refused

CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
BODY: Final = b"2\r\n{}\r\n0\r\n\r\n"

SMUGGLED: Final = {
    "a length and chunks": POST + b"Content-Length: 2\r\n" + CHUNKED + b"\r\n" + BODY,
    "chunks and a length": POST + CHUNKED + b"Content-Length: 2\r\n\r\n" + BODY,
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "the same length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "an endless length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "an empty length": POST + b"Content-Length:\r\n\r\n{}",
    "an unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "a compressed encoding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY,
    "chunks not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + BODY,
    "chunks of chunks": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + BODY,
    "two encodings": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "no encoding, said so": POST + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "an empty encoding": POST + b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\n{}",
    "an encoding behind a vertical tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + BODY,
    "chunks in HTTP/1.0": b"POST /payments/prepare HTTP/1.0\r\n" + JSON + CHUNKED + b"\r\n" + BODY,
    "a chunk of no size": POST + CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk of a signed size": POST + CHUNKED + b"\r\n+2\r\n{}\r\n0\r\n\r\n",
    "chunks with bare line feeds": POST + CHUNKED + b"\r\n2\n{}\n0\n\n",
    "a chunk longer than it says": POST + CHUNKED + b"\r\n2\r\n{}xx0\r\n\r\n",
    "a bare line feed behind a chunk's extension": POST + CHUNKED + b"\r\n2;a\n{}\r\n0\r\n\r\n",
    "a trailer": POST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nIdempotency-Key: a\r\n\r\n",
}
MALFORMED: Final = {
    "no host": GET + b"\r\n",
    "two hosts": GET + HOST + HOST + b"\r\n",
    "an empty host": GET + b"Host:\r\n\r\n",
    "a host with a space": GET + b"Host: a b\r\n\r\n",
    "a host with a user": GET + b"Host: a@b\r\n\r\n",
    "two hosts in HTTP/1.0": b"GET /health/live HTTP/1.0\r\n" + HOST + HOST + b"\r\n",
    "a space before the colon": GET + HOST + b"A : b\r\n\r\n",
    "a space before the first name": GET + b" A: b\r\n" + HOST + b"\r\n",
    "a folded header": GET + HOST + b"A: b\r\n c\r\n\r\n",
    "bare line feeds": b"GET /health/live HTTP/1.1\nHost: api\n\n",
    "a bare line feed in a header": GET + HOST + b"A: b\nC: d\r\n\r\n",
    "a bare carriage return in a header": GET + HOST + b"A: b\rC: d\r\n\r\n",
    "a NUL in a value": GET + HOST + b"A: b\0c\r\n\r\n",
    "a NUL in a name": GET + HOST + b"A\0: b\r\n\r\n",
    "a control character in a value": GET + HOST + b"A: b\x01c\r\n\r\n",
    "a name that is not ASCII": GET + HOST + b"A\xff: b\r\n\r\n",
    "no name": GET + HOST + b": b\r\n\r\n",
    "no colon": GET + HOST + b"A\r\n\r\n",
    "an absolute target": b"GET http://api/health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target that names another host": b"GET //evil.example/health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target for a tunnel": b"CONNECT api:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tunnel to a path": b"CONNECT /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "the target of nothing": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /health/live#a HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target with a space": b"GET /health/live a HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target with a NUL": b"GET /health/live\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target that is not ASCII": "GET /주문 HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "a query that is not ASCII": b"GET /events?after=\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method that nobody knows": b"STEAL /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method of another protocol": b"DESCRIBE /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version to come": GET.replace(b"1.1", b"1.2") + HOST + b"\r\n",
    "the beginning of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500,
    "nothing of HTTP": b"\0\1\2\3",
}
TOO_LARGE: Final = {
    "a header of 100 kB": (431, GET + HOST + b"A: " + b"b" * 100_000 + b"\r\n\r\n"),
    "a token of 100 kB": (431, GET + HOST + b"Authorization: Bearer " + b"b" * 100_000 + b"\r\n\r\n"),
    "a header of 17 kB": (431, GET + HOST + b"A: " + b"b" * 17_000 + b"\r\n\r\n"),
    "a name of 17 kB": (431, GET + HOST + b"A" * 17_000 + b": b\r\n\r\n"),
    "17 kB in all": (431, GET + HOST + b"".join(b"A%d: %b\r\n" % (i, b"b" * 1_000) for i in range(17)) + b"\r\n"),
    "1,000 headers": (431, GET + HOST + b"A: b\r\n" * 1_000 + b"\r\n"),
    "65 headers": (431, GET + HOST + b"A: b\r\n" * 64 + b"\r\n"),
    "a head of 17 kB before a body": (
        431,
        POST + b"A: " + b"b" * 17_000 + b"\r\nContent-Length: 40000\r\n\r\n" + b" " * 40_000,
    ),
    "a head of 17 kB without its end": (431, GET + HOST + b"A: " + b"b" * 17_000),
    "a target of 9 kB": (414, b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a target of 100 kB": (414, b"GET /?" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
}


class TestFraming:
    @pytest.mark.parametrize("request_", SMUGGLED.values(), ids=SMUGGLED)
    def test_that_can_be_read_in_two_ways_is_refused(self, port: int, request_: bytes) -> None:
        answer = refused(port, request_)

        assert (answer.status, answer.json["code"]) == (400, "malformed_request")

    def test_of_a_trailer_that_comes_late_is_refused(self, port: int) -> None:
        parts = POST + CHUNKED + b"\r\n2\r\n{}\r\n", b"0\r\n", b"Authorization: a\r\n", b"\r\n"

        assert refused(port, *parts).json["code"] == "malformed_request"

    @pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n\r\n{}", CHUNKED + b"\r\n" + BODY])
    def test_of_one_meaning_is_read(self, port: int, framing: bytes) -> None:
        answer = ask(port, POST + framing)

        assert (answer.status, answer.json["code"]) == (422, "invalid_request")


class TestHeads:
    @pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
    def test_that_are_none_are_refused(self, port: int, request_: bytes) -> None:
        answer = refused(port, request_)

        assert (answer.status, answer.json["code"]) == (400, "malformed_request")

    @pytest.mark.parametrize(("status", "request_"), TOO_LARGE.values(), ids=TOO_LARGE)
    def test_that_are_too_large_are_refused(self, port: int, status: int, request_: bytes) -> None:
        answer = refused(port, request_)

        assert answer.status == status
        assert answer.json["code"] == {431: "head_too_large", 414: "target_too_long"}[status]

    @pytest.mark.parametrize("more", [b"A: b\r\n" * 63, b"A: " + b"b" * 15_000 + b"\r\n"], ids=["64 headers", "15 kB"])
    def test_that_are_just_small_enough_are_read(self, port: int, more: bytes) -> None:
        assert ask(port, GET + HOST + more + b"\r\n").status == 200

    def test_before_a_large_body_in_one_piece_are_read(self, port: int) -> None:
        body = b'{"orderId": "' + b"a" * 40_000 + b'"}'

        assert ask(port, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body).status == 422

    @pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0"])
    def test_of_another_version_are_told_ours(self, port: int, version: bytes) -> None:
        assert refused(port, b"GET /health/live " + version + b"\r\n" + HOST + b"\r\n").status == 505

    def test_of_http_1_0_are_answered_and_the_connection_closed(self, port: int) -> None:
        """Health checks of older proxies speak it, and so did nginx for long."""
        with Wire(port) as wire:
            wire.send(b"GET /health/live HTTP/1.0\r\n\r\n")

            assert wire.answer().status == 200
            assert wire.is_closed()


class TestExpectations:
    def test_of_anything_but_100_continue_are_refused(self, port: int) -> None:
        answer = refused(port, GET + HOST + b"Expect: the-unexpected\r\n\r\n")

        assert (answer.status, answer.json["code"]) == (417, "expectation_failed")

    def test_of_100_continue_are_met(self, port: int) -> None:
        with Wire(port) as wire:
            wire.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert wire.answer().status == 100
            wire.send(b"{}")

            assert wire.answer().status == 422

    def test_of_100_continue_for_too_much_are_not(self, port: int) -> None:
        with Wire(port) as wire:
            wire.send(POST + b"Expect: 100-continue\r\nContent-Length: 200000\r\n\r\n")

            assert wire.answer().status == 413
            assert wire.is_closed()


class TestLargeBodies:
    @pytest.mark.parametrize("framing", [b"Content-Length: 50000000\r\n\r\n", CHUNKED + b"\r\n2faf080\r\n"])
    def test_are_refused_while_they_come_in(self, port: int, framing: bytes) -> None:
        with Wire(port) as wire:
            wire.send(POST + framing + b" " * 200_000)

            answer = wire.answer()

            assert (answer.status, answer.json["code"]) == (413, "body_too_large")
            assert answer.values("connection") == ["close"]  # or the client would send its next request into the void
            assert wire.is_closed()

    def test_are_not_followed_by_a_request(self, port: int) -> None:
        """What comes behind an answer that came early may be the body's rest."""
        with Wire(port) as wire:
            wire.send(POST + b"Content-Length: 200000\r\n\r\n")
            assert wire.answer().status == 413
            wire.send(GET + HOST + b"\r\n")

            assert wire.is_closed()


class TestFramingOfBodies:
    @pytest.mark.parametrize(
        "endless",
        [
            b"2\r\n{}\r\n0\r\n" + b"x-more: y\r\n" * 10_000,
            b"2\r\n{}\r\n0\r\nx-more: " + b"y" * 100_000,
            b"2;" + b"x" * 100_000,
        ],
        ids=["trailers", "one trailer", "an extension"],
    )
    def test_that_never_ends_is_refused_before_it_fills_anything(self, port: int, endless: bytes) -> None:
        with Wire(port) as wire:
            wire.send(POST + CHUNKED + b"\r\n")
            with suppress(OSError):  # it may be closed before all of it is sent
                for place in range(0, len(endless), 1000):
                    wire.send(endless[place : place + 1000])

            answer = wire.answer()

            assert (answer.status, answer.json["code"]) == (400, "malformed_request")
            assert wire.is_closed()

    def test_may_hold_a_body_in_single_bytes(self, port: int) -> None:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"a": "' + b"b" * 5_000 + b'"}')
        with Wire(port) as wire:
            wire.send(POST + CHUNKED + b"\r\n")
            for place in range(0, len(chunks), 100):
                wire.send(chunks[place : place + 100])
            wire.send(b"0\r\n\r\n")

            assert wire.answer().json["code"] != "malformed_request"


class TestSecondRequests:
    def test_in_turn_are_answered_on_one_connection(self, port: int) -> None:
        with Wire(port) as wire:
            for _ in range(3):
                wire.send(GET + HOST + b"\r\n")
                assert wire.answer().status == 200

    @pytest.mark.parametrize("second", [GET + HOST + b"\r\n", b"\0\1\2"], ids=["a request", "garbage"])
    def test_before_the_first_is_answered_are_not_begun(self, port: int, second: bytes) -> None:
        """The answer belongs to the first; that the connection closes tells the client to send the second again."""
        with Wire(port) as wire:
            wire.send(GET + HOST + b"\r\n" + second)

            answer = wire.answer()

            assert (answer.status, answer.values("connection")) == (200, ["close"])
            assert wire.is_closed()


class TestAddresses:
    @pytest.mark.parametrize(
        "target",
        [
            *("/health/live%00", "/health/live%0d%0aset-cookie:a=b", "/health/live%0a", "/%7f", "/%c2%85"),
            *("/health/live%", "/health/live%2", "/health/live%zz", "/%ff", "/%c0%ae", "/%ed%a0%80"),
            *("/events?after=%00", "/events?after=a%0d%0ab", "/events?after=%zz", "/events?after=%ff", "/events?%00=a"),
        ],
    )
    def test_with_what_addresses_cannot_have_are_refused(self, port: int, target: str) -> None:
        answer = ask(port, f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n")

        assert (answer.status, answer.json["code"]) == (400, "malformed_request")
        assert target not in answer.body.decode()

    @pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_take_no_other_method(self, port: int, method: str) -> None:
        content = JSON + b"Content-Length: 2\r\n\r\n{}" if method in {"PUT", "PATCH"} else b"\r\n"

        answer = ask(port, f"{method} /health/live HTTP/1.1\r\n".encode() + HOST + content)

        assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
        assert answer.values("allow") == ["GET"]

    @pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
    def test_know_no_override(self, port: int, name: str) -> None:
        assert ask(port, GET + HOST + f"{name}: DELETE\r\n\r\n".encode()).status == 200
