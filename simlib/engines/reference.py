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
import math
from bisect import bisect_right
from collections.abc import Generator
from heapq import heappush
from typing import Any

import numpy as np
import simpy
from simpy.core import StopSimulation
from simpy.events import NORMAL, URGENT

from simlib.core import balancing, broadcasts, browser, connection, stream_proxy
from simlib.core import record as recording
from simlib.core.activity import DRAG, HIDE, episode_s
from simlib.core.answers import NOTHING, answer_of, keep, version_named
from simlib.core.assignment import CONTROL, SERVER_CLOSES, is_denied
from simlib.core.backpressure import Overflow
from simlib.core.broadcasts import Loop
from simlib.core.broker import heard_s
from simlib.core.client import is_expired
from simlib.core.client_state import NEVER_S, Client, is_fallen
from simlib.core.connection import (
    GIVES_UP,
    Connection,
    FaultSchedule,
    Nodes,
    Paths,
    Planned,
    Sent,
    is_cut,
    is_over,
    is_unheard,
)
from simlib.core.draws import Stream
from simlib.core.driver import Driver, cause_of
from simlib.core.faults import FaultEffect, FaultEvent, end_of_life_s, is_by_server
from simlib.core.limiter import LimiterState, passes_s
from simlib.core.notify import is_awaited
from simlib.core.path import SharedLink
from simlib.core.polling import is_kept, is_unchanged, reply_of, request_of
from simlib.core.protocol import (
    BAD_GATEWAY,
    FORBIDDEN,
    UNAUTHORIZED,
    UNAVAILABLE,
    Action,
    Event,
    Heartbeat,
    State,
    Transport,
    has_socket,
    holds,
    is_stream,
)
from simlib.core.record import Cause, Count, Record, Wait
from simlib.core.resync import Resume
from simlib.core.server import (
    SYN_RETRIES,
    Server,
    accept,
    admit_to,
    admits_upgrade,
    begun_s,
    first_free,
    new_server,
    sent_s,
    service_time_s,
    syn_retry_s,
    wait_for_s,
    wait_s,
)
from simlib.core.stream_proxy import HOLDS_ALL, ProxyBuffer, Stretch
from simlib.core.streams import ENDED, sent_as
from simlib.core.wire import Message
from simlib.scenario.model import Activity
from simlib.scenario.workload import Workload

Process = Generator[simpy.Event, None, Any]

NOTHING_NEW = -1
"""In place of a version: the answer to a request that was held for as long as may be."""
_ADMITTED, _LOST = 0, -1
"""What becomes of a request for a WebSocket or a stream that is not refused with a status."""


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

    @property
    def handled(self) -> int:
        """How many events have come: those that were scheduled, and wait no more."""
        return next(self._eid) - len(self._queue)

    def start(self, generator: Process) -> None:
        """Set a journey going."""
        _ProcessRunner(generator)()

    def stop_at(self, t: float) -> None:
        """Let `run` return at `t`, seconds, before everything else that happens then."""
        stop = simpy.Event(self)
        stop._ok, stop._value, stop.callbacks = True, None, [StopSimulation.callback]
        heappush(self._queue, (t, URGENT, next(self._eid), stop))


def _buffers_of(workload: Workload) -> dict[int, ProxyBuffer]:
    """Return what a proxy has of the streams of those clients who are behind one."""
    proxy, clients, rules = workload.stream_proxy, len(workload.start_s), workload.rules
    held = stream_proxy.are_held(proxy, rules.seed, rules.replication, clients).tolist()
    is_before_all = stream_proxy.holds_back(proxy)
    return {
        number: ProxyBuffer(HOLDS_ALL if is_held else proxy)
        for number, is_held in enumerate(held)
        if is_held or is_before_all
    }


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
        treatment_rules = workload.treatment_rules
        super().__init__(workload.rules, record, clients, workload.flag, buckets, treatment_rules)
        self.clock = Clock()
        self.is_interrupted = False
        self.workload = workload
        self.server_rules = workload.server
        self.limit = workload.rate_limit
        self.limiter = LimiterState()
        self.servers = [new_server(workload.server.workers) for _ in range(workload.nodes)]
        self.publish_s: list[float] = workload.publish_s.tolist()
        self.heard_s = heard_s(workload.server, self.publish_s)
        self.sizes: list[list[int]] = workload.sizes[:, :2].tolist()
        self.start_s: list[float] = workload.start_s.tolist()
        self.end_s: list[float] = workload.end_s.tolist()
        self.published = 0
        # The subscribers by number, in the order in which the server sends to them.
        self.subscribers: dict[int, Connection] = {}
        self.loops = [Loop() for _ in range(workload.nodes * workload.server.workers)]
        # The clients whose sockets nobody has closed for a rollback, as their node was down.
        self.unclosed: set[int] = set()
        # The clients whose latest subscription is a stream.
        self.streams: set[int] = set()
        # What a proxy has of the streams of those clients whose it holds back.
        self.stream_bytes: list[int] = workload.stream_bytes.tolist()
        self.buffers = _buffers_of(workload)
        self.stretches: dict[int, list[Stretch]] = {number: [] for number in self.buffers}
        # The faults, the nodes and the paths.
        self.schedule = FaultSchedule(workload.fault_events, [False] * len(workload.fault_events))
        nodes = workload.nodes
        self.nodes = Nodes([False] * nodes, list(range(nodes)), [0] * nodes)
        self.balancer = balancing.new_balancer(workload.server.balancing, nodes, clients)
        half_s: list[float] = (workload.rtt_s / 2.0).tolist()
        address = self.rules.seed, self.rules.replication
        rate = workload.shared_bytes_per_s
        shared = [SharedLink(rate)] if rate < math.inf else []
        self.paths = Paths(*address, half_s, workload.delays, workload.limits, shared)
        self.has_path_limits = connection.has_path_limits(self.paths)
        self.planned = [Planned(number) for number in range(clients)]
        # What the tabs of each user have asked the browser for, where it has a limit.
        self.browser = workload.browser
        self.is_limited = workload.browser.connections > 0
        users = -(-clients // workload.browser.tabs) if self.is_limited else 0
        self.pools = [browser.Pool() for _ in range(users)]
        claims = browser.CLAIMS * clients if self.is_limited else 0
        self.claims = [browser.Claim() for _ in range(claims)]

        self.clock.start(self.publisher())
        self.clock.start(self.faults())
        for client, start_s in zip(self.clients, workload.start_s.tolist(), strict=True):
            self.clock.start(self.session(client, start_s))

    # -- time ------------------------------------------------------------------------------

    @property
    def events(self) -> int:
        """How many events have been handled."""
        return self.clock.handled

    def run_until(self, t: float) -> None:
        """Handle every event before `t`, seconds."""
        was_enabled = gc.isenabled()
        gc.disable()  # nothing here is cyclic, and full collections cost a third of the time
        try:
            self.clock.stop_at(t)  # not ``run(until=t)``, which stops at ``now + (t - now)``
            self.clock.run()
        finally:
            if was_enabled:
                gc.enable()

    def interrupt(self) -> None:
        """End `run_until` after the event in hand."""
        self.is_interrupted = True
        self.clock.stop_at(self.clock.now)

    def snapshot(self) -> recording.MetricsSnapshot:
        """Return the figures of the run so far."""
        clients, now = self.clients, float(self.clock.now)  # SimPy starts at the integer 0
        is_present = [client.state not in (State.ABSENT, State.GONE) for client in clients]
        is_connected = [
            link.opened_s < NEVER_S and (has_socket(client.transport) or link.kept_until_s >= now)
            for client, link in zip(clients, self.connection_rows, strict=True)
        ]
        fallen = [is_fallen(client, self.rules_of(client)) for client in clients]
        return recording.snapshot(
            self.record,
            np.array(is_present, bool),
            np.array(fallen, bool),
            np.array(is_connected, bool),
            np.array([client.since_s for client in clients], float),
            now,
        )

    def finish(self) -> None:
        """Record what is still open, without what comes later: work after now is taken back."""
        for node, server in enumerate(self.servers):
            for free_s in server.free_s:
                recording.add_busy(self.record, node, self.clock.now, free_s, -1.0)
        for client, link in zip(self.clients, self.connection_rows, strict=True):
            is_http = not has_socket(client.transport)
            if is_http and 0.0 <= link.kept_until_s < self.clock.now:
                self.record_disconnect(client.number, link.kept_until_s, Cause.IDLE)
            if connection.has_idle_fetches(client, link, self.clock.now):
                self.end_fetches(link)
            for place in (browser.MAIN, browser.BESIDE):
                if self.is_queued(client, place):
                    browser.set_out(self.claim(client, place), self.record, *self.at_now(client))
            if client.number in self.buffers and link.subscribed >= 0:
                mine = self.buffers[client.number], self.stretches[client.number]
                held = stream_proxy.kept_back(*mine, client.seen)
                recording.count_in_bin(self.record, Count.HELD_BACK, *self.at_now(client), held)
        super().finish()

    def now_s(self) -> float:
        """Return SimPy's time."""
        return self.clock.now

    def arm(self, client: Client, deadline_s: float) -> None:
        """Set the client's timer."""
        if deadline_s < NEVER_S:
            self.clock.start(self.deadline(client, deadline_s))

    def deadline(self, client: Client, t: float) -> Process:
        """Wait for the client's deadline, and feed it unless the deadline has moved."""
        yield self.clock.at(t)
        if client.deadline_s == t:
            self.wake(client)

    def schedule_flag_update(self, client: Client, t: float, why: int) -> None:
        """Schedule an update of the client's flag at `t`."""
        self.clock.start(self.flag_update(client, t, why))

    def flag_update(self, client: Client, t: float, why: int) -> Process:
        """Apply an update of the flag to the client when it arrives."""
        yield self.clock.at(t)
        if why == SERVER_CLOSES:
            if client.cohort == CONTROL:
                return  # the client has read the flag by itself meanwhile
            change, close_s = len(self.percents), self.server_rules.close_s
            link = self.link_of(client)
            worker = link.socket_worker
            node = worker // self.server_rules.workers
            if self.nodes.is_down[node] or not connection.can_be_told(client, link, self.clock.now):
                self.unclosed.add(client.number)
                return
            done_s = self.serve(worker, close_s, client, Stream.CLOSE_SERVICE, change)
            if connection.stops_s(self.schedule, node, self.clock.now, done_s) < NEVER_S:
                self.unclosed.add(client.number)
                return
            yield self.clock.at(done_s + self.trip_s(client))
            if connection.is_deaf(client, link):
                self.unclosed.add(client.number)
                self.let_go(link, link.socket)
                return
        self.apply_flag(client, why)

    def trip_s(self, client: Client) -> float:
        """Return how long a message sent now takes from the server to the client, seconds."""
        return self.one_way_s(self.link_of(client))

    # -- one client ------------------------------------------------------------------------

    def carry_out(self, client: Client, event: Event, actions: int, was: int) -> None:
        """Set going what the client asks for."""
        exchange = client.exchange
        is_on_its_way = not self.is_queued(client, browser.BESIDE)
        gives_up = actions & Action.GIVE_UP_FETCH > 0 and is_on_its_way
        if actions & Action.CLOSE:
            self.close_connection(client, event, was)
        self.settle(client)
        if actions & Action.CONNECT:
            self.tally(Count.ATTEMPTS, client.number)
        if actions & (Action.FETCH | Action.CONNECT):
            if self.ask_browser(client):
                self.set_out(client, self.clock.now, gives_up=gives_up)
            elif gives_up:
                self.end_fetches(self.link_of(client))
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

    # -- the browser: what all tabs of a user share -----------------------------------------

    def feed(self, client: Client, event: Event, value: int = 0) -> None:
        """Put one event through the rules; what the client no longer needs is free for others."""
        super().feed(client, event, value)
        self.settle(client)

    def claim(self, client: Client, place: int) -> browser.Claim:
        """Return what a client has asked its browser for."""
        return self.claims[browser.CLAIMS * client.number + place]

    def is_queued(self, client: Client, place: int) -> bool:
        """Say whether a client's request waits in its browser."""
        return self.is_limited and self.claim(client, place).is_queued

    def at_now(self, client: Client) -> tuple[int, float]:
        """Return a client's number, and the time."""
        return client.number, self.clock.now

    def ask_browser(self, client: Client) -> bool:
        """Ask for what a client's request needs; say whether it sets out at once."""
        asked = browser.connections_asked(self.browser, client)
        if not self.is_limited or asked == 0:
            return True
        place = browser.place_asked(client)
        pool, key = self.pools[client.number // self.browser.tabs], browser.key_of(client, place)
        claim = self.claim(client, place)
        return browser.ask(self.browser, pool, claim, key, asked, self.clock.now)

    def settle(self, client: Client) -> None:
        """Give back what a client no longer needs, to those that wait for it."""
        if not self.is_limited:
            return
        rules, of_each = self.browser, browser.CLAIMS * self.browser.tabs
        user, has_given = client.number // rules.tabs, False
        pool, first = self.pools[user], user * of_each
        for place in (browser.MAIN, browser.BESIDE):
            claim, key = self.claim(client, place), browser.key_of(client, place)
            where = self.record, *self.at_now(client)
            has_given = browser.settle(pool, claim, key, *where) or has_given
        until = min(first + of_each, len(self.claims))
        while has_given:
            place = browser.next_in_line(rules, pool, self.claims, first, until)
            has_given = place >= 0
            if has_given and self.claims[place].held == 1:
                other, which = divmod(place, browser.CLAIMS)
                key = self.claims[place].key
                self.clock.start(self.leave_queue(self.clients[other], which, key))

    def leave_queue(self, client: Client, place: int, key: int) -> Process:
        """A client's request sets out that has waited in its browser."""
        yield self.clock.at(self.clock.now)
        claim = self.claim(client, place)
        if browser.may_set_out(claim, key):
            browser.set_out(claim, self.record, *self.at_now(client))
            self.set_out(client, claim.asked_s, gives_up=False)

    def set_out(self, client: Client, asked_s: float, *, gives_up: bool) -> None:
        """Send what a client asked for at `asked_s`: a poll, a fetch, an attempt to connect."""
        exchange = client.exchange
        if client.state == State.CONNECTING:
            self.clock.start(self.connect(client, exchange))
        elif client.state == State.OPEN:
            self.clock.start(self.refetch(client, exchange, asked_s, gives_up=gives_up))
        elif holds(client.transport):
            self.clock.start(self.long_poll(client, exchange))
        else:
            self.clock.start(self.poll(client, exchange, asked_s))

    # -- faults ----------------------------------------------------------------------------

    def faults(self) -> Process:
        """The fault schedule, one event after the other."""
        for index, fault_event in enumerate(self.schedule.events):
            yield self.clock.at(fault_event.t)
            effect = fault_event.effect
            for node, server in enumerate(self.servers):
                if connection.stops(fault_event, node):
                    connection.stop_server(server, node, self.record, self.clock.now)
                    balancing.forget_node(self.balancer, node)
                    workers = self.server_rules.workers
                    for loop in self.loops[node * workers : (node + 1) * workers]:
                        broadcasts.end_loop(loop, self.clock.now)
            connection.set_nodes(self.nodes, fault_event, self.published)
            connection.set_active(self.schedule, index)
            is_reset = connection.is_reset(effect)
            if not is_reset and effect != FaultEffect.PARTITION:
                continue
            seed, replication = self.rules.seed, self.rules.replication
            if connection.cuts_all(fault_event):
                for node, server in enumerate(self.servers):
                    rule, sockets = self.server_rules.loop, server.state.sockets
                    if broadcasts.forgets(rule, seed, replication, node, index, sockets):
                        server.state.has_forgotten = True
            for client, link in zip(self.clients, self.connection_rows, strict=True):
                if not connection.affects(fault_event, link, seed, replication):
                    if connection.keeps_socket(fault_event, link, self.server_rules.workers):
                        self.unsubscribe(link, link.socket)
                    continue
                if is_reset:
                    self.cut(client, fault_event)
                elif connection.lose_path(client, link, self.is_queued(client, browser.MAIN)):
                    self.clock.start(self.go_unanswered(client, client.exchange))

    def cut(self, client: Client, fault_event: FaultEvent) -> None:
        """Cut the connections of a client that a fault event affects."""
        link, rules, now = self.link_of(client), self.server_rules, self.clock.now
        if connection.ends_idle_fetches(fault_event, client, link, rules.keep_alive_s, now):
            self.end_fetches(link)
        lets_go = not connection.goes_on_elsewhere(fault_event, link, rules.workers)
        self.reset_connection(client, lets_go=lets_go, by_server=is_by_server(fault_event))

    def is_under(self, effect: FaultEffect, link: Connection) -> bool:
        """Return whether an active fault affects a client."""
        rules = self.rules
        return connection.is_under(self.schedule, effect, link, rules.seed, rules.replication)

    def reset_connection(
        self, client: Client, *, lets_go: bool = True, by_server: bool = False
    ) -> None:
        """Reset a connection at the server; the client hears of it behind all that was sent.

        The server lets go of the client's socket, unless that is on another node, which does not.
        """
        link, exchange, now = self.link_of(client), client.exchange, self.clock.now
        socket_bytes = self.server_rules.sending.socket_bytes
        ends_streams = self.server_rules.ends_streams
        is_end = connection.ends_stream(client, link, by_server, ends_streams)
        self.end_stream(client, exchange, is_end=is_end)
        heard_s = connection.end_arrives_s(self.paths, link, exchange, socket_bytes, now)
        if lets_go:
            self.let_go(link, exchange)
        if not has_socket(client.transport) and not link.is_link_dead:
            self.close_connection(client, Event.CLOSED, Transport.POLLING)
        is_queued = self.is_queued(client, browser.MAIN)
        if connection.reset(client, link, self.server_rules.keep_alive_s, now, is_queued):
            self.clock.start(self.fail(client, exchange, heard_s, is_end=is_end))

    def fail(self, client: Client, exchange: int, t: float, *, is_end: bool = False) -> Process:
        """Tell a client at `t` that its connection is gone, unless its path dies before.

        `is_end` says whether it is the proper end of a stream.
        """
        yield self.clock.at(t)
        if client.exchange == exchange and self.link_of(client).lost_exchange < exchange:
            if is_end:
                self.send(client.number, Message.STREAM_END)
            self.feed_failure(client, is_end * ENDED)

    def feed_failure(self, client: Client, status: int = 0) -> None:
        """Tell a client that its poll has failed, or what it is told of changes by."""
        self.tally(Count.ERRORS, client.number)
        is_poll = client.transport == Transport.POLLING
        self.feed(client, Event.FAILED if is_poll else Event.CLOSED, status)

    def go_unanswered(self, client: Client, exchange: int) -> Process:
        """A request on a dead path: the kernel gives up on it at last."""
        yield self.clock.at(self.clock.now + self.workload.unanswered_s)
        if client.exchange == exchange:
            link = self.link_of(client)
            self.record_disconnect(client.number, self.clock.now, Cause.TIMED_OUT)
            balancing.take_back(self.balancer, client.number, exchange)
            link.kept_until_s = -NEVER_S
            link.is_link_dead = False
            self.feed_failure(client)

    def let_go(self, link: Connection, closed_exchange: int) -> None:
        """A client's connections up to one have ended for the server."""
        self.unsubscribe(link, closed_exchange)
        balancing.take_back(self.balancer, link.number, closed_exchange)

    def unsubscribe(self, link: Connection, closed_exchange: int) -> None:
        """The server no longer has a client's sockets, or requests that it holds, up to one."""
        if 0 <= link.subscribed <= closed_exchange:
            link.subscribed = -1
            del self.subscribers[link.number]
            if not connection.is_held(link):
                broadcasts.change_set(self.loops[link.socket_worker])
        if 0 <= link.socket <= closed_exchange:
            link.socket = -1
            self.place_of(link.socket_worker)[0].state.sockets -= 1

    def peer_timeout(self, link: Connection, exchange: int, wait_s: float) -> Process:
        """The server hears nothing from a client for so long, and lets it go."""
        yield self.clock.at(self.clock.now + wait_s)
        self.let_go(link, exchange)

    # -- polling ---------------------------------------------------------------------------

    def poll(self, client: Client, exchange: int, asked_s: float) -> Process:
        """A poll: a connection if none is kept, the request, the worker, the response."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        first = not is_kept(link.opened_s, link.kept_until_s, clock.now)
        if first and not (yield from self.open_for_polls(client, exchange)):
            return
        if not first:
            self.use_again(client)
        request = request_of(self.workload.etag, client.fetched_s, first)
        node = yield from self.request(client, exchange, request, first)
        if node < 0:
            return
        named = self.version_named(client)
        done_s, version = self.answer(node, 0.0, client, Stream.POLL_SERVICE, exchange, named=named)
        self.keep_alive(client, exchange, done_s)
        if self.paths.shared:
            yield clock.at(done_s)
        unchanged = self.shows_nothing_new(client, version)
        reply = reply_of(unchanged, first)
        t = connection.reply_s(self.paths, link, exchange, done_s, self.sizes[reply][1])
        yield clock.at(t + self.one_way_s(link))
        if is_over(client, link, exchange):
            return
        self.send(number, reply)
        self.end_wait(Wait.POLL, number, asked_s)
        if unchanged:
            self.tally(Count.UNCHANGED, number)
            self.feed(client, Event.UNCHANGED)
        else:
            self.feed(client, Event.FETCHED, version)

    def request(
        self, client: Client, exchange: int, message: int, first: bool
    ) -> Generator[simpy.Event, None, int]:
        """Send a request; return the node that is to serve it, -1 if none is."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        self.tally(Count.POLLS, number)
        link.kept_until_s = NEVER_S
        self.send(number, message)
        if link.is_link_dead:
            clock.start(self.go_unanswered(client, exchange))
            return -1

        yield clock.at(clock.now + self.one_way_s(link))
        if link.closed_exchange >= exchange:
            return -1
        if connection.is_at_proxy(link, self.workload.bad_gateway):
            yield from self.answer_for_server(client, exchange)
            return -1
        is_admitted = not self.limit.polls or (yield from self.pass_limit())
        if link.closed_exchange >= exchange:
            return -1
        node = connection.served_at(link)
        if not is_admitted or self.is_shed(node):
            yield from self.refuse(client, exchange, first)
            return -1
        return node

    def refuse(self, client: Client, exchange: int, first: bool) -> Process:
        """The server answers 503, and keeps the connection."""
        clock, link = self.clock, self.link_of(client)
        self.keep_alive(client, exchange, clock.now)
        yield clock.at(clock.now + self.one_way_s(link))
        if not is_over(client, link, exchange):
            self.send(client.number, Message.POLL_REFUSED - first)
            self.feed_failure(client, UNAVAILABLE)

    def answer_for_server(self, client: Client, exchange: int) -> Process:
        """A proxy that has found no node up answers 502, and closes the connection."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        yield clock.at(clock.now + self.one_way_s(link))
        if not is_over(client, link, exchange):
            link.kept_until_s = -NEVER_S
            self.send(number, Message.BAD_GATEWAY)
            self.send_beside(number, Message.TCP_CLOSE)
            recording.count_in_bin(self.record, Count.BAD_GATEWAYS, number, clock.now)
            self.feed_failure(client, BAD_GATEWAY)

    def open_for_polls(self, client: Client, exchange: int) -> Generator[simpy.Event, None, bool]:
        """Open the connection of a poll; say whether the poll can set out."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        self.record_disconnect(number, link.kept_until_s, Cause.IDLE)
        link.kept_until_s = NEVER_S  # nothing is answered before there is a request
        link.is_link_dead = False
        if not (yield from self.open_tcp(client, exchange)):
            if not is_over(client, link, exchange):
                self.feed_failure(client)
            return False
        if self.rules.tls:
            yield clock.at(clock.now + 2.0 * self.one_way_s(link))
            if is_over(client, link, exchange):
                return False
            self.send(number, Message.TLS_OPEN)
        if not connection.is_at_proxy(link, self.workload.bad_gateway):
            self.record_connection(number)
        return True

    def keep_alive(self, client: Client, exchange: int, done_s: float) -> None:
        """The server keeps the connection of a request that it has answered at `done_s`.

        A client that has gone on meanwhile has closed it, and may have another.
        """
        if client.exchange == exchange:
            kept_until_s = done_s + self.server_rules.keep_alive_s
            self.link_of(client).kept_until_s = kept_until_s
            if balancing.is_counting(self.balancer) and not has_socket(client.transport):
                self.clock.start(self.end_idle(client, kept_until_s))

    def end_idle(self, client: Client, t: float) -> Process:
        """The server ends a connection of HTTP that is idle for too long, if it is at `t`."""
        yield self.clock.at(t)
        if self.link_of(client).kept_until_s == t and not has_socket(client.transport):
            balancing.take_back(self.balancer, client.number, client.exchange)

    def use_again(self, client: Client) -> None:
        """A client sends a request at the very moment at which its connection would be ended."""
        link, balancer = self.link_of(client), self.balancer
        if balancing.is_counting(balancer) and not link.is_link_dead:
            balancing.count_again(balancer, link.node, client.number, client.exchange)

    def shows_nothing_new(self, client: Client, version: int) -> bool:
        """Say whether a reply with the state up to `version` is a 304."""
        if recording.has_gaps(self.record, client.number):
            return False
        return is_unchanged(self.workload.etag, client.fetched_s, client.seen, version)

    def pass_limit(self) -> Generator[simpy.Event, None, bool]:
        """Wait at the rate limit in front of the nodes; say whether the request has passed it."""
        t = passes_s(self.limiter, self.limit, self.clock.now)
        if t > self.clock.now:
            yield self.clock.at(t)
        return t >= 0.0

    def is_shed(self, node: int) -> bool:
        """Say whether a poll that comes to a node now would wait for too long."""
        return wait_s(self.servers[node].free_s, self.clock.now) > self.server_rules.shed_wait_s

    def safety_poll(self, client: Client, exchange: int) -> Process:
        """A safety poll, on the connection that the one before has left, or on a new one."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        recording.count_safety_poll(self.record, number, clock.now)
        first = not is_kept(link.opened_s, link.kept_until_s, clock.now)
        if first:
            self.end_fetches(link)
            self.send_beside(number, Message.TCP_OPEN)
            self.send_beside(number, Message.TLS_OPEN)
        is_dead = connection.take_beside(link)
        self.send_beside(number, Message.POLL_REQUEST - first)
        trips = (5.0 if self.rules.tls else 3.0) if first else 1.0
        yield clock.at(clock.now + trips * self.one_way_s(link))
        if is_dead or self.is_safety_poll_lost(client, exchange):
            return
        node, is_admitted = self.node_of(link, exchange), True
        if node >= 0 and self.limit.polls:
            is_admitted = yield from self.pass_limit()
            if self.is_safety_poll_lost(client, exchange):
                return
            node = self.node_of(link, exchange)
        if node < 0 or not is_admitted or self.is_shed(node):
            yield clock.at(clock.now + self.one_way_s(link))
            if client.exchange == exchange:
                recording.count_failed_safety_poll(self.record, number, clock.now)
                if node >= 0:
                    self.send_beside(number, Message.POLL_REFUSED - first)
                    self.bring_back_beside(link)
                elif self.workload.bad_gateway:
                    self.hear_bad_gateway(number)
                    self.send_beside(number, Message.TCP_CLOSE)
                elif not first:
                    self.send_beside(number, Message.TCP_CLOSE)
            return
        link.beats += 1
        balancing.take_turn(self.balancer, node)
        accept_s = first * self.server_rules.accept_s
        done_s, version = self.answer(node, accept_s, client, Stream.SAFETY_SERVICE, link.beats)
        cut_s = self.cut_in_service_s(link, node, done_s)
        if cut_s < NEVER_S:
            yield clock.at(cut_s + connection.one_way_s(self.paths, link, cut_s))
            if client.exchange == exchange:
                recording.count_failed_safety_poll(self.record, number, clock.now)
                self.send_beside(number, Message.TCP_CLOSE)
            return
        reply = Message.POLL_RESPONSE - first
        if self.paths.shared:
            yield clock.at(done_s)
        t = connection.reply_s(self.paths, link, exchange, done_s, self.sizes[reply][1])
        yield clock.at(t + self.one_way_s(link))
        if client.exchange == exchange:
            self.send_beside(number, reply)
            self.bring_back_beside(link)
            self.feed(client, Event.SNAPSHOT, version)

    def bring_back_beside(self, link: Connection) -> None:
        """A safety poll has its answer, and leaves its connection to the next one."""
        keep_alive_s = self.server_rules.keep_alive_s
        if connection.bring_back_beside(link, keep_alive_s, self.clock.now):
            self.send_beside(link.number, Message.TCP_CLOSE)

    def is_safety_poll_lost(self, client: Client, exchange: int) -> bool:
        """Say whether a safety poll that comes to the server now is not answered."""
        link = self.link_of(client)
        has_left = link.closed_exchange >= exchange and client.exchange != exchange
        return has_left or self.is_under(FaultEffect.PARTITION, link)

    # -- long polling ------------------------------------------------------------------------

    def long_poll(self, client: Client, exchange: int) -> Process:
        """A request that names what its client has seen, and is held until there is more."""
        clock, link = self.clock, self.link_of(client)
        rules, idle_s = self.server_rules, self.workload.idle_s
        first = not is_kept(link.opened_s, link.kept_until_s, clock.now)
        if first and not (yield from self.open_for_polls(client, exchange)):
            return
        if not first:
            self.use_again(client)
        if idle_s < NEVER_S:
            clock.start(self.middlebox(client, exchange))
        node = yield from self.request(client, exchange, Message.HELD_REQUEST - first, first)
        if node < 0:
            return
        worker = node * rules.workers + first_free(self.servers[node].free_s)
        yield clock.at(self.serve(worker, rules.poll_s, client, Stream.POLL_SERVICE, exchange))
        if link.closed_exchange >= exchange or client.exchange != exchange:
            return
        self.close_if_denied(client)
        if self.published > client.seen:
            clock.start(self.answer_held(client, exchange, clock.now, self.published, first))
            return
        if self.servers[node].state.sockets >= rules.max_connections:
            recording.count_in_bin(self.record, Count.REFUSED, client.number, clock.now)
            yield from self.refuse(client, exchange, first)
            return
        self.unsubscribe(link, exchange)
        self.keep_socket(link, exchange, worker)
        self.subscribers[client.number] = link
        link.subscribed = exchange
        connection.hold(link, worker, int(first), clock.now)
        if self.servers[node].state.has_forgotten:
            recording.count_in_bin(self.record, Count.FORGOTTEN, client.number, clock.now)
        yield clock.at(clock.now + self.rules_of(client).hold_s)
        if link.subscribed != exchange:
            return
        self.unsubscribe(link, exchange)
        done_s = self.serve(worker, rules.send_s, client, Stream.HOLD_SERVICE, exchange)
        clock.start(self.answer_held(client, exchange, done_s, NOTHING_NEW, first))

    def answer_held(
        self, client: Client, exchange: int, t: float, version: int, first: bool
    ) -> Process:
        """Answer a request at `t` with what is new up to a version, or that nothing is."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        self.keep_alive(client, exchange, t)
        if self.paths.shared:
            yield clock.at(t)
        is_empty = version == NOTHING_NEW
        reply = (Message.HELD_EMPTY if is_empty else Message.HELD_REPLY) - first
        further = connection.further_changes(self.rules.push_is_snapshot, client.seen, version)
        n_bytes = self.sizes[reply][1] + further * self.sizes[Message.HELD_CHANGE][1]
        t = connection.reply_s(self.paths, link, exchange, t, n_bytes)
        yield clock.at(t + self.one_way_s(link))
        if is_over(client, link, exchange):
            return
        self.send(number, reply)
        if further:
            self.send(number, Message.HELD_CHANGE, further)
        if is_empty:
            self.tally(Count.UNCHANGED, number)
        self.feed(client, Event.UNCHANGED if is_empty else Event.FETCHED, version)

    def keep_socket(self, link: Connection, exchange: int, worker: int) -> None:
        """A worker keeps a socket of a client, or a request that it holds, and none of before."""
        if link.socket >= 0:
            self.place_of(link.socket_worker)[0].state.sockets -= 1
        self.place_of(worker)[0].state.sockets += 1
        link.socket, link.socket_worker = exchange, worker

    def close_if_denied(self, client: Client) -> None:
        """A client comes to the server whose socket nobody has closed for a rollback: do it now."""
        number = client.number
        if number in self.unclosed:
            self.unclosed.remove(number)
            if is_denied(client.cohort, self.buckets[number], self.percents, len(self.percents)):
                self.schedule_flag_update(client, self.clock.now, SERVER_CLOSES)

    # -- what a client fetches that is told of changes -----------------------------------------

    def refetch(self, client: Client, exchange: int, asked_s: float, *, gives_up: bool) -> Process:
        """A fetch beside the open socket: on the connection of the one before, or on a new one."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        fetch = client.fetch_number
        first = self.connect_beside(link, gives_up=gives_up)
        self.tally(Count.POLLS, number)
        self.send_beside(number, request_of(self.workload.etag, client.fetched_s, first))
        trips = (5.0 if self.rules.tls else 3.0) if first else 1.0
        yield clock.at(clock.now + trips * self.one_way_s(link))
        node, is_admitted = self.node_reached(client, exchange, fetch), True
        if node >= 0 and self.limit.polls:
            is_admitted = yield from self.pass_limit()
            if is_admitted:
                node = self.node_reached(client, exchange, fetch)  # as it may have waited
        if node < 0:
            return
        if not is_admitted or self.is_shed(node):
            if not is_awaited(client, exchange, fetch):
                return
            self.keep_alive(client, exchange, clock.now)
            reply, t, event, version = Message.POLL_REFUSED - first, clock.now, Event.FAILED, 0
        else:
            link.beats += 1
            balancing.take_turn(self.balancer, node)
            accept_s, named = first * self.server_rules.accept_s, self.version_named(client)
            t, version = self.answer(
                node, accept_s, client, Stream.SAFETY_SERVICE, link.beats, named=named
            )
            if not is_awaited(client, exchange, fetch):
                return  # the server has worked for nothing
            self.keep_alive(client, exchange, t)
            cut_s = self.cut_in_service_s(link, node, t)
            if cut_s < NEVER_S:
                t = cut_s + connection.one_way_s(self.paths, link, cut_s)
                clock.start(self.refetch_is_cut(client, exchange, fetch, t))
                return
            if self.paths.shared:
                yield clock.at(t)
                if not is_awaited(client, exchange, fetch):
                    return
            unchanged = self.shows_nothing_new(client, version)
            reply, event = reply_of(unchanged, first), Event.FETCHED
            if unchanged:
                event = Event.UNCHANGED
            t = connection.reply_s(self.paths, link, exchange, t, self.sizes[reply][1])
        yield clock.at(t + self.one_way_s(link))
        if not is_awaited(client, exchange, fetch) or link.kept_until_s == NEVER_S:
            return
        if self.link_of(client).is_link_dead:  # meanwhile
            t = clock.now + self.workload.unanswered_s
            clock.start(self.refetch_fails(client, exchange, fetch, t))
            return
        self.send_beside(number, reply)
        if event != Event.FAILED:
            self.end_wait(Wait.POLL, number, asked_s)
        if event != Event.FETCHED:
            self.tally(Count.ERRORS if event == Event.FAILED else Count.UNCHANGED, number)
        self.feed(client, event, version)

    def connect_beside(self, link: Connection, *, gives_up: bool) -> bool:
        """Take the connection beside the socket for a fetch; say whether it is a new one.

        A fetch that is given up takes its connection with it.
        """
        is_new = gives_up or not is_kept(link.opened_s, link.kept_until_s, self.clock.now)
        if is_new:
            self.end_fetches(link)
            for message in (Message.TCP_OPEN, Message.TLS_OPEN):
                self.send_beside(link.number, message)
        link.kept_until_s = NEVER_S
        return is_new

    def cut_in_service_s(self, link: Connection, node: int, done_s: float) -> float:
        """Return when a request that a node serves until `done_s` is cut, infinity if it is not."""
        address = self.rules.seed, self.rules.replication
        return connection.cut_in_service_s(
            self.schedule, link, node, *address, self.clock.now, done_s
        )

    def refetch_is_cut(self, client: Client, exchange: int, fetch: int, t: float) -> Process:
        """The end of a fetch beside the socket arrives at `t`: it was cut in service."""
        yield self.clock.at(t)
        link = self.link_of(client)
        if not is_awaited(client, exchange, fetch) or link.kept_until_s == NEVER_S:
            return  # or the client is about to hear that its socket has ended too
        if link.is_link_dead:
            t = self.clock.now + self.workload.unanswered_s
            self.clock.start(self.refetch_fails(client, exchange, fetch, t))
        else:
            self.fail_refetch(client)

    def node_reached(self, client: Client, exchange: int, fetch: int) -> int:
        """Return the node that a fetch beside the socket comes to; -1: none, of which it hears."""
        now, link = self.clock.now, self.link_of(client)
        if link.closed_exchange >= exchange:
            return -1
        if link.is_link_dead or self.is_under(FaultEffect.PARTITION, link):
            t = now + self.workload.unanswered_s
            self.clock.start(self.refetch_fails(client, exchange, fetch, t))
            return -1
        node = self.node_of(link, exchange)
        if node < 0:
            t, answers = now + self.one_way_s(link), self.workload.bad_gateway
            self.clock.start(self.refetch_fails(client, exchange, fetch, t, by_proxy=answers))
        return node

    def refetch_fails(
        self, client: Client, exchange: int, fetch: int, t: float, *, by_proxy: bool = False
    ) -> Process:
        """A fetch beside the socket fails at `t`: no server is up, or the path is dead."""
        yield self.clock.at(t)
        if is_awaited(client, exchange, fetch):
            if by_proxy:
                self.hear_bad_gateway(client.number)
            self.fail_refetch(client)

    def hear_bad_gateway(self, number: int) -> None:
        """A proxy answers 502 for the server on another connection than the client's socket."""
        self.send_beside(number, Message.BAD_GATEWAY)
        recording.count_in_bin(self.record, Count.BAD_GATEWAYS, number, self.clock.now)

    def fail_refetch(self, client: Client) -> None:
        """A fetch beside the socket fails, and its connection has ended."""
        self.end_fetches(self.link_of(client))
        self.tally(Count.ERRORS, client.number)
        self.feed(client, Event.FAILED)

    def end_fetches(self, link: Connection) -> None:
        """The connection beside the socket has ended, if there is one: count its last segments."""
        t = connection.end_fetches(link, self.clock.now)
        if t > -NEVER_S:
            recording.count_messages(self.record, link.number, t, Message.TCP_CLOSE)

    # -- WebSocket: the stages before READY --------------------------------------------------

    def open_tcp(self, client: Client, exchange: int) -> Generator[simpy.Event, None, bool]:
        """SYN, listen backlog, SYN-ACK; the kernel repeats a SYN that was dropped."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        link.node = -1
        for k in range(SYN_RETRIES + 1):
            yield clock.at(clock.now + self.one_way_s(link))
            if link.closed_exchange >= exchange:
                return False
            start_s = -1.0
            if not self.is_under(FaultEffect.PARTITION, link):
                link.node = self.node_of(link, exchange)
                if link.node < 0 and not self.workload.bad_gateway:
                    yield clock.at(clock.now + self.one_way_s(link))
                    return False
                start_s = clock.now
                if link.node >= 0:
                    start_s = self.accept_at_node(client, exchange)
            if start_s >= 0.0:
                yield clock.at(clock.now + self.one_way_s(link))
                if is_over(client, link, exchange):
                    return False
                self.send(number, Message.TCP_OPEN)
                return True
            yield clock.at(clock.now + max(0.0, syn_retry_s(k) - self.one_way_s(link)))
            if is_over(client, link, exchange):
                return False
        return False

    def accept_at_node(self, client: Client, exchange: int) -> float:
        """Let a node accept a connection; return from when on, negative if its backlog is full."""
        rules, number, link = self.server_rules, client.number, self.link_of(client)
        service_s = self.draw_s(rules.accept_s, client, Stream.ACCEPT_SERVICE, exchange)
        server = self.servers[link.node]
        link.worker = first_free(server.free_s)
        start_s = accept(server, rules, self.clock.now, service_s)
        if start_s < 0.0:
            recording.count_in_bin(self.record, Count.DROPPED_SYNS, number, self.clock.now)
        else:
            self.give(client, exchange)
            recording.add_busy(self.record, link.node, start_s, start_s + service_s)
        return start_s

    def connect(self, client: Client, exchange: int) -> Process:
        """TCP."""
        link = self.link_of(client)
        if (yield from self.open_tcp(client, exchange)):
            self.feed(client, Event.CONNECTED)
        elif client.exchange == exchange and not is_cut(link, exchange):
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.CLOSED)

    def secure(self, client: Client, exchange: int) -> Process:
        """TLS 1.3: one round trip."""
        link = self.link_of(client)
        yield self.clock.at(self.clock.now + 2.0 * self.one_way_s(link))
        if not is_over(client, link, exchange):
            self.send(client.number, Message.TLS_OPEN)
            self.feed(client, Event.SECURED)

    def upgrade(self, client: Client, exchange: int) -> Process:
        """The HTTP upgrade: 101, or 503 at the connection cap or under too long a queue.

        Or the request for a stream, which is let in at once.
        """
        clock, number, link = self.clock, client.number, self.link_of(client)
        transport = client.transport
        self.send(number, connection.opening_request(client, link))
        yield clock.at(clock.now + self.one_way_s(link))
        status = yield from self.pass_gates(link, exchange, transport)
        if status == _ADMITTED:
            status = yield from self.serve_upgrade(client, exchange, transport)
        if status == _LOST:
            return
        if status == _ADMITTED and is_stream(transport):
            self.let_in(client, exchange, by_stream=True)
            return
        yield clock.at(clock.now + self.one_way_s(link))
        if is_over(client, link, exchange):
            return
        if status != _ADMITTED:
            self.send(number, connection.refusal(transport, status))
            if status == BAD_GATEWAY:
                recording.count_in_bin(self.record, Count.BAD_GATEWAYS, number, clock.now)
            self.tally(Count.ERRORS, number)
            self.feed(client, Event.CLOSED, status)
            return
        self.send(number, Message.UPGRADE_RESPONSE)
        self.send(number, Message.HELLO)
        link.has_upgraded = True
        self.feed(client, Event.UPGRADED)

    def pass_gates(
        self, link: Connection, exchange: int, transport: int
    ) -> Generator[simpy.Event, None, int]:
        """Let an upgrade pass a proxy, the rate limit and the node's own: see `serve_upgrade`.

        A request for a stream is no upgrade to a proxy that blocks these.
        """
        rules, may_block = self.server_rules, not is_stream(transport)
        if is_cut(link, exchange) or (may_block and self.is_under(FaultEffect.SWALLOW, link)):
            return _LOST
        if may_block and self.is_under(FaultEffect.BLOCK, link):
            return FORBIDDEN
        if connection.is_at_proxy(link, self.workload.bad_gateway):
            return BAD_GATEWAY
        if self.limit.upgrades:
            is_admitted = yield from self.pass_limit()
            if is_cut(link, exchange):
                return _LOST
            if not is_admitted:
                return self.limit.status
        server = self.servers[connection.served_at(link)]
        is_late = wait_for_s(server.free_s, link.worker, self.clock.now) > rules.shed_wait_s
        if is_late or not admits_upgrade(server.state, rules, self.clock.now):
            return UNAVAILABLE
        return _ADMITTED

    def serve_upgrade(
        self, client: Client, exchange: int, transport: int
    ) -> Generator[simpy.Event, None, int]:
        """A worker serves an upgrade; return _ADMITTED, _LOST, or the status of a refusal."""
        link, rules = self.link_of(client), self.server_rules
        server = self.servers[connection.served_at(link)]
        worker = connection.accepted_by(link, rules.workers)
        service_s, k = rules.handshake_s, 2 * exchange
        if is_stream(transport):
            broadcasts.change_set(self.loops[worker])
            service_s += self.authentication_s(client)
        yield self.clock.at(self.serve(worker, service_s, client, Stream.HANDSHAKE_SERVICE, k))
        if link.closed_exchange >= exchange:
            return _LOST
        if server.state.sockets >= rules.max_connections:
            recording.count_in_bin(self.record, Count.REFUSED, client.number, self.clock.now)
            return UNAVAILABLE
        if is_stream(transport) and self.has_expired(client):
            return UNAUTHORIZED
        self.keep_socket(link, exchange, worker)
        return _ADMITTED

    def authentication_s(self, client: Client) -> float:
        """Return how long a worker takes to let in a client that comes now, seconds."""
        service_s = self.server_rules.authenticate_s
        if self.resume_outcome(client) == Resume.SNAPSHOT:
            service_s += self.server_rules.snapshot_s
        return service_s

    def has_expired(self, client: Client) -> bool:
        """Say whether the token that a client shows now is no longer good."""
        return is_expired(self.rules_of(client), self.start_s[client.number], self.clock.now)

    def authenticate(self, client: Client, exchange: int) -> Process:
        """The token up, READY and what was missed down; from then on the client listens."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        self.send(number, Message.AUTH)
        yield clock.at(clock.now + self.one_way_s(link))
        if is_cut(link, exchange):
            return
        worker = connection.accepted_by(link, self.server_rules.workers)
        broadcasts.change_set(self.loops[worker])
        service_s, k = self.authentication_s(client), 2 * exchange + 1
        yield clock.at(self.serve(worker, service_s, client, Stream.HANDSHAKE_SERVICE, k))
        if link.closed_exchange >= exchange:
            return
        if self.has_expired(client):
            yield clock.at(clock.now + self.one_way_s(link))
            if not is_over(client, link, exchange):
                self.send(number, Message.AUTH_REFUSED)
                self.tally(Count.ERRORS, number)
                self.feed(client, Event.REJECTED)
            return
        self.let_in(client, exchange, by_stream=False)

    def let_in(self, client: Client, exchange: int, *, by_stream: bool) -> None:
        """Subscribe a client, and send it READY and what it has missed."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        version, outcome = self.published, self.resume_outcome(client)
        self.subscribers[number] = link
        link.subscribed = exchange
        link.tail = 0
        if self.place_of(link.socket_worker)[0].state.has_forgotten:
            recording.count_in_bin(self.record, Count.FORGOTTEN, number, clock.now)
        link.let_in_by = self.nodes.process[link.node]
        if by_stream:
            self.streams.add(number)
        else:
            self.streams.discard(number)
        is_held_back = self.is_held_back(client)
        if is_held_back:
            self.begin_stream(client, exchange, version, outcome)
        if self.rules_of(client).heartbeat == Heartbeat.SERVER:
            beats = self.comments if by_stream else self.heartbeats
            clock.start(beats(client, exchange))
        self.close_if_denied(client)
        if is_held_back:
            self.watch(client, exchange)
            return
        t = self.ready_s(client, version, outcome)
        if outcome == Resume.SNAPSHOT and self.has_path_limits:
            clock.start(self.enter(client, exchange, version, Resume.NOTHING, t))
            message = sent_as(client.transport, Message.SNAPSHOT)
            t = connection.transmit(self.paths, link, clock.now, self.sizes[message][1])
            clock.start(self.push(client, exchange, version, t, message))
        else:
            clock.start(self.enter(client, exchange, version, outcome, t))

    def ready_s(self, client: Client, version: int, outcome: int) -> float:
        """Send READY, and what is replayed up to `version`; return when it arrives, seconds."""
        ready, pushed = (
            sent_as(client.transport, message) for message in (Message.READY, Message.PUSH)
        )
        replayed = (version - client.seen) * (outcome == Resume.REPLAY)
        n_bytes = self.sizes[ready][1] + replayed * self.sizes[pushed][1]
        return connection.open_path(self.paths, self.link_of(client), self.clock.now, n_bytes)

    def enter(self, client: Client, exchange: int, version: int, outcome: int, t: float) -> Process:
        """READY arrives at `t`, and with it what the client has missed up to `version`."""
        number, link, transport = client.number, self.link_of(client), client.transport
        ready, board, pushed = (
            sent_as(transport, message)
            for message in (Message.READY, Message.SNAPSHOT, Message.PUSH)
        )
        yield self.clock.at(t)
        if is_over(client, link, exchange):
            return
        if is_stream(transport):
            self.send(number, Message.STREAM_RESPONSE)
            link.has_upgraded = True
        self.send(number, ready)
        link.served_by = link.let_in_by
        self.record_connection(number)
        link.kept_until_s = -NEVER_S
        if not self.is_held_back(client):
            self.watch(client, exchange)
        missed = version - client.seen
        self.feed(client, Event.READY, connection.ready_value(client, outcome, version))
        if outcome == Resume.SNAPSHOT:
            self.send(number, board)
            self.tally(Count.MESSAGES, number)
        elif outcome == Resume.REPLAY:
            self.send(number, pushed, missed)
            self.tally(Count.MESSAGES, number, missed)
        else:
            return
        self.feed(client, Event.SNAPSHOT if outcome == Resume.SNAPSHOT else Event.REPLAY, version)

    def watch(self, client: Client, exchange: int) -> None:
        """Let a middlebox close the connection when it is idle, and the server when it is old."""
        if self.workload.idle_s < NEVER_S:
            self.clock.start(self.middlebox(client, exchange))
        seed, replication, now = self.rules.seed, self.rules.replication, self.clock.now
        end_s = end_of_life_s(self.schedule.events, seed, replication, client.number, now)
        if end_s < NEVER_S:
            self.clock.start(self.end_of_life(client, exchange, end_s))

    def middlebox(self, client: Client, exchange: int) -> Process:
        """Let a middlebox close the connection after it has carried nothing for `idle_s`."""
        link, t = self.link_of(client), self.clock.now + self.workload.idle_s
        while self.clock.now < t:
            yield self.clock.at(t)
            if is_over(client, link, exchange):
                return
            active_s = link.active_s
            if client.number in self.buffers and is_stream(client.transport):
                active_s = self.buffers[client.number].written_s
            t = active_s + self.workload.idle_s
        self.reset_connection(client)

    def end_of_life(self, client: Client, exchange: int, t: float) -> Process:
        """A connection reaches at `t` the age at which the server ends it."""
        yield self.clock.at(t)
        if client.exchange == exchange:
            self.reset_connection(client, by_server=True)
        else:
            self.let_go(self.link_of(client), exchange)

    def resume_outcome(self, client: Client) -> int:
        """Return how a client that is authenticated now gets the changes that it missed."""
        return connection.resume_outcome_of(
            client,
            self.link_of(client),
            self.rules_of(client),
            self.nodes,
            self.record,
            self.published,
            self.clock.now,
        )

    # -- WebSocket: open -----------------------------------------------------------------------

    def publisher(self) -> Process:
        """The state changes at the publish times; those who are subscribed then are told."""
        for version, t in enumerate(self.heard_s, start=1):
            yield self.clock.at(t)
            self.published = version
            if self.subscribers:
                self.broadcast(version)

    def broadcast(self, version: int) -> None:
        """Each worker sends to its subscribers one after the other; each message then travels."""
        rules, sends = self.server_rules, {}
        may_end = broadcasts.may_end(rules.loop)
        for number, link in list(self.subscribers.items()):
            worker, client, exchange = link.socket_worker, self.clients[number], link.subscribed
            if self.place_of(worker)[0].state.has_forgotten:
                continue
            if connection.is_held(link) and version <= client.seen:
                continue  # its request names what has been read on a node that heard of it before
            if worker not in sends:
                sends[worker] = FanOut(self, worker, version)
            fan_out = sends[worker]
            if connection.is_held(link):
                first = connection.is_first_held(link)
                self.unsubscribe(link, exchange)
                t = fan_out.send(number)
                self.clock.start(self.answer_held(client, exchange, t, version, first))
                continue
            if fan_out.meets_another():
                if rules.loop.meeting_closes:
                    self.clock.start(self.try_send(client, exchange, GIVES_UP, fan_out.closes_s))
                fan_out.has_ended = True
            if fan_out.has_ended:
                recording.leave_out(self.record, number, version, self.clock.now)
                continue
            t = fan_out.send(number)
            message = connection.change_message(client)
            is_held_back = self.is_held_back(client)
            if not self.has_path_limits and not may_end and not is_held_back:
                t += self.one_way_s(link)
                self.clock.start(self.push(client, exchange, version, t, message))
                continue
            outcome = int(Sent.SENT)
            if not is_held_back:
                outcome, t = self.plan_send(link, t, message)
            if outcome == Sent.SENT:
                self.clock.start(self.try_send(client, exchange, version, t))
                continue
            fan_out.has_ended = True
            recording.leave_out(self.record, number, version, self.clock.now)
            if outcome == Sent.CLOSES:
                self.clock.start(self.try_send(client, exchange, GIVES_UP, t))
        for _, fan_out in sorted(sends.items()):
            fan_out.finish()

    def push(self, client: Client, exchange: int, version: int, t: float, message: int) -> Process:
        """One message of a broadcast arrives, or the board in place of several."""
        link = self.link_of(client)
        yield self.clock.at(t)
        if not is_over(client, link, exchange):
            self.send(client.number, message)
            self.tally(Count.MESSAGES, client.number)
            is_board = connection.is_board(message)
            self.feed(client, Event.SNAPSHOT if is_board else Event.PUSH, version)
        elif link.lost_exchange >= exchange and not self.is_pinged(client):
            self.clock.start(self.peer_timeout(link, exchange, self.workload.unanswered_s))

    # -- WebSocket: paths that delay and narrow what they carry ---------------------------------

    def link_of(self, client: Client) -> Connection:
        """Return the row of a client's connections."""
        return self.connection_rows[client.number]

    def one_way_s(self, link: Connection) -> float:
        """Return how long a message sent now takes to the other end, seconds."""
        return connection.one_way_s(self.paths, link, self.clock.now)

    def plan_send(self, link: Connection, t: float, message: int) -> tuple[int, float]:
        """Wait from `t` on until there is room for a message, under the policies that wait.

        Return what becomes of it, a `Sent`, and when.
        """
        sending, size = self.server_rules.sending, self.sizes[message][1]
        server, worker = self.place_of(link.socket_worker)
        planned = self.planned[link.number]
        where = self.paths, link, planned, server.blocked_s, worker, sending, t, size
        if connection.aborts(self.paths, sending):
            return connection.aborting_send(*where)
        if connection.blocks(self.paths, sending):
            return Sent.SENT, connection.blocking_send(*where)
        return Sent.SENT, t

    def try_send(self, client: Client, exchange: int, version: int, t: float) -> Process:
        """Send a message of a broadcast to a client whose path may be narrow."""
        yield self.clock.at(t)
        link, sending = self.link_of(client), self.server_rules.sending
        if link.subscribed != exchange:
            return
        rule, loop = self.server_rules.loop, self.loops[link.socket_worker]
        if version != GIVES_UP and not broadcasts.goes_on(rule, loop, version):
            recording.leave_out(self.record, client.number, version, self.clock.now)
            return
        message = connection.change_message(client)
        if self.is_held_back(client):
            if version != GIVES_UP:
                self.write(client, exchange, message, version)
                return
            self.end_stream(client, exchange, is_end=False)
        waiting_message = connection.waiting_message(client, self.rules, sending)
        outcome, t = connection.try_send(
            self.paths,
            link,
            self.record,
            sending,
            version,
            self.clock.now,
            self.sizes[message][1],
            self.sizes[waiting_message][1],
        )
        if outcome == Sent.SENT:
            self.clock.start(self.push(client, exchange, version, t, message))
        elif outcome == Sent.WAITS_FIRST:
            self.clock.start(self.drain(client, exchange, t))
        elif outcome == Sent.CLOSES:
            self.let_go(link, exchange)
            self.clock.start(self.fail(client, exchange, t))

    def drain(self, client: Client, exchange: int, t: float) -> Process:
        """Send the messages that wait for a client as its kernels take them, from `t` on."""
        link, sending = self.link_of(client), self.server_rules.sending
        while True:
            yield self.clock.at(t)
            if link.subscribed != exchange:
                return
            message = connection.waiting_message(client, self.rules, sending)
            size = self.sizes[message][1]
            version, arrives_s = connection.drain(self.paths, link, self.clock.now, size)
            self.clock.start(self.push(client, exchange, version, arrives_s, message))
            if link.waiting == 0:
                return
            t = connection.writable_s(self.paths, link, sending, self.clock.now, size)

    # -- WebSocket: heartbeats -------------------------------------------------------------------

    def heartbeats(self, client: Client, exchange: int) -> Process:
        """The server pings, one interval after the last pong, for as long as the client listens."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        heartbeat_s = self.server_rules.heartbeat_s
        free_s = clock.now
        while True:
            yield clock.at(free_s + self.rules_of(client).heartbeat_interval_s)
            if link.subscribed != exchange:
                return
            link.beats += 2
            beat = link.beats
            worker = link.socket_worker
            done_s = self.serve(worker, heartbeat_s, client, Stream.HEARTBEAT_SERVICE, beat)
            if self.has_path_limits:
                yield clock.at(done_s)  # what it is behind on the path is known only then
                if link.subscribed != exchange:
                    return
            yield clock.at(self.beat_arrives_s(link, done_s, Message.PING_DOWN))
            if link.lost_exchange >= exchange:
                timeout_s = self.rules_of(client).heartbeat_timeout_s
                clock.start(self.peer_timeout(link, exchange, timeout_s))
            if is_over(client, link, exchange):
                return
            self.send(number, Message.PING_DOWN)
            self.feed(client, Event.PING)
            yield clock.at(clock.now + self.one_way_s(link))
            if link.lost_exchange >= exchange:
                timeout_s = self.rules_of(client).heartbeat_timeout_s
                clock.start(self.peer_timeout(link, exchange, timeout_s))
            if is_unheard(link, exchange):
                return
            worker, k = link.socket_worker, beat + 1
            free_s = self.serve(worker, heartbeat_s, client, Stream.HEARTBEAT_SERVICE, k)

    def beat_arrives_s(self, link: Connection, done_s: float, message: int) -> float:
        """Send a heartbeat that a worker is done with at `done_s`; return when it arrives."""
        return connection.transmit(self.paths, link, done_s, self.sizes[message][1])

    def ping_server(self, client: Client, exchange: int) -> Process:
        """The client pings, the server answers."""
        clock, number, link = self.clock, client.number, self.link_of(client)
        self.send(number, Message.PING_UP)
        yield clock.at(clock.now + self.one_way_s(link))
        if is_unheard(link, exchange):
            return
        heartbeat_s = self.server_rules.heartbeat_s
        link.beats += 1
        beat = link.beats
        worker = link.socket_worker
        done_s = self.serve(worker, heartbeat_s, client, Stream.HEARTBEAT_SERVICE, beat)
        if self.has_path_limits:
            yield clock.at(done_s)
            if link.subscribed != exchange:
                return
        yield clock.at(self.beat_arrives_s(link, done_s, Message.PONG_DOWN))
        if not is_over(client, link, exchange):
            self.send(number, Message.PONG_DOWN)
            self.feed(client, Event.PONG)

    def is_pinged(self, client: Client) -> bool:
        """Say whether the server learns from its pings that a client's path has died."""
        is_socket = client.number not in self.streams
        return is_socket and self.rules_of(client).heartbeat == Heartbeat.SERVER

    # -- streams: what keeps them alive ----------------------------------------------------------

    def comments(self, client: Client, exchange: int) -> Process:
        """The server writes a comment, one interval after the last one, and nothing comes back."""
        clock, link, message = self.clock, self.link_of(client), Message.STREAM_COMMENT
        heartbeat_s, done_s = self.server_rules.heartbeat_s, clock.now
        while True:
            yield clock.at(done_s + self.rules_of(client).heartbeat_interval_s)
            if link.subscribed != exchange:
                return
            link.beats += 2
            worker, k = link.socket_worker, link.beats
            done_s = self.serve(worker, heartbeat_s, client, Stream.HEARTBEAT_SERVICE, k)
            is_held_back = self.is_held_back(client)
            if self.has_path_limits or is_held_back:
                yield clock.at(done_s)  # what it is behind on the path is known only then
                if link.subscribed != exchange:
                    return
            if is_held_back:
                self.write(client, exchange, message, 0)
                continue
            t = self.beat_arrives_s(link, done_s, message)
            clock.start(self.comment(client, exchange, t))

    def comment(self, client: Client, exchange: int, t: float) -> Process:
        """A comment arrives, or is never acknowledged."""
        yield self.clock.at(t)
        link = self.link_of(client)
        if link.lost_exchange >= exchange:
            self.clock.start(self.peer_timeout(link, exchange, self.workload.unanswered_s))
        elif not is_over(client, link, exchange):
            self.send(client.number, Message.STREAM_COMMENT)
            self.feed(client, Event.PING)

    # -- streams: what a proxy holds back --------------------------------------------------------

    def is_held_back(self, client: Client) -> bool:
        """Say whether what the server writes to a client is held back by a proxy."""
        return client.number in self.buffers and client.number in self.streams

    def begin_stream(self, client: Client, exchange: int, version: int, outcome: int) -> None:
        """Write the head of a stream, READY, and what the client has missed up to `version`."""
        number = client.number
        connection.clear_path(self.paths, self.link_of(client), self.clock.now)
        stream_proxy.begin(self.buffers[number], self.clock.now)
        head_bytes = self.stream_bytes[Message.STREAM_RESPONSE]
        stream_proxy.write_head(self.buffers[number], head_bytes)
        first, by_itself = client.seen + 1, stream_proxy.ready_data(version, outcome)
        self.write(client, exchange, Message.STREAM_READY, by_itself)
        if outcome == Resume.SNAPSHOT:
            self.write(client, exchange, Message.STREAM_SNAPSHOT, version)
        elif outcome == Resume.REPLAY:
            self.write(client, exchange, Message.STREAM_PUSH, first, version - first + 1)

    def write(self, client: Client, exchange: int, message: int, data: int, n: int = 1) -> None:
        """Write to a stream what a proxy may hold back, and send on what it passes on."""
        buffer, stretches = self.buffers[client.number], self.stretches[client.number]
        if len(stretches) == buffer.stretches:
            stretches.append(Stretch())
        n_bytes, now = self.stream_bytes[message], self.clock.now
        due_s = stream_proxy.write(buffer, stretches, message, data, n, n_bytes, now)
        self.pass_on(client, exchange)
        if due_s < NEVER_S:
            self.clock.start(self.release(client, exchange, due_s))

    def release(self, client: Client, exchange: int, t: float) -> Process:
        """The proxy passes on at `t` what it has, unless a piece was full before."""
        yield self.clock.at(t)
        buffer = self.buffers[client.number]
        if self.link_of(client).subscribed == exchange and buffer.due_s == t:
            stream_proxy.release(buffer)
            self.pass_on(client, exchange)

    def pass_on(self, client: Client, exchange: int) -> None:
        """Send on the events whose last byte the proxy passes on."""
        buffer, stretches = self.buffers[client.number], self.stretches[client.number]
        link, now = self.link_of(client), self.clock.now
        while stream_proxy.has_passed(buffer, stretches):
            message, data = stream_proxy.take(buffer, stretches)
            t = connection.transmit(self.paths, link, now, self.sizes[message][1])
            if message == Message.STREAM_READY:
                version, outcome = stream_proxy.of_ready(data)
                self.clock.start(self.enter(client, exchange, version, outcome, t))
            elif message == Message.STREAM_COMMENT:
                self.clock.start(self.comment(client, exchange, t))
            else:
                self.clock.start(self.push(client, exchange, data, t, message))
        stream_proxy.close_ranks(buffer, stretches)

    def end_stream(self, client: Client, exchange: int, *, is_end: bool) -> None:
        """A stream ends, if the client has one: what the proxy has goes before, or is lost."""
        if self.link_of(client).subscribed != exchange or not self.is_held_back(client):
            return
        buffer, stretches = self.buffers[client.number], self.stretches[client.number]
        if stream_proxy.throws_away(buffer, is_end):
            lost = stream_proxy.drop(buffer, stretches)
            number, now = client.number, self.clock.now
            recording.count_in_bin(self.record, Count.THROWN_AWAY, number, now, lost)
        else:
            stream_proxy.release(buffer)
            self.pass_on(client, exchange)

    # -- ends of connections -------------------------------------------------------------------

    def close_connection(self, client: Client, event: Event, was: int) -> None:
        """End a connection at the client; the server learns of it half a round trip later."""
        number, now, link = client.number, self.clock.now, self.link_of(client)
        cause = cause_of(event, was)
        if was == Transport.POLLING:
            self.record_disconnect(number, *connection.end_of_kept(link, now, cause))
            balancing.take_back(self.balancer, number, client.exchange)
            return
        is_queued = self.is_queued(client, browser.MAIN)
        if event == Event.DEADLINE:
            self.tally(Count.ERRORS, number)
        if holds(was) and is_queued and client.transport == was and event == Event.DEADLINE:
            return  # nothing was sent, and an idle connection stays
        if holds(was):
            self.record_disconnect(number, *connection.end_of_kept(link, now, cause))
            if link.is_link_dead:
                balancing.take_back(self.balancer, number, client.exchange - 1)
            else:
                self.clock.start(self.closing_handshake(link, client.exchange - 1, False))
            return
        if link.opened_s < NEVER_S:
            self.end_fetches(link)
        is_meant = event in (Event.STOP, Event.ASSIGNED)
        graceful = connection.closes_with_frames(client, link, was, is_meant)
        self.record_disconnect(number, now, cause)
        if not is_queued:
            self.clock.start(self.closing_handshake(link, client.exchange - 1, graceful))

    def closing_handshake(self, link: Connection, closed_exchange: int, graceful: bool) -> Process:
        """A close frame and its echo, or just the end of the connection."""
        clock = self.clock
        if graceful:
            self.send(link.number, Message.CLOSE_UP)
        yield clock.at(clock.now + self.one_way_s(link))
        if link.lost_exchange >= closed_exchange:
            return
        link.closed_exchange = max(link.closed_exchange, closed_exchange)
        if connection.is_kept_in_vain(link):
            number, lost = link.number, link.lost_exchange
            balancing.take_back(self.balancer, number, closed_exchange, lost)
        else:
            self.let_go(link, closed_exchange)
        if graceful:
            yield clock.at(clock.now + self.one_way_s(link))
            self.send(link.number, Message.CLOSE_DOWN)

    def node_of(self, link: Connection, exchange: int) -> int:
        """Return the node that a new connection comes to, -1 if none is up."""
        rules = self.rules
        address = rules.seed, rules.replication
        return connection.node_of(self.nodes, self.balancer, link, *address, exchange)

    def give(self, client: Client, exchange: int) -> None:
        """A node has accepted a client's connection, unless the client has given it up by now."""
        if client.exchange == exchange:
            node = self.link_of(client).node
            balancing.give(self.balancer, node, client.number, exchange)

    # -- records -------------------------------------------------------------------------------

    def send(self, number: int, message: int, n: int = 1) -> None:
        """Count `n` messages, up or down, at the client's end."""
        recording.count_messages(self.record, number, self.clock.now, message, n)
        if any(self.sizes[message]):
            self.connection_rows[number].active_s = self.clock.now

    def send_beside(self, number: int, message: int) -> None:
        """Count a message on another connection than the client's socket."""
        recording.count_messages(self.record, number, self.clock.now, message)

    def draw_s(self, mean_s: float, client: Client, stream: Stream, k: int) -> float:
        """Return the service time of a client's job number `k`."""
        rules = self.rules
        return service_time_s(
            self.server_rules, mean_s, rules.seed, rules.replication, client.number, stream, k
        )

    def place_of(self, worker: int) -> tuple[Server, int]:
        """Return the node of a worker, and the worker's number there."""
        node, worker = divmod(worker, self.server_rules.workers)
        return self.servers[node], worker

    def version_named(self, client: Client) -> int:
        """Return the version that a client's request names now, if it names one."""
        has_gaps = recording.has_gaps(self.record, client.number)
        return version_named(self.workload.etag, client.fetched_s, client.seen, has_gaps)

    def answer(
        self,
        node: int,
        before_s: float,
        client: Client,
        stream: Stream,
        k: int,
        *,
        named: int = NOTHING,
    ) -> tuple[float, int]:
        """Queue a request for the board at the worker of a node that is free first.

        It takes `before_s` beside the answer. Return when it is done, and up to which change it
        shows the board.
        """
        rules, server, etag = self.server_rules, self.servers[node], self.workload.etag
        place = first_free(server.free_s)
        start_s = max(self.clock.now, server.free_s[place])
        present = bisect_right(self.publish_s, start_s)
        answer = answer_of(rules, server.state, self.heard_s, etag, named, present, start_s)
        worker, mean_s = node * rules.workers + place, before_s + answer.cost_s
        done_s = self.serve(worker, mean_s, client, stream, k, wait_s=answer.wait_s)
        version = answer.version
        if version == NOTHING:
            version = bisect_right(self.publish_s, done_s)
        if answer.is_kept:
            keep(rules, server.state, version, done_s)
        return done_s, version

    def serve(
        self,
        worker: int,
        mean_s: float,
        client: Client,
        stream: Stream,
        k: int,
        *,
        wait_s: float = 0.0,
    ) -> float:
        """Queue a job that has just arrived at a worker; return when it is done.

        The worker first waits for `wait_s`.
        """
        service_s = wait_s + self.draw_s(mean_s, client, stream, k)
        node, place = divmod(worker, self.server_rules.workers)
        start_s = admit_to(self.servers[node].free_s, place, self.clock.now, service_s)
        recording.add_busy(self.record, node, start_s, start_s + service_s)
        return start_s + service_s

    def record_disconnect(self, number: int, closed_s: float, cause: int) -> None:
        """Record the end of the client's connection, if it has one, and its last segments."""
        if self.connection_rows[number].opened_s < NEVER_S and cause != Cause.OPEN_AT_END:
            recording.count_messages(self.record, number, closed_s, Message.TCP_CLOSE)
        super().record_disconnect(number, closed_s, cause)


class FanOut:
    """One worker's part of a broadcast.

    Parameters
    ----------
    simulation : Simulation
    worker : int
        Counted over all nodes.
    version : int
        The change that is sent.

    Attributes
    ----------
    has_ended : bool
        Whether something has ended it: those who come now are not sent anything.
    """

    def __init__(self, simulation: Simulation, worker: int, version: int) -> None:
        self.rules, self.record = simulation.server_rules, simulation.record
        self.address = simulation.rules.seed, simulation.rules.replication
        self.server, self.worker = simulation.place_of(worker)
        self.node = worker // self.rules.workers
        self.version = version
        self.sends = 0
        self.has_ended = False
        self.start_s = max(simulation.clock.now, self.server.free_s[self.worker])
        self.sent_s = begun_s(self.rules, self.start_s, *self.address, worker, version)
        self.loop, now = simulation.loops[worker], simulation.clock.now
        if self.rules.sending.overflow == Overflow.ABORT:
            self.server.blocked_s[self.worker] = 0.0  # it waits for no other broadcast
        share = broadcasts.fails_at(self.rules.loop, self.loop, *self.address, worker, version, now)
        self.fails_after, self.closes_s = -1, now
        if share < 1.0:
            self.closes_s = broadcasts.closes_s(self.loop, share, now)
            mine = [each.socket_worker == worker for each in simulation.subscribers.values()]
            self.fails_after = int(share * sum(mine))

    def meets_another(self) -> bool:
        """Say whether another broadcast is just sending to the next subscriber."""
        return 0 <= self.fails_after <= self.sends and not self.has_ended

    def send(self, number: int) -> float:
        """Send to the next subscriber; return when that is done, seconds."""
        self.sends += 1
        self.sent_s = sent_s(
            self.rules,
            self.start_s,
            self.sent_s,
            self.sends,
            *self.address,
            number,
            self.version,
        )
        return self.sent_s

    def finish(self) -> None:
        """The worker is busy until it has sent to the last subscriber."""
        recording.add_busy(self.record, self.node, self.start_s, self.sent_s)
        self.server.free_s[self.worker] = self.sent_s
        self.loop.ends_s = self.sent_s
