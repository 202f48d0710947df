"""What a browser allows all tabs of a user: so many requests to the server at a time.

Over HTTP/1.1 that is connections: browsers open six to an origin, for all tabs of a profile. Over
HTTP/2 it is streams on one connection, as many as the server allows. Whatever a tab asks for beyond
them waits in the browser, in the order of asking, until one is free. Nothing of it is sent
meanwhile, and the server does not know. So a seventh tab with a stream waits until another tab is
closed, and so do the polls and the fetches of all tabs behind six streams.

What takes a connection, and until when:

* a poll, a fetch of what a socket has told of, a request that the server holds: until the answer or
  the failure is there, or the client gives it up;
* a stream: from the attempt to connect until the client knows of its end, or leaves. A tab may have
  further streams (`BrowserRules.streams`), which ask right behind the first, carry nothing that is
  counted, and end with it.

WebSockets are not among them: they have a limit of their own (255 in Chromium). Nor is a connection
between two requests, which another tab would use, or the browser close. Safety polls on a
connection of their own, beside a socket, are not modelled with a limit: see `polls_beside`.

What waits is on no connection: a cut or a dead path does nothing to it. The client's own timers go
on, as those of a page do, which does not know why nothing comes. An attempt to connect, and a
request that is to be held, are given up when their time is over, and ask anew, behind the others. A
poll and a fetch have no such time. Who leaves, or takes another transport, leaves the queue too.
What one client gives back, the first in the queue takes at the same time, as an event of its own.

A client has two *claims*: one for what it does instead of other transports (its poll, its stream,
its request that is held), and one for what it fetches beside its socket. A claim is for one thing,
known by its *key*, the number of the exchange or of the fetch. `settle` gives back what is over.
Each user has a `Pool`. `claim`, `pool` and `client` may be rows with the columns below.

References
----------
Chromium: net/socket/client_socket_pool_manager.cc, g_max_sockets_per_group (6 connections, and 255
for WebSockets); Firefox: network.http.max-persistent-connections-per-server (6).
RFC 9113, section 5.1.2: SETTINGS_MAX_CONCURRENT_STREAMS.
wildware-uk/agent-dashboard, issue 19: two streams a tab, and the third tab's fetch never answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from simlib.core import record as recording
from simlib.core.client_state import NEVER_S, Client
from simlib.core.protocol import State, fetches, has_socket, is_stream
from simlib.core.record import Record

MAIN, BESIDE = range(2)
"""The two claims of a client; client number n has those with the numbers 2n and 2n + 1."""
CLAIMS = 2
NO_KEY = -1


class BrowserRules(NamedTuple):
    """The settings.

    Each user has so many `connections` for requests at a time, 0 for any number, and so many
    `tabs`; each tab has so many `streams`.
    """

    connections: int
    tabs: int
    streams: int


NO_LIMIT = BrowserRules(connections=0, tabs=1, streams=1)


def polls_beside(transport: int, safety_poll_s: float) -> bool:
    """Say whether a client makes safety polls that know no limit of the browser's.

    Examples
    --------
    >>> from simlib.core.protocol import Transport
    >>> polls_beside(Transport.WEBSOCKET, 60.0), polls_beside(Transport.NOTIFY, 60.0)
    (True, False)
    """
    is_pushed_to = has_socket(transport) and not fetches(transport)
    return bool(is_pushed_to and safety_poll_s < NEVER_S)


class Pool:
    """What the tabs of one user have of the browser.

    Attributes
    ----------
    used : int
        How many of the connections are in use.
    waiting : int
        How many more are asked for.
    tickets : int
        How many have been asked for so far, which numbers those who wait.
    """

    __slots__ = ("tickets", "used", "waiting")

    def __init__(self) -> None:
        self.used = 0
        self.waiting = 0
        self.tickets = 0


POOL_ROW = {"used": "i4", "waiting": "i4", "tickets": "i8"}


class Claim:
    """What a client has asked the browser for.

    Attributes
    ----------
    key : int
        The exchange or the fetch that it is for, `NO_KEY` for none.
    held, waiting : int
        How many connections it has, and how many more it waits for.
    ticket : int
        The place in the queue of the next one.
    is_queued : bool
        Whether the client's request has not set out yet.
    asked_s : float
        When it asked, seconds.
    """

    __slots__ = ("asked_s", "held", "is_queued", "key", "ticket", "waiting")

    def __init__(self) -> None:
        self.key = NO_KEY
        self.held = 0
        self.waiting = 0
        self.ticket = 0
        self.is_queued = False
        self.asked_s = 0.0


CLAIM_ROW = {
    "key": "i4",
    "held": "i4",
    "waiting": "i4",
    "ticket": "i8",
    "is_queued": "?",
    "asked_s": "f8",
}


def place_asked(client: Client) -> int:
    """Return which claim a client needs that has just decided to fetch or to connect.

    Examples
    --------
    >>> client = Client(0)
    >>> client.state = State.CONNECTING
    >>> place_asked(client) == MAIN
    True
    """
    return BESIDE + 0 if client.state == State.OPEN else MAIN + 0


def connections_asked(rules: BrowserRules, client: Client) -> int:
    """Return how many connections that takes; 0 for a WebSocket.

    Examples
    --------
    >>> from simlib.core.protocol import Transport
    >>> client = Client(0)
    >>> client.state, client.transport = State.CONNECTING, Transport.SSE
    >>> connections_asked(BrowserRules(6, 3, 2), client)
    2
    """
    if client.state != State.CONNECTING:
        return 1
    return rules.streams + 0 if is_stream(client.transport) else 0


def key_of(client: Client, place: int) -> int:
    """Return the key of what a client needs a claim for now, `NO_KEY` for nothing.

    Examples
    --------
    >>> client = Client(0)
    >>> client.state, client.exchange = State.FETCHING, 7
    >>> key_of(client, MAIN), key_of(client, BESIDE)
    (7, -1)
    """
    if place == BESIDE:
        is_fetching = client.state == State.OPEN and fetches(client.transport)
        return int(client.fetch_number + 0) if is_fetching and client.fetch_number > 0 else NO_KEY
    is_connected = State.CONNECTING <= client.state <= State.OPEN
    is_on_stream = is_connected and is_stream(client.transport)
    return int(client.exchange + 0) if client.state == State.FETCHING or is_on_stream else NO_KEY


def ask(rules: BrowserRules, pool: Pool, claim: Claim, key: int, n: int, now: float) -> bool:
    """Ask for `n` connections `now`; say whether the request can set out at once.

    Examples
    --------
    >>> pool, one, other = Pool(), Claim(), Claim()
    >>> [ask(BrowserRules(2, 3, 2), pool, claim, 1, 2, 0.0) for claim in (one, other)]
    [True, False]
    >>> pool.used, pool.waiting, other.ticket
    (2, 2, 2)
    """
    claim.key = key
    claim.asked_s = now
    claim.waiting = n
    claim.ticket = pool.tickets + 0
    pool.tickets += n
    pool.waiting += n
    while claim.waiting > 0 and pool.used < rules.connections:
        _take(pool, claim)
    claim.is_queued = claim.held == 0
    return not claim.is_queued


def settle(pool: Pool, claim: Claim, key: int, record: Record, number: int, now: float) -> bool:
    """Give back what a client had asked for, unless that is still what it needs: `key`.

    Return whether anything was given back.
    """
    if claim.key == NO_KEY or claim.key == key:
        return False
    if claim.is_queued:
        set_out(claim, record, number, now)
    pool.used -= claim.held
    pool.waiting -= claim.waiting
    claim.key = NO_KEY
    claim.held = 0
    claim.waiting = 0
    return True


def next_in_line(rules: BrowserRules, pool: Pool, claims: Any, first: int, until: int) -> int:
    """Give a connection that is free to who has asked first, if anybody waits.

    Parameters
    ----------
    rules : BrowserRules
    pool : Pool
    claims : list of Claim, or rows
        Those of all clients.
    first, until : int
        Which of them are the user's.

    Returns
    -------
    int
        The number of the claim, -1 for none. If it now has one connection, its client's request
        sets out.

    Examples
    --------
    >>> rules, pool, claims = BrowserRules(1, 3, 1), Pool(), [Claim() for _ in range(3)]
    >>> [ask(rules, pool, claim, 1, 1, 0.0) for claim in claims]
    [True, False, False]
    >>> next_in_line(rules, pool, claims, 0, 3)
    -1
    >>> given_back = settle(pool, claims[0], NO_KEY, None, 0, 5.0)
    >>> given_back, next_in_line(rules, pool, claims, 0, 3)
    (True, 1)
    """
    if pool.waiting == 0 or pool.used >= rules.connections:
        return -1
    found = -1
    for place in range(first, until):
        claim = claims[place]
        if claim.waiting > 0 and (found < 0 or claim.ticket < claims[found].ticket):
            found = place
    _take(pool, claims[found])
    return found


def may_set_out(claim: Claim, key: int) -> bool:
    """Say whether a client's request sets out that was given a connection just now."""
    return bool(claim.is_queued and claim.held > 0 and claim.key == key)


def set_out(claim: Claim, record: Record, number: int, now: float) -> None:
    """End a client's wait for the browser: its request sets out, or is given up."""
    claim.is_queued = False
    recording.end_queue(record, number, now - claim.asked_s)


def _take(pool: Pool, claim: Claim) -> None:
    claim.held += 1
    claim.waiting -= 1
    claim.ticket += 1
    pool.used += 1
    pool.waiting -= 1
