"""Own one PostgreSQL server for as long as the process at the other end of standard input lives."""

# Runs as a program of its own, in its own session, so that neither Ctrl-C nor `kill -9` of whoever wanted the server
# can take both down at once. It is found by path and imports the standard library only: it starts in 15 ms.

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

PORT = 5432  # Names the socket file only: the server listens on no TCP port.
READY = b"ready\n"
FAST_SHUTDOWN_SECONDS = 30  # Its checkpoint may be slow on a busy disk; after that, WAL recovery has to do.
OUTLIVED_SECONDS = 3
REFUSED_TO_START = 1  # the exit code of a FATAL error at start
POLL_SECONDS = 0.005


def main(arguments: list[str]) -> int:
    """Run the server until standard input closes, and say `ready` on standard output once it takes connections.

    Args:
        arguments: The directory of the binaries, of the data, of the sockets, then settings as `name=value`.

    Raises:
        OSError: The data or the binaries cannot be used; the log has the traceback.
        subprocess.CalledProcessError: initdb or the look at the processes failed; the log has its words.
    """
    bindir, data, sockets = (Path(argument) for argument in arguments[:3])
    settings = arguments[3:]
    with (data / "guard.lock").open("w") as lock, log_of(data).open("ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
        # Waits for a predecessor that is still stopping its server.
        fcntl.flock(lock, fcntl.LOCK_EX)
        stop_orphan(cluster_of(data))
        _clear_away_half_made_clusters(data)
        if not cluster_of(data).exists():
            _make_cluster(bindir, data, sync="fsync=off" not in settings, lock=lock.fileno())
        with _socket_directory(sockets):
            # A backend may outlive its killed server for a moment, and PostgreSQL refuses to start beside it.
            patience_ends = time.monotonic() + OUTLIVED_SECONDS
            while (code := _serve(bindir, data, sockets=sockets, settings=settings)) == REFUSED_TO_START:
                if time.monotonic() > patience_ends:
                    break
            return code


def cluster_of(data: Path) -> Path:
    """Where PostgreSQL's own files are."""
    return data / "cluster"


def log_of(data: Path) -> Path:
    """Where the server, initdb and the guard write what they have to say."""
    return data / "postgres.log"


def stop_orphan(cluster: Path) -> None:
    """Stop a server that lost its guard, and forget what a killed one left; return when it is gone.

    A server is known by its process id and its command line: the id in a left-over file may be somebody else's by now.
    """
    pidfile = cluster / "postmaster.pid"
    lines = _lines(pidfile)
    if not lines:
        return
    pid = int(lines[0])
    _stop(pid, cluster)
    if _exists(pid) and _lines(pidfile)[:1] == lines[:1]:
        # PostgreSQL takes any living process of this id for a server and refuses to start. Where the id is free the
        # file stays: PostgreSQL also learns from it whether backends outlived their server.
        pidfile.unlink()
    if len(lines) > 4:  # noqa: PLR2004 - the fifth line is the socket directory (PostgreSQL's pidfile.h).
        _remove_socket_directory(Path(lines[4]))


def _lines(pidfile: Path) -> list[str]:
    try:
        return pidfile.read_text().splitlines()
    except FileNotFoundError:
        return []


def _stop(pid: int, cluster: Path) -> None:
    patience_ends = time.monotonic() + FAST_SHUTDOWN_SECONDS
    wanted = signal.SIGINT
    while _is_server_of(cluster, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, wanted)
        wanted = signal.SIGINT if time.monotonic() < patience_ends else signal.SIGQUIT
        time.sleep(POLL_SECONDS)


def _is_server_of(cluster: Path, pid: int) -> bool:
    command = _command_line(pid)
    return "postgres" in command and str(cluster) in command


def _command_line(pid: int) -> str:
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""
    shown = subprocess.run(  # noqa: S603 - a fixed program and a number.
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _clear_away_half_made_clusters(data: Path) -> None:
    for leftover in data.glob(".new-*"):
        shutil.rmtree(leftover)


def _make_cluster(bindir: Path, data: Path, *, sync: bool, lock: int) -> None:
    """Make the cluster under a name that no start takes for one, so that a kill in the middle leaves no half of one.

    initdb inherits the lock: should it outlive this process, the next start waits for it before it clears away.
    """
    fresh = data / f".new-{os.getpid()}"
    command = [str(bindir / "initdb"), f"--pgdata={fresh}", "--username=postgres", "--auth=trust"]
    # The C locale is the only one that every machine has, and it sorts alike everywhere.
    command += ["--encoding=UTF8", "--no-locale", "--no-instructions"]
    command += [] if sync else ["--no-sync"]
    subprocess.run(  # noqa: S603 - our own command line.
        [*as_server_user(data), *command],
        check=True,
        cwd=data,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=[lock],
    )
    fresh.rename(cluster_of(data))


def as_server_user(data: Path) -> list[str]:
    """Return the words before a command that make it run as a user PostgreSQL accepts: it refuses root.

    The user may pass all directories and keeps no other right of root, so that a checkout below a home directory of
    mode 0700 works without opening it. Without `no_setuid_fixup` the kernel would take that one right away again.
    """
    if os.geteuid() != 0:
        return []
    cluster = cluster_of(data)
    # What an ordinary user made stays that user's.
    owner = cluster.stat().st_uid if cluster.exists() else pwd.getpwnam("nobody").pw_uid
    group = pwd.getpwuid(owner).pw_gid
    right = "-all,+dac_override"
    words = ["setpriv", f"--reuid={owner}", f"--regid={group}", "--clear-groups", "--securebits=+no_setuid_fixup"]
    return [*words, f"--inh-caps={right}", f"--ambient-caps={right}", f"--bounding-set={right}"]


def _environment() -> dict[str, str]:
    # PostgreSQL reads PGPORT, PGDATA, LC_* and more from here; none of that is meant for this server.
    return {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"}


@contextlib.contextmanager
def _socket_directory(sockets: Path) -> Iterator[None]:
    _remove_socket_directory(sockets)
    sockets.mkdir(mode=0o700, exist_ok=True)
    try:
        yield
    finally:
        _remove_socket_directory(sockets)


def _remove_socket_directory(sockets: Path) -> None:
    # Removes nothing but what a server puts there, whatever path it is given.
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (sockets / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        sockets.rmdir()


def _serve(bindir: Path, data: Path, *, sockets: Path, settings: list[str]) -> int:
    quoted = str(sockets).replace('"', '""')
    own = [f"port={PORT}", "listen_addresses=", f'unix_socket_directories="{quoted}"', "unix_socket_permissions=0700"]
    command = [str(bindir / "postgres"), "-D", str(cluster_of(data))]
    for setting in [*own, *settings]:
        command += ["-c", setting]
    server = subprocess.Popen(  # noqa: S603 - our own command line.
        [*as_server_user(data), *command],
        cwd=data,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.send_signal(signal.SIGINT)

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, stop)
    threading.Thread(target=_stop_when_input_closes, args=(server,), daemon=True).start()
    if _becomes_ready(server, cluster_of(data)):
        with contextlib.suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), READY)
    return server.wait()


def _stop_when_input_closes(server: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    server.send_signal(signal.SIGINT)
    try:
        server.wait(FAST_SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)


def _becomes_ready(server: subprocess.Popen[bytes], cluster: Path) -> bool:
    """Wait for the word that pg_ctl waits for as well: the eighth line of the pid file."""
    while server.poll() is None:
        lines = _lines(cluster / "postmaster.pid")
        if lines[:1] == [str(server.pid)] and [word.strip() for word in lines[7:8]] == ["ready"]:
            return True
        time.sleep(POLL_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
