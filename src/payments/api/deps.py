"""What a route asks for."""

import hashlib
import re
from typing import Annotated, Final

from fastapi import Depends, Header, Request

from payments.errors import IdempotencyKeyMalformed, IdempotencyKeyMissing
from payments.resources import Resources


def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,300}")


def get_idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Names the intention: a new random one for each, the same one when repeating it. "
            "Kept for 15 days at least.",
            examples=["b9b8c3f0-5d0e-4f0e-9a57-0c6f2a2a6a57"],
        ),
    ] = None,
) -> str:
    """The key under which a request is carried out once.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyMalformed: nothing has been looked at.
    """
    if not key:
        raise IdempotencyKeyMissing
    if _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise IdempotencyKeyMalformed
    return key


def get_client(request: Request) -> str:
    """Whose idempotency keys these are: two clients with different credentials never meet each other's."""
    return hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()


FromResources = Annotated[Resources, Depends(get_resources)]
FromIdempotencyKey = Annotated[str, Depends(get_idempotency_key)]
FromClient = Annotated[str, Depends(get_client)]
