"""What a container keeps a program from, without Docker: a read-only root, nobody's user, no rights, by bubblewrap."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

NOBODY: Final = "65534"
# Where a system keeps its programs and libraries. Everything else is not there.
SYSTEM: Final = ("bin", "etc", "lib", "lib32", "lib64", "opt", "sbin", "usr")


def why_not() -> str | None:
    """What stands in the way on this machine."""
    if missing := [program for program in ("bwrap", "setpriv") if shutil.which(program) is None]:
        return f"there is no {' and no '.join(missing)}"
    tried = subprocess.run(cell([sys.executable, "-c", ""]), capture_output=True, text=True, check=False)
    return f"this machine does not let bubblewrap: {tried.stderr.strip()}" if tried.returncode else None


def cell(
    command: Sequence[str], *, seen: Sequence[Path] = (), written: Sequence[Path] = (), info: int | None = None
) -> list[str]:
    """The command inside: it sees the system, its Python and what is named; it writes to /tmp, and to what is named.

    Args:
        command: What runs there.
        seen: What it finds at the same place as here.
        written: The same, and it may write there.
        info: Where to tell `inner_pid`.
    """
    installed = (Path(sys.base_prefix), Path(sys.prefix))
    pythons = {path: None for prefix in installed for path in (prefix, prefix.resolve())}
    return [
        *("bwrap", "--unshare-ipc", "--unshare-uts", "--new-session", *_system()),
        *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108 - one of its own
        *(word for path in (*pythons, *seen) for word in _mounted("--ro-bind", path)),
        *(word for path in written for word in _mounted("--bind", path)),
        *("--remount-ro", "/"),
        *(() if info is None else ("--info-fd", str(info))),
        *_as_nobody(),
        *command,
    ]


def inner_pid(info: int) -> int:
    """The process that runs the command. Bubblewrap waits for it, and would keep a signal to itself."""
    with os.fdopen(info) as told:
        pid: int = json.loads(told.read())["child-pid"]
    return pid


def _system() -> Iterator[str]:
    for path in (Path("/") / name for name in SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))


def _mounted(how: str, path: Path) -> Iterator[str]:
    # Bubblewrap would make them for root alone.
    for parent in reversed(path.parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(parent))
    yield from (how, str(path), str(path))


def _as_nobody() -> list[str]:
    """In a namespace of its own, where only root may become somebody else."""
    if os.geteuid() != 0:
        return ["--unshare-user", "--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL"]
    to_nobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    return ["--cap-add", "ALL", "setpriv", *to_nobody, "--no-new-privs"]
