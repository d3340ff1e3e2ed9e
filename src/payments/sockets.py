"""What lies on a socket that nobody reads."""

import select


def has_something_to_read(socket: int) -> bool:
    """Whether anything has come, the other side's goodbye included; by the socket's number, without waiting."""
    looked_at = select.poll()
    looked_at.register(socket, select.POLLIN)
    return bool(looked_at.poll(0))
