"""How a rollout reaches the clients of a compiled run: the twin of what every driver does."""

from __future__ import annotations

from simlib.core import record as books
from simlib.core import server as servers
from simlib.core.client import NEVER_S, Rules
from simlib.core.draws import Stream
from simlib.core.flags import (
    CLOSES,
    HEARD,
    FlagRules,
    Reach,
    closes_s,
    hears_s,
    percent_at,
    target_at_start,
    wanted,
)
from simlib.core.protocol import State, Transport
from simlib.core.record import Record
from simlib.core.server import Server, ServerRules
from simlib.engines import event_list
from simlib.engines.compiling import part
from simlib.engines.event_list import WHEEL, EventList
from simlib.engines.fleet import Fleet, Kind, load_of
from simlib.engines.mishaps import half_of

NO_FLAG = FlagRules(Reach.SESSION + 0, 0.0, 0.0, 1.0, False, 0.0, 0.0)


@part
def enter(
    fleet: Fleet, record: Record, rules: Rules, flag: FlagRules, number: int, now: float
) -> None:
    """A client's session starts; its page reads the flag."""
    row = fleet.rows[number]
    row.target = target_at_start(
        flag,
        rules.seed,
        rules.replication,
        number,
        fleet.places[number],
        fleet.percents,
        int(fleet.state[0].percents),
        now,
    )
    books.enter(record, number, row.target, now)


@part
def heard(fleet: Fleet, flag: FlagRules, number: int, why: int, now: float) -> int:
    """Return the transport that a client learns it is to use, by itself or from the server."""
    delay_s = 0.0
    if why == HEARD:
        delay_s += flag.delay_s
    percent = percent_at(fleet.percents, int(fleet.state[0].percents), now, delay_s)
    return wanted(fleet.places[number], percent)


@part
def announce(
    fleet: Fleet, q: EventList, rules: Rules, flag: FlagRules, percent: float, now: float
) -> None:
    """Note the percentage from now on, and when each client that is present hears of it."""
    state, seed, replication = fleet.state[0], rules.seed, rules.replication
    change = int(state.percents)
    fleet.percents[change].t = now
    fleet.percents[change].percent = percent
    state.percents += 1
    for number in range(len(fleet.rows)):
        row = fleet.rows[number]
        if row.state == State.ABSENT or row.state == State.GONE:
            continue
        start_s, is_open = fleet.start_s[number], row.state == State.OPEN
        trip_s = half_of(fleet, rules, number, now)
        t = hears_s(flag, seed, replication, number, change, start_s, is_open, trip_s, now)
        if t < NEVER_S:
            event_list.schedule(q, WHEEL, t, number, load_of(0, Kind.FLAG, HEARD))
        is_enrolled = wanted(fleet.places[number], percent) == Transport.WEBSOCKET
        if row.target == Transport.WEBSOCKET and not is_enrolled:
            t = closes_s(flag, seed, replication, number, change, now)
            if t < NEVER_S:
                event_list.schedule(q, WHEEL, t, number, load_of(0, Kind.FLAG, CLOSES))


@part
def send_away(
    fleet: Fleet,
    record: Record,
    server: Server,
    rules: Rules,
    server_rules: ServerRules,
    number: int,
    now: float,
) -> float:
    """The server closes a client's connection; return when the client knows, if not already."""
    if fleet.rows[number].target == Transport.POLLING:
        return NEVER_S
    seed, replication, change = rules.seed, rules.replication, int(fleet.state[0].percents)
    service_s = servers.service_time_s(
        server_rules, server_rules.close_s, seed, replication, number, Stream.CLOSE_SERVICE, change
    )
    begun_s = servers.admit(server, now, service_s)
    books.spread(record, begun_s, begun_s + service_s)
    return begun_s + service_s + half_of(fleet, rules, number, now)
