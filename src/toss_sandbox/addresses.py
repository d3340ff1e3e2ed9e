"""The shop's addresses to which a window leads back."""

from urllib.parse import urlencode, urlsplit


def with_query(address: str, query: dict[str, str]) -> str:
    """Add to the query that an address may have already."""
    parts = urlsplit(address)
    joined = "&".join(filter(None, (parts.query, urlencode(query))))
    return parts._replace(query=joined).geturl()


def is_address(address: str) -> bool:
    """Whether a browser can be sent there."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)
