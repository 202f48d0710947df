"""What every driver does alike: feed an event, book what came of it, arm the deadline.

A driver adds what moves time and what carries actions out; see `client` for the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from simlib.core import record as books
from simlib.core.client import NEVER_S, Client, Rules, applied_from, is_recoverable, step
from simlib.core.protocol import Event, State, Transport
from simlib.core.record import Cause, Count, Record


class Driver(ABC):
    """The part of a driver that does not depend on the clock.

    Parameters
    ----------
    rules : Rules
    record : Record
    clients : int
        Number of clients.

    Attributes
    ----------
    clients : list of Client
    opened_s : list of float
        Since when each client's connection is open, seconds; `NEVER_S` without one.
    """

    def __init__(self, rules: Rules, record: Record, clients: int) -> None:
        self.rules = rules
        self.record = record
        self.clients = [Client(number) for number in range(clients)]
        for client, version in zip(self.clients, record.entered.tolist(), strict=True):
            client.seen = version
        self.opened_s = [NEVER_S] * clients

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

    def feed(self, client: Client, event: Event, value: int = 0) -> None:
        """Put one event through the rules."""
        now, number, before, was = self.now_s(), client.number, client.seen, client.transport
        armed_s = NEVER_S if event == Event.DEADLINE else client.deadline_s
        actions, deadline_s = step(client, self.rules, event, now, value)
        if client.seen != before:
            shown_from = applied_from(client, before)
            books.resolve(self.record, number, before, shown_from, client.seen, now)
        if event in (Event.SNAPSHOT, Event.FETCHED):
            books.fill_gaps(self.record, number, value, now)
        if self.record.keep_events:
            books.log_event(self.record, now, number, event, client.state, actions)
        if deadline_s != armed_s:
            self.arm(client, deadline_s)
        if client.transport < was:
            self.book(Count.FALLBACKS, number)
        if actions:
            self.carry_out(client, event, actions, was)

    def wake(self, client: Client) -> None:
        """The client's deadline has come."""
        self.feed(client, Event.DEADLINE)

    def stop(self, client: Client) -> None:
        """The client's session ends: its books are closed, then it leaves."""
        self._settle(client)
        self.feed(client, Event.STOP)

    def finish(self) -> None:
        """The run ends: close the books of everybody who is still there."""
        for client in self.clients:
            if client.state != State.GONE:
                self._settle(client)
            self.book_disconnect(client.number, self.now_s(), Cause.OPEN_AT_END)

    def _settle(self, client: Client) -> None:
        recoverable = is_recoverable(client, self.rules)
        books.settle(self.record, client.number, client.seen, recoverable, self.now_s())

    def book(self, what: Count, number: int, n: int = 1) -> None:
        """Count something that happens now."""
        books.count(self.record, what, number, self.now_s(), n)

    def book_connection(self, number: int) -> None:
        """A connection has opened."""
        books.open_connection(self.record, number, self.now_s())
        self.opened_s[number] = self.now_s()

    def book_disconnect(self, number: int, closed_s: float, cause: Cause) -> None:
        """The client's connection, if it has one, has ended."""
        opened_s = self.opened_s[number]
        if opened_s < NEVER_S:
            self.opened_s[number] = NEVER_S
            books.close_connection(self.record, number, opened_s, closed_s, cause)


def cause_of(event: int, transport: int) -> Cause:
    """Return why a connection of a transport ends when the client closes it after `event`.

    Examples
    --------
    >>> cause_of(Event.STOP, Transport.POLLING).name
    'SESSION_ENDED'
    """
    if event == Event.STOP:
        return Cause.SESSION_ENDED
    if event == Event.DEADLINE and transport == Transport.POLLING:
        return Cause.SWITCHED
    if event == Event.DEADLINE:
        return Cause.TIMED_OUT
    return Cause.CLOSED_BY_SERVER
