"""The commands that make, list and revoke what clients of the API show."""

import argparse
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from payments.access import Scope
from payments.arguments import add, add_group
from payments.card_numbers import has_card_number
from payments.cli_jobs import count, perform, words
from payments.settings import parse_duration

if TYPE_CHECKING:
    from payments.arguments import Commands

LONGEST_NAME: Final = 80
LONGEST_PERSON: Final = 100
SHORTEST_LIFE: Final = timedelta(minutes=1)
MOST_WON: Final = 1_000_000_000  # as of a payment
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}")


def add_keys(commands: "Commands") -> None:
    """Add them all."""
    verbs = add_group(commands, "keys", "look after the keys of the API's clients", "payments keys list")
    add(
        verbs,
        "create",
        _create,
        "make an API key and print it, once: it is kept nowhere and cannot be asked for again",
        "payments keys create --name back-office --scope read,refund",
        _create_options,
    )
    add(verbs, "list", _list, "list the API keys, without what they are", "payments keys list --all", _list_options)
    add(
        verbs,
        "revoke",
        _revoke,
        "make an API key worthless, from the next request on",
        "payments keys revoke Ab12Cd34",
        _revoke_options,
    )


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", required=True, type=name, metavar="NAME", help="whose key it is; it stands in histories of payments"
    )
    parser.add_argument(
        "--scope",
        required=True,
        type=scopes,
        metavar="SCOPES",
        help="what it may do, with commas between: pay (prepare and confirm for buyers), read (everything), refund",
    )
    parser.add_argument(
        "--expires-in", type=duration, metavar="DURATION", help="for how long it is valid, such as 90d (default: ever)"
    )
    parser.add_argument(
        "--refund-limit",
        type=won,
        metavar="WON",
        help="the most that it may give back of one payment in all (default: whatever was paid)",
    )
    parser.add_argument(
        "--from-file",
        type=Path,
        metavar="FILE",
        help="take the key that stands in FILE instead of making one; doing it again changes nothing",
    )
    _by_option(parser)


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="those that were revoked, too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _revoke_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prefix", type=prefix, metavar="PREFIX", help="as `payments keys list` shows it: what stands after payk_"
    )
    _by_option(parser)


def _by_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by", type=person, metavar="NAME", help="who does this, for the record (default: the user of this machine)"
    )


def name(text: str) -> str:
    """The name of a client."""
    if NAME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"has to be 1 to {LONGEST_NAME} letters, digits, spaces, dots, - or _")
    if text.lower().startswith("token "):
        raise argparse.ArgumentTypeError("must not begin like the names of those who show a token")
    return _without_card_number(text)


def person(text: str) -> str:
    """Who does something, for the record."""
    said = words(text)
    if len(said) > LONGEST_PERSON or not said.isprintable():
        raise argparse.ArgumentTypeError(f"has to be readable text of at most {LONGEST_PERSON} characters")
    return _without_card_number(said)


def _without_card_number(text: str) -> str:
    if has_card_number(text):
        raise argparse.ArgumentTypeError("must not contain a card number")
    return text


def won(text: str) -> int:
    """As much as a payment can be of."""
    amount = count(text)
    if amount > MOST_WON:
        raise argparse.ArgumentTypeError(f"has to be a whole number of won, at most {MOST_WON:,}")
    return amount


def scopes(text: str) -> frozenset[Scope]:
    """What a client may do."""
    try:
        return frozenset(Scope(word.strip()) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"has to be some of {', '.join(Scope)}, with commas between") from None


def duration(text: str) -> timedelta:
    """How long a key lives."""
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(found, timedelta) or found < SHORTEST_LIFE:
        raise argparse.ArgumentTypeError("has to be a minute or longer")
    return found


def prefix(text: str) -> str:
    """The part of a key that may be seen; of a whole key no more than that is looked at."""
    found = re.fullmatch(r"(?:payk_)?([A-Za-z0-9]{8})(?:_.*)?", text)
    if found is None:
        raise argparse.ArgumentTypeError("has to be the 8 letters and digits that the list shows")
    return found[1]


def _create(options: argparse.Namespace) -> int:
    from payments.commands import WantedKey, create_key_now  # noqa: PLC0415 - the other commands start faster without

    lives, file, limit = options.expires_in, options.from_file, options.refund_limit
    wanted = WantedKey(options.name, options.scope, options.by, lives, file, limit)
    return perform(lambda settings: create_key_now(settings, wanted))


def _list(options: argparse.Namespace) -> int:
    from payments.commands import list_keys_now  # noqa: PLC0415 - as above

    return perform(lambda settings: list_keys_now(settings, revoked_too=options.all, in_json=options.json))


def _revoke(options: argparse.Namespace) -> int:
    from payments.commands import revoke_key_now  # noqa: PLC0415 - as above

    return perform(lambda settings: revoke_key_now(settings, options.prefix, by=options.by))
