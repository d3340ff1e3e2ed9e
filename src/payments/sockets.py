"""Sockets by their numbers, under whatever library owns them."""

import select
from contextlib import suppress
from socket import SHUT_RDWR, socket


def has_something_to_read(number: int) -> bool:
    """Whether anything has come, the other side's goodbye included; by the socket's number, without waiting."""
    looked_at = select.poll()
    looked_at.register(number, select.POLLIN)
    return bool(looked_at.poll(0))


def hang_up(number: int) -> None:
    """End the conversation, so that whoever waits for the other side is told at once; the socket stays its owner's."""
    with suppress(OSError):  # it has hung up itself
        theirs = socket(fileno=number)  # and no number of its own, of which there may be none left
        try:
            theirs.shutdown(SHUT_RDWR)
        finally:
            theirs.detach()
