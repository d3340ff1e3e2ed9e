"""Break everything on purpose and compare the books: `python -m proof`; with `--full` it writes docs/proof.md."""

import argparse
import os
import shlex
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Final, NoReturn

import pytest

from proof import commits, crashes, cuts, failover, machine, model, outages, planted, report, storms
from proof.findings import BadReplay, Failure, Findings, Options, Say
from proof.world import sweep

Part = Callable[[Options, Say], Findings]

# In the order in which they tell most for the least time.
PARTS: Final[Mapping[str, Part]] = {
    "model": model.run,
    "crashes": crashes.run,
    "storms": storms.run,
    "stateful": machine.run,
    "cuts": cuts.run,
    "commits": commits.run,
    "outages": outages.run,
    "failover": failover.run,
    "planted": planted.run,
}
HELD, BROKEN, USAGE, INTERRUPTED = 0, 1, 2, 130
_SHOWN: Final = 10  # failures of one kind with one replay word; all of them are counted
_LAST_LINES: Final = 8  # of a traceback
_EPILOG: Final = """\
example: python -m proof --only crashes storms --seed 7

exit codes:
  0    everything held
  1    something did not hold, or did not happen, or a part could not be played to its end
  2    wrong usage, or a replay word that names nothing
  130  interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; the help says what is returned."""
    asked = _parser().parse_args(arguments)
    if asked.replay and len(asked.only or ()) != 1:
        print("proof: --replay needs --only with the one part that it is of", file=sys.stderr)
        return USAGE
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _interrupt)
    options = Options(is_full=asked.full, seed=asked.seed, replay=asked.replay)
    try:
        return run([name for name in PARTS if name in (asked.only or PARTS)], options)
    except BadReplay as bad:
        print(f"proof: {asked.only[0]} cannot replay {asked.replay}: {bad}", file=sys.stderr)
        return USAGE


def run(names: Sequence[str], options: Options) -> int:
    """Run these parts, one after the other, whatever comes of each; the exit code.

    Raises:
        BadReplay: what is to be replayed is nothing that the part knows.
    """
    began = time.monotonic()
    if swept := sweep():
        _say(f"removed what {swept} runs that were killed have left behind")
    source = report.source()
    findings = {name: _run(name, options, source=source, began=began) for name in names}
    for name, found in findings.items():
        _say("\n".join(["", name, *report.lines_of(found)]))
    _say(f"\nAll of it in {time.monotonic() - began:.0f} s.")
    for name, found in findings.items():
        _say("\n".join(told(name, found.failures, options)))
    return BROKEN if any(found.failures for found in findings.values()) else HELD


def _run(name: str, options: Options, *, source: str, began: float) -> Findings:
    now = time.monotonic()
    _say(f"{name} (after {now - began:.0f} s)")
    found = _findings(name, options)
    if options.is_full and not options.replay:
        report.write(name, found, options, source=source, seconds=time.monotonic() - now)
    return found


def _findings(name: str, options: Options) -> Findings:
    """What a part has found; that it could not be played to its end is a failure, and the others go on."""
    try:
        return PARTS[name](options, _say)
    except BadReplay:
        raise
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - one part never stops the others
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()[-_LAST_LINES:]
        return Findings([], [Failure("\n  ".join(["it has ended before its time:", *lines]), options.replay or "")])


def told(name: str, failures: Sequence[Failure], options: Options) -> Iterator[str]:
    """What did not hold, and how each is tried once more; of hundreds that are alike only the first ones."""
    alike = Counter[tuple[str, str]]()
    for failure in failures:
        kind = (failure.replay, failure.what.partition(" ")[0])
        alike[kind] += 1
        if failure.replay and alike[kind] > _SHOWN:
            continue
        yield f"{name}: {failure.what}"
        if failure.replay:
            full = " --full" if options.is_full else ""
            word = shlex.quote(failure.replay)
            yield f"  .venv/bin/python -m proof{full} --only {name} --seed {options.seed} --replay {word}"
    for (replay, what), number in alike.items():
        if replay and number > _SHOWN:
            yield f"{name}: {number - _SHOWN} more that begin with {what}, of {replay}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proof",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="everything, for a night; writes the figures into docs/proof.md and README.md, unless it is a replay",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance (default: %(default)s)")
    parser.add_argument("--replay", metavar="WORD", help="only this one thing, as a failure has named it; with --only")
    return parser


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(BROKEN)  # through the blocks that end what they have started


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is impatient would leave something behind
    if os.getpid() == _LEADER:  # those that were forked have nothing to add
        os.write(sys.stderr.fileno(), b"\nproof: interrupted; what was started is being ended\n")
    sys.exit(INTERRUPTED)


def _say(text: str) -> None:
    if text:
        print(text, flush=True)


_LEADER: Final = os.getpid()

if __name__ == "__main__":
    sys.exit(main())
