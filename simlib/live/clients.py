"""The lab's client process: the rules of `core.client` over asyncio and real sockets.

`LiveClients` is the driver: it moves time, carries actions out on `connections`, and feeds what
comes of them. `ClientRun` is one run of them: the users' sessions and activity, the checks of a
rollout, and the reports to the lab. The processor time of the clients is measured too, and reported
beside the result. `lab` runs this module as ``python -m simlib.live.clients``.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np

from simlib.core import record as recording
from simlib.core import wire
from simlib.core.activity import DRAG, HIDE, episode_s
from simlib.core.assignment import SERVER_CLOSES
from simlib.core.client_state import NEVER_S, Client, is_fallen
from simlib.core.connection import closes_with_frames
from simlib.core.draws import Stream
from simlib.core.driver import cause_of
from simlib.core.notify import is_awaited
from simlib.core.protocol import Action, Event, State, Transport, is_stream
from simlib.core.record import Cause, Count, Record
from simlib.live.clock import ScenarioClock
from simlib.live.connections import (
    BesideConnection,
    Burst,
    ClientConnection,
    ConnectionOwner,
    EventSourceConnection,
    PollConnection,
    PushConnection,
    RefetchConnection,
    SafetyPollConnection,
)
from simlib.live.ipc import Parent
from simlib.live.messages import (
    ClientsReport,
    CloseConnections,
    ControllerReply,
    Port,
    Progress,
    Ready,
    Sample,
    Settings,
    Start,
)
from simlib.live.tokens import make_token
from simlib.scenario import Workload, compile_workload, enrolled, new_record
from simlib.scenario.model import Activity

_REPORT_S = 0.25
_BUFFER_BYTES = 1 << 16
_C = TypeVar("_C", bound=ClientConnection)


class BackgroundTasks:
    """Coroutines that run beside each other until they are cancelled.

    Attributes
    ----------
    error : BaseException or None
        The first exception that one of them raised.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside the others."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel all of them."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.error = self.error or task.exception()


class _OneCohort:
    """A record without a rollout, for `recording.snapshot`: all clients are of one cohort.

    Since when clients are present is kept for cohorts only; `Presence` counts it meanwhile.
    """

    def __init__(self, record: Record, clients: int) -> None:
        self._record = record
        self.cohort = self.opened_in = np.zeros(clients, dtype=np.int8)
        self.cohort_s = np.zeros(clients)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._record, name)


class Presence:
    """Client-seconds of presence, and of polling instead, summed up from sample to sample."""

    def __init__(self) -> None:
        self.t, self.exposed_s, self.fallen_s = 0.0, 0.0, 0.0

    def counted_in(
        self, snapshot: recording.MetricsSnapshot, fallen: int
    ) -> recording.MetricsSnapshot:
        """Return a snapshot with the sums up to its time; `fallen` clients poll instead now."""
        length_s, self.t = snapshot.t - self.t, snapshot.t
        self.exposed_s += int(snapshot.present.sum()) * length_s
        self.fallen_s += fallen * length_s
        sums = np.array([self.exposed_s]), np.array([self.fallen_s])
        return snapshot._replace(exposed_s=sums[0], fallen_s=sums[1])


class LiveClients(ConnectionOwner):
    """The driver of all clients of a run, in the scenario's time.

    Parameters
    ----------
    workload : Workload
    record : Record
    settings : Settings
        Its ports are those that the clients connect to.
    """

    def __init__(self, workload: Workload, record: Record, settings: Settings) -> None:
        clients, buckets = len(workload.start_s), workload.buckets.tolist()
        treatment_rules = workload.treatment_rules
        super().__init__(workload.rules, record, clients, workload.flag, buckets, treatment_rules)
        self.loop = asyncio.get_running_loop()
        self.spec = settings.scenario.wire_spec()
        self.packets_to_open, self.packets_to_close = (
            tuple(workload.sizes[message, 2:].tolist())
            for message in (wire.Message.TCP_OPEN, wire.Message.TCP_CLOSE)
        )
        self.is_proxied = settings.is_proxied
        self.has_admission_rate = settings.scenario.server.admit_per_s is not None
        self.ports = settings.ports
        self.tokens = [
            make_token(settings.secret, number, self.spec.token_bytes) for number in range(clients)
        ]
        self.clock = ScenarioClock(settings.time_scale)
        self.timers: list[asyncio.TimerHandle | None] = [None] * clients
        self.burst = Burst(self.clock)
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.connections: list[PollConnection | PushConnection | None] = [None] * clients
        self.opening: dict[int, ClientConnection] = {}
        self.beside: set[BesideConnection] = set()
        self.refetches: dict[int, RefetchConnection] = {}
        self.idle_beside: dict[int, SafetyPollConnection] = {}
        self.asked_s = [0.0] * clients
        self.tasks = BackgroundTasks()
        self.to_close: list[tuple[int, float]] = []
        self.presence = Presence()
        self.is_over = False

    # -- time ------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Return the scenario's time; while an arrival is processed, when it arrived."""
        return self.burst.now_s()

    def call_at(self, t: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        """Call something at a time of the scenario."""
        return self.loop.call_at(self.clock.to_clock(t), callback, *args)

    def arm(self, client: Client, deadline_s: float) -> None:
        """Set the client's timer."""
        timer = self.timers[client.number]
        if timer is not None:
            timer.cancel()
        self.timers[client.number] = (
            self.call_at(deadline_s, self.wake, client) if deadline_s < NEVER_S else None
        )

    def wake(self, client: Client) -> None:
        """The client's deadline has come, unless what arrived before has moved it."""
        due_s = client.deadline_s
        self.burst.process()
        if client.deadline_s == due_s:
            super().wake(client)

    def feed(self, client: Client, event: Event, value: int = 0) -> None:
        """Put one event through the rules, after what arrived before it."""
        self.burst.process()
        if not self.has_ended:
            super().feed(client, event, value)

    @property
    def has_ended(self) -> bool:
        """Whether nothing counts any more: the run is over, or time has passed its horizon."""
        return self.is_over or self.now_s() >= self.record.horizon_s

    def end_session(self, client: Client) -> None:
        """End the client's session, after what arrived before."""
        self.burst.process()
        if not self.has_ended:
            self.stop(client)

    def end_run(self, t: float) -> None:
        """End the run at `t`: finalise the record, and close all connections."""
        self.burst.process()
        self.is_over = True
        self.burst.stamp_s = t
        self.record.end_at(t)
        self.finish()
        self.tasks.cancel()
        for connection in (*self.connections, *self.opening.values(), *self.beside):
            if connection is not None:
                connection.transport.abort()

    # -- rollout ---------------------------------------------------------------------------

    def schedule_flag_update(self, client: Client, t: float, why: int) -> None:
        """At `t`, let the client read the flag, or the server close its connection."""
        if why == SERVER_CLOSES:
            self.to_close.append((client.number, t))
        else:
            self.call_at(t, self.apply_flag, client, why)

    def apply_flag(self, client: Client, why: int) -> None:
        """The client learns the present percentage, after what arrived before it."""
        self.burst.process()
        if not self.has_ended:
            super().apply_flag(client, why)

    def trip_s(self, client: Client) -> float:  # noqa: ARG002 - here all clients are equally near
        """Return zero: the clients learn the percentage from their own process."""
        return 0.0

    def snapshot(self) -> recording.MetricsSnapshot:
        """Return what is known now."""
        self.burst.process()
        is_present = [client.state not in (State.ABSENT, State.GONE) for client in self.clients]
        is_connected = [row.opened_s < NEVER_S for row in self.connection_rows]
        fallen = [is_fallen(client, self.rules_of(client)) for client in self.clients]
        record: Any = self.record
        if record.cohort is None:
            record = _OneCohort(record, len(self.clients))
        found = recording.snapshot(
            record,
            np.array(is_present),
            np.array(fallen),
            np.array(is_connected),
            np.array([client.since_s for client in self.clients]),
            self.now_s(),
        )
        if self.record.cohort is None:
            return self.presence.counted_in(found, sum(fallen))
        return found

    # -- actions ---------------------------------------------------------------------------

    def carry_out(self, client: Client, event: Event, actions: int, was: int) -> None:
        """Carry out on sockets what the client asks for."""
        number = client.number
        connection = self.connections[number]
        if actions & Action.CLOSE:
            self.close_connection(client, event, was)
            connection = None
        if actions & Action.FETCH:
            self.asked_s[number] = self.now_s()
        if actions & Action.FETCH and isinstance(connection, PushConnection):
            if actions & Action.GIVE_UP_FETCH:
                self.give_up_fetch(client)
            self.refetch(client)
        elif actions & Action.FETCH:
            if isinstance(connection, PollConnection) and connection.is_usable:
                self.tally(Count.POLLS, number)
                connection.fetch(client.exchange)
            else:
                self.tasks.spawn(self.open_poll(client, client.exchange))
        if actions & Action.CONNECT:
            self.tally(Count.ATTEMPTS, number)
            self.tasks.spawn(self.open_push(client, client.exchange))
        if isinstance(connection, PushConnection):
            if actions & Action.UPGRADE:
                connection.upgrade()
            if actions & Action.AUTHENTICATE:
                connection.send_text(wire.auth_text(self.spec, self.tokens[number], client.seen))
            if actions & Action.SAFETY_POLL:
                recording.count_safety_poll(self.record, number, self.now_s())
                self.tasks.spawn(self.safety_poll(client, client.exchange))
            if actions & Action.SEND_PING:
                connection.send_ping()
            if actions & Action.SEND_PONG:
                connection.send_pong()

    async def open_poll(self, client: Client, exchange: int) -> None:
        """Open a connection for polls, and send the first."""
        connection = await self._open(PollConnection(self, client), Port.POLL)
        if connection is None:
            if client.exchange == exchange:
                self.feed_failure(client)
            return
        if client.exchange != exchange or self.has_ended:
            connection.transport.abort()  # the user has left meanwhile
            return
        self.connections[client.number] = connection
        if connection.node >= 0:  # or else it is the proxy that answers
            self.record_connection(client.number)
        self.tally(Count.POLLS, client.number)
        connection.fetch(exchange)

    def refetch(self, client: Client) -> None:
        """Fetch beside the open WebSocket, on the connection of the fetch before if it is kept."""
        connection = self.refetches.get(client.number)
        self.tally(Count.POLLS, client.number)
        if connection is not None and connection.is_usable:
            connection.fetch(client.exchange)
        else:
            self.tasks.spawn(self.open_refetch(client, client.exchange, client.fetch_number))

    def give_up_fetch(self, client: Client) -> None:
        """Give up the fetch that is under way beside the WebSocket, with its connection."""
        beside = self.refetches.pop(client.number, None)
        if beside is not None:
            beside.transport.abort()

    async def open_refetch(self, client: Client, exchange: int, fetch: int) -> None:
        """Open a connection beside the WebSocket, and send the first fetch."""
        connection = await self._open(RefetchConnection(self, client), Port.POLL)
        self.burst.process()  # which may give the fetch up
        if not is_awaited(client, exchange, fetch) or self.has_ended:
            if connection is not None:
                connection.transport.abort()
        elif connection is None or not connection.is_usable:
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.FAILED)
        else:
            self.refetches[client.number] = connection
            connection.fetch(exchange)

    async def safety_poll(self, client: Client, exchange: int) -> None:
        """Poll once beside an open socket, on the connection of the poll before if it is kept."""
        kept = self.idle_beside.pop(client.number, None)
        if kept is not None and kept.is_usable and client.exchange == exchange:
            kept.fetch(exchange)
            return
        connection = await self._open(SafetyPollConnection(self, client), Port.POLL)
        if client.exchange != exchange or self.has_ended:
            if connection is not None:
                connection.transport.abort()
        elif connection is None:
            recording.count_failed_safety_poll(self.record, client.number, self.now_s())
        else:
            connection.fetch(exchange)

    def keep_beside(self, connection: SafetyPollConnection) -> None:
        """Keep the connection of a safety poll that has its answer, in place of another."""
        other = self.idle_beside.pop(connection.client.number, None)
        if other is not None:
            other.transport.close()
        self.idle_beside[connection.client.number] = connection

    async def open_push(self, client: Client, exchange: int) -> None:
        """Open a connection for pushes."""
        one: PushConnection
        if is_stream(client.transport):
            one, port = EventSourceConnection(self, client, exchange), Port.POLL
        else:
            one, port = PushConnection(self, client, exchange), Port.PUSH
        connection = await self._open(one, port)
        if client.exchange != exchange or self.has_ended:
            if connection is not None:
                connection.transport.abort()
        elif connection is None:
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.CLOSED)
        else:
            self.connections[client.number] = connection
            self.feed(client, Event.CONNECTED)

    async def _open(self, connection: _C, port: Port) -> _C | None:
        """Connect, through the proxy if there is one; return None if the server does not accept."""
        try:
            await self.loop.create_connection(lambda: connection, "127.0.0.1", self.ports[port])
        except OSError:
            return None
        if not self.is_proxied:
            return connection
        number = connection.client.number
        if not isinstance(connection, BesideConnection):
            self.opening[number] = connection
        is_accepted = await connection.is_accepted
        if self.opening.get(number) is connection:
            del self.opening[number]
            if is_accepted:
                self.connection_rows[number].node = connection.node
        return connection if is_accepted else None

    def close_connection(self, client: Client, event: Event, was: int) -> None:
        """Close the client's connection, or give up the one that it is opening."""
        number = client.number
        connection: ClientConnection | None
        connection = self.connections[number] or self.opening.pop(number, None)
        self.connections[number] = None
        if event == Event.DEADLINE and was != Transport.POLLING:
            self.tally(Count.ERRORS, number)
        if is_stream(was):
            closes_with_frames(client, self.connection_rows[number], was, event == Event.STOP)
        self.record_disconnect(number, self.now_s(), cause_of(event, was))
        if connection is not None:
            connection.close(graceful=event == Event.STOP)
        for beside in (self.refetches.pop(number, None), self.idle_beside.pop(number, None)):
            if beside is not None:
                beside.transport.abort()

    def connection_ended(self, connection: ClientConnection) -> None:
        """A connection has ended; if the client did not close it, tell the rules."""
        self.burst.process()
        client = connection.client
        if self.refetches.get(client.number) is connection:
            del self.refetches[client.number]
            self.poll_ended(connection)
            return
        if self.has_ended or self.connections[client.number] is not connection:
            return
        self.connections[client.number] = None
        if isinstance(connection, PushConnection):
            self.tally(Count.ERRORS, client.number)
            self.hear_status(client, connection.refused_with)
            self.feed(client, Event.CLOSED, connection.refused_with)
            return
        self.record_disconnect(client.number, self.now_s(), Cause.IDLE)
        self.poll_ended(connection)

    def poll_ended(self, connection: ClientConnection) -> None:
        """A connection for polls has ended: a poll that was under way on it has failed."""
        client = connection.client
        if connection.exchange == client.exchange and not self.has_ended:
            self.feed_failure(client)


class ClientRun:
    """One run of the clients: sessions, user activity, checks of a rollout, reports to the lab.

    Parameters
    ----------
    clients : LiveClients
    workload : Workload
    parent : Parent
        The lab.
    inbox : asyncio.Queue
        The lab's messages.
    sample_s : float, optional
        How long after one sample the next is made, seconds by the clock.
    """

    def __init__(
        self,
        clients: LiveClients,
        workload: Workload,
        parent: Parent,
        inbox: asyncio.Queue[Any],
        sample_s: float | None = None,
    ) -> None:
        self.clients = clients
        self.workload = workload
        self.parent = parent
        self.inbox = inbox
        self.horizon_s = clients.record.horizon_s
        self.sample_s = sample_s

    async def run(self, start_s: float, check_s: float | None) -> float:
        """Run the scenario from a time of the clock; return the scenario's time at its end.

        The first check of a rollout, if there is one, is at `check_s` in the scenario's time.
        """
        clients, clock = self.clients, self.clients.clock
        clock.start_s = start_s
        starts, ends = self.workload.start_s.tolist(), self.workload.end_s.tolist()
        for client, begin, end in zip(clients.clients, starts, ends, strict=True):
            clients.tasks.spawn(self.session(client, begin, end))
        if check_s is not None:
            self.schedule_check(check_s)
        if self.sample_s is not None:
            clients.loop.call_at(start_s, self.make_sample, start_s, self.sample_s)
        end_s = clock.to_clock(self.horizon_s)
        is_interrupted = False
        while not is_interrupted and (left_s := end_s - clients.loop.time()) > 0.0:
            try:
                message = await asyncio.wait_for(self.inbox.get(), min(_REPORT_S, left_s))
                if isinstance(message, ControllerReply):
                    self.apply_reply(message)
                else:
                    is_interrupted = True
            except TimeoutError:
                self.parent.send(Progress(max(0.0, clients.now_s())))
            if clients.tasks.error is not None:
                raise clients.tasks.error
        end_of_run_s = max(0.0, clients.now_s()) if is_interrupted else self.horizon_s
        clients.end_run(end_of_run_s)
        return end_of_run_s

    async def session(self, client: Client, start_s: float, end_s: float) -> None:
        """A user opens the board, works with it, and leaves."""
        clock, tasks = self.clients.clock, self.clients.tasks
        await clock.sleep_until(start_s)
        self.clients.begin(client)
        for activity, kind in ((self.workload.drag, DRAG), (self.workload.hidden, HIDE)):
            if activity is not None:
                tasks.spawn(self.activity(client, activity, kind, start_s, end_s))
        if end_s < self.horizon_s:
            await clock.sleep_until(end_s)
            self.clients.end_session(client)

    async def activity(
        self,
        client: Client,
        activity: Activity,
        kind: tuple[Stream, Stream, Event, Event],
        t: float,
        end_s: float,
    ) -> None:
        """The user drags a card, or hides the tab, again and again until the session ends."""
        gap, length, begin, end = kind
        rules = self.clients.rules
        number, seed, replication = client.number, rules.seed, rules.replication
        k = 0
        while True:
            start_s, t = episode_s(
                seed, replication, number, gap, length, k, t, activity.every_s, activity.length_s
            )
            k += 1
            for when, event in ((start_s, begin), (t, end)):
                if when >= end_s:
                    return
                await self.clients.clock.sleep_until(when)
                self.clients.feed(client, event)

    def schedule_check(self, t: float) -> None:
        """At `t`, send the lab's rollout controller a snapshot of the run."""
        if t < self.horizon_s:
            self.clients.call_at(t, lambda: self.parent.send(self.clients.snapshot()._replace(t=t)))

    def make_sample(self, due_s: float, every_s: float) -> None:
        """Send the lab a sample, and make the next one later; of what it missed, it makes none."""
        if self.clients.is_over:
            return
        self.parent.send(Sample(self.clients.snapshot()))
        loop = self.clients.loop
        due_s = max(due_s + every_s, loop.time())
        loop.call_at(due_s, self.make_sample, due_s, every_s)

    def apply_reply(self, reply: ControllerReply) -> None:
        """Set the percentage, if the controller has a new one, and schedule its next check."""
        if reply.percent is not None:
            self.clients.set_percentage(reply.percent)
            closes, self.clients.to_close = self.clients.to_close, []
            if closes:
                self.parent.send(CloseConnections(closes))
        self.schedule_check(reply.due_s)


async def run(parent: Parent) -> None:
    """Run the clients of one scenario, and send the record to the lab."""
    settings: Settings = parent.receive()
    workload = compile_workload(settings.scenario, settings.seed, settings.replication)
    check_s: float | None = None
    if settings.rollout is not None:
        flag, buckets, cohort_rules, check_s = settings.rollout
        workload = enrolled(workload, flag, buckets, cohort_rules)
    record = new_record(settings.scenario, workload, settings.keep)
    clients = LiveClients(workload, record, settings)
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    parent.send(Ready({}))
    parent.watch(clients.loop, inbox)
    start: Start = await inbox.get()
    gc.disable()  # a full collection would stop every client for milliseconds
    before_s = time.process_time()
    client_run = ClientRun(clients, workload, parent, inbox, settings.sample_s)
    end_of_run_s = await client_run.run(start.start_s, check_s)
    parent.send(ClientsReport(record, end_of_run_s, time.process_time() - before_s))


if __name__ == "__main__":
    asyncio.run(run(Parent()))
