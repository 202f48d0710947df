"""The state of a compiled run, and what its events are.

State is arrays: one row for each client with its counts beside it, since at a million clients what
costs is fetching lines of memory. An event is a time, a client and a word: the exchange that it
belongs to, its kind, and a number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core import record as recording
from simlib.core.balancing import Balancer
from simlib.core.broadcasts import LOOP, change_set
from simlib.core.browser import CLAIMS, BrowserRules
from simlib.core.client import is_recoverable, mends_gaps
from simlib.core.client_state import NEVER_S, ROW, Applied, Rules
from simlib.core.connection import CONNECTION_ROW, Nodes, Paths, is_held
from simlib.core.connection import end_fetches as end_of_fetches_s
from simlib.core.connection import resume_outcome_of as resume_outcome_on_node
from simlib.core.limiter import LimiterRules
from simlib.core.notify import FETCHES
from simlib.core.protocol import State
from simlib.core.record import CONNECTION, DELIVERY, EVENT, EXPOSURE, Cause, Count, Record
from simlib.core.resync import resume_outcome
from simlib.core.streams import sent_as
from simlib.core.wire import Message
from simlib.engines.compiled.event_list import SOURCES, EventList
from simlib.engines.compiled.numba_support import inlined, seldom


class Kind(IntEnum):
    """What an event of the event list is, in groups that are handled alike.

    First jobs that reach the server, then what is the client's own, what arrives at the server and
    asks for no worker, and what arrives at the client: on no exchange or by rules of its own, on a
    connection that is made, on an open socket. Then what the server sends on a link that all
    clients share: it has to be given to the link in the order in which it is sent. Last, a request
    that has waited in the browser.
    """

    POLL = 0
    UPGRADE = 1
    AUTHENTICATE = 2
    BEAT = 3
    PONG_UP = 4
    PING_UP = 5
    SAFETY_POLL = 6
    REFETCH = 7
    HOLD_END = 8
    SYN = 9

    START = 10
    STOP = 11
    ACTIVITY = 12
    DEADLINE = 13
    FLAG = 14

    UPGRADE_SERVED = 15
    CHECKED = 16
    AUTHENTICATED = 17
    CLOSE = 18
    PEER_TIMEOUT = 19
    BEAT_SERVED = 20
    WRITABLE = 21
    RELEASE = 22
    SEND = 23

    IDLE = 24
    POLL_DONE = 25
    CLOSE_REPLY = 26
    SAFETY_POLL_REPLY = 27
    REFETCH_REPLY = 28
    HELD_DONE = 29
    FAIL = 30
    UNANSWERED = 31

    SYN_AGAIN = 32
    TCP_OPEN = 33
    TLS_OPEN = 34
    POLL_REFUSED = 35

    UPGRADE_REFUSED = 36
    UPGRADE_DONE = 37
    AUTH_REFUSED = 38
    READY = 39
    PUSH = 40
    SNAPSHOT = 41
    PING = 42
    PONG = 43

    PUBLISH = 44
    FAULT = 45

    POLL_SENT = 46
    SAFETY_POLL_SENT = 47
    REFETCH_SENT = 48
    HELD_SENT = 49

    LEAVES_QUEUE = 50

    ATTEMPT = 51
    UPGRADE_ASKED = 52


KIND_BITS = 6
DATA_BITS = 32
RESUME_BITS = 2
REPLY_BITS = 2
REQUEST_BITS = 2
_EXCHANGE_BITS = 63 - KIND_BITS - DATA_BITS - FETCHES.bit_length()
UNREACHED, REFUSED, ANSWERED, CUT = range(4)
IS_STREAM = 1
"""The bit in the data of UPGRADE and UPGRADE_SERVED that tells a stream from a WebSocket."""
REFUSED_SYN, END_OF_STREAM = 1, 2
"""The data of FAIL for a SYN that no node takes, and for the proper end of a stream; else 0."""
IS_HELD = 4
"""The bit in the data of POLL that tells a request which is to be held from a poll."""
BY_PROXY = 8
"""The bit in the data of POLL_REFUSED that tells a proxy's 502 from the server's 503; in that of
replies to requests beside a socket, the lowest bit above `REPLY_BITS` does so."""
IS_IDLE = 1
"""The data of PEER_TIMEOUT for a connection of HTTP on which no request has come; else 0."""
IS_EMPTY = 2
HELD_BITS = 2
"""In the data of an answer to a held request: whether nothing is new; the version stands above."""
IS_PING = 1
"""The bit in the data of BEAT_SERVED that tells a ping from a pong."""
OTHERS = SOURCES
"""In the lane of an event in ``arrays.out`` that is not of the client in hand, the factor of that
client's number, plus 1."""
LAST_EXCHANGE = (1 << (63 - KIND_BITS - DATA_BITS)) - 4
"""The exchange from which on a client cannot go on: the few after it leave room for one event."""

# Which delays are expected to come due in the order in which they are scheduled.
TRIP = 0
DONE = 1
DONE_TRIP = 2
ALARM = 3
BEATS = 4
BROADCASTS = 5
ASKED = 6

OUT = np.dtype([("t", "f8"), ("load", "i8"), ("lane", "i8")])
MOST_OUT = 8

LINE = 64
"""Bytes that memory hands out at a time."""


def _layout(
    own: dict[str, str],
    unused: tuple[str, ...],
    rare: tuple[str, ...] = (),
    line: int = 8,
    first: tuple[str, ...] = (),
) -> np.dtype[Any]:
    """The columns of a client: the rules' and the engine's own, the counts, what is rarely needed.

    `first` are those that stand before the others, as they are needed together.
    What a transport never touches, but its code names, takes no room: it lies over the first.
    """
    columns = {name: np.dtype(kind) for name, kind in {**ROW, **own}.items()}
    used = {name: kind for name, kind in columns.items() if name not in unused}
    by_size = sorted(
        set(used) - set(rare), key=lambda name: (name not in first, -used[name].itemsize, name)
    )
    offsets, end = {}, 0
    for name in by_size:
        offsets[name] = end
        end += used[name].itemsize
    end = -(-end // line) * line
    offsets["counts"] = end
    columns["counts"] = np.dtype((np.int64, recording.CLIENT_WORDS))
    end += columns["counts"].itemsize
    for name in rare:
        offsets[name] = end
        end += columns[name].itemsize
    return np.dtype(
        {
            "names": list(columns),
            "formats": list(columns.values()),
            "offsets": [offsets.get(name, 0) for name in columns],
            "itemsize": -(-end // line) * line,
        }
    )


_OWN = {**CONNECTION_ROW, "slot": "i4", "asked_s": "f8"}
_KEPT = ("opened_s", "kept_until_s", "asked_s")
_SAFE = (
    *("beat_s", "fetch_due_s", "check_s", "hidden_s", "held_s"),
    *("told", "fetch_number", "fetch_failures"),
)
_PUSHED = (*_SAFE, "cohort", "since_s", "awaiting_pong", "has_opened", "fallbacks")
_TROUBLED = (
    "active_s",
    "lost_exchange",
    "is_link_dead",
    "let_in_by",
    "served_by",
    "node",
    "worker",
    "socket_worker",
    "link_s",
    "link_bytes",
    "arrived_s",
    "waiting",
    "tail",
)
_OFTEN = (
    *("deadline_s", "fetched_s", "kept_until_s", "opened_s"),
    *("exchange", "closed_exchange", "lost_exchange", "subscribed", "seen", "failures"),
    *("state", "transport", "pauses", "cohort", "applied", "is_link_dead", "node", "has_upgraded"),
)
"""What polls need of a client, in a line of 64 bytes."""
LAYOUTS = {
    (True, False): _layout(_OWN, (*_PUSHED, *(_OWN.keys() - _KEPT))),
    (False, True): _layout(
        _OWN,
        ("fetched_s", "kept_until_s", "asked_s", "cohort", *_SAFE, *_TROUBLED),
        ("since_s",),
        LINE,
    ),
    (True, True): _layout(_OWN, (), ("asked_s",), LINE, _OFTEN),
}
"""By whether there are polls, and pushes. A client that only polls takes 120 bytes, one that is
only pushed to two lines of 64: its state and link in the first, its counts in the second. Where
anything goes wrong, or clients change their transport, each takes four lines, of which polls need
the first and the last, which has the counts."""

STATE = np.dtype(
    [
        ("started", "i8"),
        ("published", "i8"),
        ("readable", "i8"),
        ("under_way", "i8"),
        ("subscribers", "i8"),
        ("slots", "i8"),
        ("events", "i8"),
        ("fault_event", "i8"),
        ("percents", "i8"),
        ("limit_due_s", "f8"),
        ("held", "i8"),
        ("stretches", "i8"),
        ("at_once", "i8"),
        ("in_blocks", "i8"),
        ("in_rounds", "i8"),
        ("in_turn", "i8"),
        ("may_fold", "i8"),
        ("folded", "i8"),
        ("accepted", "i8"),
        ("latest_s", "f8"),
        ("latest_start_s", "f8"),
        ("latest_attempt_s", "f8"),
        ("latest_asked_s", "f8"),
    ]
)

SEND = np.dtype(
    [
        *(("start_s", "f8"), ("sent_s", "f8"), ("sends", "i8")),
        *(("fails_after", "i8"), ("closes_s", "f8"), ("has_ended", "?")),
        *LOOP.items(),
    ]
)
"""A worker's part of a broadcast: its start, its latest send, how many it has sent, after how many
it fails (-1: it does not), when that client is closed, and whether it has ended. Beside it, all of
the worker's broadcasts."""

ENTRY = np.dtype(
    [
        *(("t", "f8"), ("word", "i8"), ("deadline_s", "f8"), ("alarm", "i8")),
        *(("former_s", "f8"), ("former", "i8")),
    ]
)
RING = np.dtype(
    [
        *(("answered_at", "i8"), ("sent_at", "i8"), ("resting_at", "i8"), ("end_at", "i8")),
        *(("answered", "i8"), ("sent", "i8"), ("resting", "i8")),
        *(("next_s", "f8"), ("last_s", "f8"), ("latest_s", "f8")),
        *(("members", "i8"), ("rounds", "i8")),
        *(("slack_s", "f8"), ("former_slack_s", "f8"), ("slack_from_s", "f8")),
    ]
)
"""What `beats` has of a connection whose heartbeats go round by themselves, and of all of them."""

MEMBER = np.dtype([*ENTRY.descr, ("half_s", "f8"), ("place", "i8")])
QUEUED = np.dtype([("t", "f8"), ("word", "i8")])
"""The same, a row of memory for each client, where round-trip times differ; and who rests there."""

BLOCK_BITS = 7
BLOCK = 1 << BLOCK_BITS
"""How many places of the list of subscribers one row of `BLOCKS` is about."""

BLOCKS = np.dtype([("least_s", "f8"), ("exposed_s", "f8"), ("listeners", "i4"), ("cohort", "i4")])
"""What holds for all subscribers of a block: a moment before which nothing disturbs any of them,
which may be too early, but never too late; how many they are; and of those that may be served at
once, by when all belonged to their cohorts, and to which: `MIXED` if it may not be the same one for
all, `NOBODYS` as long as there are none."""

NOBODYS, MIXED = -1, -2

TOLD = np.dtype([("t", "f8"), ("n", "i8")])
"""How many FLAG events a client has to come, and a moment before which none of them comes."""

LOGS = {
    "connections": CONNECTION,
    "exposures": EXPOSURE,
    "fallbacks": EXPOSURE,
    "deliveries": DELIVERY,
    "events": EVENT,
}
LOG_ROWS = 1024


class RecordArrays(NamedTuple):
    """A `Record` as compiled code reads it: the same names."""

    publish_s: NDArray[np.float64]
    first: int
    until: int
    last: NDArray[np.int32]
    bin_s: float
    horizon_s: float
    bins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    messages: NDArray[np.int64]
    busy_s: NDArray[np.float64]
    latency_ticks: NDArray[np.int64]
    latency_max_s: NDArray[np.float64]
    wait_ticks: NDArray[np.int64]
    wait_histogram: NDArray[np.int64]
    first_bin: int
    clients: NDArray[np.int32]
    traffic: NDArray[np.int64]
    pending: NDArray[np.int32]
    buffered: NDArray[np.float64]
    queued_s: NDArray[np.float64]
    failed: NDArray[np.bool_]
    gaps: NDArray[np.int32]
    histogram: NDArray[np.int64]
    cohort: Any
    cohort_s: NDArray[np.float64]
    opened_in: NDArray[np.int8]
    last_s: NDArray[np.float64]
    again: NDArray[np.int32]
    exposed_s: NDArray[np.float64]
    fallen_s: NDArray[np.float64]
    keep_deliveries: bool
    keep_events: bool
    connections: tuple[NDArray[Any], NDArray[np.int64]]
    exposures: tuple[NDArray[Any], NDArray[np.int64]]
    fallbacks: tuple[NDArray[Any], NDArray[np.int64]]
    deliveries: tuple[NDArray[Any], NDArray[np.int64]]
    events: tuple[NDArray[Any], NDArray[np.int64]]


class ServerArrays(NamedTuple):
    """All nodes: a row for each with what a `core.server.Server` has."""

    free_s: NDArray[np.float64]
    blocked_s: NDArray[np.float64]
    accepts_s: NDArray[np.float64]
    state: NDArray[Any]


class Ring(NamedTuple):
    """Connections whose heartbeats go round by themselves: see `beats`.

    `apart`, `queue` and `flying` are of `spread_beats`: of clients not equally far from the server.
    """

    entries: NDArray[Any]
    place: NDArray[np.int32]
    ring: NDArray[Any]
    apart: NDArray[Any]
    queue: NDArray[Any]
    flying: EventList


class ClientArrays(NamedTuple):
    """The state of a run: arrays with an item for each client, and others that all clients share.

    `rows` and `activity_end_s`, `activity_k` (end and number of the present episode of each kind
    of activity) have a row or column for each client. `order` lists the subscribers in the order in
    which they subscribed, -1 where one has left; `undisturbed_until_s` says for each until when
    nothing disturbs it, -inf if it has missed a message that is still under way, +inf where one has
    left; `blocks` sum that up. `told` has a row for each client of a rollout. `fault_events` are
    the fault schedule, `active` says which of its faults go on, `delays` and `limits` are when
    paths are slower and narrower, `shared` has the link that all clients share, if there is one. In
    a rollout, `buckets` are the clients', and `percents` the percentages set so far; `unclosed`
    says whose sockets nobody has closed for a rollback, as their node was down, and `streams` whose
    latest subscription is a stream. Each node has
    `is_down`, the number of its `process`, and `kept_from`: how many changes had been published
    when that process started. `sends` has a row for each worker of all nodes, and `servers` are the
    nodes, `balancer` what is before them, and `heard_s` is when they hear of each change. `planned`
    has a row for each client, or none if no slow client blocks its worker. `pools` has a row for
    each user, and `claims` two for each client, or none if the browser has no limit. `buffers` and
    `stretches` have one each of a client that is `behind` a proxy which holds back what streams
    carry: there is its place, or -1 where nobody holds back anything; it is empty if that is true
    of all. `state` has how many events they have in all and the most rows that a client's stretches
    have taken, and how many messages were counted `at_once`, of them `in_blocks`, and timers and
    answers of polls handled `in_rounds`, events of polls `in_turn`: see `broadcast`, `poll_round`
    and `poll_turn`. `stream_bytes` are such a proxy's sizes of messages.
    """

    rows: NDArray[Any]
    activity_end_s: NDArray[np.float64]
    activity_k: NDArray[np.int32]
    order: NDArray[np.int32]
    undisturbed_until_s: NDArray[np.float64]
    blocks: NDArray[Any]
    told: NDArray[Any]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    half_s: Any
    sizes: NDArray[np.int64]
    out: NDArray[Any]
    state: NDArray[Any]
    fault_events: Any
    active: Any
    delays: Any
    limits: Any
    shared: Any
    buckets: NDArray[np.float64]
    percents: Any
    unclosed: NDArray[np.bool_]
    streams: NDArray[np.bool_]
    is_down: Any
    process: Any
    kept_from: Any
    sends: NDArray[Any]
    planned: NDArray[Any]
    pools: NDArray[Any]
    claims: NDArray[Any]
    behind: NDArray[np.int32]
    buffers: NDArray[Any]
    stretches: NDArray[Any]
    stream_bytes: NDArray[np.int64]
    servers: ServerArrays
    balancer: Balancer
    heard_s: Any
    beats: Ring


class EngineOptions(NamedTuple):
    """What a scenario settles beside the rules; no activity: `every_s` negative."""

    etag: int
    drag_every_s: float
    drag_length_s: float
    hidden_every_s: float
    hidden_length_s: float
    idle_s: float
    unanswered_s: float
    limit: LimiterRules
    browser: BrowserRules
    bad_gateway: bool


@inlined
def paths_of(arrays: ClientArrays, rules: Rules) -> Paths:
    """Return the paths of all clients."""
    address = rules.seed, rules.replication
    return Paths(*address, arrays.half_s, arrays.delays, arrays.limits, arrays.shared)


@inlined
def load_of(exchange: int, kind: int, data: int) -> int:
    """Return an event's word."""
    return (((int(exchange) << KIND_BITS) | kind) << DATA_BITS) | int(data)


@inlined
def is_at(row: Any, address: int) -> bool:
    """Say whether a reply to a fetch beside the socket, by its address, is still awaited."""
    return row.state == State.OPEN and address == fetch_address(row.exchange, row.fetch_number)


@inlined
def fetch_address(exchange: int, fetch: int) -> int:
    """Return what stands in place of the exchange in the reply to a fetch beside the socket.

    It is the fetch's number, beside some bits of the exchange.
    """
    return (int(fetch + 0) << _EXCHANGE_BITS) | (int(exchange) & ((1 << _EXCHANGE_BITS) - 1))


@inlined
def put(out: Any, n: int, lane: int, t: float, kind: int, exchange: int, data: int) -> int:
    """Note that an event is to be scheduled; the client is the one in hand."""
    place = out[n]
    place.t = t
    place.lane = lane
    place.load = load_of(exchange, kind, data)
    return n + 1


@inlined
def is_queued(arrays: ClientArrays, number: int, place: int) -> bool:
    """Say whether a client's request waits in its browser."""
    place += CLAIMS * number
    return place < len(arrays.claims) and arrays.claims[place].is_queued


@inlined
def disconnect(
    arrays: ClientArrays, record: Record, number: int, closed_s: float, cause: int, transport: int
) -> None:
    """Record the end of the client's connection, if it has one, and its last segments."""
    row = arrays.rows[number]
    if row.opened_s < NEVER_S:
        if cause != Cause.OPEN_AT_END:
            recording.count_messages(record, number, closed_s, Message.TCP_CLOSE + 0)
        # Where there is one node, clients may have no room for theirs, and nobody reads it.
        recording.close_connection(
            record, number, row.opened_s, closed_s, cause, transport, row.node
        )
        row.opened_s = NEVER_S


@seldom
def end_fetches(arrays: ClientArrays, record: Record, number: int, now: float) -> None:
    """The connection beside the socket has ended, if there is one: count its last segments."""
    t = end_of_fetches_s(arrays.rows[number], now)
    if t > -NEVER_S:
        recording.count_messages(record, number, t, Message.TCP_CLOSE + 0)


@inlined
def finalise(arrays: ClientArrays, record: Record, rules: Rules, number: int, now: float) -> None:
    """Record the changes that a client has not seen at the end of its session or of the run."""
    row = arrays.rows[number]
    may_come, may_mend = is_recoverable(row, rules), mends_gaps(row, rules)
    recording.finalise(record, number, row.seen, may_come, may_mend, now)


@inlined
def catch_up(arrays: ClientArrays, record: Record, number: int, version: int) -> None:
    """Bring a subscriber's row up to date with the broadcasts that reached it, up to `version`."""
    row = arrays.rows[number]
    if row.subscribed >= 0 and arrays.undisturbed_until_s[row.slot] > -NEVER_S:
        missing = version - row.seen
        if missing > 0:
            counted = min(version, record.until) - max(row.seen, record.first)
            record.clients[number, Count.MESSAGES] += missing
            if counted > 0:
                record.clients[number, Count.DELIVERED] += counted
            message = sent_as(row.transport, Message.PUSH)
            record.traffic[number, 0] += missing * record.sizes[message, 2]
            record.traffic[number, 1] += missing * record.sizes[message, 3]
            row.seen = version
            row.applied = Applied.LAST + 0


@inlined
def leave_undisturbed(arrays: ClientArrays, slot: int, until_s: float) -> None:
    """Nothing disturbs the subscriber in a place of the list before `until_s`."""
    arrays.undisturbed_until_s[slot] = until_s
    block = arrays.blocks[slot >> BLOCK_BITS]
    if until_s < block.least_s:
        block.least_s = until_s


@inlined
def await_flag(arrays: ClientArrays, number: int, t: float) -> None:
    """A client is to be told by the flag at `t`, which disturbs it."""
    told, row = arrays.told[number], arrays.rows[number]
    told.t = min(told.t, t) if told.n > 0 else t
    told.n += 1
    if row.subscribed >= 0 and arrays.undisturbed_until_s[row.slot] > t:
        leave_undisturbed(arrays, int(row.slot), t)


@inlined
def is_told(arrays: ClientArrays, number: int) -> None:
    """A client is told by the flag; when it is told again is not known, if it is."""
    told = arrays.told[number]
    told.n -= 1
    told.t = -NEVER_S


@inlined
def told_from_s(arrays: ClientArrays, number: int) -> float:
    """Return a moment before which the flag does not disturb a client."""
    if len(arrays.told) == 0 or arrays.told[number].n == 0:
        return NEVER_S
    return arrays.told[number].t + 0.0


@inlined
def is_up_to_date(arrays: ClientArrays, number: int) -> bool:
    """Return whether a subscriber has applied all pushed changes, and receives the next one."""
    row = arrays.rows[number]
    return (
        row.state == State.OPEN
        and row.exchange == row.subscribed
        and row.seen == arrays.state[0].published
    )


@inlined
def unsubscribe(arrays: ClientArrays, row: Any) -> None:
    """Take a subscriber off the list."""
    arrays.order[row.slot] = -1
    arrays.undisturbed_until_s[row.slot] = NEVER_S
    arrays.blocks[row.slot >> BLOCK_BITS].listeners -= 1
    row.subscribed = -1
    arrays.state[0].subscribers -= 1
    if not is_held(row):
        change_set(loop_of(arrays, row))


@inlined
def loop_of(arrays: ClientArrays, row: Any) -> Any:
    """Return the broadcasts of the worker that a client's socket belongs to."""
    worker = 0  # where there is one worker, clients may have no room for theirs
    if len(arrays.sends) > 1:
        worker += row.socket_worker
    return arrays.sends[worker]


@inlined
def resume_outcome_of(
    arrays: ClientArrays, record: Record, rules: Rules, may_fail: bool, number: int, now: float
) -> int:
    """Return how a client that is authenticated now gets the changes that it missed."""
    row, published = arrays.rows[number], arrays.state[0].published
    if may_fail:
        nodes = Nodes(arrays.is_down, arrays.process, arrays.kept_from)
        return resume_outcome_on_node(row, row, rules, nodes, record, published, now)
    has_session, away_s = record.clients[number, Count.MESSAGES] > 0, now - row.since_s
    kept_from = arrays.kept_from[0]
    return resume_outcome(rules.resync, row.seen, published, kept_from, has_session, away_s)


@inlined
def keep_socket(arrays: ClientArrays, row: Any, exchange: int, worker: int) -> None:
    """A worker keeps a socket of a client, or a request that it holds, and none of before."""
    workers, states = arrays.servers.free_s.shape[1], arrays.servers.state
    if row.socket >= 0:
        states[row.socket_worker // workers].sockets -= 1
    states[worker // workers].sockets += 1
    row.socket = exchange
    row.socket_worker = worker


@inlined
def release_up_to(arrays: ClientArrays, row: Any, exchange: int) -> None:
    """The server lets go of a client's connections up to one."""
    if 0 <= row.subscribed <= exchange:
        unsubscribe(arrays, row)
    if 0 <= row.socket <= exchange:
        row.socket = -1
        node = 0  # where there is one worker, clients may have no room for theirs
        if arrays.servers.free_s.size > 1:
            node += row.socket_worker // arrays.servers.free_s.shape[1]
        arrays.servers.state[node].sockets -= 1
