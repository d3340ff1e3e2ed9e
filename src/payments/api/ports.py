"""Which port shows what: probes and monitoring have one of their own, which nobody outside reaches."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from payments.api.problems import http_problem

OPS_PATHS: Final = frozenset({"/health/live", "/health/ready", "/metrics"})


class Ports:
    """Lets the ops port show the ops paths alone, and the public one everything else."""

    def __init__(self, app: ASGIApp, *, ops_port: int | None, ops_in_public: bool) -> None:
        self._app = app
        self._ops_port = ops_port
        self._ops_in_public = ops_in_public and ops_port is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._shows(scope):
            await self._app(scope, receive, send)
        else:
            await http_problem(404)(scope, receive, send)

    def _shows(self, scope: Scope) -> bool:
        is_ops_path = scope["path"] in OPS_PATHS
        # The port of the socket that listens: no header can say another.
        server = scope.get("server")
        if self._ops_port is not None and server is not None and server[1] == self._ops_port:
            return is_ops_path
        return not is_ops_path or self._ops_in_public
