"""Where a browser would end up, read by three parsers and by rules of a browser's own, against the allow-list."""

import itertools
import re
import string
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx
import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.usecases.prepare import is_allowed

SHOP: Final = "https://shop.example"
LOCAL: Final = "http://127.0.0.1:8200"
ORIGINS: Final = (SHOP, "https://shop.example:8443", LOCAL)
PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

SCHEMES: Final = (
    *("https://", "http://", "HTTPS://", "https:", "https:/", "https:///", "//", "/\\", "\\\\", "https:\\\\", "ftp://"),
    *(
        "javascript:",
        "javascript://",
        "data:text/html,",
        "data://",
        "vbscript:",
        "file://",
        "blob:https://",
        "view-source:",
    ),
    *(
        "",
        " https://",
        "\thttps://",
        "h\nttps://",
        "ht\ttps://",
        "https\u200b://",
        "https://\u00ad",
        "about:blank#",
        "ws://",
    ),
)
HOSTS: Final = (
    *("shop.example", "evil.example", "shop.example.evil.example", "shop.example.", "SHOP.example", "xshop.example"),
    *(
        "ok@evil.example",
        "shop.example@evil.example",
        "ok:pw@shop.example",
        "@shop.example",
        "shop.example%40evil.example",
    ),
    *(
        "shop.example\\@evil.example",
        "shop.example\\.evil.example",
        "evil.example\\shop.example",
        "evil.example#shop.example",
    ),
    *(
        "evil.example?shop.example",
        "evil.example;shop.example",
        "shop.example;evil.example",
        "shop.example,evil.example",
    ),
    *(
        "shop.example:443",
        "shop.example:22",
        "shop.example:8443",
        "shop.example:0",
        "shop.example:99999",
        "shop.example:",
    ),
    *(
        "shop.example:80:443",
        "shop.example: 443",
        "shop%2eexample",
        "shop%2Eexample",
        "shop%252eexample",
        "shop.example%2f",
    ),
    *("shop.example%00", "shop.example%0d%0a", "shop.example\r\n", "shop.example\t", "shop .example", "sho\np.example"),
    *(
        "shop\u3002example",
        "shop\uff0eexample",
        "shop\uff61example",
        "\uff53hop.example",
        "shop.ex\u0430mple",
        "shop.exampl\u0435",
    ),
    *(
        "\u0455hop.example",
        "shop.example\u200b",
        "shop.example\u00ad",
        "\u202eelpmaxe.pohs",
        "shop\u2024example",
        "ﬆop.example",
    ),
    *(
        "xn--shop.example",
        "xn--shp-6kc.example",
        "xn--80ak6aa92e.com",
        "shop.example\u2215evil.example",
        "shop.example\uff0fx",
    ),
    *(
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1%25eth0]",
        "localhost",
        "localtest.me",
        "127.0.0.1:8200",
    ),
    *(
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.nip.io",
        "0",
    ),
    *(
        "169.254.169.254",
        "169.254.169.254.",
        "0xa9fea9fe",
        "metadata.google.internal",
        "10.0.0.1",
        "192.168.0.1",
        "①②⑦.⓪.⓪.①",
    ),
    *(
        "127.0.0.1:8200@evil.example",
        "127.0.0.1:82000",
        "127.0.0.1:8200.evil.example",
        "127.0.0.1:8200\\evil.example",
        "*",
    ),
    *(
        "",
        ".",
        "..",
        "@",
        ":",
        "shop",
        "shop.example shop.example",
        "*.example",
        "null",
        "{shop.example}",
        "$" + "{jndi}",
    ),
)
PATHS: Final = (
    "",
    "/",
    "/s",
    "/../..//evil.example",
    "//evil.example",
    "/%2e%2e/%2f",
    "?x=1",
    "?@evil.example",
    "#",
    "#@x/",
    ";",
    "\\",
)
URLS: Final = sorted({"".join(parts) for parts in itertools.product(SCHEMES, HOSTS, PATHS)})
OWN: Final = (
    *(
        "",
        "/",
        "/s",
        "/orders/1?x=%20y#z",
        "?order=1",
        "/a/../b",
        "/%2e%2e/%2f",
        "//evil.example",
        "/%5cevil.example",
    ),
    *(
        "/@evil.example",
        "/?next=https://evil.example",
        "/#@evil.example",
        "/;x",
        "/a:b",
        "/%0d%0aset-cookie:a=b",
        "/~'()!*",
    ),
)


def origin_in_a_browser(url: str) -> str | None:
    """What the URL standard of browsers (https://url.spec.whatwg.org) makes of it; None if it leads nowhere by HTTP."""
    url = re.sub(r"[\t\n\r]", "", url.strip("".join(map(chr, range(0x21)))))
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    if found is None or (scheme := found[1].lower()) not in PORTS:
        return None
    rest = url[found.end() :].replace("\\", "/").lstrip("/")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host, colon, port = authority.rpartition("@")[2].rpartition(":")
    if not colon or host.count("[") > host.count("]"):
        host, port = authority.rpartition("@")[2], ""
    name = host_in_a_browser(host)
    if name is None or not re.fullmatch(r"[0-9]*", port, re.ASCII):
        return None
    number = int(port or PORTS[scheme])
    return f"{scheme}://{name}" if number == PORTS[scheme] else f"{scheme}://{name}:{number}"


def host_in_a_browser(host: str) -> str | None:
    if host.startswith("["):
        return host
    name = unquote(host)
    try:
        name = idna.encode(name, uts46=True, std3_rules=False, transitional=False).decode()
    except idna.IDNAError:
        name = name.lower()
    numbers = name.rstrip(".").split(".")
    if name and all(re.fullmatch(r"0[xX][0-9a-fA-F]*|[0-9]+", number) for number in numbers):
        return address(numbers)
    return name or None


def address(numbers: list[str]) -> str | None:
    """`127.1`, `0x7f000001` and `017700000001` are all the same."""
    try:
        values = [
            int(number, 16 if number[:2].lower() == "0x" else 8 if number[0] == "0" else 10) for number in numbers
        ]
    except ValueError:
        return None
    whole = sum(value << 8 * (3 - place) for place, value in enumerate(values[:-1])) + values[-1]
    return ".".join(str(whole >> shift & 255) for shift in (24, 16, 8, 0))


def origin_by_urllib(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}" + ("" if parts.port is None else f":{parts.port}")
    except ValueError:
        return None


def origin_by_httpx(url: str) -> str | None:
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return None
    return f"{found.scheme}://{found.host}" + ("" if found.port is None else f":{found.port}")


def leads_to_the_shop(url: str) -> bool:
    """By everybody's reading."""
    return {origin_in_a_browser(url), origin_by_urllib(url), origin_by_httpx(url)} <= set(ORIGINS)


class TestAllowed:
    def test_is_nothing_of_which_anybody_could_say_that_it_leads_elsewhere(self) -> None:
        allowed = [url for url in URLS if is_allowed(url, ORIGINS)]

        assert [url for url in allowed if not leads_to_the_shop(url)] == []
        assert len(URLS) > 20_000
        assert {origin_in_a_browser(url) for url in allowed} == set(ORIGINS)  # each of them is allowed in some spelling

    def test_is_only_what_begins_with_an_origin_as_it_is_configured(self) -> None:
        allowed = [url for url in URLS if is_allowed(url, ORIGINS)]

        assert {re.split(r"(?<=[^/:])[/?]", url)[0] for url in allowed} <= set(ORIGINS)

    @pytest.mark.parametrize("origin", ORIGINS)
    @pytest.mark.parametrize("rest", OWN)
    def test_is_every_page_of_the_shop(self, origin: str, rest: str) -> None:
        assert is_allowed(origin + rest, ORIGINS)
        assert origin_in_a_browser(origin + rest) == origin

    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254",
            "http://127.1",
            "http://0x7f000001",
            "http://[::ffff:127.0.0.1]",
            "http://localtest.me",
            "https://ok@evil.example",
            "https://ok.evil.example",
            "//evil.example",
            "\\\\evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            f"{SHOP}/\r\nset-cookie: a=b",
            "https://shop.ex\u0430mple/",
            "https://shop.example:22/",
            "",
        ],
    )
    def test_is_none_of_the_usual_tricks(self, url: str) -> None:
        assert not is_allowed(url, ORIGINS)

    def test_is_nothing_where_no_origin_is_configured(self) -> None:
        assert not any(is_allowed(url, ()) for url in URLS)

    @given(st.text(st.sampled_from(f"shop.exampl:/@\\?#%2e[]443\t\n\u0430 {string.digits}"), max_size=30))
    def test_is_never_what_leads_elsewhere(self, text: str) -> None:
        for url in (text, f"{SHOP}{text}", f"https://{text}", f"https://{text}@shop.example/"):
            assert not is_allowed(url, ORIGINS) or leads_to_the_shop(url)


class TestBrowser:
    """The rules must be able to see a trick."""

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://shop.example@evil.example/", "https://evil.example"),
            ("https://evil.example\\@shop.example/", "https://evil.example"),
            ("https:\\\\evil.example", "https://evil.example"),
            (" ht\ntps:evil.example", "https://evil.example"),
            ("https://SHOP\u3002example:443/", SHOP),
            ("https://shop%2eexample/", SHOP),
            ("http://127.1:8200/", LOCAL),
            ("http://0x7f000001:8200", LOCAL),
            ("http://2130706433:8200", LOCAL),
            ("https://shop.ex\u0430mple/", "https://xn--shop-example"),
            ("javascript:alert(1)", None),
            ("//evil.example", None),
        ],
    )
    def test_sees_where_it_leads(self, url: str, origin: str | None) -> None:
        found = origin_in_a_browser(url)

        assert found == origin or (origin is not None and "xn--" in origin and "xn--" in (found or ""))
