"""Own a private PostgreSQL server until standard input closes: a program for the tests to kill."""

import json
import os
import sys
from pathlib import Path

from payments.local.postgres import LocalPostgres


def main() -> None:
    with LocalPostgres(Path(sys.argv[1])) as server:
        guard = server._guard
        assert guard is not None
        sys.stdout.write(json.dumps({"url": server.url(), "guard": guard.pid, "uid": os.geteuid()}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
