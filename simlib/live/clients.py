"""The lab's client process: `core.client.step` over asyncio and real sockets.

Many clients share one thread, so each must be light, or the clients and not the server would be
measured: polls are parsed by httptools, frames by the sans-I/O protocol of websockets on a bare
transport. Pushed frames are stamped as they arrive and processed when the burst has passed, so
that one client's parsing does not delay the next one's stamp. What the clients cost is measured
and reported beside the result.

Bytes are counted as sockets carry them: the lengths of what is written and of what is received.
Run by `lab`, as ``python -m simlib.live.clients``.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any, TypeVar

import httptools
import numpy as np
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State as SocketState
from websockets.uri import parse_uri

from simlib.core import record as recording
from simlib.core import wire
from simlib.core.activity import DRAG, HIDE, episode_s
from simlib.core.assignment import SERVER_CLOSED, SERVER_CLOSES
from simlib.core.client import NEVER_S, Client
from simlib.core.draws import Stream
from simlib.core.driver import Driver, cause_of
from simlib.core.protocol import Action, Event, State, Transport
from simlib.core.record import Cause, Count, Record
from simlib.core.resync import Resync
from simlib.live.app_server import POLL_INSTEAD
from simlib.live.ipc import ControllerReply, Parent
from simlib.live.proxy import THROUGH, preamble
from simlib.live.tokens import make_token
from simlib.scenario import Scenario, Workload, compile_workload, enrolled, new_record
from simlib.scenario.model import Activity

_BURST_GAP_S = 2e-3
_BURST_LIMIT_S = 0.25
_REPORT_S = 0.25
_BUFFER_BYTES = 1 << 16
_L = TypeVar("_L", bound="Link")


class LiveClients(Driver):
    """All clients of a run, in the scenario's time.

    Parameters
    ----------
    scenario : Scenario
        As `on_loopback` returns it.
    workload : Workload
    record : Record
    settings : dict
        ``poll_port``, ``push_port``, ``secret``, ``time_scale``, ``through_proxy``: whether the
        ports are the proxy's; ``rollout``: None, or ``flag``, ``places`` and ``due_s``.
    """

    def __init__(
        self, scenario: Scenario, workload: Workload, record: Record, settings: dict[str, Any]
    ) -> None:
        clients = len(workload.start_s)
        super().__init__(workload.rules, record, clients, workload.flag, workload.buckets.tolist())
        self.loop = asyncio.get_running_loop()
        self.scenario = scenario
        self.workload = workload
        self.spec = scenario.wire_spec()
        self.settings = settings
        self.time_scale: float = settings["time_scale"]
        self.start_s = 0.0
        self.is_over = False
        self.stamp_s: float | None = None
        self.timers: list[asyncio.TimerHandle | None] = [None] * clients
        self.links: list[PollLink | PushLink | None] = [None] * clients
        self.is_proxied: bool = settings["through_proxy"]
        self.opening: dict[int, Link] = {}
        self.asking: set[SafetyPollLink] = set()
        self.tokens = [
            make_token(settings["secret"], number, self.spec.token_bytes)
            for number in range(clients)
        ]
        self.tasks: set[asyncio.Task[None]] = set()
        self.fault: BaseException | None = None
        self.arrivals: list[tuple[float, PushLink, bytes]] = []
        self.to_close: list[tuple[int, float]] = []
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))

    # -- time ------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Return the scenario's time; while an arrival is processed, when it arrived."""
        if self.stamp_s is not None:
            return self.stamp_s
        return (self.loop.time() - self.start_s) * self.time_scale

    def to_clock(self, t: float) -> float:
        """Return the loop's time for a time of the scenario."""
        return self.start_s + t / self.time_scale

    def arm(self, client: Client, deadline_s: float) -> None:
        """Set the client's timer."""
        timer = self.timers[client.number]
        if timer is not None:
            timer.cancel()
        self.timers[client.number] = (
            self.loop.call_at(self.to_clock(deadline_s), self.wake, client)
            if deadline_s < NEVER_S
            else None
        )

    def schedule_flag_update(self, client: Client, t: float, why: int) -> None:
        """Let the client hear of the rollout at `t`: of the flag by itself, else by the server."""
        if why == SERVER_CLOSES:
            self.to_close.append((client.number, t))
        else:
            self.loop.call_at(self.to_clock(t), self.apply_flag, client, why)

    def apply_flag(self, client: Client, why: int) -> None:
        """The client learns the present percentage, after what arrived before it."""
        self.catch_up()
        if not self.is_closed:
            super().apply_flag(client, why)

    def trip_s(self, client: Client) -> float:  # noqa: ARG002 - here no trip is like another
        """Return nothing: what the clients are told comes from their own process."""
        return 0.0

    def snapshot(self) -> recording.MetricsSnapshot:
        """Return what is known now."""
        self.catch_up()
        is_present = [client.state not in (State.ABSENT, State.GONE) for client in self.clients]
        is_connected = [row.opened_s < NEVER_S for row in self.connection_rows]
        return recording.snapshot(
            self.record, np.array(is_present), np.array(is_connected), self.now_s()
        )

    @property
    def is_closed(self) -> bool:
        """Whether nothing counts any more: the run is over, or time has passed its horizon."""
        return self.is_over or self.now_s() >= self.record.horizon_s

    def feed(self, client: Client, event: Event, value: int = 0) -> None:
        """Put one event through the rules, after what arrived before it."""
        self.catch_up()
        if not self.is_closed:
            super().feed(client, event, value)

    def wake(self, client: Client) -> None:
        """The client's deadline has come, unless what arrived before has moved it."""
        due_s = client.deadline_s
        self.catch_up()
        if client.deadline_s == due_s:
            super().wake(client)

    def spawn(self, coroutine: Any) -> None:
        """Run a coroutine beside the others; the run ends with all of them."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        """A coroutine has ended; what it raised ends the run."""
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.fault = self.fault or task.exception()

    async def until(self, t: float) -> None:
        """Sleep until a time of the scenario."""
        await asyncio.sleep(max(0.0, self.to_clock(t) - self.loop.time()))

    async def session(self, client: Client, start_s: float, end_s: float) -> None:
        """A user opens the board, works with it, and leaves."""
        await self.until(start_s)
        self.begin(client)
        for activity, kind in ((self.workload.drag, DRAG), (self.workload.hidden, HIDE)):
            if activity is not None:
                self.spawn(self.activity(client, activity, kind, start_s, end_s))
        if end_s < self.record.horizon_s:
            await self.until(end_s)
            self.catch_up()
            if not self.is_closed:
                self.stop(client)

    async def activity(
        self,
        client: Client,
        activity: Activity,
        kind: tuple[Stream, Stream, Event, Event],
        t: float,
        end_s: float,
    ) -> None:
        """The user drags a card, or hides the tab, now and then until the session ends."""
        gap, length, begin, end = kind
        number, seed, replication = client.number, self.rules.seed, self.rules.replication
        k = 0
        while True:
            start_s, t = episode_s(
                seed, replication, number, gap, length, k, t, activity.every_s, activity.length_s
            )
            k += 1
            for when, event in ((start_s, begin), (t, end)):
                if when >= end_s:
                    return
                await self.until(when)
                self.feed(client, event)

    # -- actions ---------------------------------------------------------------------------

    def carry_out(self, client: Client, event: Event, actions: int, was: int) -> None:
        """Do on sockets what the client asks for."""
        number = client.number
        link = self.links[number]
        if actions & Action.CLOSE:
            self.close_connection(client, event, was)
            link = None
        if actions & Action.FETCH:
            if isinstance(link, PollLink) and link.is_usable:
                self.tally(Count.POLLS, number)
                link.fetch(client.exchange)
            else:
                self.spawn(self.open_poll(client, client.exchange))
        if actions & Action.CONNECT:
            self.tally(Count.ATTEMPTS, number)
            self.spawn(self.open_push(client, client.exchange))
        if isinstance(link, PushLink):
            if actions & Action.UPGRADE:
                link.upgrade()
            if actions & Action.AUTHENTICATE:
                link.send_text(wire.auth_text(self.spec, self.tokens[number], client.seen))
            if actions & Action.SAFETY_POLL:
                recording.count_safety_poll(self.record, number, self.now_s())
                self.spawn(self.safety_poll(client, client.exchange))
            if actions & Action.SEND_PING:
                link.send_ping()
            if actions & Action.SEND_PONG:
                link.send_pong()

    async def open_poll(self, client: Client, exchange: int) -> None:
        """Open a connection for polls, and send the first."""
        link = await self._open(PollLink(self, client), "poll_port")
        if link is None:
            if client.exchange == exchange:
                self.tally(Count.ERRORS, client.number)
                self.feed(client, Event.FAILED)
            return
        if client.exchange != exchange or self.is_closed:
            link.transport.abort()  # the user has left meanwhile
            return
        self.links[client.number] = link
        self.record_connection(client.number)
        self.tally(Count.POLLS, client.number)
        link.fetch(exchange)

    async def safety_poll(self, client: Client, exchange: int) -> None:
        """Poll once beside an open connection, on one of its own."""
        link = await self._open(SafetyPollLink(self, client), "poll_port")
        if client.exchange != exchange or self.is_closed:
            if link is not None:
                link.transport.abort()
        elif link is None:
            recording.count_failed_safety_poll(self.record, client.number, self.now_s())
        else:
            link.fetch(exchange)

    async def open_push(self, client: Client, exchange: int) -> None:
        """Open a connection for pushes."""
        link = await self._open(PushLink(self, client, exchange), "push_port")
        if client.exchange != exchange or self.is_closed:
            if link is not None:
                link.transport.abort()
        elif link is None:
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.CLOSED)
        else:
            self.links[client.number] = link
            self.feed(client, Event.CONNECTED)

    async def _open(self, link: _L, port: str) -> _L | None:
        """Connect, through the proxy if there is one; None if nobody accepts."""
        try:
            await self.loop.create_connection(lambda: link, "127.0.0.1", self.settings[port])
        except OSError:
            return None
        if not self.is_proxied:
            return link
        number = link.client.number
        if not isinstance(link, SafetyPollLink):
            self.opening[number] = link
        is_through = await link.is_through
        if self.opening.get(number) is link:
            del self.opening[number]
        return link if is_through else None

    def close_connection(self, client: Client, event: Event, was: int) -> None:
        """The client's side of a connection ends."""
        number = client.number
        link: Link | None = self.links[number] or self.opening.pop(number, None)
        self.links[number] = None
        if event == Event.DEADLINE and was == Transport.WEBSOCKET:
            self.tally(Count.ERRORS, number)
        self.record_disconnect(number, self.now_s(), cause_of(event, was))
        if link is not None:
            link.leave(graceful=event == Event.STOP)

    def lost(self, link: Link) -> None:
        """A connection that the client did not close has ended."""
        self.catch_up()
        client = link.client
        if self.is_closed or self.links[client.number] is not link:
            return
        self.links[client.number] = None
        if isinstance(link, PushLink):
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.CLOSED)
            return
        self.record_disconnect(client.number, self.now_s(), Cause.IDLE)
        if link.exchange == client.exchange:
            self.tally(Count.ERRORS, client.number)
            self.feed(client, Event.FAILED)

    # -- bursts ----------------------------------------------------------------------------

    def stamp(self, link: PushLink, data: bytes) -> None:
        """Note what arrived and when; it is processed when the burst has passed."""
        if not self.arrivals:
            self.loop.call_later(_BURST_GAP_S, self.process)
        self.arrivals.append((self.now_s(), link, data))

    def process(self) -> None:
        """Process the arrivals, unless more are coming in."""
        if not self.arrivals:
            return
        now = self.now_s()
        quiet_s = (now - self.arrivals[-1][0]) / self.time_scale
        waited_s = (now - self.arrivals[0][0]) / self.time_scale
        if quiet_s < _BURST_GAP_S and waited_s < _BURST_LIMIT_S:
            self.loop.call_later(_BURST_GAP_S, self.process)
        else:
            self.catch_up()

    def catch_up(self) -> None:
        """Process all arrivals now, each at the time of its stamp."""
        if self.stamp_s is not None:
            return  # in the middle of it
        arrivals, self.arrivals = self.arrivals, []
        for arrived_s, link, data in arrivals:
            self.stamp_s = arrived_s
            link.digest(data)
        self.stamp_s = None

    # -- a rollout -------------------------------------------------------------------------

    def look_at(self, parent: Parent, t: float) -> None:
        """Show the parent's conductor the run at `t`."""
        if t < self.record.horizon_s:
            self.loop.call_at(
                self.to_clock(t), lambda: parent.send({"glance": self.snapshot()._replace(t=t)})
            )

    def follow(self, parent: Parent, said: ControllerReply) -> None:
        """Do what the conductor says."""
        if said.percent is not None:
            self.set_percentage(said.percent)
            closes, self.to_close = self.to_close, []
            if closes:
                parent.send({"closes": closes})
        self.look_at(parent, said.due_s)

    # -- the run ---------------------------------------------------------------------------

    async def run(self, parent: Parent, start_s: float, inbox: asyncio.Queue[Any]) -> float:
        """Let the scenario happen; return the scenario's time at its end."""
        self.start_s = start_s
        starts, ends = self.workload.start_s.tolist(), self.workload.end_s.tolist()
        for client, begin, end in zip(self.clients, starts, ends, strict=True):
            self.spawn(self.session(client, begin, end))
        if self.flag is not None:
            self.look_at(parent, self.settings["rollout"]["due_s"])
        end_s = self.to_clock(self.record.horizon_s)
        interrupted = False
        while not interrupted and (left_s := end_s - self.loop.time()) > 0.0:
            try:
                message = await asyncio.wait_for(inbox.get(), min(_REPORT_S, left_s))
                if isinstance(message, ControllerReply):
                    self.follow(parent, message)
                else:
                    interrupted = True
            except TimeoutError:
                parent.send({"t": max(0.0, self.now_s())})
            if self.fault is not None:
                raise self.fault
        end_of_run_s = max(0.0, self.now_s()) if interrupted else self.record.horizon_s
        self.catch_up()
        self.is_over = True
        self.stamp_s = end_of_run_s
        self.record.end_at(end_of_run_s)
        self.finish()
        for task in self.tasks:
            task.cancel()
        for link in (*self.links, *self.opening.values(), *self.asking):
            if link is not None:
                link.transport.abort()
        return end_of_run_s


class Link(asyncio.BufferedProtocol):
    """One TCP connection of one client; counts its bytes.

    All links read into one buffer: they share a thread, and asyncio's other way makes a new
    buffer of 256 KiB for each frame.
    """

    def __init__(self, fleet: LiveClients, client: Client) -> None:
        self.fleet = fleet
        self.client = client
        self.exchange = -1
        self.transport: asyncio.Transport
        self.is_through: asyncio.Future[bool] = fleet.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.fleet.is_proxied:
            transport.write(preamble(self.client.number))  # no byte of the record's
        else:
            self.is_through.set_result(True)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """asyncio: where to read to."""
        return self.fleet.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: bytes have come."""
        data = bytes(self.fleet.buffer[:nbytes])
        if not self.is_through.done():
            self.is_through.set_result(True)
            data = data.removeprefix(THROUGH)
        if data:
            self.take(data)

    def take(self, data: bytes) -> None:
        """Bytes have come."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """asyncio: the connection is gone."""
        if not self.is_through.done():
            self.is_through.set_result(False)
        self.fleet.lost(self)

    def write(self, data: bytes) -> None:
        """Send, and count."""
        self.transport.write(data)
        self.count(len(data), 0)

    def count(self, up: int, down: int) -> None:
        """Book bytes of this connection."""
        fleet = self.fleet
        if not fleet.is_closed:
            recording.add_bytes(fleet.record, self.client.number, fleet.now_s(), up, down)

    def leave(self, *, graceful: bool) -> None:  # noqa: ARG002 - a poll has no farewell
        """Close from the client's side."""
        self.transport.abort()


class PollLink(Link):
    """A keep-alive HTTP connection."""

    def __init__(self, fleet: LiveClients, client: Client) -> None:
        super().__init__(fleet, client)
        self.body = b""
        self.parser = httptools.HttpResponseParser(self)

    @property
    def is_usable(self) -> bool:
        """Whether the server still keeps the connection."""
        return not self.transport.is_closing()

    def fetch(self, exchange: int) -> None:
        """Send a poll."""
        self.exchange = exchange
        known = self.client.seen if self.client.fetched_s > -NEVER_S else None
        token = self.fleet.tokens[self.client.number]
        self.write(wire.poll_request(self.fleet.spec, token, known))

    def take(self, data: bytes) -> None:
        """Bytes have come."""
        self.count(0, len(data))
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """httptools: the response is whole."""
        body, self.body = self.body, b""
        status = self.parser.get_status_code()
        self.parser = httptools.HttpResponseParser(self)
        fleet, client = self.fleet, self.client
        if client.exchange != self.exchange:
            return
        self.exchange = -1
        if status == 200:
            fleet.feed(client, Event.FETCHED, wire.version_of(body))
        elif status == 304:
            fleet.tally(Count.UNCHANGED, client.number)
            fleet.feed(client, Event.UNCHANGED)
        else:
            fleet.tally(Count.ERRORS, client.number)
            fleet.feed(client, Event.FAILED)


class SafetyPollLink(PollLink):
    """The connection of one safety poll, beside the one that is open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        super().connection_made(transport)
        self.fleet.asking.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        super().connection_lost(exc)
        self.fleet.asking.discard(self)

    def on_message_complete(self) -> None:
        """httptools: the response is whole; whatever it says, nobody asks again before time."""
        fleet, client = self.fleet, self.client
        if client.exchange == self.exchange:
            if self.parser.get_status_code() == 200:
                fleet.feed(client, Event.SNAPSHOT, wire.version_of(self.body))
            else:
                recording.count_failed_safety_poll(fleet.record, client.number, fleet.now_s())
        self.transport.close()


class PushLink(Link):
    """A WebSocket: websockets' sans-I/O protocol on a bare transport."""

    def __init__(self, fleet: LiveClients, client: Client, exchange: int) -> None:
        super().__init__(fleet, client)
        spec = fleet.spec
        self.exchange = exchange
        self.protocol = ClientProtocol(parse_uri(f"ws://{spec.host}{spec.websocket_path}"))
        self.is_open = False
        self.awaits_hello = bool(wire.hello_text(spec))

    def upgrade(self) -> None:
        """Ask for the upgrade with the heads that the scenario's client sends."""
        self.protocol.send_request(self.protocol.connect())
        self.protocol.data_to_send()
        self.write(wire.upgrade_request(self.fleet.spec, self.protocol.key))

    def send_text(self, text: str) -> None:
        """Send a text frame."""
        if text:
            self.protocol.send_text(text.encode())
            self.flush()

    def send_ping(self) -> None:
        """Ping with four bytes, as websockets does."""
        self.protocol.send_ping(b"ping")
        self.flush()

    def send_pong(self) -> None:
        """Answer a ping: the protocol has the pong ready, unless the envelope has its own."""
        self.send_text(wire.heartbeat_texts(self.fleet.spec)[1])
        self.flush()

    def flush(self) -> None:
        """Write what the protocol wants written."""
        for data in self.protocol.data_to_send():
            if data:
                self.write(data)

    def leave(self, *, graceful: bool) -> None:
        """Close with a close frame and its echo, or at once."""
        if graceful and self.protocol.state is SocketState.OPEN:
            self.protocol.send_close(1000)
            self.flush()
        else:
            self.transport.abort()

    def take(self, data: bytes) -> None:
        """Bytes have come."""
        if self.is_open:
            self.fleet.stamp(self, data)
        else:
            self.digest(data)

    def digest(self, data: bytes) -> None:
        """Take in what came, at the fleet's present time."""
        self.count(0, len(data))
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.take_response()
            elif isinstance(event, Frame):
                self.take_frame(event)
        self.flush()
        if self.protocol.close_expected():
            self.transport.close()

    def take_response(self) -> None:
        """The answer to the upgrade."""
        if isinstance(self.protocol.handshake_exc, InvalidStatus):
            self.transport.abort()
        elif not self.awaits_hello:
            self.tell(Event.UPGRADED)

    def take_frame(self, frame: Frame) -> None:
        """One frame of an upgraded connection."""
        fleet = self.fleet
        if frame.opcode is Opcode.PING:
            self.tell(Event.PING)
        elif frame.opcode is Opcode.PONG:
            self.tell(Event.PONG)
        elif frame.opcode is Opcode.CLOSE:
            received = self.protocol.close_rcvd
            if received is not None and received.code == POLL_INSTEAD and self.is_present:
                fleet.apply_flag(self.client, SERVER_CLOSED)
        elif frame.opcode is Opcode.TEXT:
            text = bytes(frame.data).decode()
            if self.awaits_hello:
                self.awaits_hello = False
                self.tell(Event.UPGRADED)
            elif text == wire.heartbeat_texts(fleet.spec)[0]:
                self.tell(Event.PING)
            else:
                self.take_message(text)

    def take_message(self, text: str) -> None:
        """READY, a snapshot, a push, or a refusal."""
        fleet, kind = self.fleet, wire.kind_of(text)
        if not self.is_present:
            return
        if kind == wire.Message.READY:
            self.is_open = True
            fleet.record_connection(self.client.number)
            is_lost = self.fleet.rules.resync.kind == Resync.NONE or wire.says_lost(text)
            self.tell(Event.READY, wire.version_of(text) if is_lost else 0)
        elif kind == wire.Message.AUTH_REFUSED:
            fleet.tally(Count.ERRORS, self.client.number)
            self.tell(Event.REJECTED)
        else:
            fleet.tally(Count.MESSAGES, self.client.number)
            event = Event.SNAPSHOT if kind == wire.Message.SNAPSHOT else Event.PUSH
            self.tell(event, wire.version_of(text))

    @property
    def is_present(self) -> bool:
        """Whether this is still the client's connection."""
        return self.client.exchange == self.exchange

    def tell(self, event: Event, value: int = 0) -> None:
        """Feed the client, if this is still its connection."""
        if self.is_present:
            self.fleet.feed(self.client, event, value)


async def run(parent: Parent) -> None:
    """Run the clients of one scenario, and hand the record to the parent."""
    settings = parent.receive()
    scenario: Scenario = settings["scenario"]
    workload = compile_workload(scenario, settings["seed"], settings["replication"])
    if settings["rollout"] is not None:
        workload = enrolled(workload, settings["rollout"]["flag"], settings["rollout"]["places"])
    record = new_record(scenario, workload, settings["keep"])
    fleet = LiveClients(scenario, workload, record, settings)
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    parent.send({"ready": True})
    parent.watch(fleet.loop, inbox)
    start_s = await inbox.get()
    if start_s is None:
        return
    gc.disable()  # a full collection would stop every client for milliseconds
    before_s = time.process_time()
    end_of_run_s = await fleet.run(parent, start_s, inbox)
    cpu_s = time.process_time() - before_s
    parent.send({"record": record, "end_of_run_s": end_of_run_s, "cpu_s": cpu_s})


if __name__ == "__main__":
    asyncio.run(run(Parent()))
