"""How a person is told at once that something is wrong."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog

log = structlog.get_logger()

LONGEST_SENDING: Final = timedelta(seconds=20)
_SILENT: Final = logging.CRITICAL + 1


@dataclass(frozen=True, slots=True)
class Alert:
    """What a person is told: plain text, without anything that only the buyer or the shop may know."""

    title: str
    body: str
    is_critical: bool = True


class Alerts(Protocol):
    """Where alerts go."""

    async def send(self, alert: Alert) -> bool:
        """Tell everybody who is to be told; False if nobody took it. Never raises for that.

        One that did is enough: the others would have to be told again, and so would this one, for ever.
        """
        ...


class AppriseAlerts:
    """Alerts to Slack, mail, Discord and whatever else Apprise can reach (https://appriseit.com/services/).

    The URLs are secrets: they never stand in a message, a log line or a repr.

    Args:
        urls: Apprise URLs, at least one.
        deadline: Total wall clock of one alert. What is under way then may still arrive.

    Raises:
        ValueError: Apprise cannot read one of the URLs; the message says which by its place in the list.
    """

    def __init__(self, urls: Sequence[str], *, deadline: timedelta = LONGEST_SENDING) -> None:
        # Imported here, because it takes long and most commands never alert anybody.
        from apprise import Apprise, AppriseAsset, NotifyFormat, OverflowMode  # noqa: PLC0415 - see above

        # Both write URLs into their lines: what they have to say stands in the answer as well.
        for name in ("apprise", "urllib3"):
            logging.getLogger(name).setLevel(_SILENT)
        if not urls:
            raise ValueError("Alerts need at least one URL.")
        self._apprise = Apprise(asset=AppriseAsset(body_format=NotifyFormat.TEXT))
        for place, url in enumerate(urls, start=1):
            service = Apprise.instantiate(url, asset=self._apprise.asset)
            if service is None:
                raise ValueError(f"Alert URL {place} of {len(urls)} is not one that Apprise can read.")
            service.overflow_mode = OverflowMode.SPLIT  # what is longer than a channel takes comes in pieces
            self._apprise.add(service)
        self._deadline = deadline

    async def send(self, alert: Alert) -> bool:
        """Tell everybody, in threads and at the same time; False if none of them took it in time."""
        from apprise import NotifyType  # noqa: PLC0415 - loaded by the constructor

        kind = NotifyType.FAILURE if alert.is_critical else NotifyType.WARNING
        try:
            async with asyncio.timeout(self._deadline.total_seconds()):
                taken = await self._apprise.async_notify(body=alert.body, title=alert.title, notify_type=kind)
        except TimeoutError:
            log.warning("alert.not_sent", title=alert.title, reason="not in time")
            return False
        if not taken:
            refused = sorted({result.name for result in taken if not result})
            log.warning("alert.not_sent", title=alert.title, reason="not taken", services=refused)
        return any(taken)
