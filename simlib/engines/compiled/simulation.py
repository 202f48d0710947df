"""The compiled engine: the journeys of the reference engine, cut at their waits, as one loop.

It knows what a driver knows (delays, who is told what) and calls the same rules: `core.client`
decides what a client does, `core.server` who is served when, `core.record` what is counted. They
are plain Python there and compiled from the same source here. `loop` has the loop and its stages,
`state` what it works on, `variants` says which of its copies a run needs.

**Broadcasts** are one event each. A subscriber that nothing can disturb before its message arrives
(neither its timer nor the end of its session, nor the end of this call) is served at once: the
histogram and the bins are filled there and then, its own row is brought up to date when it is next
looked at (`catch_up`). That is exact, since a push moves nothing but the view and counts, and all
sums are independent of order. The others get an event each. **Polls** that nothing disturbs go
round by themselves, see `poll_round`, or are handled by a shorter way: see `poll_turn`.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba._dispatcher import compute_fingerprint

from simlib.core import record as recording
from simlib.core.assignment import PERCENT
from simlib.core.backpressure import Overflow
from simlib.core.balancing import Balancer, new_balancer
from simlib.core.broker import heard_s
from simlib.core.browser import CLAIM_ROW, CLAIMS, NO_KEY, POOL_ROW
from simlib.core.client_state import NEVER_S, polls_instead
from simlib.core.connection import PLANNED_ROW
from simlib.core.faults import FAULT_EVENT
from simlib.core.path import SHARED_LINK, WINDOW, SharedLink
from simlib.core.protocol import HAS_SOCKET, State
from simlib.core.record import Record, scalar_or_array
from simlib.core.server import SERVER_STATE
from simlib.core.stream_proxy import HOLDS_ALL, PROXY_BUFFER_ROW, STRETCH_ROW, are_held, holds_back
from simlib.engines.compiled import (
    actions,
    arrivals,
    assignment,
    attempts,
    balancing,
    beat_tally,
    beats,
    broadcast,
    event_list,
    faults,
    held,
    jobs,
    loaded,
    loop,
    poll_round,
    poll_turn,
    proxied,
    spread_beats,
    turn,
)
from simlib.engines.compiled import state as state_module
from simlib.engines.compiled.assignment import NO_FLAG
from simlib.engines.compiled.compiling import alone
from simlib.engines.compiled.event_list import Row, rows_of
from simlib.engines.compiled.numba_support import is_kept, loops
from simlib.engines.compiled.state import (
    BLOCK_BITS,
    BLOCKS,
    LAST_EXCHANGE,
    LAYOUTS,
    LINE,
    LOG_ROWS,
    LOGS,
    MOST_OUT,
    OUT,
    SEND,
    STATE,
    TOLD,
    ClientArrays,
    EngineOptions,
    RecordArrays,
    ServerArrays,
)
from simlib.engines.compiled.turn import World
from simlib.engines.compiled.variants import Variant, variant_of
from simlib.errors import ScenarioError
from simlib.scenario.workload import Workload

FUNCTIONS = (loop.run, loop.finish, assignment.set_percentage)
"""What Python, or a page, calls of a loop."""
MODULES = (
    actions,
    arrivals,
    assignment,
    attempts,
    balancing,
    beat_tally,
    beats,
    broadcast,
    faults,
    held,
    jobs,
    loop,
    poll_round,
    poll_turn,
    proxied,
    spread_beats,
    state_module,
    turn,
)
"""Where its parts are."""
_BINNED = ("bins", "messages", "latency_ticks")
"""What a record has of each cohort and time bin."""
_MOST_ASKED = 8
"""So many times at most the loop asks for room without handling an event in between."""
_STRETCHES = 8
"""For how many stretches of events there is room in each client's row at first."""


class Loops(NamedTuple):
    """The functions of a loop, and for what arguments each is compiled already."""

    variant: Variant
    run: Any
    finish: Any
    set_percentage: Any
    known: set[tuple[Any, bytes]]

    @property
    def folder(self) -> str | None:
        """Where compiled code is kept."""
        path: str | None = self.run.stats.cache_path
        return path

    def are_kept(self) -> bool:
        """Say whether they are on disk, for a processor like this one."""
        rollouts = (self.set_percentage,) if self.variant.is_general else ()
        return all(map(is_kept, (self.run, self.finish, *rollouts)))

    def compile(self, function: Any, *arguments: Any) -> None:
        """Compile one for arguments like these; finding out their types takes milliseconds."""
        like_these = function, compute_fingerprint(arguments)
        if like_these not in self.known:
            with alone(self.folder, self.variant.label):
                function.compile(tuple(map(function.typeof_pyval, arguments)))
            self.known.add(like_these)


@cache
def loops_of(variant: Variant) -> Loops:
    """Return a copy of the loop; it is not compiled, or loaded from disk, before it is needed."""
    run, finish, set_percentage = loops(FUNCTIONS, MODULES, **names_of(variant))
    return Loops(variant, run, finish, set_percentage, set())


def names_of(variant: Variant) -> dict[str, bool]:
    """Return what is settled in a copy of the loop."""
    polls, pushes = variant
    return {"POLLS": polls, "PUSHES": pushes, "GENERAL": variant.is_general}


_TOO_LONG = {
    loop.TOO_MANY_EXCHANGES: f"must be shorter: no client of the compiled engine makes more than "
    f"{LAST_EXCHANGE:,} polls and connections",
    loop.TOO_MANY_EVENTS: f"must be shorter: no run of the compiled engine has more than "
    f"{event_list.LAST_SEQUENCE:,} events",
}


class Simulation:
    """One run in compiled time; the same face as the reference engine's.

    Parameters
    ----------
    workload : Workload
    record : Record
        Filled as time goes by.
    """

    def __init__(self, workload: Workload, record: Record) -> None:
        self._variant = variant_of(workload)
        self._loops = loops_of(self._variant)
        self.is_interrupted = False
        self._now_s = 0.0
        self._workload = workload
        self._record = record
        self._world = _new_world(workload, record, may_fold=True)

    @property
    def world(self) -> World:
        """What the loop works on."""
        return self._world

    @property
    def events(self) -> int:
        """How many events have been handled."""
        return int(self._world.arrays.state["events"][0])

    @property
    def folded(self) -> int:
        """How many attempts to connect have been handled as one: see `attempts`."""
        return int(self._world.arrays.state["folded"][0])

    @property
    def may_fold(self) -> bool:
        """Whether such attempts may be, as none has met another event at its very moment."""
        return bool(self._world.arrays.state["may_fold"][0])

    @property
    def taken(self) -> dict[str, int]:
        """How often each way was taken by which the loop does what nothing disturbs.

        Heartbeats that went round by themselves, messages that were counted at once, and of them
        those in whole blocks, attempts to connect that were folded, polls' timers and answers in
        rounds, polls' events in turn, and whether the run has begun anew to fold none.
        """
        arrays = self._world.arrays
        state, anew = arrays.state[0], int(not self.may_fold)
        names = ("at_once", "in_blocks", "folded", "in_rounds", "in_turn")
        counts = {name: int(state[name]) for name in names}
        return {"beats": int(arrays.beats.ring[0]["rounds"]), **counts, "begun_anew": anew}

    def prepare(self, *, for_all: bool = False) -> None:
        """Compile what the run needs, or load it from disk; no time passes.

        Parameters
        ----------
        for_all : bool, optional
            What all runs of this copy of the loop need, rollouts among them.
        """
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return
        loop, world, t = self._loops, self._world, 0.0
        loop.compile(loop.run, world, t)
        loop.compile(loop.finish, world, t)
        if world.rules.has_flag or (for_all and self._variant.is_general):
            loop.compile(loop.set_percentage, world, t, t)
        if self._variant.is_general:
            loaded.add("compiled")

    def run_until(self, t: float) -> None:
        """Let everything before `t` happen, seconds."""
        asked, events = 0, -1
        while True:
            done = self._loops.run(self._world, t)
            if done == loop.FINISHED:
                self._now_s = t
                return
            if done == loop.MUST_NOT_FOLD:
                self._begin_anew()
                continue
            if done != loop.NEEDS_ROOM:
                raise ScenarioError("horizon_s", self._record.horizon_s, _TOO_LONG[done])
            asked, events = asked + 1 if events == self.events else 0, self.events
            if asked > _MOST_ASKED:
                raise RuntimeError(f"the loop asks again and again for room at {events} events")
            self._make_room()

    def _begin_anew(self) -> None:
        """Forget what has been done, and take each event of an attempt singly: see `attempts`."""
        del self._world  # its memory is needed
        self._record.clear()
        self._world = _new_world(self._workload, self._record, may_fold=False)

    def _make_room(self) -> None:
        """Lengthen what the loop has found too short."""
        arrays = self._world.arrays
        affected_n = len(arrays.rows) if len(arrays.fault_events) else 0
        state = arrays.state[0]
        events = loop.most_of_a_broadcast(self._world)
        if affected_n:
            events = max(events, loop.most_of_a_fault(self._world))
        if len(arrays.buffers):
            events += int(state.held + state.published)
        self._room_for_events(events + MOST_OUT)
        if len(arrays.buffers) and int(state.stretches) > arrays.stretches.shape[1] - 2:
            self._world = self._world._replace(arrays=_with_more_stretches(arrays))
        if arrays.servers.state["waiting"].max() == arrays.servers.accepts_s.shape[1]:
            self._world = self._world._replace(arrays=_with_longer_backlogs(arrays))
        self._room_for("connections", affected_n + MOST_OUT)
        self._room_for("exposures", MOST_OUT)
        self._room_for("fallbacks", MOST_OUT)
        if self._world.record.keep_deliveries:
            self._room_for("deliveries", len(self._world.record.publish_s) + 1)
        self._room_for("events", MOST_OUT)

    def _room_for_events(self, entries: int) -> None:
        if event_list.room(self._world.q) < entries:
            self._world = self._world._replace(q=event_list.grow(self._world.q, entries))

    def _room_for(self, log: str, rows: int) -> None:
        record = self._world.record
        if recording.rows_left(getattr(record, log)) < rows:
            table, filled = getattr(record, log)
            room: Any = {log: (event_list.longer(table, max(rows, len(table))), filled)}
            self._world = self._world._replace(record=record._replace(**room))

    def set_percentage(self, percent: float) -> None:
        """Set the percentage of users who are enrolled from now on."""
        arrays = self._world.arrays
        self._room_for_events(2 * len(arrays.rows) + MOST_OUT)
        if int(arrays.state[0].percents) == len(arrays.percents):
            longer = event_list.longer(arrays.percents, max(16, len(arrays.percents)))
            self._world = self._world._replace(arrays=arrays._replace(percents=longer))
        self._loops.set_percentage(self._world, float(percent), self._now_s)

    def snapshot(self) -> recording.MetricsSnapshot:
        """Return what is known now."""
        rows, now = self._world.arrays.rows, self._now_s
        # What is read several times is fetched once: each value lies in a line of its own.
        state, transport = (np.ascontiguousarray(rows[name]) for name in ("state", "transport"))
        is_present = (state != State.ABSENT) & (state != State.GONE)
        has_socket = np.frombuffer(HAS_SOCKET, np.bool_)[transport]
        is_idle = ~has_socket & (rows["kept_until_s"] < now)
        is_connected = (rows["opened_s"] < NEVER_S) & ~is_idle
        rules = self._world.rules
        meant = np.array(rules.transports)[rows["cohort"]] if rules.has_flag else rules.transport
        is_fallen = polls_instead(state, transport, meant)
        since_s = rows["since_s"]
        record = self._until(now)
        return recording.snapshot(record, is_present, is_fallen, is_connected, since_s, now)

    def _until(self, now: float) -> RecordArrays:
        """Return the record without the time bins to come, in which nothing has happened yet."""
        record: RecordArrays = self._world.record
        until = recording.bin_of(self._record, now) + 1
        sums: Any = {name: getattr(record, name)[:, :until] for name in _BINNED}
        return record._replace(wait_ticks=record.wait_ticks[:, :, :until], **sums)

    def interrupt(self) -> None:
        """End `run_until` at the end of the slice in hand."""
        self.is_interrupted = True

    def now_s(self) -> float:
        """Return how far the run has come, seconds."""
        return self._now_s

    def finish(self) -> None:
        """Record what is still open when the run ends."""
        record = self._record
        empty = event_list.new_event_list(0, 1.0, 1.0)  # the other's memory is needed no more
        self._world = self._world._replace(q=empty)
        for log in ("connections", "exposures", "fallbacks"):
            self._room_for(log, len(self._world.arrays.rows))
        world = self._world
        ended = world.record._replace(last=record.last)
        self._loops.finish(world._replace(record=ended), self._now_s)
        for name in LOGS:
            log = getattr(ended, name)
            rows = log if isinstance(log, list) else log[0][: log[1][0]]
            setattr(record, name, rows)


def _new_world(workload: Workload, record: Record, *, may_fold: bool) -> World:
    rules, treatment_rules = (
        each._replace(seed=_signed(each.seed), replication=_signed(each.replication))
        for each in (workload.rules, workload.treatment_rules or workload.rules)
    )
    longest_s = max(
        max(each.interval_s, each.reconnect.cap_s, each.heartbeat_interval_s)
        for each in (rules, treatment_rules)
    )
    turn_s = min(2.0 * longest_s, record.horizon_s)
    clients_n = len(workload.start_s)
    # Numba takes one row for a contiguous array, and would compile a second loop for it.
    rows = _on_lines(max(clients_n, 2), LAYOUTS[variant_of(workload)])
    clients, traffic = recording.counts_in(np.asarray(rows["counts"]))
    record.clients, record.traffic = clients[:clients_n], traffic[:clients_n]
    kept = _record_arrays(workload, record)
    arrays = _client_arrays(workload, record, rows[:clients_n])
    arrays.state["may_fold"] = may_fold
    return World(
        arrays=arrays,
        record=kept._replace(clients=clients, traffic=traffic),
        q=event_list.new_event_list(clients_n, turn_s, record.horizon_s),
        rules=_plain(rules),
        treatment_rules=_plain(treatment_rules),
        server_rules=_plain(workload.server),
        options=_options(workload),
        flag=_plain(workload.flag or NO_FLAG),
    )


def _client_arrays(workload: Workload, record: Record, rows: Any) -> ClientArrays:
    """The clients' rows, filled in, and what a run has one of."""
    variant, clients_n = variant_of(workload), len(rows)
    _fill(rows, variant, record)
    activities_n = clients_n if workload.drag or workload.hidden else 0
    slots_n = clients_n + clients_n // 4 + 64 if variant.pushes else 0
    return ClientArrays(
        rows=rows,
        activity_end_s=np.zeros((2, activities_n)),
        activity_k=np.zeros((2, activities_n), np.int32),
        order=event_list.zeros(slots_n, np.int32),
        undisturbed_until_s=event_list.zeros(slots_n, np.float64),
        blocks=rows_of((slots_n >> BLOCK_BITS) + 1, BLOCKS),
        told=rows_of(clients_n if workload.flag is not None else 0, TOLD),
        start_s=workload.start_s,
        end_s=scalar_or_array(workload.end_s),
        half_s=scalar_or_array(workload.rtt_s) / 2.0,
        sizes=workload.sizes,
        out=rows_of(MOST_OUT, OUT),
        state=rows_of(1, STATE),
        fault_events=_table_of(workload.fault_events, FAULT_EVENT),
        active=np.zeros(len(workload.fault_events), np.bool_),
        delays=_table_of(workload.delays, WINDOW),
        limits=_table_of(workload.limits, WINDOW),
        shared=_table_of(_shared_links(workload), SHARED_LINK),
        buckets=workload.buckets,
        percents=_table_of((), PERCENT),
        unclosed=np.zeros(clients_n if workload.flag is not None else 0, np.bool_),
        streams=np.zeros(clients_n if variant.is_general else 0, np.bool_),
        is_down=np.zeros(workload.nodes, np.bool_),
        process=np.arange(workload.nodes),
        kept_from=np.zeros(workload.nodes, np.int64),
        sends=rows_of(workload.nodes * workload.server.workers, SEND),
        planned=_planned(workload, clients_n),
        **_claims(workload, clients_n),
        **_proxies(workload, clients_n),
        stream_bytes=workload.stream_bytes,
        servers=_idle_servers(workload.nodes, workload.server.workers),
        balancer=_new_balancer(workload, clients_n),
        heard_s=np.array(heard_s(workload.server, workload.publish_s.tolist())),
        beats=beats.new_ring(
            clients_n if variant.pushes else 0,
            len(scalar_or_array(workload.rtt_s)) > 1,
            workload.rules.heartbeat_interval_s,
        ),
    )


def _new_balancer(workload: Workload, clients_n: int) -> Balancer:
    rule, *counts = new_balancer(int(workload.server.balancing), workload.nodes, clients_n)
    arrays: Any = [np.array(each, np.int32) for each in counts]
    return Balancer(rule, *arrays)


def _shared_links(workload: Workload) -> tuple[SharedLink, ...]:
    rate = workload.shared_bytes_per_s
    return (SharedLink(rate),) if rate < math.inf else ()


def _planned(workload: Workload, clients_n: int) -> Any:
    waits = workload.server.sending.overflow in (Overflow.BLOCK, Overflow.ABORT)
    has_slow_clients = len(workload.delays) + len(workload.limits) > 0
    rows = rows_of(clients_n if waits and has_slow_clients else 0, list(PLANNED_ROW.items()))
    rows["number"] = np.arange(len(rows), dtype=np.int32)
    rows["exchange"] = -1
    return rows


def _claims(workload: Workload, clients_n: int) -> dict[str, Any]:
    clients_n *= workload.browser.connections > 0
    users = -(-clients_n // workload.browser.tabs)
    claims = rows_of(CLAIMS * clients_n, list(CLAIM_ROW.items()))
    claims["key"] = NO_KEY
    return {"pools": rows_of(users, list(POOL_ROW.items())), "claims": claims}


def _proxies(workload: Workload, clients_n: int) -> dict[str, Any]:
    rules, address = workload.stream_proxy, (workload.rules.seed, workload.rules.replication)
    is_held = are_held(rules, *address, clients_n)
    is_behind = is_held | holds_back(rules)
    behind_n = int(np.count_nonzero(is_behind))
    behind = np.zeros(0, np.int32)
    if behind_n:
        behind = np.where(is_behind, np.cumsum(is_behind) - 1, -1).astype(np.int32)
    buffers = rows_of(behind_n, list(PROXY_BUFFER_ROW.items()))
    for name in ("buffer_bytes", "delay_s"):
        own = getattr(HOLDS_ALL, name), getattr(rules, name)
        buffers[name] = np.where(is_held[is_behind], *own)
    stretches = rows_of((behind_n, _STRETCHES), list(STRETCH_ROW.items()))
    return {"behind": behind, "buffers": buffers, "stretches": stretches}


def _fill(rows: Any, variant: Variant, record: Record) -> None:
    """Fill the rows in: one, of which the others are copies, so that each line is written once."""
    if len(rows) == 0:
        return
    _begin(rows[:1], variant)
    lines = rows.view(np.uint8).reshape(len(rows), -1)
    lines[1:] = lines[0]
    rows["number"] = np.arange(len(rows), dtype=np.int32)
    rows["seen"] = record.entered


def _begin(rows: Any, variant: Variant) -> None:
    """Set what is not 0 in the row of a client that has not come yet."""
    rows["fetched_s"] = rows["kept_until_s"] = -NEVER_S
    rows["deadline_s"] = rows["opened_s"] = NEVER_S
    if variant.pushes:
        rows["subscribed"] = rows["socket"] = rows["slot"] = -1
    if variant.is_general:
        rows["lost_exchange"] = rows["served_by"] = rows["node"] = -1
        rows["beat_s"] = rows["fetch_due_s"] = rows["check_s"] = NEVER_S


def _record_arrays(workload: Workload, record: Record) -> RecordArrays:
    kept = {name: getattr(record, name) for name in RecordArrays._fields}
    kept["publish_s"] = workload.publish_s
    if variant_of(workload).is_general and record.cohort is None:
        kept["cohort"] = np.zeros(1, np.int8)
    for name, columns in LOGS.items():
        kept[name] = _new_log(columns)
    return RecordArrays(**kept)


def _idle_servers(nodes: int, workers: int) -> ServerArrays:
    return ServerArrays(
        free_s=np.zeros((nodes, workers)),
        blocked_s=np.zeros((nodes, workers)),
        accepts_s=np.zeros((nodes, 1024)),
        state=rows_of(nodes, list(SERVER_STATE.items())),
    )


def _with_longer_backlogs(arrays: ClientArrays) -> ClientArrays:
    servers = arrays.servers
    nodes, length = servers.accepts_s.shape
    rings = event_list.zeros(nodes * 2 * length, "f8").reshape(nodes, 2 * length)
    for ring, longer, state in zip(servers.accepts_s, rings, servers.state, strict=True):
        oldest = int(state.oldest)
        longer[: length - oldest] = ring[oldest:]
        longer[length - oldest : length] = ring[:oldest]
        state.oldest = 0
    return arrays._replace(servers=servers._replace(accepts_s=rings))


def _with_more_stretches(arrays: ClientArrays) -> ClientArrays:
    stretches = arrays.stretches
    more = rows_of((len(stretches), 2 * stretches.shape[1]), stretches.dtype)
    more[:, : stretches.shape[1]] = stretches
    return arrays._replace(stretches=more)


def _options(workload: Workload) -> EngineOptions:
    drag, hidden = workload.drag, workload.hidden
    return EngineOptions(
        int(workload.etag),
        *((drag.every_s, drag.length_s) if drag else (-1.0, 0.0)),
        *((hidden.every_s, hidden.length_s) if hidden else (-1.0, 0.0)),
        workload.idle_s,
        workload.unanswered_s,
        workload.rate_limit,
        workload.browser,
        workload.bad_gateway,
    )


def _on_lines(n: int, layout: np.dtype[Any]) -> Any:
    """Return rows of zeros that begin where a line of memory begins."""
    space = np.zeros(n * layout.itemsize + LINE, np.uint8)
    start = -space.ctypes.data % LINE
    return space[start : start + n * layout.itemsize].view(np.dtype((Row, layout)))


def _table_of(values: tuple[Any, ...], columns: dict[str, str]) -> Any:
    """Named tuples as rows."""
    table = rows_of(len(values), list(columns.items()))
    for row, value in zip(table, values, strict=True):
        for name in columns:
            row[name] = getattr(value, name)
    return table


def _new_log(columns: dict[str, str]) -> Any:
    """Rows and how many are filled; interpreted code keeps a list."""
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return []
    return np.zeros(LOG_ROWS, list(columns.items())), np.zeros(1, np.int64)


def _signed(word: int) -> int:
    """Return the 64 bits of a word as a signed number."""
    return word - (1 << 64) if word >= 1 << 63 else word


def _plain(value: Any) -> Any:
    """Return a value, or a tuple of values, with plain numbers for members of enumerations.

    Numba knows the types of numbers and arrays at once. If a `World` has a single enumeration
    member, numba works out the type of all of it anew in each call, which takes milliseconds.
    """
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, tuple):
        plain = map(_plain, value)
        return value._make(plain) if hasattr(value, "_make") else tuple(plain)
    return value
