"""Break everything on purpose and compare the books: `python -m proof`; with `--full` it writes docs/proof.md."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Final

from proof import commits, crashes, cuts, failover, machine, model, outages, planted, report, storms
from proof.findings import BadReplay, Findings, Options, Say

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
_HELD, _BROKEN, _USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 everything held, 1 something did not, 2 wrong usage."""
    asked = _parser().parse_args(arguments)
    if asked.replay and len(asked.only or ()) != 1:
        print("proof: --replay needs --only with the one part that it is of", file=sys.stderr)
        return _USAGE
    signal.signal(signal.SIGTERM, _leave)
    options = Options(is_full=asked.full, seed=asked.seed, replay=asked.replay)
    began = time.monotonic()
    try:
        findings = {name: _run(name, options, began) for name in PARTS if name in (asked.only or PARTS)}
    except BadReplay as bad:
        print(f"proof: {asked.only[0]} cannot replay {asked.replay}: {bad}", file=sys.stderr)
        return _USAGE
    for name, found in findings.items():
        _say("\n".join(["", name, *report.lines_of(found)]))
    _say(f"\nAll of it in {time.monotonic() - began:.0f} s.")
    broken = [name for name, found in findings.items() if _tell(name, found, options)]
    return _BROKEN if broken else _HELD


def _run(name: str, options: Options, began: float) -> Findings:
    now = time.monotonic()
    _say(f"{name} (after {now - began:.0f} s)")
    found = PARTS[name](options, _say)
    if options.is_full and not options.replay:
        report.write(name, found, options, seconds=time.monotonic() - now)
    return found


def _tell(name: str, found: Findings, options: Options) -> bool:
    """Say what did not hold, and how each is tried once more; whether there was anything."""
    for failure in found.failures:
        _say(f"{name}: {failure.what}")
        if failure.replay:
            _say(f"  python -m proof --only {name} --seed {options.seed} --replay {shlex.quote(failure.replay)}")
    return bool(found.failures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proof", description=__doc__, epilog="Example: python -m proof --only crashes storms --seed 7"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="everything, for a night; writes the figures into docs/proof.md and README.md",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance (default: %(default)s)")
    parser.add_argument("--replay", metavar="WORD", help="only this one thing, as a failure has named it; with --only")
    return parser


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(_BROKEN)  # through the blocks that end what they have started


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
