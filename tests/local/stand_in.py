"""A small program for the tests of the supervisor: does what its arguments say, one after the other."""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import FrameType


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def end_in_peace(_signal: int, _frame: FrameType | None) -> None:
    sys.stdout.write("ended in peace\n")
    sys.exit(0)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["say", *lines]:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
        case ["tell", *names]:
            sys.stdout.write("".join(f"{name}={os.environ.get(name)}\n" for name in names))
        case ["fail", *lines]:
            sys.stderr.write("".join(f"{line}\n" for line in lines))
            sys.exit(3)
        case ["serve", port]:
            signal.signal(signal.SIGTERM, end_in_peace)
            HTTPServer(("127.0.0.1", int(port)), Healthy).serve_forever()
        case ["stay"]:
            signal.signal(signal.SIGTERM, end_in_peace)
            sys.stdout.write(f"{os.getpid()}\n")
            sys.stdout.flush()
            threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
