"""What the model remembers: everybody's books, what is under way, and which protections are switched on."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from payments.states import PaymentStatus, RefundStatus

AMOUNT: Final = 3  # won of the order: the least that can go back in three parts
PART: Final = 1
NOBODY: Final = -1


class AtPg(Enum):
    """Where a payment of the PG stands; ABSENT until the buyer has paid in its window."""

    ABSENT = auto()
    IN_PROGRESS = auto()
    WAITING = auto()
    DONE = auto()  # the money was captured; what is left of it is told by `cancels`
    ABORTED = auto()
    EXPIRED = auto()
    CANCELED = auto()  # before any money came


# Nothing is captured any more under such a key.
DEAD: Final = frozenset({AtPg.ABSENT, AtPg.ABORTED, AtPg.EXPIRED, AtPg.CANCELED})


class Age(Enum):
    """How old a confirm, or an account, can be: within the PG's window, after it, and after the margin as well."""

    YOUNG = auto()
    OVER = auto()
    LONG_OVER = auto()


class Cancel(NamedTuple):
    """Money that the PG has given back, and for which of our promises; the console's cancels have no name."""

    amount: int
    balance_after: int
    name: str


class Window(NamedTuple):
    """A payment in the PG's books. Its number is the payment key; `answers` are its idempotency keys."""

    status: AtPg
    age: Age = Age.YOUNG
    ours: int = 0  # captures that we asked for
    foreign: int = 0  # captures that somebody else made
    cancels: tuple[Cancel, ...] = ()
    answers: tuple[tuple[str, "Reply"], ...] = ()
    is_contradicted: bool = False  # the PG took a refusal back
    reversals: int = 0  # deposits that the bank took back

    @property
    def balance(self) -> int:
        kept = self.status is AtPg.DONE
        return AMOUNT * (self.ours + self.foreign) - sum(one.amount for one in self.cancels) if kept else 0

    @property
    def shown(self) -> "Window":
        """What a look-up shows of it."""
        return self._replace(age=Age.YOUNG, answers=(), is_contradicted=False, reversals=0)


class Said(Enum):
    """The kinds of answers that the PG gives, as `gateways.pg` sorts them; LOST is what never arrived."""

    HELD = auto()  # Approved, or cancelled after it was approved: the window says what is left
    WAITING = auto()
    DECLINED = auto()
    CANCELLED = auto()
    REFUNDED = auto()
    REFUSED = auto()
    BALANCE_DIFFERS = auto()
    IN_PROGRESS = auto()
    NOT_FOUND = auto()
    PROCESSED = auto()  # already processed: look it up
    FAULT = auto()  # a 5xx, which may be repeated under the same key
    LOST = auto()
    NOT_SENT = auto()
    TAKEN = auto()  # a message, by the order service


REFUSALS: Final = frozenset({Said.REFUSED, Said.BALANCE_DIFFERS})


class Reply(NamedTuple):
    """An answer, what it shows of which payment, and which of its cancels is the one that was asked for."""

    said: Said
    shown: Window | None = None
    cancel: int = NOBODY
    key: int = 0


class Ask(Enum):
    """The calls that we make."""

    CONFIRM = auto()
    LOOK = auto()
    REFUND = auto()
    CANCEL = auto()
    EVENT = auto()  # to the order service


class Request(NamedTuple):
    """A call on its way. The amounts and the name are those of a refund; `number` is the sequence of an event."""

    ask: Ask
    key: int = 0
    idem: str = ""
    name: str = ""
    amount: int = 0
    believed: int = 0
    number: int = 0


class Row(NamedTuple):
    """Our row of the payment."""

    status: PaymentStatus = PaymentStatus.CREATED
    attempt: int = 1
    key: int = 0  # 0: none yet
    refunded: int = 0
    holder: int = NOBODY
    failed: frozenset[int] = frozenset()  # keys of attempts that failed: what the history tells
    has_account: bool = False
    given_up: str = ""  # the PG key of a promise to give the account up


class Promise(NamedTuple):
    """A row that promises money back: a refund, or a stray capture. Committed before the PG is asked."""

    amount: int
    believed: int
    key: int
    request: str  # whose idempotency key at our API; "" where nobody asked us
    status: RefundStatus = RefundStatus.REQUESTED
    generation: int = 0  # of its key at the PG
    cancel: int = NOBODY  # the PG's cancel that it was recorded as
    holder: int = NOBODY
    is_old: bool = False  # its key, so that the PG may have forgotten it: nothing is asked for any more

    @property
    def name(self) -> str:
        """Its own; where keys are switched on, this is its key at the PG."""
        return f"{self.request or 'stray'}.{self.key}.{self.generation}"


class World(NamedTuple):
    """Everything but what the processes have in their heads."""

    windows: tuple[Window, ...]
    row: Row = Row()
    refunds: tuple[Promise, ...] = ()
    strays: tuple[Promise, ...] = ()
    told: tuple[str, ...] = ()  # the messages to the order service, in order
    delivered: int = 0  # of them, as far as we know
    applied: int = 0  # of them, by the order service
    late: tuple[Request, ...] = ()  # calls under way that nobody waits for any more
    hints: tuple[AtPg | None, ...] = ()  # webhooks to be worked on, by key; what they claim counts only if trusted
    fresh: frozenset[int] = frozenset()  # processes whose question is as new as the row
    noted: frozenset[int] = frozenset()  # keys that a person was told about
    crashes: int = 0  # that may still happen
    troubles: int = 0  # of the network and of the PG that may still happen
    tricks: int = 0  # what others may still do at the PG
    flaws: tuple[str, ...] = ()  # what must not happen and did


class Job(Enum):
    """What a process is working on."""

    NOTHING = auto()
    CONFIRM = auto()
    RECOVER = auto()
    WATCH = auto()
    EXPIRE = auto()
    HINT = auto()
    RESOLVE = auto()
    REFUND = auto()
    STRAY = auto()
    GIVE_UP = auto()
    DELIVER = auto()
    TELL = auto()  # only where the message is not written with the change


class At(Enum):
    """How far the call has come that a process makes."""

    IDLE = auto()
    SENDING = auto()
    SENT = auto()
    ANSWERED = auto()


class Task(NamedTuple):
    """What one process has in its head, and loses when it dies."""

    at: At = At.IDLE
    job: Job = Job.NOTHING
    request: Request = Request(Ask.LOOK)
    reply: Reply | None = None
    first: Reply | None = None  # of two answers the one before the look-up
    promise: int = NOBODY  # the place of the one that is being kept
    age: Age = Age.YOUNG  # of the confirm when it was claimed
    visits: int = 0  # how often the buyer or the back office may still come
    row: Row | None = None  # as it was read; kept only where writes are blind
    message: str = ""


class Kind(Enum):
    """PROGRESS needs no fault, WAIT neither and decides nothing; CHOICE is somebody's own, FAULT befalls us."""

    PROGRESS = auto()
    WAIT = auto()
    CHOICE = auto()
    FAULT = auto()


class Step(NamedTuple):
    """One thing that can happen next, by one process or at the PG."""

    name: str
    world: World
    task: Task
    kind: Kind = Kind.PROGRESS


@dataclass(frozen=True, slots=True)
class Layers:
    """The protections of the design; each can be switched off to see whether the model notices."""

    claims_pending: bool = True  # a confirm that finds the payment PENDING leaves the PG alone
    confirm_key: bool = True  # confirms carry an idempotency key, the same on every repetition
    pg_refuses_twice: bool = True  # the PG's own: a payment that is DONE is not captured again
    timeout_is_unknown: bool = True
    young_is_left_open: bool = True  # what is under way at the PG, or not found, is not given up within the window
    respects_leases: bool = True
    asks_about_webhooks: bool = True  # their body is only a hint
    reads_again: bool = True  # the row is read again, under its lock, before an answer is recorded
    recovers: bool = True
    promises_refunds: bool = True  # as a row, before the PG is asked
    one_refund_a_request: bool = True
    refund_key: bool = True
    sends_balance: bool = True  # with a refund, as the PG's lock
    doubts_refusals: bool = True  # looks the payment up before a refusal of a refund is believed
    renews_key: bool = True  # of a refund under which the PG repeats a fault
    leaves_open_refund: bool = True  # a cancel at the PG that may be the open refund is not recorded as another one
    compares_reasons: bool = True  # the console's cancels carry another reason than ours
    gives_strays_back: bool = True
    tells_with_change: bool = True  # the message is a row of the same transaction
    tells_in_order: bool = True
    marks_after_answer: bool = True  # a message counts as delivered only when it was taken
    shop_knows_ids: bool = True  # the order service's: an event that it has is not applied again
    checks_freshness: bool = True  # an answer that others have overtaken takes nothing away
    doubts_late_money: bool = True  # an overtaken answer may tell of a deposit that the bank has taken back since
    compares_nightly: bool = True


@dataclass(frozen=True, slots=True)
class Office:
    """A back office process: its idempotency key, and how much it wants back; None is everything."""

    request: str
    amount: int | None = None
    visits: int = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """How large the world is, and what may go wrong in it."""

    name: str
    tabs: tuple[int, ...] = (1, 1)  # the payment keys that the buyer's tabs come back with
    visits: int = 1  # of each tab
    offices: tuple[Office, ...] = ()
    workers: int = 1
    crashes: int = 1
    troubles: int = 1
    tricks: int = 0
    declines: bool = True  # the PG may refuse a confirm
    has_webhooks: bool = True
    is_account: bool = False  # the buyer pays into a virtual account
    layers: Layers = Layers()

    @property
    def keys(self) -> range:
        return range(1, max(self.tabs) + 1)
