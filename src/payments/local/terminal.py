"""What the local run writes: one readable log of all programs, and what to click."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO

from payments.local.plan import Ports
from payments.local.supervisor import HOST

NAME_WIDTH = 8
COLOURS = {"sandbox": 35, "shop": 33, "migrate": 34, "api": 32, "worker": 36}  # ANSI foregrounds.


def show(name: str, line: str) -> None:
    """Write one line of a program's log, with its name before it."""
    name = f"{name:<{NAME_WIDTH}}"
    if _has_colours(sys.stdout):
        name = f"\x1b[{COLOURS.get(name.strip(), 37)}m{name}\x1b[0m"
    _write(sys.stdout, f"{name} {line}")


def say(text: str) -> None:
    """Write something of our own."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Write why it does not go on."""
    _write(sys.stderr, f"payments run: {text}")


def welcome(ports: Ports, *, data: Path, seconds: float) -> str:
    """Tell, in English and Korean, where everything is and what to do first."""
    return f"""
  Ready in {seconds:.1f} s                          {seconds:.1f}초 만에 준비되었습니다

  Shop      http://{HOST}:{ports.shop:<5}           choose something and pay      상품을 골라 결제해 보세요
  API       http://{HOST}:{ports.api:<5}/docs      every route, to try           API 문서와 시험 호출
  Sandbox   http://{HOST}:{ports.sandbox:<5}           the payments of the stand-in  결제 모의 서버의 결제 내역

  No hand free? In another terminal:  payments demo-purchase --port-base {ports.base}
  Ctrl-C stops all of it and keeps {data}.    Ctrl-C로 모두 멈춥니다. 데이터는 남습니다.
"""


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _write(stream: TextIO, text: str) -> None:
    # The terminal may be closed; the run still has to be stopped in order.
    with contextlib.suppress(OSError):
        stream.write(f"{text}\n")
        stream.flush()
