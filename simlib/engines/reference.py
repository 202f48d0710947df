"""The reference engine: SimPy processes that move time and carry out what `step` asks for.

Read it as the method section of a paper. Each generator below is one journey through the model:
a user's session, a poll, the stages of a handshake, a broadcast, a heartbeat. A journey knows
delays (half a round trip each way, the wait for a worker, the service time) and nothing else:
what a client does next is `core.client.step`, who is served when is `core.server`, what is counted
is `core.record`.

Order is (time, sequence of scheduling), SimPy's own. Waits are until absolute times, since
``now + (t - now)`` is not t in floating point, and a journey takes its first step at once:
SimPy's ``Process`` puts a hidden event at the same time before the first step and after the last,
which would let bookkeeping decide ties.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Generator
from heapq import heappush
from typing import Any

import numpy as np
import simpy
from simpy.core import StopSimulation
from simpy.events import NORMAL, URGENT

from simlib.core import record as recording
from simlib.core.activity import DRAG, HIDE, episode_s
from simlib.core.assignment import SERVER_CLOSES
from simlib.core.backpressure import Overflow, buffered_bytes, has_room, kept, most_held
from simlib.core.client import is_expired
from simlib.core.client_state import NEVER_S, Client
from simlib.core.draws import Stream, uniform
from simlib.core.driver import Driver, cause_of
from simlib.core.faults import FaultEffect, FaultEvent, is_affected
from simlib.core.path import added_s, carried_s, left_bytes
from simlib.core.polling import is_kept, is_unchanged, reply_of, request_of
from simlib.core.protocol import Action, Event, Heartbeat, State, Transport
from simlib.core.record import Cause, Count, Record
from simlib.core.resync import Resume, resume_outcome
from simlib.core.server import (
    SYN_RETRIES,
    accept,
    admit,
    admit_fan_out,
    admits_upgrade,
    broadcast_s,
    clear_server,
    free_from_s,
    new_server,
    node_for,
    sent_s,
    service_time_s,
    syn_retry_s,
    wait_s,
)
from simlib.core.wire import Message
from simlib.scenario.model import Activity
from simlib.scenario.workload import Workload

_RESETS = (FaultEffect.SERVER_DOWN, FaultEffect.NODE_DOWN, FaultEffect.RESET)
Process = Generator[simpy.Event, None, Any]


class _ProcessRunner:
    """Resumes a journey when the event that it waits for comes."""

    __slots__ = ("generator",)

    def __init__(self, generator: Process) -> None:
        self.generator = generator

    def __call__(self, _event: simpy.Event | None = None) -> None:
        event = next(self.generator, None)
        if event is not None:
            assert event.callbacks is not None
            event.callbacks.append(self)


class Clock(simpy.Environment):
    """SimPy's environment with absolute waits and journeys that start at once."""

    def at(self, t: float) -> simpy.Event:
        """Return an event that comes at `t`, seconds."""
        event = simpy.Event(self)
        event._ok, event._value = True, None
        heappush(self._queue, (t, NORMAL, next(self._eid), event))
        return event

    def start(self, generator: Process) -> None:
        """Set a journey going."""
        _ProcessRunner(generator)()


class Simulation(Driver):
    """One run in SimPy's time.

    Parameters
    ----------
    workload : Workload
    record : Record
        Filled as time goes by.
    """

    def __init__(self, workload: Workload, record: Record) -> None:
        clients = len(workload.start_s)
        buckets = workload.buckets.tolist()
        super().__init__(workload.rules, record, clients, workload.flag, buckets)
        self.clock = Clock()
        self.is_interrupted = False
        self.workload = workload
        self.server_rules = workload.server
        self.server = new_server(workload.server.workers)
        self.publish_s: list[float] = workload.publish_s.tolist()
        self.sizes: list[list[int]] = workload.sizes.tolist()
        self.half_rtt_s: list[float] = (workload.rtt_s / 2.0).tolist()
        self.start_s: list[float] = workload.start_s.tolist()
        self.end_s: list[float] = workload.end_s.tolist()
        # The client's side: until when the server keeps an idle connection, and what is up.
        self.kept_until_s = [-NEVER_S] * clients
        self.has_upgraded = [False] * clients
        self.beats = [0] * clients
        self.active_s = [0.0] * clients
        # The server's side: who listens (client -> exchange, in order), what has ended.
        self.published = 0
        self.subscribers: dict[int, int] = {}
        self.sockets: dict[int, int] = {}
        self.closed_exchange = [0] * clients
        # What is wrong: up to which exchange a client's sockets travel a dead path, whether its
        # polls do, which nodes are down, what each keeps and whom its process has served.
        self.lost_exchange = [-1] * clients
        self.is_link_dead = [False] * clients
        self.is_down = [False] * workload.nodes
        self.kept_from = [0] * workload.nodes
        self.process = list(range(workload.nodes))
        self.node = [-1] * clients
        self.served_by = [-1] * clients
        self.active: list[FaultEvent] = []
        # Paths that narrow or delay: what each had to carry when, when its last message arrives,
        # and how many messages, up to which, wait in the server for a client.
        self.has_path_limits = bool(workload.delays or workload.limits)
        self.link_s = [0.0] * clients
        self.link_bytes = [0.0] * clients
        self.arrived_s = [0.0] * clients
        self.waiting = [0] * clients
        self.tail = [0] * clients

        self.clock.start(self.publisher())
        self.clock.start(self.faults())
        for client, start_s in zip(self.clients, workload.start_s.tolist(), strict=True):
            self.clock.start(self.session(client, start_s))

    # -- time ------------------------------------------------------------------------------

    def run_until(self, t: float) -> None:
        """Let everything before `t` happen, seconds."""
        was_enabled = gc.isenabled()
        gc.disable()  # nothing here is cyclic, and full collections cost a third of the time
        try:
            self.clock.run(until=t)
        finally:
            if was_enabled:
                gc.enable()

    def interrupt(self) -> None:
        """End `run_until` after the event in hand."""
        self.is_interrupted = True
        stop = simpy.Event(self.clock)
        stop._ok, stop._value = True, None
        stop.callbacks = [StopSimulation.callback]
        self.clock.schedule(stop, priority=URGENT)

    def snapshot(self) -> recording.MetricsSnapshot:
        """Return what is known now."""
        clients, now = self.clients, float(self.clock.now)  # SimPy's zero is whole
        is_present = [client.state not in (State.ABSENT, State.GONE) for client in clients]
        is_connected = [
            opened_s < NEVER_S and not (client.transport == Transport.POLLING and kept_s < now)
            for client, opened_s, kept_s in zip(
                clients, self.opened_s, self.kept_until_s, strict=True
            )
        ]
        return recording.snapshot(self.record, np.array(is_present), np.array(is_connected), now)

    def finish(self) -> None:
        """Close the books, without what comes later: idle ends before now, work after now."""
        for free_s in self.server.free_s:
            recording.add_busy(self.record, self.clock.now, free_s, -1.0)
        for number, kept_until_s in enumerate(self.kept_until_s):
            is_polling = self.clients[number].transport == Transport.POLLING
            if is_polling and 0.0 <= kept_until_s < self.clock.now:
                self.record_disconnect(number, kept_until_s, Cause.IDLE)
        super().finish()

    def now_s(self) -> float:
        """Return SimPy's time."""
        return self.clock.now

    def arm(self, client: Client, deadline_s: float) -> None:
        """Set the client's alarm clock."""
        if deadline_s < NEVER_S:
            self.clock.start(self.deadline(client, deadline_s))

    def deadline(self, client: Client, t: float) -> Process:
        """The client's alarm clock: it means nothing any more if the deadline has moved."""
        yield self.clock.at(t)
        if client.deadline_s == t:
            self.wake(client)

    def schedule_flag_update(self, client: Client, t: float, why: int) -> None:
        """Let the client hear of the rollout at `t`."""
        self.clock.start(self.flag_update(client, t, why))

    def flag_update(self, client: Client, t: float, why: int) -> Process:
        """What has been announced reaches a client."""
        yield self.clock.at(t)
        if why == SERVER_CLOSES:
            if client.target == Transport.POLLING:
                return  # it has heard of it by itself
            change, close_s = len(self.percents), self.server_rules.close_s
            done_s = self.serve(close_s, client, Stream.CLOSE_SERVICE, change)
            yield self.clock.at(done_s + self.trip_s(client))
        self.apply_flag(client, why)

    def trip_s(self, client: Client) -> float:
        """Return how long what sets out now takes from the server to the client."""
        return self.half_s(client.number)

    # -- one client ------------------------------------------------------------------------

    def carry_out(self, client: Client, event: Event, actions: int, was: int) -> None:
        """Set going what the client asks for."""
        exchange = client.exchange
        if actions & Action.CLOSE:
            self.close_connection(client, event, was)
        if actions & Action.FETCH:
            self.clock.start(self.poll(client, exchange))
        if actions & Action.CONNECT:
            self.clock.start(self.connect(client, exchange))
        if actions & Action.SECURE:
            self.clock.start(self.secure(client, exchange))
        if actions & Action.UPGRADE:
            self.clock.start(self.upgrade(client, exchange))
        if actions & Action.AUTHENTICATE:
            self.clock.start(self.authenticate(client, exchange))
        if actions & Action.SAFETY_POLL:
            self.clock.start(self.safety_poll(client, exchange))
        if actions & Action.SEND_PING:
            self.clock.start(self.ping_server(client, exchange))
        if actions & Action.SEND_PONG:
            self.send(client.number, Message.PONG_UP)

    def session(self, client: Client, start_s: float) -> Process:
        """A user opens the board, works with it, and leaves."""
        number = client.number
        yield self.clock.at(start_s)
        self.begin(client)
        for activity, kind in ((self.workload.drag, DRAG), (self.workload.hidden, HIDE)):
            if activity is not None:
                self.clock.start(self.activity(client, activity, *kind))
        if self.end_s[number] < self.record.horizon_s:
            yield self.clock.at(self.end_s[number])
            self.stop(client)

    def activity(
        self,
        client: Client,
        activity: Activity,
        gap: Stream,
        length: Stream,
        begin: Event,
        end: Event,
    ) -> Process:
        """The user drags a card, or hides the tab, now and then until the session ends."""
        number, seed, replication = client.number, self.rules.seed, self.rules.replication
        t, k = self.clock.now, 0
        while True:
            start_s, t = episode_s(
                seed, replication, number, gap, length, k, t, activity.every_s, activity.length_s
            )
            k += 1
            for when, event in ((start_s, begin), (t, end)):
                if when >= self.end_s[number]:
                    return
                yield self.clock.at(when)
                self.feed(client, event)

    # -- faults ----------------------------------------------------------------------------

    def faults(self) -> Process:
        """What goes wrong, one moment after the other."""
        for fault_event in self.workload.fault_events:
            yield self.clock.at(fault_event.t)
            effect = fault_event.effect
            if effect == FaultEffect.SERVER_DOWN:
                for free_s in self.server.free_s:
                    recording.add_busy(self.record, self.clock.now, free_s, -1.0)
                clear_server(self.server, self.clock.now)
            for node in range(self.workload.nodes):
                if (
                    effect in (FaultEffect.SERVER_DOWN, FaultEffect.SERVER_UP)
                    or node == fault_event.node
                ):
                    self.set_node_state(node, effect)
            if effect in (FaultEffect.PARTITION, FaultEffect.BLOCK):
                self.active.append(fault_event)
            elif effect in (FaultEffect.HEAL, FaultEffect.UNBLOCK):
                self.active = [other for other in self.active if other.fault != fault_event.fault]
            for client in self.clients:
                if effect in _RESETS and self.affects(fault_event, client):
                    self.reset_connection(client)
                elif effect == FaultEffect.PARTITION and self.affects(fault_event, client):
                    self.lose_path(client)

    def set_node_state(self, node: int, effect: int) -> None:
        """A node's process ends, or its successor starts with empty hands."""
        if effect in (FaultEffect.SERVER_DOWN, FaultEffect.NODE_DOWN):
            self.is_down[node] = True
            self.process[node] += self.workload.nodes
        elif effect in (FaultEffect.SERVER_UP, FaultEffect.NODE_UP):
            self.is_down[node] = False
            self.kept_from[node] = self.published

    def affects(self, fault_event: FaultEvent, client: Client) -> bool:
        """Say whether a moment concerns a client."""
        if fault_event.effect == FaultEffect.NODE_DOWN:
            return self.node[client.number] == fault_event.node
        seed, replication, number = self.rules.seed, self.rules.replication, client.number
        return is_affected(
            seed, replication, number, fault_event.fault, fault_event.low, fault_event.high
        )

    def is_under(self, effect: FaultEffect, client: Client) -> bool:
        """Say whether a fault that goes on concerns a client."""
        return any(other.effect == effect and self.affects(other, client) for other in self.active)

    def reset_connection(self, client: Client) -> None:
        """The server's side of a connection is gone; the client hears of it half a trip later."""
        number, exchange, now = client.number, client.exchange, self.clock.now
        self.unsubscribe(number, exchange)
        if client.transport == Transport.POLLING:
            if self.is_link_dead[number]:
                return
            self.close_connection(client, Event.CLOSED, Transport.POLLING)
            self.kept_until_s[number] = -NEVER_S
            if client.state != State.FETCHING:
                return
        elif (
            self.lost_exchange[number] >= exchange
            or not State.CONNECTING <= client.state <= State.OPEN
        ):
            return
        if self.closed_exchange[number] >= exchange:
            return  # it is about to hear of it
        self.closed_exchange[number] = exchange
        self.clock.start(self.fail(client, exchange, now + self.half_s(number)))

    def lose_path(self, client: Client) -> None:
        """The path of a connection dies; neither end hears of it."""
        number, exchange = client.number, client.exchange
        if client.transport == Transport.POLLING:
            if self.opened_s[number] == NEVER_S or self.is_link_dead[number]:
                return
            self.is_link_dead[number] = True
            self.closed_exchange[number] = exchange
            if client.state == State.FETCHING:
                self.clock.start(self.go_unanswered(client, exchange))
        elif State.SECURING <= client.state <= State.OPEN:
            self.lost_exchange[number] = exchange

    def is_over(self, client: Client, exchange: int) -> bool:
        """Say whether what arrives at a client, or at the server for it, comes to nothing."""
        number = client.number
        return (
            client.exchange != exchange
            or self.closed_exchange[number] >= exchange
            or self.lost_exchange[number] >= exchange
        )

    def fail(self, client: Client, exchange: int, t: float) -> Process:
        """A client hears at `t` that its connection is gone."""
        yield self.clock.at(t)
        if client.exchange == exchange:
            self.tally(Count.ERRORS, client.number)
            is_poll = client.transport == Transport.POLLING
            self.feed(client, Event.FAILED if is_poll else Event.CLOSED)

    def go_unanswered(self, client: Client, exchange: int) -> Process:
        """A request on a dead path: the kernel gives up on it at last."""
        yield self.clock.at(self.clock.now + self.workload.unanswered_s)
        if client.exchange == exchange:
            self.record_disconnect(client.number, self.clock.now, Cause.TIMED_OUT)
            self.kept_until_s[client.number] = -NEVER_S
            self.is_link_dead[client.number] = False
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.FAILED)

    def unsubscribe(self, number: int, closed_exchange: int) -> None:
        """The server lets go of a client's connections up to one."""
        if self.subscribers.get(number, closed_exchange + 1) <= closed_exchange:
            del self.subscribers[number]
        if self.sockets.get(number, closed_exchange + 1) <= closed_exchange:
            del self.sockets[number]

    def peer_timeout(self, number: int, exchange: int, wait_s: float) -> Process:
        """The server hears nothing from a client for so long, and lets it go."""
        yield self.clock.at(self.clock.now + wait_s)
        self.unsubscribe(number, exchange)

    # -- polling ---------------------------------------------------------------------------

    def poll(self, client: Client, exchange: int) -> Process:
        """A poll: a connection if none is kept, the request, the worker, the response."""
        clock, number = self.clock, client.number
        first = not is_kept(self.opened_s[number], self.kept_until_s[number], clock.now)
        if first:
            self.record_disconnect(number, self.kept_until_s[number], Cause.IDLE)
            self.is_link_dead[number] = False
            if not (yield from self.open_tcp(client, exchange)):
                if not self.is_over(client, exchange):
                    self.tally(Count.ERRORS, number)
                    self.feed(client, Event.FAILED)
                return
            if self.rules.tls:
                yield clock.at(clock.now + 2.0 * self.half_s(number))
                if self.is_over(client, exchange):
                    return
                self.send(number, Message.TLS_OPEN)
            self.record_connection(number)
        etag = self.workload.etag
        self.tally(Count.POLLS, number)
        self.kept_until_s[number] = NEVER_S
        self.send(number, request_of(etag, client.fetched_s, first))
        if self.is_link_dead[number]:
            clock.start(self.go_unanswered(client, exchange))
            return

        yield clock.at(clock.now + self.half_s(number))
        if self.closed_exchange[number] >= exchange:
            return
        if wait_s(self.server, clock.now) > self.server_rules.shed_wait_s:
            self.kept_until_s[number] = clock.now + self.server_rules.keep_alive_s
            yield clock.at(clock.now + self.half_s(number))
            if not self.is_over(client, exchange):
                self.send(number, Message.POLL_REFUSED - first)
                self.tally(Count.ERRORS, number)
                self.feed(client, Event.FAILED)
            return
        done_s = self.serve(self.server_rules.poll_s, client, Stream.POLL_SERVICE, exchange)
        version = bisect_right(self.publish_s, done_s)
        self.kept_until_s[number] = done_s + self.server_rules.keep_alive_s
        unchanged = is_unchanged(etag, client.fetched_s, client.seen, version)
        unchanged = unchanged and not recording.has_gaps(self.record, number)
        reply = reply_of(unchanged, first)
        yield clock.at(self.carried_s(number, done_s, self.sizes[reply][1]) + self.half_s(number))
        if self.is_over(client, exchange):
            return
        self.send(number, reply)
        if unchanged:
            self.tally(Count.UNCHANGED, number)
            self.feed(client, Event.UNCHANGED)
        else:
            self.feed(client, Event.FETCHED, version)

    def safety_poll(self, client: Client, exchange: int) -> Process:
        """A safety poll, on a connection of its own beside the one that is open."""
        clock, number = self.clock, client.number
        recording.count_safety_poll(self.record, number, clock.now)
        for message in (Message.TCP_OPEN, Message.TLS_OPEN, Message.POLL_REQUEST_FIRST):
            self.send(number, message)
        round_trips = 2.0 if self.rules.tls else 1.0
        yield clock.at(clock.now + (2.0 * round_trips + 1.0) * self.half_s(number))
        node = self.node_for(client, exchange)
        if self.closed_exchange[number] >= exchange or self.is_under(FaultEffect.PARTITION, client):
            return
        is_shed = wait_s(self.server, clock.now) > self.server_rules.shed_wait_s
        if node < 0 or is_shed:
            yield clock.at(clock.now + self.half_s(number))
            if client.exchange == exchange:
                recording.count_failed_safety_poll(self.record, number, clock.now)
                if node >= 0:
                    self.send(number, Message.POLL_REFUSED_FIRST)
                    self.send(number, Message.TCP_CLOSE)
            return
        service_s = self.server_rules.accept_s + self.server_rules.poll_s
        self.beats[number] += 1
        done_s = self.serve(service_s, client, Stream.SAFETY_SERVICE, self.beats[number])
        version = bisect_right(self.publish_s, done_s)
        size = self.sizes[Message.POLL_RESPONSE_FIRST][1]
        yield clock.at(self.carried_s(number, done_s, size) + self.half_s(number))
        if client.exchange == exchange:
            for message in (Message.POLL_RESPONSE_FIRST, Message.TCP_CLOSE):
                self.send(number, message)
            self.feed(client, Event.SNAPSHOT, version)

    # -- WebSocket: the stages before READY --------------------------------------------------

    def open_tcp(self, client: Client, exchange: int) -> Generator[simpy.Event, None, bool]:
        """SYN, listen backlog, SYN-ACK; the kernel repeats a SYN that was dropped."""
        clock, number = self.clock, client.number
        rules = self.server_rules
        self.node[number] = -1
        for k in range(SYN_RETRIES + 1):
            yield clock.at(clock.now + self.half_s(number))
            if self.closed_exchange[number] >= exchange:
                return False
            start_s = -1.0
            if not self.is_under(FaultEffect.PARTITION, client):
                self.node[number] = self.node_for(client, exchange)
                if self.node[number] < 0:
                    yield clock.at(clock.now + self.half_s(number))
                    return False
                service_s = self.draw_s(rules.accept_s, client, Stream.ACCEPT_SERVICE, exchange)
                start_s = accept(self.server, rules, clock.now, service_s)
            if start_s >= 0.0:
                recording.add_busy(self.record, start_s, start_s + service_s)
                yield clock.at(clock.now + self.half_s(number))
                if self.is_over(client, exchange):
                    return False
                self.send(number, Message.TCP_OPEN)
                return True
            yield clock.at(clock.now + max(0.0, syn_retry_s(k) - self.half_s(number)))
            if self.is_over(client, exchange):
                return False
        return False

    def connect(self, client: Client, exchange: int) -> Process:
        """TCP."""
        self.tally(Count.ATTEMPTS, client.number)
        if (yield from self.open_tcp(client, exchange)):
            self.feed(client, Event.CONNECTED)
        elif not self.is_over(client, exchange):
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.CLOSED)

    def secure(self, client: Client, exchange: int) -> Process:
        """TLS 1.3: one round trip."""
        yield self.clock.at(self.clock.now + 2.0 * self.half_s(client.number))
        if not self.is_over(client, exchange):
            self.send(client.number, Message.TLS_OPEN)
            self.feed(client, Event.SECURED)

    def upgrade(self, client: Client, exchange: int) -> Process:
        """The HTTP upgrade: 101, or 503 at the connection cap or under too long a queue."""
        clock, number = self.clock, client.number
        rules = self.server_rules
        self.send(number, Message.UPGRADE_REQUEST)
        yield clock.at(clock.now + self.half_s(number))
        if max(self.closed_exchange[number], self.lost_exchange[number]) >= exchange:
            return
        refused = (
            self.is_under(FaultEffect.BLOCK, client)
            or wait_s(self.server, clock.now) > rules.shed_wait_s
            or not admits_upgrade(self.server, rules, clock.now)
        )
        if not refused:
            yield clock.at(
                self.serve(rules.handshake_s, client, Stream.HANDSHAKE_SERVICE, 2 * exchange)
            )
            if self.closed_exchange[number] >= exchange:
                return
            refused = len(self.sockets) >= rules.max_connections
        if not refused:
            self.sockets[number] = exchange
        yield clock.at(clock.now + self.half_s(number))
        if self.is_over(client, exchange):
            return
        if refused:
            self.send(number, Message.UPGRADE_REFUSED)
            self.tally(Count.ERRORS, number)
            self.feed(client, Event.CLOSED)
            return
        self.send(number, Message.UPGRADE_RESPONSE)
        self.send(number, Message.HELLO)
        self.has_upgraded[number] = True
        self.feed(client, Event.UPGRADED)

    def authenticate(self, client: Client, exchange: int) -> Process:
        """The token up, READY and what was missed down; from then on the client listens."""
        clock, number = self.clock, client.number
        self.send(number, Message.AUTH)
        yield clock.at(clock.now + self.half_s(number))
        if max(self.closed_exchange[number], self.lost_exchange[number]) >= exchange:
            return
        service_s = self.server_rules.authenticate_s
        if self.resume_outcome(client) == Resume.SNAPSHOT:
            service_s += self.server_rules.snapshot_s
        yield clock.at(self.serve(service_s, client, Stream.HANDSHAKE_SERVICE, 2 * exchange + 1))
        if self.closed_exchange[number] >= exchange:
            return
        if is_expired(self.rules, self.start_s[number], clock.now):
            yield clock.at(clock.now + self.half_s(number))
            if not self.is_over(client, exchange):
                self.send(number, Message.AUTH_REFUSED)
                self.tally(Count.ERRORS, number)
                self.feed(client, Event.REJECTED)
            return
        version, outcome = self.published, self.resume_outcome(client)
        self.subscribers[number] = exchange
        if self.rules.heartbeat == Heartbeat.SERVER:
            clock.start(self.heartbeats(client, exchange))
        if outcome == Resume.SNAPSHOT and self.has_path_limits:
            clock.start(self.enter(client, exchange, version, Resume.NOTHING))
            t = self.transmit(number, clock.now, self.sizes[Message.SNAPSHOT][1])
            clock.start(self.push(client, exchange, version, t, Message.SNAPSHOT))
        else:
            clock.start(self.enter(client, exchange, version, outcome))

    def enter(self, client: Client, exchange: int, version: int, outcome: int) -> Process:
        """READY arrives, and with it what the client has missed up to `version`."""
        number = client.number
        replayed = (version - client.seen) * (outcome == Resume.REPLAY)
        self.link_s[number] = self.arrived_s[number] = self.clock.now
        self.link_bytes[number] = 0.0
        self.waiting[number] = 0
        n_bytes = self.sizes[Message.READY][1] + replayed * self.sizes[Message.PUSH][1]
        yield self.clock.at(self.transmit(number, self.clock.now, n_bytes))
        if self.is_over(client, exchange):
            return
        self.send(number, Message.READY)
        self.served_by[number] = self.process[self.node[number]]
        self.record_connection(number)
        if self.workload.idle_s < NEVER_S:
            self.clock.start(self.middlebox(client, exchange))
        missed = version - client.seen
        self.feed(client, Event.READY, version if outcome == Resume.LOST else 0)
        if outcome == Resume.SNAPSHOT:
            self.send(number, Message.SNAPSHOT)
            self.tally(Count.MESSAGES, number)
        elif outcome == Resume.REPLAY:
            self.send(number, Message.PUSH, missed)
            self.tally(Count.MESSAGES, number, missed)
        else:
            return
        self.feed(client, Event.SNAPSHOT if outcome == Resume.SNAPSHOT else Event.REPLAY, version)

    def middlebox(self, client: Client, exchange: int) -> Process:
        """Something in the middle closes the connection when it has carried nothing for long."""
        t = self.clock.now + self.workload.idle_s
        while self.clock.now < t:
            yield self.clock.at(t)
            if self.is_over(client, exchange):
                return
            t = self.active_s[client.number] + self.workload.idle_s
        self.reset_connection(client)

    def resume_outcome(self, client: Client) -> int:
        """Return how a client that is let in now gets what it has missed."""
        number = client.number
        was_sent = self.record.clients[number, Count.MESSAGES] > 0
        return resume_outcome(
            self.rules.resync,
            client.seen,
            self.published,
            self.kept_from[self.node[number]],
            was_sent and self.served_by[number] == self.process[self.node[number]],
            self.clock.now - client.since_s,
        )

    # -- WebSocket: open -----------------------------------------------------------------------

    def publisher(self) -> Process:
        """The state changes at the publish times; whoever listens at that moment is told."""
        for version, t in enumerate(self.publish_s, start=1):
            yield self.clock.at(t)
            self.published = version
            if self.subscribers:
                self.broadcast(version)

    def broadcast(self, version: int) -> None:
        """One worker sends to one listener after the other; each message then travels."""
        rules, subscribers = self.server_rules, len(self.subscribers)
        service_s = service_time_s(
            rules,
            broadcast_s(rules, subscribers),
            self.rules.seed,
            self.rules.replication,
            0,
            Stream.FAN_OUT_SERVICE,
            version,
        )
        busy_from_s = free_from_s(self.server, self.clock.now)
        start_s = admit_fan_out(self.server, self.clock.now, service_s)
        recording.add_busy(self.record, busy_from_s, start_s + service_s)
        for position, (number, exchange) in enumerate(self.subscribers.items(), start=1):
            t = sent_s(rules, start_s, position, subscribers, service_s)
            client = self.clients[number]
            if not self.has_path_limits:
                self.clock.start(self.push(client, exchange, version, t + self.half_rtt_s[number]))
            elif rules.sending.overflow == Overflow.BLOCK:
                self.clock.start(
                    self.push(client, exchange, version, self.blocking_send(number, t))
                )
            else:
                self.clock.start(self.try_send(client, exchange, version, t))

    def push(
        self, client: Client, exchange: int, version: int, t: float, message: int = Message.PUSH
    ) -> Process:
        """One message of a broadcast arrives, or the board in place of several."""
        yield self.clock.at(t)
        if not self.is_over(client, exchange):
            self.send(client.number, message)
            self.tally(Count.MESSAGES, client.number)
            is_push = message == Message.PUSH
            self.feed(client, Event.PUSH if is_push else Event.SNAPSHOT, version)
        elif (
            self.lost_exchange[client.number] >= exchange
            and self.rules.heartbeat != Heartbeat.SERVER
        ):
            self.clock.start(self.peer_timeout(client.number, exchange, self.workload.unanswered_s))

    # -- WebSocket: paths that delay and narrow what they carry ---------------------------------

    def half_s(self, number: int, t: float | None = None) -> float:
        """Return how long what sets out at `t`, now if not given, takes to the other end."""
        half_s = self.half_rtt_s[number]
        if self.workload.delays:
            t = self.clock.now if t is None else t
            seed, replication = self.rules.seed, self.rules.replication
            half_s += added_s(self.workload.delays, seed, replication, number, t)
        return half_s

    def carried_s(self, number: int, start_s: float, n_bytes: float) -> float:
        """Return when a client's path, idle before, has carried something."""
        if not self.workload.limits:
            return start_s
        seed, replication = self.rules.seed, self.rules.replication
        return carried_s(self.workload.limits, seed, replication, number, start_s, n_bytes)

    def held_bytes(self, number: int, t: float) -> float:
        """Return what a client's path has still to carry at `t`."""
        if not self.workload.limits:
            return 0.0
        rules, limits, since_s = self.rules, self.workload.limits, self.link_s[number]
        held = self.link_bytes[number]
        return left_bytes(limits, rules.seed, rules.replication, number, since_s, held, t)

    def transmit(self, number: int, t: float, n_bytes: float) -> float:
        """Give a connection's path something to carry from `t` on; return when it arrives.

        It is behind what the path has, and nothing overtakes on a connection.
        """
        half_s = self.half_s(number, t)
        if not self.has_path_limits:
            return t + half_s
        t = max(t, self.link_s[number])
        held = self.held_bytes(number, t) + n_bytes
        self.link_s[number], self.link_bytes[number] = t, held
        arrives_s = self.carried_s(number, t, held) + half_s
        self.arrived_s[number] = max(self.arrived_s[number], arrives_s)
        return self.arrived_s[number]

    def send_beat(self, number: int, t: float, n_bytes: float) -> float:
        """Return when a heartbeat arrives; a push that waits its turn is not ahead of it."""
        if t < self.link_s[number]:
            ahead = self.link_bytes[number] + n_bytes
            return self.carried_s(number, t, ahead) + self.half_s(number, t)
        return self.transmit(number, t, n_bytes)

    def blocking_send(self, number: int, t: float) -> float:
        """Send to a client what comes to it at `t`, wait until that is done; return its arrival."""
        sending, message = self.server_rules.sending, self.sizes[Message.PUSH][1]
        t = max(t, self.server.state.blocked_until_s, self.link_s[number])
        held = self.held_bytes(number, t)
        over = held + message - (sending.socket_bytes + sending.buffer_bytes)
        if over > 0.0:
            t = self.carried_s(number, t, over)
            held -= over
        self.server.state.blocked_until_s = t
        recording.buffer(self.record, number, buffered_bytes(sending, held + message))
        return self.transmit(number, t, message)

    def try_send(self, client: Client, exchange: int, version: int, t: float) -> Process:
        """A message of a broadcast comes to a client whose path may be narrow."""
        yield self.clock.at(t)
        number, sending, message = client.number, self.server_rules.sending, Message.PUSH
        if self.subscribers.get(number) != exchange:
            return
        size = self.sizes[message][1]
        held = self.held_bytes(number, self.clock.now)
        waits = sending.overflow in (Overflow.DROP_OLDEST, Overflow.COALESCE)
        if waits and (self.waiting[number] > 0 or not has_room(sending, held, size)):
            self.tail[number] = version
            self.waiting[number] += 1
            if self.waiting[number] == 1:
                self.clock.start(self.catch_up(client, exchange))
            self.waiting[number] = kept(sending, self.waiting[number], size)
            recording.buffer(self.record, number, float(self.waiting[number] * size))
            return
        buffered = buffered_bytes(sending, held + size)
        if sending.overflow == Overflow.CLOSE and buffered > sending.buffer_bytes:
            self.close_behind(client, exchange, held)
            return
        recording.buffer(self.record, number, buffered)
        t = self.transmit(number, self.clock.now, size)
        self.clock.start(self.push(client, exchange, version, t))

    def close_behind(self, client: Client, exchange: int, held: float) -> None:
        """The server closes a connection; its end is behind what the kernels hold."""
        number, now = client.number, self.clock.now
        self.unsubscribe(number, exchange)
        in_kernels = min(held, self.server_rules.sending.socket_bytes)
        t = self.carried_s(number, now, in_kernels) + self.half_s(number)
        self.clock.start(self.fail(client, exchange, t))

    def catch_up(self, client: Client, exchange: int) -> Process:
        """What waits for a client goes out as its kernels take it."""
        number, sending, message = client.number, self.server_rules.sending, Message.PUSH
        if sending.overflow == Overflow.COALESCE and not self.rules.push_is_snapshot:
            message = Message.SNAPSHOT
        size = self.sizes[message][1]
        while True:
            over = self.held_bytes(number, self.clock.now) - most_held(sending, size)
            yield self.clock.at(self.carried_s(number, self.clock.now, over))
            if self.subscribers.get(number) != exchange:
                return
            version = self.tail[number] - self.waiting[number] + 1
            self.waiting[number] -= 1
            t = self.transmit(number, self.clock.now, size)
            self.clock.start(self.push(client, exchange, version, t, message))
            if self.waiting[number] == 0:
                return

    # -- WebSocket: heartbeats -------------------------------------------------------------------

    def heartbeats(self, client: Client, exchange: int) -> Process:
        """The server pings, one interval after the last pong, for as long as the client listens."""
        clock, number = self.clock, client.number
        heartbeat_s = self.server_rules.heartbeat_s
        free_s = clock.now
        while True:
            yield clock.at(free_s + self.rules.heartbeat_interval_s)
            if self.subscribers.get(number) != exchange:
                return
            self.beats[number] += 2
            beat = self.beats[number]
            done_s = self.serve(heartbeat_s, client, Stream.HEARTBEAT_SERVICE, beat)
            yield clock.at(self.send_beat(number, done_s, self.sizes[Message.PING_DOWN][1]))
            if self.lost_exchange[number] >= exchange:
                clock.start(self.peer_timeout(number, exchange, self.rules.heartbeat_timeout_s))
            if self.is_over(client, exchange):
                return
            self.send(number, Message.PING_DOWN)
            self.feed(client, Event.PING)
            yield clock.at(clock.now + self.half_s(number))
            if self.lost_exchange[number] >= exchange:
                clock.start(self.peer_timeout(number, exchange, self.rules.heartbeat_timeout_s))
            if self.is_unheard(client, exchange):
                return
            free_s = self.serve(heartbeat_s, client, Stream.HEARTBEAT_SERVICE, beat + 1)

    def is_unheard(self, client: Client, exchange: int) -> bool:
        """Say whether a client's ping or pong comes to nothing: lost, or nobody listens to it."""
        number = client.number
        is_lost = max(self.closed_exchange[number], self.lost_exchange[number]) >= exchange
        return is_lost or self.subscribers.get(number) != exchange

    def ping_server(self, client: Client, exchange: int) -> Process:
        """The client pings, the server answers."""
        clock, number = self.clock, client.number
        self.send(number, Message.PING_UP)
        yield clock.at(clock.now + self.half_s(number))
        if self.is_unheard(client, exchange):
            return
        heartbeat_s = self.server_rules.heartbeat_s
        self.beats[number] += 1
        beat = self.beats[number]
        done_s = self.serve(heartbeat_s, client, Stream.HEARTBEAT_SERVICE, beat)
        yield clock.at(self.send_beat(number, done_s, self.sizes[Message.PONG_DOWN][1]))
        if not self.is_over(client, exchange):
            self.send(number, Message.PONG_DOWN)
            self.feed(client, Event.PONG)

    # -- ends of connections -------------------------------------------------------------------

    def close_connection(self, client: Client, event: Event, was: int) -> None:
        """The client's side of a connection ends; the server hears of it half a trip later."""
        number, now = client.number, self.clock.now
        if was == Transport.POLLING:
            if self.kept_until_s[number] < now:
                self.record_disconnect(number, self.kept_until_s[number], Cause.IDLE)
            else:
                self.record_disconnect(number, now, cause_of(event, was))
            return
        if event == Event.DEADLINE:
            self.tally(Count.ERRORS, number)
        graceful = event in (Event.STOP, Event.ASSIGNED) and self.has_upgraded[number]
        self.has_upgraded[number] = False
        self.record_disconnect(number, now, cause_of(event, was))
        self.clock.start(self.closing_handshake(number, client.exchange - 1, graceful))

    def closing_handshake(self, number: int, closed_exchange: int, graceful: bool) -> Process:
        """A close frame and its echo, or just the end of the connection."""
        clock = self.clock
        if graceful:
            self.send(number, Message.CLOSE_UP)
        yield clock.at(clock.now + self.half_s(number))
        if self.lost_exchange[number] >= closed_exchange:
            return
        self.closed_exchange[number] = max(self.closed_exchange[number], closed_exchange)
        self.unsubscribe(number, closed_exchange)
        if graceful:
            yield clock.at(clock.now + self.half_s(number))
            self.send(number, Message.CLOSE_DOWN)

    def node_for(self, client: Client, exchange: int) -> int:
        """Return the node that a new connection comes to, -1 if none is up."""
        u = 0.0
        if len(self.is_down) > 1:
            rules = self.rules
            u = uniform(rules.seed, rules.replication, client.number, Stream.NODE, exchange)
        return node_for(self.is_down, u)

    # -- bookings ------------------------------------------------------------------------------

    def send(self, number: int, message: int, n: int = 1) -> None:
        """Book the bytes of `n` messages, up or down, at the client's end."""
        up, down = self.sizes[message]
        recording.add_bytes(self.record, number, self.clock.now, n * up, n * down)
        if up or down:
            self.active_s[number] = self.clock.now

    def draw_s(self, mean_s: float, client: Client, stream: Stream, k: int) -> float:
        """Return the service time of a client's job number `k`."""
        rules = self.rules
        return service_time_s(
            self.server_rules, mean_s, rules.seed, rules.replication, client.number, stream, k
        )

    def serve(self, mean_s: float, client: Client, stream: Stream, k: int) -> float:
        """Queue a job that has just arrived; return when it is done."""
        service_s = self.draw_s(mean_s, client, stream, k)
        start_s = admit(self.server, self.clock.now, service_s)
        recording.add_busy(self.record, start_s, start_s + service_s)
        return start_s + service_s

    def record_disconnect(self, number: int, closed_s: float, cause: Cause) -> None:
        """Book the end of the client's connection, if it has one, and its last segments."""
        if self.opened_s[number] < NEVER_S and cause != Cause.OPEN_AT_END:
            up, down = self.sizes[Message.TCP_CLOSE]
            recording.add_bytes(self.record, number, closed_s, up, down)
        super().record_disconnect(number, closed_s, cause)
