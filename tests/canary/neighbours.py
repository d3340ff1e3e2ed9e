"""Everybody that the programs talk to: in their right mind, or repeating whatever they were told."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from tests.canary.canaries import FREE_TEXT
from tests.integration.world import AMOUNT

LONGEST_ECHO: Final = 3_000


class Mood(StrEnum):
    WELL = "well"
    ECHO = "echo"  # an error of no known code, in whose words is all that was sent
    REFUSAL = "refusal"  # a definite one, with the same words
    GARBAGE = "garbage"  # success, and what was sent as its body
    PAGE = "page"  # a proxy's page of an error, with the same on it
    SILENCE = "silence"  # hangs up


@dataclass
class Neighbours:
    """One server for all of them. `moods` are by the first part of a path."""

    sandbox: str
    port: int = 0
    moods: dict[str, Mood] = field(default_factory=dict)
    asked: list[tuple[str, Mood]] = field(default_factory=list)
    refusal_code: str = "REJECT_CARD_COMPANY"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def are(self, mood: Mood) -> None:
        self.moods = dict.fromkeys(("v1", "orders", "events", "alerts"), mood)

    def were_asked(self, who: str, mood: Mood) -> bool:
        return (who, mood) in self.asked


@contextmanager
def neighbours(sandbox: str) -> Iterator[Neighbours]:
    state = Neighbours(sandbox)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(state: Neighbours) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"state": state})


class _Handler(BaseHTTPRequestHandler):
    state: Neighbours

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        who = self.path.split("/")[1].split("?")[0]
        mood = self.state.moods.get(who, Mood.WELL)
        self.state.asked.append((who, mood))
        echo = f"{FREE_TEXT} {dict(self.headers)} {self.path} {body.decode(errors='replace')}"[:LONGEST_ECHO]
        match mood:
            case Mood.WELL:
                self.reply(*self.sane(who, body))
            case Mood.ECHO:
                self.reply(400, json.dumps({"code": "SOMETHING_NEW", "message": echo}).encode())
            case Mood.REFUSAL:
                self.reply(403, json.dumps({"code": self.state.refusal_code, "message": echo}).encode())
            case Mood.GARBAGE:
                self.reply(200, json.dumps({"orderId": echo, "status": echo, "amount": echo}).encode())
            case Mood.PAGE:
                self.reply(502, f"<html>{echo}</html>".encode())
            case Mood.SILENCE:
                self.close_connection = True

    do_GET = do_POST = answer  # noqa: N815 - the names are http.server's

    def sane(self, who: str, body: bytes) -> tuple[int, bytes]:
        if who == "v1":
            return self.ask_sandbox(body)
        if who == "orders" and self.command == "GET":
            order_id = urlsplit(self.path).path.rpartition("/")[2]
            return 200, json.dumps({"orderId": order_id, "status": "CREATED", "amount": AMOUNT}).encode()
        return 200, b"{}"

    def ask_sandbox(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.state.sandbox).netloc, timeout=30)
        connection.request(self.command, self.path, body or None, dict(self.headers))
        answer = connection.getresponse()
        status, content = answer.status, answer.read()
        connection.close()
        return status, content

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
