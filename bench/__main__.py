"""Measure everything on this machine: `python -m bench`; writes docs/performance.md."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Final

from bench import machine, report
from bench.figures import Findings
from bench.load import MeasurementFailed
from bench.options import Options
from bench.scenarios import confirm, growth, memory, nightly, operations, recovery, soak, waiting
from bench.stage import Say
from bench.world import World, open_world

Scenario = Callable[[World, Options, Say], Findings]

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "confirm": confirm.run,
    "operations": operations.run,
    "waiting": waiting.run,
    "recovery": recovery.run,
    "nightly": nightly.run,
    "growth": growth.run,
    "memory": memory.run,
    "soak": soak.run,
}
_QUICK: Final = Options(seconds=1, rounds=1, soak_seconds=10, is_quick=True)
_DONE, _FELL, _FAILED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 with `--strict` where a figure fell or a target is not met, 2 it cannot be measured."""
    asked = _parser().parse_args(arguments)
    names = [name for name in asked.only or SCENARIOS if asked.soak or name != "soak"]
    options = _QUICK if asked.quick else Options(asked.seconds, asked.rounds, asked.soak_seconds)
    signal.signal(signal.SIGTERM, _leave)
    try:
        machine.check()
    except machine.NotLinux as error:
        print(f"bench: {error}", file=sys.stderr)
        return _FAILED
    findings = _measure(names, options)
    is_whole = len(findings) == len(SCENARIOS) and not asked.quick
    complaints = _report(findings, options, writes=is_whole)
    if len(findings) < len(names):
        return _FAILED
    return _FELL if asked.strict and complaints else _DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog="Example: python -m bench --quick --only confirm waiting"
    )
    parser.add_argument("--quick", action="store_true", help="only see that everything works; writes nothing")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help="only these; writes nothing")
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured (default: %(default)s)")
    parser.add_argument("--soak-seconds", type=float, default=600, help="of the soak (default: %(default)s)")
    parser.add_argument("--no-soak", dest="soak", action="store_false", help="leave the soak out; writes nothing")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a figure fell or a target is missed")
    return parser


def _measure(names: Sequence[str], options: Options) -> list[Findings]:
    """What could be found out; a scenario that fails is told of at once, and the others go on."""
    findings = []
    began = time.monotonic()
    with open_world(payments_of_day=options.payments_of_day) as world:
        for name in names:
            _say(f"{name} (after {time.monotonic() - began:.0f} s)")
            try:
                found = SCENARIOS[name](world, options, _say)
            except MeasurementFailed as error:
                _say("\n".join([f"{name} FAILED: {error}", *getattr(error, "__notes__", ())]))
                continue
            findings.append(found)
            _say("\n".join(report.lines_of([found])))
    return findings


def _report(findings: Sequence[Findings], options: Options, *, writes: bool) -> list[str]:
    """Print everything, and write it if it is everything; answers what is wrong with it."""
    lines = report.lines_of(findings)
    _say("\n".join(["", *lines, ""]))
    text = report.FILE.read_text()
    fallen = [] if options.is_quick else report.fallen_since(text, lines)
    if writes:
        report.FILE.write_text(report.written_into(text, lines, options=options))
        _say(f"Written to {report.FILE}.")
    missed = report.missed(findings)
    for title, sentences in (("Worse by more than a third", fallen), ("Targets that are not met", missed)):
        if sentences:
            _say("\n".join([f"{title}:", *(f"  {sentence}" for sentence in sentences)]))
    return [*fallen, *missed]


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(_FAILED)  # through the blocks that end what they have started


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
