"""Ask the server in this container how it is: a health check for an image without curl."""

# Runs every few seconds: standard library only. http.client knows no proxy, and the server is on loopback.

import http.client
import sys
from typing import Final

HEALTHY: Final = 0
UNHEALTHY: Final = 1
SECONDS: Final = 3
LONGEST_ANSWER: Final = 2_000  # Docker keeps the first 4096 bytes of what a health check says.


def main(arguments: list[str]) -> int:
    """Print what `GET PATH` on `PORT` answers, as in `healthy.py 8000 /health/ready`.

    Returns:
        The exit code: 0 for a 200, 1 for everything else.
    """
    port, path = arguments
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(LONGEST_ANSWER).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return _say(f"no answer: {error!r}", UNHEALTHY)
    finally:
        connection.close()
    return _say(f"{answer.status} {text}", HEALTHY if answer.status == http.client.OK else UNHEALTHY)


def _say(text: str, code: int) -> int:
    print(text)  # noqa: T201 - Docker shows it in `docker inspect`
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
