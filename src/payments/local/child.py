"""Run a module as a program that ends when the one that started it is gone, however that went."""

import os
import runpy
import signal
import sys
import threading
import time

LAST_WORDS_SECONDS = 15.0  # As long as the supervisor would wait.


def main(arguments: list[str]) -> None:
    """Run the module named first with the rest as its arguments, as `python -m` would.

    Standard input is a pipe nobody writes to: its end means that the other side is no more.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    # Not through sys.stdin: its lock would be held by this thread when the interpreter wants to end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_WORDS_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
