"""What the local run writes: one readable log of all programs, and what to click."""

import contextlib
import os
import shutil
import sys
from pathlib import Path
from textwrap import indent
from typing import TextIO

from payments.local.plan import KEY_FILE, Ports
from payments.local.supervisor import HOST

NAME_WIDTH = 8
AT_TOSS = "Toss      your own keys: payments go to Toss itself · 설정하신 키로 토스에 직접 연결합니다"
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


ENVIRONMENT_FILE = "environment.sh"  # in the data directory


def welcome(ports: Ports, *, data: Path, seconds: float, at_toss: bool) -> str:
    """Tell, in English and Korean, where everything is and what to do first."""
    at_sandbox = [
        f"Sandbox   http://{HOST}:{ports.sandbox:<5}       what the stand-in for Toss holds · 토스 모의 서버",
        "",
        f"No hand free? In another terminal: {_command()} demo-purchase --port-base {ports.base}",
    ]
    lines = [
        f"Ready in {seconds:.1f} s · {seconds:.1f}초 만에 준비되었습니다",
        "",
        f"Shop      http://{HOST}:{ports.shop:<5}       choose something and pay · 상품을 골라 결제해 보세요",
        f"API       http://{HOST}:{ports.api:<5}/docs  every route, to try · API 문서와 시험 호출",
        *([AT_TOSS] if at_toss else at_sandbox),
        f"Other commands: . {data / ENVIRONMENT_FILE} && {_command()} refunds resolve · 다른 명령 실행",
        f"The shop's API key, to read and to refund by hand: {data / KEY_FILE} · 상점의 API 키",
        f"Ctrl-C stops all of it and keeps {data} · Ctrl-C로 모두 멈추며 데이터는 남습니다",
    ]
    return "\n" + indent("\n".join(lines), "  ") + "\n"


def _command() -> str:
    """How to call us from the same directory: the environment may not be on the PATH."""
    if shutil.which("payments"):
        return "payments"
    installed = Path(sys.executable).parent / "payments"
    return os.path.relpath(installed) if installed.is_relative_to(Path.cwd()) else str(installed)


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _write(stream: TextIO, text: str) -> None:
    # The terminal may be closed; the run still has to be stopped in order.
    with contextlib.suppress(OSError):
        stream.write(f"{text}\n")
        stream.flush()
