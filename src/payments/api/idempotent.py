"""A route that is carried out once for each Idempotency-Key, and answers every repetition byte for byte the same."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from starlette.responses import Response

from payments.api.problems import refusal
from payments.errors import Busy, NotAllowed, NotFound, PaymentError, Unavailable
from payments.resources import Resources
from payments.usecases.idempotency import Begun, KeptAnswer, Name, begin, keep, release

Work = Callable[[UUID], Awaitable[Response]]

# These say nothing about the request itself, so they are not its answer.
_NO_ANSWER: Final = (Busy, NotAllowed, NotFound, Unavailable)


async def once(name: Name, work: Work, *, resources: Resources) -> Response:
    """Do `work` for the first request of this name; answer every other one with what it answered.

    The work goes on when the client goes away, and its answer is there when the client comes back.

    Raises:
        RequestInProgress, IdempotencyKeyReused: the work was not begun.
        PaymentError: one that decides nothing, from the work; the same request may be sent again.
    """
    return await resources.background.finish(_once(name, work, resources=resources))


async def _once(name: Name, work: Work, *, resources: Resources) -> Response:
    begun = await begin(name, sessions=resources.sessions, lease=resources.request_lease)
    if isinstance(begun, KeptAnswer):
        return _response(begun)
    return await _answer(begun, work, resources=resources)


async def _answer(begun: Begun, work: Work, *, resources: Resources) -> Response:
    try:
        response = await work(begun.request_id)
    except _NO_ANSWER:
        await release(begun.request_id, sessions=resources.sessions)
        raise
    except PaymentError as error:
        response = refusal(error)
    if begun.kept is not None and response.status_code == begun.kept.status:
        await release(begun.request_id, sessions=resources.sessions)
        return _response(begun.kept)
    answer = KeptAnswer(response.status_code, _headers(response), bytes(response.body))
    return _response(await keep(begun.request_id, answer, sessions=resources.sessions))


def _headers(response: Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name != "content-length"}


def _response(kept: KeptAnswer) -> Response:
    return Response(kept.body, status_code=kept.status, headers=kept.headers)
