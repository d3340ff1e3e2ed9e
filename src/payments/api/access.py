"""Who asks, found out from what they show, and whether this route is for them."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Final

import structlog
from fastapi import Depends, FastAPI, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import HTTPBearer
from prometheus_client import Counter

from payments.access import Anonymous, Buyer, Caller, Client, Scope, looks_like_key, read_key
from payments.api.deps import FromResources
from payments.api.ports import OPS_PATHS
from payments.api.rate_limits import KnownCredentials, Limits, address_of
from payments.errors import (
    CredentialsInvalid,
    CredentialsMissing,
    IdentityUnavailable,
    PaymentError,
    ScopeMissing,
)
from payments.gateways.identity import Identified, IdentityProvider, IdentityUnreachable, NotIdentified
from payments.resources import Resources
from payments.settings import Settings
from payments.usecases.keys import find_client

log = structlog.get_logger()

LONGEST_NAME: Final = 80

_refused = Counter("access_refused", "Requests that were not let in, by the code of the refusal", ["code"])

# Only for the API's description; what stands in the header is read below, more strictly.
_BEARER: Final = HTTPBearer(
    scheme_name="bearer",
    description="An API key (`payk_...`), or a token of the shop's identity provider.",
    auto_error=False,
)


async def get_caller(
    request: Request, resources: FromResources, _: Annotated[object, Depends(_BEARER)] = None
) -> Caller:
    """Who asks. Whoever shows something wrong is refused also where nothing has to be shown.

    Raises:
        CredentialsInvalid: what they show proves nothing.
        TooManyRequests: they have shown too much that proves nothing, or ask too often.
        IdentityUnavailable, DatabaseUnavailable: nobody can tell at this moment.
    """
    given = request.headers.getlist("authorization")
    if not given:
        return Anonymous()
    limits: Limits = request.app.state.limits
    known: KnownCredentials = request.app.state.known
    try:
        token = _bearer(given)
        if looks_like_key(token) and given[0] not in known:
            # Before the database is asked, which whoever guesses must not keep busy. A token costs nobody a question.
            limits.failures.check(address_of(request.scope))
        caller = await _recognise(token, resources)
    except CredentialsInvalid:
        known.discard(given[0])
        limits.failures.take(address_of(request.scope))
        raise
    if isinstance(caller, Client):
        known.add(given[0])
        limits.clients.take(caller.identity)
    return caller


async def _recognise(token: str, resources: Resources) -> Caller:
    if looks_like_key(token):
        key = read_key(token)
        if key is None:
            raise CredentialsInvalid
        return await find_client(key, sessions=resources.sessions, hot=resources.hot)
    if resources.identity is None:
        raise CredentialsInvalid
    return await _caller_of_token(token, resources.identity, settings=resources.settings)


def _bearer(given: list[str]) -> str:
    """The one token (RFC 6750, section 2.1)."""
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.isascii():
        raise CredentialsInvalid
    return token


async def _caller_of_token(token: str, identity: IdentityProvider, *, settings: Settings) -> Caller:
    match await identity.identify(token):
        case Identified(subject, words):
            scopes = frozenset(scope for scope in Scope if scope.value in words)
            if not scopes:
                return Buyer(subject)
            # The subject may be longer than what a history has room for.
            digest = hashlib.sha256(f"{settings.jwt_issuer}\0{subject}".encode()).hexdigest()
            return Client(f"token {subject}"[:LONGEST_NAME], f"token {digest}", scopes, settings.jwt_refund_limit)
        case NotIdentified(reason):
            log.info("access.token_refused", reason=reason)
            raise CredentialsInvalid
        case IdentityUnreachable():
            raise IdentityUnavailable


@dataclass(frozen=True)
class Requires:
    """The rule of a route: which clients may use it, and who else."""

    scope: Scope
    buyers: bool = False  # known buyers too, for what is theirs
    anybody: bool = False  # and where buyers are not known, everybody

    async def __call__(
        self, request: Request, resources: FromResources, caller: Annotated[Caller, Depends(get_caller)]
    ) -> Caller:
        try:
            self._check(caller, buyers_are_known=resources.identity is not None)
        except (CredentialsMissing, ScopeMissing) as error:
            self._note(request, caller, error)
            raise
        return caller

    def _check(self, caller: Caller, *, buyers_are_known: bool) -> None:
        match caller:
            case Client(scopes=scopes) if self.scope not in scopes:
                raise ScopeMissing
            case Buyer() if not self.buyers:
                raise ScopeMissing
            case Anonymous() if not self.anybody or buyers_are_known:
                raise CredentialsMissing

    def _note(self, request: Request, caller: Caller, error: PaymentError) -> None:
        _refused.labels(error.code).inc()
        who = caller.name if isinstance(caller, Client) else type(caller).__name__.lower()
        route = request.scope["route"].path
        log.warning("access.refused", code=error.code, who=who, method=request.method, route=route, needs=self.scope)


PAY: Final = Requires(Scope.PAY, buyers=True, anybody=True)
READ_ONE: Final = Requires(Scope.READ, buyers=True, anybody=True)
READ: Final = Requires(Scope.READ)
REFUND: Final = Requires(Scope.REFUND)

FromPayer = Annotated[Caller, Security(PAY, scopes=[Scope.PAY])]
FromReaderOfOne = Annotated[Caller, Security(READ_ONE, scopes=[Scope.READ])]
FromReader = Annotated[Caller, Security(READ, scopes=[Scope.READ])]
FromRefunder = Annotated[Client, Security(REFUND, scopes=[Scope.REFUND])]

# Who asks is of no account here: Toss signs, or is asked itself, and what machines ask for says nothing of anybody.
OPEN: Final = OPS_PATHS | {"/webhook/toss"}
# The framework's own pages, which are there in the local run alone.
DESCRIPTIONS: Final = frozenset({"/openapi.json", "/docs"})


def buyer_of(caller: Caller) -> str | None:
    """Whose payments these may be: a known buyer's own, or anybody's."""
    return caller.subject if isinstance(caller, Buyer) else None


def check_every_route(app: FastAPI) -> None:
    """Every route has a rule, or is named as open.

    Raises:
        LookupError: one has none, so that nobody can forget it.
    """
    for route in iter_route_contexts(app.routes):
        has_rule = isinstance(route.original_route, APIRoute) and rule_of(route.dependant) is not None
        if route.path not in OPEN | DESCRIPTIONS and not has_rule:
            raise LookupError(f"{route.path} says nothing of who may use it")


def rule_of(dependant: Dependant) -> Requires | None:
    """What a route asks of its callers; None if it asks nothing."""
    if isinstance(dependant.call, Requires):
        return dependant.call
    return next(filter(None, map(rule_of, dependant.dependencies)), None)
