"""The lab's third process: the network between clients and server, under the scenario's faults.

It stands between the clients and both ports of the server, passes on what it receives, and carries
out those faults that a server cannot: `loopback.PROXIED` names them, `core.faults` and `core.path`
define them. Where this machine's kernel would differ from the simulation, the proxy does as the
simulation does:

* A connection through it opens with a handshake of its own, which plays the part of TCP's: the
  client sends its number (`messages.preamble`), and the proxy answers with `ready_byte` when a node
  of the server has accepted. So a SYN can get lost, is repeated as a kernel would (`syn_retry_s`),
  and is subject to the path's latency. A client cannot see through the proxy that a port refuses,
  because the proxy has accepted by then: the proxy hangs up before that byte, which the client
  takes for a refusal.
* Where ``network.bad_gateway`` is set, it answers for the server while no node accepts: it lets the
  connection open, and its request gets a 502.
* It is the balancer of a server with several nodes: each new connection goes to the node that the
  simulation would give it to, by the same rule and draws, among those that the lab says are up. It
  counts all connections, those beside a socket too.
* On a dead path nothing crosses, not even the end of a connection. What is sent there is dropped,
  and a poll fails after ``network.unanswered_s``, when the client's kernel would give it up.
* Latency delays every piece by half of what it adds, each way, in order. Bandwidth releases pieces
  as a line of that rate would carry them, and reads no faster than that.
* A link that all clients share carries what comes for them piece by piece, in the order in which it
  comes; what opens connections and refuses them too, which the simulation leaves out.

`lab` runs this module as ``python -m simlib.live.proxy``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from enum import Enum, auto
from functools import partial
from typing import Any, Self

import numpy as np

from simlib.core import wire
from simlib.core.balancing import new_balancer, take_turn
from simlib.core.connection import Connection, Nodes, node_of
from simlib.core.path import SharedLink, shared_s
from simlib.core.server import SYN_RETRIES, syn_retry_s
from simlib.live.conditions import Conditions
from simlib.live.ipc import Parent
from simlib.live.messages import (
    PREAMBLE,
    Command,
    NodeState,
    Port,
    ProxyReport,
    Ready,
    Settings,
    Start,
    ready_byte,
)
from simlib.live.packets import limit_segments
from simlib.scenario import compile_workload

RECEIVE_BYTES = 4096
"""Receive buffer towards the server under a bandwidth fault, as asked for: Linux doubles it."""
_HELD_BYTES = 4096  # each way, beside what a path of that rate and latency has in transit
_MOST_HELD_BYTES = 1 << 20
_SLICE_S = 0.01
_TICK_S = 1e-4  # a timer of asyncio's may fire a tick of the clock early
_BACKLOG = 4096
_BUFFER_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Signal(Enum):
    """The signals that a direction carries beside bytes, in order with them."""

    READY = auto()
    FIN = auto()
    RST = auto()


class DelayLine:
    """One direction of a connection: it delays pieces, keeps their order and limits their rate.

    Parameters
    ----------
    connection : ProxiedConnection
    source : Endpoint
        The end that the pieces come from; it is paused while too much is held.
    deliver : callable
        Takes each piece that has crossed.
    """

    def __init__(
        self,
        connection: ProxiedConnection,
        source: Endpoint,
        deliver: Callable[[bytes | Signal], None],
    ) -> None:
        self.connection = connection
        self.proxy = connection.proxy
        self.source = source
        self.deliver = deliver
        self.queue: deque[tuple[float, float, bytes | Signal]] = deque()
        self.held_bytes = 0
        self.busy_until_s = -math.inf  # when the line has carried all that it has delivered
        self.last_s = -math.inf  # when the last piece was delivered: none overtakes it
        self.due_s = math.inf
        self.timer: asyncio.TimerHandle | None = None
        self.is_blocked = False

    def put(self, item: bytes | Signal) -> None:
        """Add what has arrived from the source."""
        delay_s = self.proxy.conditions.one_way_s(self.connection.number)
        arrived_s = self.proxy.loop.time()
        if isinstance(item, bytes):
            self.held_bytes += len(item)
            if self is self.connection.down:
                arrived_s = shared_s(self.proxy.shared_link, arrived_s, len(item))
        self.queue.append((arrived_s, delay_s, item))
        if self.timer is None:
            self.deliver_due()
        else:
            self.limit_source()

    def deliver_due(self) -> None:
        """Deliver what is due, and set a timer for the rest."""
        self.stop_timer()
        loop, rate = self.proxy.loop, self.bytes_per_s
        while self.queue and not self.is_blocked:
            arrived_s, delay_s, item = self.queue[0]
            size = len(item) if isinstance(item, bytes) else 0
            if rate < math.inf:
                size = min(size, max(1, int(rate * _SLICE_S)))
            sent_s = max(arrived_s, self.busy_until_s) + size / rate
            due_s = max(sent_s + delay_s, self.last_s)
            if due_s > loop.time():
                self.due_s = due_s
                self.timer = loop.call_at(due_s, self.timer_fired)
                break
            self.busy_until_s, self.last_s = sent_s, due_s
            self.held_bytes -= size
            if isinstance(item, bytes) and size < len(item):
                self.queue[0] = (arrived_s, delay_s, item[size:])
                item = item[:size]
            else:
                self.queue.popleft()
            self.deliver(item)
        self.limit_source()

    def limit_source(self) -> None:
        """Pause the source while more is held than a path like this has in transit."""
        in_transit_s = 2.0 * _SLICE_S + (self.queue[-1][1] if self.queue else 0.0)
        room_bytes = min(_HELD_BYTES + self.bytes_per_s * in_transit_s, _MOST_HELD_BYTES)
        self.source.pause(self.held_bytes > room_bytes)

    def timer_fired(self) -> None:
        """The first piece of the queue is due."""
        self.proxy.late_s.append(self.proxy.loop.time() - self.due_s)
        self.deliver_due()

    @property
    def bytes_per_s(self) -> float:
        """The present rate; the way up has no limit."""
        if self is self.connection.up:
            return math.inf
        return self.proxy.conditions.bytes_per_s(self.connection.number)

    def block(self, is_blocked: bool) -> None:
        """Deliver nothing while the other end takes nothing."""
        self.is_blocked = is_blocked
        self.deliver_due()

    def clear(self) -> None:
        """Drop what is in transit."""
        self.stop_timer()
        self.queue.clear()
        self.held_bytes = 0
        self.source.pause(False)

    def stop_timer(self) -> None:
        """Cancel the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Endpoint(asyncio.BufferedProtocol):
    """One of the two TCP connections of a proxied connection: the client's, or the server's."""

    def __init__(self, connection: ProxiedConnection) -> None:
        self.connection = connection
        self.transport: asyncio.Transport | None = None
        self.has_received_fin = False
        self.has_sent_fin = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connection.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """asyncio: where to read to."""
        return self.connection.proxy.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: bytes have arrived."""
        self.connection.receive(self, bytes(self.connection.proxy.buffer[:nbytes]))

    def eof_received(self) -> bool:
        """asyncio: the other side will send no more; it may still read."""
        if not self.has_received_fin:  # a transport that is resumed reports its end again
            self.has_received_fin = True
            self.connection.receive(self, Signal.FIN)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection has ended; with an error, the other side has ended it."""
        if exc is not None:
            self.connection.receive(self, Signal.RST)
        self.connection.remove_if_closed()

    def pause_writing(self) -> None:
        """asyncio: the other side reads slowly."""
        self.connection.line_to(self).block(True)

    def resume_writing(self) -> None:
        """asyncio: the other side has read."""
        self.connection.line_to(self).block(False)

    @property
    def is_up(self) -> bool:
        """Whether it can still be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def pause(self, is_paused: bool) -> None:
        """Stop reading, or resume."""
        if self.transport is not None and self.transport.is_reading() == is_paused:
            (self.transport.pause_reading if is_paused else self.transport.resume_reading)()

    def send(self, data: bytes) -> None:
        """Write."""
        if self.is_up and not self.has_sent_fin:
            assert self.transport is not None
            self.transport.write(data)

    def send_fin(self) -> None:
        """End the sending direction."""
        if self.is_up and not self.has_sent_fin:
            assert self.transport is not None
            with contextlib.suppress(OSError):  # the other side has reset it
                self.transport.write_eof()
        self.has_sent_fin = True

    def close(self, *, by_reset: bool = False) -> None:
        """Close the connection, with RST if asked to."""
        if self.transport is None:
            return
        if by_reset and self.is_up:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        else:
            self.transport.close()


class ProxiedConnection:
    """A client's connection through the proxy, from its SYN to its end."""

    def __init__(self, proxy: Proxy, port: Port) -> None:
        self.proxy = proxy
        self.port = port
        self.number = -1
        self.exchange = -1
        self.node = -1
        self.is_counted = False
        self.answers = False  # in place of a server that is down
        self.received = b""  # from the client, before the server has accepted
        self.is_open = False
        self.is_dead = False
        self.is_upgrading = port == Port.PUSH
        self.is_stream: bool | None = None if port == Port.POLL else False  # None: not known yet
        self.is_kept = False
        self.awaits_answer = False
        self.opening: asyncio.Task[None] | None = None
        self.kernel_timeout: asyncio.TimerHandle | None = None
        self.client = Endpoint(self)
        self.server = Endpoint(self)
        self.up = DelayLine(self, self.client, self.deliver_up)
        self.down = DelayLine(self, self.server, self.deliver_down)
        proxy.connections.add(self)

    def line_to(self, sink: Endpoint) -> DelayLine:
        """Return the direction that leads to one end."""
        return self.up if sink is self.server else self.down

    def receive(self, source: Endpoint, item: bytes | Signal) -> None:
        """Take what one end has sent."""
        if self.is_dead:
            self.drop(source, item)
        elif not self.is_open:
            self.receive_preamble(item)
        elif self.proxy.conditions.is_under("path_loss", self.number):
            if isinstance(item, bytes):
                self.look_for_stream(item)
            self.lose_path()
            self.drop(source, item)
        else:
            if isinstance(item, bytes):
                self.awaits_answer = source is self.client
                self.look_for_stream(item)
                if source is self.server and self.keeps(item):
                    return
            self.line_to(self.server if source is self.client else self.client).put(item)

    def look_for_stream(self, data: bytes) -> None:
        """See from the first bytes on a connection for polls whether they ask for a stream."""
        if self.is_stream is None:
            self.is_stream = data.startswith(self.proxy.stream_line)

    def keeps(self, data: bytes) -> bool:
        """Say whether a proxy of the client's own keeps what the server writes on a stream.

        An answer that is an error comes to its end, and passes. The lab's server cuts its streams,
        so that nothing that is kept arrives.
        """
        if not self.is_stream or not self.proxy.conditions.holds_streams[self.number]:
            return False
        self.is_kept = self.is_kept or data.startswith(b"HTTP/1.1 200 ")
        return self.is_kept

    # -- opening ---------------------------------------------------------------------------

    def receive_preamble(self, item: bytes | Signal) -> None:
        """Take what a client sends before the server has accepted: its number, or an end."""
        if isinstance(item, Signal):
            if self.opening is not None:
                self.opening.cancel()
            self.client.close()
            return
        self.received += item
        if self.opening is None and len(self.received) >= PREAMBLE.size:
            self.number, self.exchange = PREAMBLE.unpack_from(self.received)
            self.received = self.received[PREAMBLE.size :]
            self.opening = self.proxy.spawn(self.open())

    async def open(self) -> None:
        """Send a SYN and wait for its answer; repeat it without one, and give up in the end."""
        conditions, number = self.proxy.conditions, self.number
        for k in range(SYN_RETRIES + 1):
            half_s = conditions.one_way_s(number)
            await asyncio.sleep(half_s)
            if not conditions.is_under("path_loss", number):
                break
            retry_s = syn_retry_s(k) / conditions.clock.time_scale
            await asyncio.sleep(max(0.0, retry_s - half_s))
        else:
            self.client.close(by_reset=True)
            return
        try:
            await self.proxy.connect(self)
        except OSError:
            self.count_no_longer()
            if self.proxy.bad_gateway:
                self.answers, self.node = True, -1
                self.begin()
                return
            await asyncio.sleep(conditions.one_way_s(number))
            self.client.close(by_reset=True)

    def connected(self, end: Endpoint) -> None:
        """One end is up; once the server's is, the connection is open unless the client is gone."""
        if end is self.client:
            return
        if not self.client.is_up:
            self.server.close()
            return
        self.begin()

    def begin(self) -> None:
        """Tell the client that it is accepted, and take what it has sent meanwhile."""
        self.is_open = True
        self.receive(self.server, Signal.READY)
        if self.received:
            self.receive(self.client, self.received)

    # -- open ------------------------------------------------------------------------------

    def deliver_up(self, item: bytes | Signal) -> None:
        """Deliver to the server what has crossed, but answer or keep a blocked upgrade here."""
        if isinstance(item, bytes):
            is_first, self.is_upgrading = self.is_upgrading, False
            if is_first and self.proxy.conditions.swallows_upgrades(self.number):
                return
            if is_first and self.proxy.conditions.is_under("block_upgrades", self.number):
                self.answer(self.proxy.upgrade_refusal())
                return
            if self.answers:
                self.answer(self.proxy.bad_gateway_reply(to_upgrade=self.port == Port.PUSH))
                return
            self.proxy.up_bytes += len(item)
        self.deliver(self.server, item)

    def answer(self, reply: bytes) -> None:
        """Answer in place of the server, which has seen nothing but a connection, if it is up."""
        self.server.send_fin()
        self.server.close()
        self.down.put(reply)
        self.down.put(Signal.FIN)

    def deliver_down(self, item: bytes | Signal) -> None:
        """Deliver to the client what has crossed."""
        if isinstance(item, bytes):
            self.proxy.down_bytes += len(item)
        self.deliver(self.client, item)

    def deliver(self, sink: Endpoint, item: bytes | Signal) -> None:
        """Deliver to one end what has crossed."""
        if isinstance(item, bytes):
            sink.send(item)
        elif item is Signal.READY:
            sink.send(ready_byte(self.node))
        elif item is Signal.RST:
            sink.close(by_reset=True)
        else:
            sink.send_fin()
            if self.client.has_sent_fin and self.server.has_sent_fin:
                self.client.close()
                self.server.close()

    def remove_if_closed(self) -> None:
        """Remove the connection from the proxy once both ends have closed."""
        if not self.client.is_up and not self.server.is_up:
            self.count_no_longer()
            self.clear()
            self.proxy.connections.discard(self)

    def count_no_longer(self) -> None:
        """The connection has ended for the balancer, or the node has not accepted it."""
        if self.is_counted:
            self.proxy.balancer.connections[self.node] -= 1
            self.is_counted = False

    def clear(self) -> None:
        """Drop what is in transit, both ways."""
        self.up.clear()
        self.down.clear()

    # -- dead ------------------------------------------------------------------------------

    def lose_path(self) -> None:
        """The path is dead from now on, and neither end can know."""
        self.is_dead = True
        self.clear()
        if self.awaits_answer and not self.is_stream:
            self.start_kernel_timeout()

    def drop(self, source: Endpoint, item: bytes | Signal) -> None:
        """Drop what is sent on a dead path."""
        if isinstance(item, bytes) and (source is self.client or self.is_stream):
            self.start_kernel_timeout()
        is_over_there = self.server.has_received_fin or not self.server.is_up
        if self.client.has_received_fin and is_over_there:
            self.client.close()
            self.server.close()

    def start_kernel_timeout(self) -> None:
        """Close a poll's connection when the client's kernel would give up its request.

        A stream's is closed when the server's kernel gives up what it has written: its client hears
        nothing. A WebSocket has other means to notice, as in the simulation.
        """
        if self.kernel_timeout is None and self.port == Port.POLL:
            gives_up = self.server if self.is_stream else self.client
            self.kernel_timeout = self.proxy.loop.call_later(
                self.proxy.unanswered_s, lambda: gives_up.close(by_reset=True)
            )


class Proxy:
    """All proxied connections of a run; a context manager that listens on two ports of its own.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    ports : dict of Port to int
        The proxy's own.
    """

    def __init__(self, settings: Settings) -> None:
        scenario = settings.scenario
        self.loop = asyncio.get_running_loop()
        self.node_ports = list(settings.node_ports)
        workload = compile_workload(scenario, settings.seed, settings.replication)
        self.address = settings.seed, settings.replication
        nodes = len(self.node_ports)
        self.nodes = Nodes([False] * nodes, list(range(nodes)), [0] * nodes)
        self.balancer = new_balancer(workload.server.balancing, nodes, 0)
        self.conditions = Conditions(scenario, workload, settings.time_scale)
        self.spec = scenario.wire_spec()
        self.stream_line = f"GET {self.spec.stream_path}".encode()
        self.bad_gateway = scenario.network.bad_gateway
        self.unanswered_s = scenario.network.unanswered_s / settings.time_scale
        self.has_narrow_paths = bool(workload.limits)
        self.shared_link = SharedLink(workload.shared_bytes_per_s * settings.time_scale)
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.connections: set[ProxiedConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.late_s: list[float] = []
        self.up_bytes = 0
        self.down_bytes = 0
        self.listeners: list[asyncio.Server] = []
        self.ports: dict[Port, int] = {}

    async def __aenter__(self) -> Self:
        for port in Port:
            listener = await self.loop.create_server(
                partial(self.accept, port), "127.0.0.1", 0, backlog=_BACKLOG
            )
            limit_segments(listener.sockets[0])
            self.listeners.append(listener)
            self.ports[port] = listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self.listeners:
            listener.close()
        for task in self.tasks:
            task.cancel()
        for connection in list(self.connections):
            connection.clear()
            connection.client.close(by_reset=True)
            connection.server.close(by_reset=True)
        await asyncio.sleep(0)  # asyncio closes a socket in its next turn

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine beside the others; what it raises reaches the loop's handler."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.result()

    def accept(self, port: Port) -> Endpoint:
        """Return the client's end of a new connection."""
        return ProxiedConnection(self, port).client

    async def connect(self, connection: ProxiedConnection) -> None:
        """Connect to the port of the node that the balancer gives the connection to.

        Raises
        ------
        OSError
            No node is up, or that one does not accept.
        """
        link, exchange = Connection(connection.number), connection.exchange
        connection.node = node_of(self.nodes, self.balancer, link, *self.address, exchange)
        if connection.node < 0:
            raise ConnectionRefusedError
        take_turn(self.balancer, connection.node)
        self.balancer.connections[connection.node] += 1
        connection.is_counted = True
        address = ("127.0.0.1", self.node_ports[connection.node][connection.port])
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(socket.socket())
            raw.setblocking(False)
            if self.has_narrow_paths:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            await self.loop.sock_connect(raw, address)
            await self.loop.create_connection(lambda: connection.server, sock=raw)
            stack.pop_all()

    def set_state(self, state: NodeState) -> None:
        """Give a node new connections from now on, at its ports, or none."""
        self.nodes.is_down[state.node] = not state.is_up
        self.node_ports[state.node] = state.ports

    def bad_gateway_reply(self, *, to_upgrade: bool) -> bytes:
        """Return the answer to a request while no node is up."""
        return wire.bad_gateway(self.spec, formatdate(usegmt=True), to_upgrade=to_upgrade)

    def upgrade_refusal(self) -> bytes:
        """Return the answer to a blocked upgrade: as long as the server's own refusal."""
        refused = wire.upgrade_refused(self.spec, formatdate(usegmt=True))
        head, _, body = refused.partition(b"\r\n\r\n")
        was, now = b"503 Service Unavailable", b"403 Forbidden"
        text = b"Forbidden".ljust(len(body) + len(was) - len(now))
        head = head.replace(was, now).replace(b": %d\r\n" % len(body), b": %d\r\n" % len(text))
        return head + b"\r\n\r\n" + text

    def begin(self, start_s: float) -> None:
        """Begin the run at `start_s` by the clock."""
        conditions, clock = self.conditions, self.conditions.clock
        clock.start_s = start_s
        for window in conditions.windows["path_loss"]:
            self.loop.call_at(clock.to_clock(window.start_s) + _TICK_S, self.lose_paths)
        for window in conditions.windows["bandwidth"]:
            self.loop.call_at(clock.to_clock(window.end_s) + _TICK_S, self.deliver_held)

    def lose_paths(self) -> None:
        """Lose the open connections' paths that a fault affects now."""
        for connection in self.connections:
            is_alive = connection.is_open and not connection.is_dead
            if is_alive and self.conditions.is_under("path_loss", connection.number):
                connection.lose_path()

    def deliver_held(self) -> None:
        """Deliver what a limit of bandwidth has held back, now that the limit has ended."""
        for connection in list(self.connections):
            connection.down.deliver_due()

    def report(self) -> dict[str, Any]:
        """Return the bytes passed each way, and how late the proxy's timers were, seconds."""
        late_s = np.array(self.late_s or [0.0])
        return {
            "up_bytes": self.up_bytes,
            "down_bytes": self.down_bytes,
            "late_s": {"median": float(np.median(late_s)), "max": float(late_s.max())},
        }


async def run(parent: Parent) -> None:
    """Pass bytes on until the lab stops this process, or is gone."""
    settings: Settings = parent.receive()
    loop = asyncio.get_running_loop()
    proxy = Proxy(settings)
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    loop.set_exception_handler(
        lambda _, context: inbox.put_nowait(
            context.get("exception") or RuntimeError(context["message"])
        )
    )
    async with proxy:
        gc.disable()  # a full collection would hold up all connections for milliseconds
        before_s = time.process_time()
        parent.send(Ready(proxy.ports))
        parent.watch(loop, inbox)
        while isinstance(message := await inbox.get(), Start | NodeState):
            if isinstance(message, Start):
                proxy.begin(message.start_s)
            else:
                proxy.set_state(message)
        if isinstance(message, BaseException):
            raise message
        if message is Command.STOP:
            parent.send(ProxyReport(proxy.report(), time.process_time() - before_s))


if __name__ == "__main__":
    asyncio.run(run(Parent()))
