"""The cohorts of clients in a compiled run; `core.driver` has the same steps for other drivers."""

from __future__ import annotations

from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.assignment import (
    CONTROL,
    FLAG_READ,
    SERVER_CLOSES,
    FlagRules,
    Percent,
    Propagation,
    cohort_at_start,
    cohort_now,
    is_denied,
)
from simlib.core.client_state import NEVER_S, Rules
from simlib.core.connection import FaultSchedule, can_be_told, is_deaf, stops_s
from simlib.core.draws import Stream
from simlib.core.driver import flag_update_times_s
from simlib.core.protocol import State
from simlib.core.record import Record
from simlib.core.server import ServerRules
from simlib.engines.compiled import event_list
from simlib.engines.compiled.balancing import let_go
from simlib.engines.compiled.event_list import WHEEL
from simlib.engines.compiled.faults import one_way_s
from simlib.engines.compiled.numba_support import called, inlined, seldom
from simlib.engines.compiled.references import by_reference
from simlib.engines.compiled.state import ClientArrays, Kind, await_flag, load_of
from simlib.engines.compiled.turn import World

NO_FLAG = FlagRules(Propagation.SESSION + 0, 0.0, 0.0, 1.0, False, 0.0, 0.0)


@inlined
def enrol(
    arrays: ClientArrays, record: Record, rules: Rules, flag: FlagRules, number: int, now: float
) -> None:
    """Start a client's session, in which its page reads the flag."""
    row = arrays.rows[number]
    row.cohort = cohort_at_start(
        flag,
        rules.seed,
        rules.replication,
        number,
        arrays.buckets[number],
        arrays.percents,
        int(arrays.state[0].percents),
        now,
    )
    recording.start_exposure(record, number, row.cohort, now)


@inlined
def assigned_cohort(
    arrays: ClientArrays, flag: FlagRules, number: int, why: int, now: float
) -> int:
    """Return the cohort that a client reads, by itself or as the server says."""
    changes = int(arrays.state[0].percents)
    return cohort_now(flag, arrays.buckets[number], arrays.percents, changes, why, now)


@inlined
def is_unheard_of(arrays: ClientArrays, number: int) -> bool:
    """Say whether the end of a client's connection is lost; it is told when it comes back."""
    row = arrays.rows[number]
    if not is_deaf(row, row):
        return False
    arrays.unclosed[number] = True
    let_go(arrays, row, row.socket)
    return True


@inlined
def is_still_to_close(arrays: ClientArrays, rules: Rules, number: int) -> bool:
    """Say whether a client that is let in now has a rollback's close to come, and forget it."""
    if not rules.has_flag or not arrays.unclosed[number]:
        return False
    arrays.unclosed[number] = False
    changes, cohort = int(arrays.state[0].percents), int(arrays.rows[number].cohort)
    return is_denied(cohort, arrays.buckets[number], arrays.percents, changes)


def set_percentage(given: World, percent: float, now: float) -> None:
    """Set the percentage from now on, and schedule when each present client learns of it."""
    _set_percentage(by_reference(given), percent, now)


@called
def _set_percentage(world: World, percent: float, now: float) -> None:
    arrays, q, rules, flag = world.arrays, world.q, world.rules, world.flag
    state, latest = arrays.state[0], Percent(now, percent)
    change = int(state.percents)
    arrays.percents[change].t = now
    arrays.percents[change].percent = percent
    state.percents += 1
    for number in range(len(arrays.rows)):
        row = arrays.rows[number]
        if row.state == State.ABSENT or row.state == State.GONE:
            continue
        start_s, trip_s = arrays.start_s[number], one_way_s(arrays, rules, number, now)
        bucket = arrays.buckets[number]
        reads_s, closes_s = flag_update_times_s(
            row, rules, flag, bucket, change, latest, start_s, trip_s
        )
        for t, why in ((reads_s, FLAG_READ + 0), (closes_s, SERVER_CLOSES + 0)):
            if t < q.horizon_s:
                await_flag(arrays, number, t)
                event_list.schedule_seldom(q, WHEEL, t, number, load_of(0, Kind.FLAG, why))


@seldom
def close_for_rollback(
    arrays: ClientArrays,
    record: Record,
    rules: Rules,
    server_rules: ServerRules,
    number: int,
    now: float,
) -> float:
    """The server closes a client's connection; return when the client knows, if not already."""
    if arrays.rows[number].cohort == CONTROL:
        return NEVER_S
    row = arrays.rows[number]
    node, worker = divmod(int(row.socket_worker), server_rules.workers)
    if arrays.is_down[node] or not can_be_told(row, row, now):
        arrays.unclosed[number] = True
        return NEVER_S
    seed, replication, change = rules.seed, rules.replication, int(arrays.state[0].percents)
    service_s = servers.service_time_s(
        server_rules, server_rules.close_s, seed, replication, number, Stream.CLOSE_SERVICE, change
    )
    begun_s = servers.admit_to(arrays.servers.free_s[node], worker, now, service_s)
    recording.add_busy(record, node, begun_s, begun_s + service_s)
    schedule = FaultSchedule(arrays.fault_events, arrays.active)
    if stops_s(schedule, node, now, begun_s + service_s) < NEVER_S:
        arrays.unclosed[number] = True
        return NEVER_S
    return begun_s + service_s + one_way_s(arrays, rules, number, now)
