"""The connections of the lab's clients: HTTP for polls, WebSocket for pushes.

Many clients share one thread, so each connection must be light, or the clients and not the server
would be measured: polls are parsed by httptools, frames by the sans-I/O protocol of websockets on a
bare transport. Pushed frames, and answers to requests that were held, are stamped as they arrive
and processed when their `Burst` is over, so that one client's parsing does not delay the next one's
stamp.

Bytes are counted as sockets carry them, the lengths of what is written and of what is received, and
as IP packets: see `packets`. Packets that open and close a connection are those of the model.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

import httptools
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State as SocketState
from websockets.uri import parse_uri

from simlib.core import record as recording
from simlib.core import wire
from simlib.core.assignment import SERVER_CLOSED
from simlib.core.client_state import NEVER_S, Client
from simlib.core.connection import ready_value
from simlib.core.driver import Driver
from simlib.core.notify import is_awaited
from simlib.core.protocol import BAD_GATEWAY, UNAVAILABLE, Event, holds
from simlib.core.record import Count, Wait
from simlib.core.resync import Resume, Resync
from simlib.core.wire import WireSpec
from simlib.live.clock import ScenarioClock
from simlib.live.messages import CLOSE_FOR_ROLLBACK, accepted_by, preamble
from simlib.live.packets import HeaderCounter

_BURST_GAP_S = 2e-3
_ANSWERS_GAP_S = 0.5e-3
"""Of answers to requests that were held: the next requests wait for the end of such a burst."""
_BURST_LIMIT_S = 0.25


class ConnectionOwner(Driver):
    """The driver as its connections see it.

    Attributes
    ----------
    loop : asyncio.AbstractEventLoop
    spec : WireSpec
    tokens : list of str
        Each client's.
    packets_to_open, packets_to_close : tuple of int
        Bytes up and down of the packets that open and close a connection.
    is_proxied : bool
        Whether connections lead through the proxy, which has a handshake of its own.
    buffer : memoryview
        All connections read into it: they share a thread, and asyncio's other way makes a new
        buffer of 256 KiB for each frame.
    burst : Burst
    beside : set of BesideConnection
        Those that are open.
    asked_s : list of float
        When each client last wanted to fetch, seconds.
    """

    loop: asyncio.AbstractEventLoop
    spec: WireSpec
    tokens: list[str]
    packets_to_open: tuple[int, int]
    packets_to_close: tuple[int, int]
    is_proxied: bool
    has_admission_rate: bool
    buffer: memoryview
    burst: Burst
    beside: set[BesideConnection]
    asked_s: list[float]

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the run is over, so that nothing counts any more."""

    def feed_failure(self, client: Client, status: int = 0) -> None:
        """Tell a client that its request has failed, with an error of HTTP or without an answer."""
        self.tally(Count.ERRORS, client.number)
        self.feed(client, Event.CLOSED if holds(client.transport) else Event.FAILED, status)

    def hear_status(self, client: Client, status: int) -> None:
        """A request is answered: count the answers of a full server, or a proxy without a node.

        Where no rate is limited, the lab's server refuses beyond its cap alone.
        """
        is_full = status == UNAVAILABLE and not self.has_admission_rate
        if (is_full or status == BAD_GATEWAY) and not self.has_ended:
            what = Count.REFUSED if is_full else Count.BAD_GATEWAYS
            recording.count_in_bin(self.record, what, client.number, self.now_s())

    @abstractmethod
    def keep_beside(self, connection: SafetyPollConnection) -> None:
        """Keep the connection of a safety poll that has its answer for the next one."""

    @abstractmethod
    def connection_ended(self, connection: ClientConnection) -> None:
        """A connection has ended, by whichever side."""


class ClientConnection(asyncio.BufferedProtocol):
    """One TCP connection of one client, to one node of the server; it counts its bytes."""

    def __init__(self, owner: ConnectionOwner, client: Client) -> None:
        self.owner = owner
        self.client = client
        self.exchange = -1
        self.node = 0
        self.transport: asyncio.Transport
        self.headers: HeaderCounter
        self.is_accepted: asyncio.Future[bool] = owner.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.headers = HeaderCounter(transport.get_extra_info("socket"))
        if self.owner.is_proxied:
            # It is not counted: no real client sends it.
            transport.write(preamble(self.client.number, self.client.exchange))
        else:
            self.accepted()

    def accepted(self) -> None:
        """The connection leads to a server: count the packets that opened it, none of before."""
        self.is_accepted.set_result(True)
        self.headers.take()
        self.count_packets(*self.owner.packets_to_open)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """asyncio: where to read to."""
        return self.owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: bytes have arrived."""
        data = bytes(self.owner.buffer[:nbytes])
        if not self.is_accepted.done():
            self.node, data = accepted_by(data[0]), data[1:]
            self.accepted()
        if data:
            self.receive(data)

    def receive(self, data: bytes) -> None:
        """Bytes of the server's have arrived."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """asyncio: the connection has ended."""
        if self.is_accepted.done():
            self.count(0, 0)
            self.count_packets(*self.owner.packets_to_close)
        else:
            self.is_accepted.set_result(False)
        self.owner.connection_ended(self)

    def write(self, data: bytes) -> None:
        """Send, and count the bytes."""
        self.transport.write(data)
        self.count(len(data), 0)

    def count(self, up: int, down: int) -> None:
        """Record bytes that this connection has carried, and the packets since the last time."""
        owner = self.owner
        if not owner.has_ended:
            recording.add_payload(owner.record, self.client.number, owner.now_s(), up, down)
            headers_up, headers_down = self.headers.take()
            self.count_packets(up + headers_up, down + headers_down)

    def count_packets(self, up: int, down: int) -> None:
        """Record the bytes of packets."""
        owner = self.owner
        if not owner.has_ended:
            recording.add_packets(owner.record, self.client.number, owner.now_s(), up, down)

    def close(self, *, graceful: bool) -> None:  # noqa: ARG002 - HTTP has no closing handshake
        """Close from the client's side."""
        self.transport.abort()


class PollConnection(ClientConnection):
    """A keep-alive HTTP connection."""

    def __init__(self, owner: ConnectionOwner, client: Client) -> None:
        super().__init__(owner, client)
        self.body = b""
        self.parser = httptools.HttpResponseParser(self)

    @property
    def is_usable(self) -> bool:
        """Whether the server still keeps the connection open."""
        return not self.transport.is_closing()

    def fetch(self, exchange: int) -> None:
        """Send a poll, or a request that is to be held."""
        self.exchange = exchange
        known = self.client.seen if self.client.fetched_s > -NEVER_S else None
        spec, token = self.owner.spec, self.owner.tokens[self.client.number]
        if holds(self.client.transport):
            self.write(wire.held_request(spec, token, self.client.seen))
        else:
            self.write(wire.poll_request(spec, token, known))

    def receive(self, data: bytes) -> None:
        """Bytes of a response have arrived; of one that was held, they wait for all the others."""
        if holds(self.client.transport):
            self.owner.burst.add(self, data, _ANSWERS_GAP_S)
        else:
            self.process(data)

    def process(self, data: bytes) -> None:
        """Process bytes that have arrived, at the owner's present time."""
        self.count(0, len(data))
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """httptools: the response is complete."""
        body, self.body = self.body, b""
        status = self.parser.get_status_code()
        self.parser = httptools.HttpResponseParser(self)
        owner, client = self.owner, self.client
        if client.exchange != self.exchange:
            return
        self.exchange = -1
        owner.hear_status(client, status)
        is_polled = status in (200, 304) and not holds(client.transport)
        if is_polled and not owner.has_ended:
            owner.end_wait(Wait.POLL, client.number, owner.asked_s[client.number])
        if status == 200:
            owner.feed(client, Event.FETCHED, wire.version_of(body))
        elif status in (204, 304):
            owner.tally(Count.UNCHANGED, client.number)
            owner.feed(client, Event.UNCHANGED)
        else:
            owner.feed_failure(client, status)


class BesideConnection(PollConnection):
    """An HTTP connection beside a WebSocket; its owner knows it as long as it is open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        super().connection_made(transport)
        self.owner.beside.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection has ended."""
        super().connection_lost(exc)
        self.owner.beside.discard(self)


class RefetchConnection(BesideConnection):
    """The one on which a client fetches what it is told of."""

    def fetch(self, exchange: int) -> None:
        """Send a fetch, and note which it is."""
        self.fetch_number = self.client.fetch_number
        super().fetch(exchange)

    def on_message_complete(self) -> None:
        """httptools: the response is complete, unless a hint before it has given the fetch up."""
        self.owner.burst.process()
        if is_awaited(self.client, self.exchange, self.fetch_number):
            super().on_message_complete()


class SafetyPollConnection(BesideConnection):
    """One for safety polls, which is kept from one to the next."""

    def on_message_complete(self) -> None:
        """httptools: the response is complete; if it is a failure, there is no retry."""
        owner, client = self.owner, self.client
        is_awaited, self.exchange = client.exchange == self.exchange, -1
        body, self.body = self.body, b""
        status = self.parser.get_status_code()
        self.parser = httptools.HttpResponseParser(self)
        if not is_awaited or status == BAD_GATEWAY:
            self.transport.close()
        else:
            owner.keep_beside(self)
        if not is_awaited:
            return
        if status == 200:
            owner.feed(client, Event.SNAPSHOT, wire.version_of(body))
        else:
            owner.hear_status(client, status)
            recording.count_failed_safety_poll(owner.record, client.number, owner.now_s())

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection has ended; a safety poll that was under way on it has failed.

        What ended it may have ended the client's socket too, of which it may have heard first.
        """
        owner, client = self.owner, self.client
        if self.exchange >= 0 and client.exchange <= self.exchange + 1 and not owner.has_ended:
            recording.count_failed_safety_poll(owner.record, client.number, owner.now_s())
        super().connection_lost(exc)


class PushConnection(ClientConnection):
    """A WebSocket: the sans-I/O protocol of websockets on a bare transport."""

    def __init__(self, owner: ConnectionOwner, client: Client, exchange: int) -> None:
        super().__init__(owner, client)
        spec = owner.spec
        self.exchange = exchange
        self.protocol = ClientProtocol(parse_uri(f"ws://{spec.host}{spec.websocket_path}"))
        self.is_open = False
        self.refused_with = 0
        self.awaits_hello = bool(wire.hello_text(spec))

    @property
    def is_current(self) -> bool:
        """Whether this is still the client's connection."""
        return self.client.exchange == self.exchange

    def feed(self, event: Event, value: int = 0) -> None:
        """Feed the client, if this is still its connection."""
        if self.is_current:
            self.owner.feed(self.client, event, value)

    # -- sending ---------------------------------------------------------------------------

    def upgrade(self) -> None:
        """Ask for the upgrade with the headers that the scenario's client sends."""
        self.protocol.send_request(self.protocol.connect())
        self.protocol.data_to_send()
        self.write(wire.upgrade_request(self.owner.spec, self.protocol.key))

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
        self.send_text(wire.heartbeat_texts(self.owner.spec)[1])
        self.flush()

    def flush(self) -> None:
        """Write the bytes that the protocol has ready."""
        for data in self.protocol.data_to_send():
            if data:
                self.write(data)

    def close(self, *, graceful: bool) -> None:
        """Close with a closing handshake, or at once."""
        if graceful and self.protocol.state is SocketState.OPEN:
            self.protocol.send_close(1000)
            self.flush()
        else:
            self.transport.abort()

    # -- receiving -------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes have arrived; once the connection is open, they wait for the end of their burst."""
        if self.is_open:
            self.owner.burst.add(self, data)
        else:
            self.process(data)

    def process(self, data: bytes) -> None:
        """Process bytes that have arrived, at the owner's present time."""
        self.count(0, len(data))
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.process_response()
            elif isinstance(event, Frame):
                self.process_frame(event)
        self.flush()
        if self.protocol.close_expected():
            self.transport.close()

    def process_response(self) -> None:
        """Process the response to the upgrade."""
        refusal = self.protocol.handshake_exc
        if isinstance(refusal, InvalidStatus):
            self.refused_with = refusal.response.status_code
            self.transport.abort()
        elif not self.awaits_hello:
            self.feed(Event.UPGRADED)

    def process_frame(self, frame: Frame) -> None:
        """Process one frame of an upgraded connection."""
        owner = self.owner
        if frame.opcode is Opcode.PING:
            self.feed(Event.PING)
        elif frame.opcode is Opcode.PONG:
            self.feed(Event.PONG)
        elif frame.opcode is Opcode.CLOSE:
            received = self.protocol.close_rcvd
            if received is not None and received.code == CLOSE_FOR_ROLLBACK and self.is_current:
                owner.apply_flag(self.client, SERVER_CLOSED)
        elif frame.opcode is Opcode.TEXT:
            text = bytes(frame.data).decode()
            if self.awaits_hello:
                self.awaits_hello = False
                self.feed(Event.UPGRADED)
            elif text == wire.heartbeat_texts(owner.spec)[0]:
                self.feed(Event.PING)
            else:
                self.process_message(text)

    def process_message(self, text: str) -> None:
        """Process a ready message, a snapshot, a push, or a refusal."""
        owner, kind = self.owner, wire.kind_of(text)
        if not self.is_current:
            return
        if kind == wire.Message.READY:
            self.is_open = True
            owner.record_connection(self.client.number)
            is_lost = owner.rules.resync.kind == Resync.NONE or wire.says_lost(text)
            outcome = Resume.LOST if is_lost else Resume.NOTHING
            version = wire.version_of(text)
            self.feed(Event.READY, ready_value(self.client, outcome, version))
        elif kind == wire.Message.AUTH_REFUSED:
            owner.tally(Count.ERRORS, self.client.number)
            self.feed(Event.REJECTED)
        else:
            owner.tally(Count.MESSAGES, self.client.number)
            event = Event.SNAPSHOT if kind == wire.Message.SNAPSHOT else Event.PUSH
            self.feed(event, wire.version_of(text))


class EventSourceConnection(PushConnection):
    """A stream of server-sent events, read as EventSource reads it, on a bare transport."""

    def __init__(self, owner: ConnectionOwner, client: Client, exchange: int) -> None:
        ClientConnection.__init__(self, owner, client)
        self.exchange = exchange
        self.is_open = False
        self.refused_with = 0
        self.parser = httptools.HttpResponseParser(self)
        self.unread = b""

    def upgrade(self) -> None:
        """Ask for the stream; name the last event if this is not the first connection."""
        owner, client = self.owner, self.client
        is_again = owner.connection_rows[client.number].has_upgraded
        token, last = owner.tokens[client.number], client.seen if is_again else None
        self.write(wire.stream_request(owner.spec, token, client.seen, last))

    def close(self, *, graceful: bool) -> None:  # noqa: ARG002 - a stream has no closing handshake
        """Close from the client's side."""
        self.transport.abort()

    def process(self, data: bytes) -> None:
        """Process bytes that have arrived, at the owner's present time."""
        self.count(0, len(data))
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the stream, of which each whole event is processed."""
        *events, self.unread = (self.unread + body).split(b"\n\n")
        for event in events:
            if event.startswith(b":"):
                self.feed(Event.PING)
            else:
                self.process_message(event.partition(b"\ndata: ")[2].decode())

    def on_message_complete(self) -> None:
        """httptools: the stream has come to its proper end, or was refused."""
        self.refused_with = self.parser.get_status_code()
        self.transport.close()

    def process_message(self, text: str) -> None:
        """Process what stands for READY, a snapshot, a push or a notice."""
        if self.is_current:
            self.owner.connection_rows[self.client.number].has_upgraded = True
        super().process_message(text)


class Burst:
    """The pushed bytes that have arrived and are not processed yet, each with its time of arrival.

    Parameters
    ----------
    clock : ScenarioClock

    Attributes
    ----------
    stamp_s : float or None
        While bytes are processed, when they arrived; after the run, its end, seconds.
    gap_s : float
        The burst is over when nothing has arrived for so long by the clock, seconds.
    """

    def __init__(self, clock: ScenarioClock) -> None:
        self.clock = clock
        self.gap_s = _BURST_GAP_S
        self.arrivals: list[tuple[float, PollConnection | PushConnection, bytes]] = []
        self.stamp_s: float | None = None

    def now_s(self) -> float:
        """Return the scenario's time; while bytes are processed, when they arrived."""
        return self.clock.now_s() if self.stamp_s is None else self.stamp_s

    def add(
        self,
        connection: PollConnection | PushConnection,
        data: bytes,
        gap_s: float = _BURST_GAP_S,
    ) -> None:
        """Note what arrived and when; it is processed when the burst is over."""
        self.gap_s = gap_s
        if not self.arrivals:
            self._look_later()
        self.arrivals.append((self.now_s(), connection, data))

    def process(self) -> None:
        """Process all arrivals now, each at its own time."""
        if self.stamp_s is not None:
            return  # called while an arrival is processed
        arrivals, self.arrivals = self.arrivals, []
        for arrived_s, connection, data in arrivals:
            self.stamp_s = arrived_s
            connection.process(data)
        self.stamp_s = None

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self.gap_s, self._process_if_over)

    def _process_if_over(self) -> None:
        if not self.arrivals:
            return
        now, scale = self.now_s(), self.clock.time_scale
        quiet_s = (now - self.arrivals[-1][0]) / scale
        waited_s = (now - self.arrivals[0][0]) / scale
        if quiet_s < self.gap_s and waited_s < _BURST_LIMIT_S:
            self._look_later()
        else:
            self.process()
