"""What every driver does alike: feed an event, record what came of it, arm the deadline.

A driver adds what moves time and what carries actions out; see `client` for the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from simlib.core import record as recording
from simlib.core.assignment import (
    FLAG_READ,
    SERVER_CLOSES,
    TREATMENT,
    FlagRules,
    Percent,
    cohort_at,
    cohort_at_start,
    cohort_now,
    flag_applies_s,
    server_closes_s,
)
from simlib.core.client import applied_from, fetches_boards, is_recoverable, mends_gaps, step
from simlib.core.client_state import NEVER_S, Client, Rules, is_fallen
from simlib.core.connection import Connection
from simlib.core.protocol import FALLBACK_OF, Action, Event, State, Transport
from simlib.core.record import Cause, Count, Record, Wait
from simlib.core.streams import ENDED


class Driver(ABC):
    """The part of a driver that does not depend on the clock.

    Parameters
    ----------
    rules : Rules
        Those of all clients; in a rollout, of the control cohort.
    record : Record
    clients : int
        Number of clients.
    flag : FlagRules or None
        How a rollout's percentage reaches them, if there is one.
    buckets : list of float
        The clients' buckets in the rollout.
    treatment_rules : Rules or None
        Those of the rollout's treatment cohort, if it has its own.

    Attributes
    ----------
    clients : list of Client
    percents : list of Percent
        The percentages set so far.
    connection_rows : list of Connection
        What is known of each client's connections.
    """

    def __init__(
        self,
        rules: Rules,
        record: Record,
        clients: int,
        flag: FlagRules | None = None,
        buckets: list[float] | None = None,
        treatment_rules: Rules | None = None,
    ) -> None:
        self.rules = rules
        self._cohort_rules = (rules, treatment_rules or rules)
        self.flag = flag
        self.buckets = buckets or []
        self.percents: list[Percent] = []
        self.record = record
        self.clients = [Client(number) for number in range(clients)]
        for client, version in zip(self.clients, record.entered.tolist(), strict=True):
            client.seen = version
        self.connection_rows = [Connection(number) for number in range(clients)]

    @abstractmethod
    def now_s(self) -> float:
        """Return the time, seconds from the start of the run."""

    @abstractmethod
    def arm(self, client: Client, deadline_s: float) -> None:
        """Replace the client's timer by one that calls `wake` at `deadline_s` (or never)."""

    @abstractmethod
    def carry_out(self, client: Client, event: Event, actions: int, was: int) -> None:
        """Do what the client asks for after `event`.

        `actions` are bits of `Action`, `was` the transport that it used before: CLOSE is for that.
        """

    def rules_of(self, client: Client) -> Rules:
        """Return the rules that a client obeys: those of its cohort."""
        return self._cohort_rules[client.cohort]

    def feed(self, client: Client, event: Event, value: int = 0) -> None:
        """Put one event through the rules; ASSIGNED, through those of the client's new cohort."""
        now, was = self.now_s(), client.transport
        rules = self._cohort_rules[value if event == Event.ASSIGNED else client.cohort]
        actions, is_rearmed = advance(client, rules, self.record, event, now, value)
        if is_rearmed:
            self.arm(client, client.deadline_s)
        if actions:
            self.carry_out(client, event, actions, was)

    @abstractmethod
    def schedule_flag_update(self, client: Client, t: float, why: int) -> None:
        """At `t`, let the client `apply_flag`, or (SERVER_CLOSES) the server close its socket."""

    @abstractmethod
    def trip_s(self, client: Client) -> float:
        """Return how long what sets out now takes from the server to the client, seconds."""

    def begin(self, client: Client) -> None:
        """The client's session starts; its page reads the flag, if there is one."""
        number, now, rules = client.number, self.now_s(), self.rules
        if self.flag is not None:
            client.cohort = cohort_at_start(
                self.flag,
                rules.seed,
                rules.replication,
                number,
                self.buckets[number],
                self.percents,
                len(self.percents),
                now,
            )
            recording.start_exposure(self.record, number, client.cohort, now)
        self.feed(client, Event.START, client.seen)

    def set_percentage(self, percent: float) -> None:
        """Set the percentage of users who are enrolled from now on."""
        assert self.flag is not None
        change, latest = len(self.percents), Percent(self.now_s(), percent)
        self.percents.append(latest)
        for client in self.clients:
            if client.state in (State.ABSENT, State.GONE):
                continue
            start_s = float(self.record.start_s[client.number])
            bucket, trip_s = self.buckets[client.number], self.trip_s(client)
            reads_s, closes_s = flag_update_times_s(
                client, self.rules, self.flag, bucket, change, latest, start_s, trip_s
            )
            for t, why in ((reads_s, FLAG_READ), (closes_s, SERVER_CLOSES)):
                if t < NEVER_S:
                    self.schedule_flag_update(client, t, why)

    def apply_flag(self, client: Client, why: int) -> None:
        """The client learns the present percentage, by itself or from the server."""
        number, now = client.number, self.now_s()
        assert self.flag is not None
        bucket, changes = self.buckets[number], len(self.percents)
        cohort = cohort_now(self.flag, bucket, self.percents, changes, why, now)
        if client.state != State.GONE and cohort != client.cohort:
            recording.end_exposure(self.record, number, now)
            recording.start_exposure(self.record, number, cohort, now)
            self.feed(client, Event.ASSIGNED, cohort)

    def wake(self, client: Client) -> None:
        """The client's deadline has come."""
        self.feed(client, Event.DEADLINE)

    def stop(self, client: Client) -> None:
        """The client's session ends: what it has not seen is recorded, then it leaves."""
        self._finalise(client)
        recording.end_exposure(self.record, client.number, self.now_s())
        self.feed(client, Event.STOP)

    def finish(self) -> None:
        """The run ends: record what the clients that are still present have not seen."""
        for client in self.clients:
            if client.state != State.GONE:
                self._finalise(client)
            if is_fallen(client, self.rules_of(client)):
                since_s = client.since_s
                recording.end_fallback(
                    self.record, client.number, client.cohort, since_s, self.now_s()
                )
            if client.state not in (State.ABSENT, State.GONE):
                recording.end_exposure(self.record, client.number, self.now_s())
            self.record_disconnect(client.number, self.now_s(), Cause.OPEN_AT_END)

    def _finalise(self, client: Client) -> None:
        number, rules = client.number, self.rules_of(client)
        may_come = is_recoverable(client, rules), mends_gaps(client, rules)
        recording.finalise(self.record, number, client.seen, *may_come, self.now_s())

    def tally(self, what: Count, number: int, n: int = 1) -> None:
        """Count something that happens now."""
        recording.count(self.record, what, number, self.now_s(), n)

    def end_wait(self, what: Wait, number: int, since_s: float) -> None:
        """What a client has waited for since `since_s` is there."""
        now = self.now_s()
        recording.end_wait(self.record, what, number, now - since_s, now)

    def record_connection(self, number: int) -> None:
        """A connection has opened."""
        link = self.connection_rows[number]
        recording.open_connection(self.record, number, self.now_s())
        link.opened_s = self.now_s()
        link.opened_by = self.clients[number].transport

    def record_disconnect(self, number: int, closed_s: float, cause: int) -> None:
        """The client's connection, if it has one, has ended."""
        link = self.connection_rows[number]
        if link.opened_s < NEVER_S:
            recording.close_connection(
                self.record, number, link.opened_s, closed_s, cause, link.opened_by, link.node
            )
            link.opened_s = NEVER_S


def advance(
    client: Client, rules: Rules, record: Record, event: int, now: float, value: int
) -> tuple[int, bool]:
    """Put one event through the rules, and record what comes of it.

    Parameters
    ----------
    client : Client
        Changed in place.
    rules : Rules
    record : Record
    event : Event
    now : float
        Seconds.
    value : int
        What the event carries: see `client.step`.

    Returns
    -------
    actions : int
        Bits of `Action`, for the driver to carry out.
    is_rearmed : bool
        Whether ``client.deadline_s`` replaces the timer that is armed.
    """
    # One type of whole numbers for what follows: compiled code would be made for each.
    number, before, was = client.number + 0, client.seen + 0, client.transport + 0
    was_fallen, since_s = is_fallen(client, rules), client.since_s + 0.0
    cohort = client.cohort + 0
    armed_s = NEVER_S if event == Event.DEADLINE else client.deadline_s
    actions, deadline_s = step(client, rules, event, now, value)
    if client.seen != before:
        shown_from = applied_from(client, before)
        recording.resolve(record, number, before, shown_from, client.seen + 0, now)
    if event == Event.SNAPSHOT or (event == Event.FETCHED and fetches_boards(was, rules)):
        recording.fill_gaps(record, number, value, now)
    if record.keep_events:
        recording.log_event(record, now, number, event, client.state, actions)
    if client.transport != was and client.transport == FALLBACK_OF[was]:
        if event != Event.ASSIGNED:
            recording.count(record, Count.FALLBACKS, number, now)
    if was_fallen and not is_fallen(client, rules):
        recording.end_fallback(record, number, cohort, since_s, now)
    if event == Event.ASSIGNED and not actions & Action.CLOSE:
        recording.keep_connection(record, number, now)
    if event == Event.READY:
        recording.end_wait(record, Wait.CONNECTION + 0, number, now - since_s, now)
    if event == Event.CLOSED and value > 0 and client.state == State.STRANDED:
        recording.count_in_bin(record, Count.GIVEN_UP + int(value == ENDED), number, now)
    if event == Event.PING or actions & Action.SEND_PING:
        recording.count_in_bin(record, Count.HEARTBEATS, number, now)
    return actions, deadline_s != armed_s


def flag_update_times_s(
    client: Client,
    rules: Rules,
    flag: FlagRules,
    bucket: float,
    change: int,
    latest: Percent,
    start_s: float,
    trip_s: float,
) -> tuple[float, float]:
    """Return when a new percentage reaches a client that is present; infinity: never.

    Parameters
    ----------
    client : Client
    rules : Rules
    flag : FlagRules
    bucket : float
        The client's bucket.
    change : int
        The number of the change, from 0.
    latest : Percent
        The new percentage, and now.
    start_s : float
        When the client's session started, seconds.
    trip_s : float
        From the server to the client, seconds.

    Returns
    -------
    reads_s : float
        When the client applies it by itself, seconds.
    closes_s : float
        When the server closes the client's socket for it, seconds.
    """
    seed, replication, number = rules.seed, rules.replication, client.number + 0
    is_open = client.state == State.OPEN
    reads_s = flag_applies_s(
        flag, seed, replication, number, change, start_s, is_open, trip_s, latest.t
    )
    closes_s = NEVER_S
    if client.cohort == TREATMENT and cohort_at(bucket, latest.percent) != TREATMENT:
        closes_s = server_closes_s(flag, seed, replication, number, change, latest.t)
    return reads_s, closes_s


def cause_of(event: int, transport: int) -> Cause:
    """Return why a connection of a transport ends when the client closes it after `event`.

    Examples
    --------
    >>> cause_of(Event.STOP, Transport.POLLING).name
    'SESSION_ENDED'
    """
    if event == Event.STOP:
        return Cause.SESSION_ENDED
    if event == Event.ASSIGNED or (event == Event.DEADLINE and transport == Transport.POLLING):
        return Cause.SWITCHED
    if event == Event.DEADLINE:
        return Cause.TIMED_OUT
    return Cause.CLOSED_BY_SERVER
