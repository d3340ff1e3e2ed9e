"""What a route asks for. Asynchronous, because the framework gives whatever is not a thread of its own."""

import re
from typing import Annotated, Final

from fastapi import Depends, Request

from payments.errors import IdempotencyKeyMalformed, IdempotencyKeyMissing
from payments.resources import Resources


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,300}")


# Declared by hand, because a missing one is refused in our words (400) and not in the framework's (422).
IDEMPOTENCY_KEY_PARAMETER: Final[dict[str, object]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Names the intention: a new random one for each, the same one when repeating it. "
    "Kept for 15 days at least.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,300}$"},
    "example": "b9b8c3f0-5d0e-4f0e-9a57-0c6f2a2a6a57",
}


async def get_idempotency_key(request: Request) -> str:
    """The key under which a request is carried out once.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyMalformed: nothing has been looked at.
    """
    keys = request.headers.getlist("idempotency-key")
    key = "".join(keys[:1])
    if not key:
        raise IdempotencyKeyMissing
    if len(keys) > 1 or _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise IdempotencyKeyMalformed
    return key


FromResources = Annotated[Resources, Depends(get_resources)]
FromIdempotencyKey = Annotated[str, Depends(get_idempotency_key)]
