"""The sandbox's own HTTP server, which can also break connections."""

import uvicorn

from toss_sandbox.app import create_sandbox
from toss_sandbox.settings import Settings
from toss_sandbox.wire import SandboxProtocol

_GRACE_SECONDS = 3


class SandboxServer(uvicorn.Server):
    """A uvicorn server for one sandbox; port 0 takes any free one."""

    def __init__(self, settings: Settings, *, host: str, port: int) -> None:
        config = uvicorn.Config(
            create_sandbox(settings),
            host=host,
            port=port,
            http=SandboxProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        super().__init__(config)

    @property
    def url(self) -> str:
        """The address it listens on, once it has started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve until a signal ends it."""
    SandboxServer(settings, host=host, port=port).run()
