"""The lab's third process: the network between clients and server, when something is wrong with it.

It stands between the clients and both ports of the server, passes on what it gets, and carries out
those faults that a server cannot: `loopback.PROXIED` names them, `core.faults` and `core.path` say
what they mean. Where the simulation and this machine's kernel would part, it does as the former:

* A connection through it opens with a handshake of its own, in the part of TCP's: the client says
  who it is (`preamble`), the proxy answers `THROUGH` when the server has accepted. So a SYN can
  get lost, is repeated as a kernel would (`syn_retry_s`), and suffers the latency of the path. A
  port that refuses cannot be seen through a proxy, which has accepted by then: it hangs up before
  `THROUGH`, and the client takes that for a refusal.
* On a dead path nothing crosses, not even the end of a connection. What is sent there is swallowed,
  and a poll gets its kernel's verdict after ``network.unanswered_s``.
* Latency delays every piece by half of what it adds, each way, in order. Bandwidth lets pieces out
  as they would have gone through a line of that rate, and reads no faster than that.

Run by `lab`, as ``python -m simlib.live.proxy``.
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
from collections.abc import Callable
from email.utils import formatdate
from enum import Enum, auto
from functools import partial
from typing import Any, Self

import numpy as np

from simlib.core import wire
from simlib.core.server import SYN_RETRIES, syn_retry_s
from simlib.live.conditions import Conditions
from simlib.live.ipc import Parent
from simlib.scenario import Scenario, compile_workload

THROUGH = b"\x06"
"""What the proxy says first: the server has accepted."""
RECEIVE_BYTES = 4096
"""Receive buffer towards the server under a bandwidth fault, as asked for: Linux doubles it."""
_INTRODUCTION = struct.Struct(">I")
_HELD_BYTES = 4096  # each way, beside what a path of that rate and latency has on its way
_MOST_HELD_BYTES = 1 << 20
_SLICE_S = 0.01
_TICK_S = 1e-4  # a timer of asyncio's may fire a tick of the clock early
_BACKLOG = 4096
_BUFFER_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


def preamble(client: int) -> bytes:
    """Return what a client says first on a connection through the proxy.

    Examples
    --------
    >>> list(preamble(258))
    [0, 0, 1, 2]
    """
    return _INTRODUCTION.pack(client)


class Signal(Enum):
    """What a direction carries beside bytes, in order with them."""

    THROUGH = auto()
    FIN = auto()
    RST = auto()


class DelayLine:
    """One direction of a path: what is put in comes out in order, later, and no faster than it may.

    Parameters
    ----------
    path : Path
    source : End
        Where it comes from: told to pause when there is too much.
    deliver : callable
        Takes what comes out.
    """

    def __init__(
        self, path: ProxiedConnection, source: Endpoint, deliver: Callable[[bytes | Signal], None]
    ) -> None:
        self.path = path
        self.proxy = path.proxy
        self.source = source
        self.deliver = deliver
        self.queue: deque[tuple[float, float, bytes | Signal]] = deque()
        self.held_bytes = 0
        self.free_s = -math.inf  # until when the line is busy with what has passed
        self.last_s = -math.inf  # when the last piece came out: none overtakes it
        self.due_s = math.inf
        self.timer: asyncio.TimerHandle | None = None
        self.is_stopped = False

    def put(self, item: bytes | Signal) -> None:
        """Something has arrived."""
        delay_s = self.proxy.conditions.one_way_s(self.path.number)
        self.queue.append((self.proxy.loop.time(), delay_s, item))
        if isinstance(item, bytes):
            self.held_bytes += len(item)
        if self.timer is None:
            self.pump()
        else:
            self.make_room()

    def pump(self) -> None:
        """Let out what is due; come back for the rest."""
        self.stop_timer()
        loop, rate = self.proxy.loop, self.bytes_per_s
        while self.queue and not self.is_stopped:
            arrived_s, delay_s, item = self.queue[0]
            size = len(item) if isinstance(item, bytes) else 0
            if rate < math.inf:
                size = min(size, max(1, int(rate * _SLICE_S)))
            sent_s = max(arrived_s, self.free_s) + size / rate
            due_s = max(sent_s + delay_s, self.last_s)
            if due_s > loop.time():
                self.due_s = due_s
                self.timer = loop.call_at(due_s, self.wake)
                break
            self.free_s, self.last_s = sent_s, due_s
            self.held_bytes -= size
            if isinstance(item, bytes) and size < len(item):
                self.queue[0] = (arrived_s, delay_s, item[size:])
                item = item[:size]
            else:
                self.queue.popleft()
            self.deliver(item)
        self.make_room()

    def make_room(self) -> None:
        """Let the source wait while too much is held, beside what is on its way."""
        on_its_way_s = 2.0 * _SLICE_S + (self.queue[-1][1] if self.queue else 0.0)
        room_bytes = min(_HELD_BYTES + self.bytes_per_s * on_its_way_s, _MOST_HELD_BYTES)
        self.source.pause(self.held_bytes > room_bytes)

    def wake(self) -> None:
        """The time of the first in the queue has come."""
        self.proxy.late_s.append(self.proxy.loop.time() - self.due_s)
        self.pump()

    @property
    def bytes_per_s(self) -> float:
        """The present rate; nothing limits the way up."""
        if self is self.path.up:
            return math.inf
        return self.proxy.conditions.bytes_per_s(self.path.number)

    def stop(self, is_stopped: bool) -> None:
        """Let nothing out while its sink takes nothing."""
        self.is_stopped = is_stopped
        self.pump()

    def clear(self) -> None:
        """Forget what is on its way."""
        self.stop_timer()
        self.queue.clear()
        self.held_bytes = 0
        self.source.pause(False)

    def stop_timer(self) -> None:
        """Nothing will come by itself."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Endpoint(asyncio.BufferedProtocol):
    """One of the two TCP connections of a path."""

    def __init__(self, path: ProxiedConnection) -> None:
        self.path = path
        self.transport: asyncio.Transport | None = None
        self.has_heard_end = False
        self.is_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.path.made(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """asyncio: where to read to."""
        return self.path.proxy.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: bytes have come."""
        self.path.take(self, bytes(self.path.proxy.buffer[:nbytes]))

    def eof_received(self) -> bool:
        """asyncio: the other side will send no more; it may still listen."""
        if not self.has_heard_end:  # a transport that reads again says so again
            self.has_heard_end = True
            self.path.take(self, Signal.FIN)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone, by the other side's doing if there is an error."""
        if exc is not None:
            self.path.take(self, Signal.RST)
        self.path.forget()

    def pause_writing(self) -> None:
        """asyncio: the other side is slow to read."""
        self.path.into(self).stop(True)

    def resume_writing(self) -> None:
        """asyncio: it has read."""
        self.path.into(self).stop(False)

    @property
    def is_up(self) -> bool:
        """Whether it can still be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def pause(self, is_paused: bool) -> None:
        """Read no more, or again."""
        if self.transport is not None and self.transport.is_reading() == is_paused:
            (self.transport.pause_reading if is_paused else self.transport.resume_reading)()

    def send(self, data: bytes) -> None:
        """Write."""
        if self.is_up and not self.is_ended:
            assert self.transport is not None
            self.transport.write(data)

    def end(self) -> None:
        """Say that nothing more will come."""
        if self.is_up and not self.is_ended:
            assert self.transport is not None
            with contextlib.suppress(OSError):  # it has been reset
                self.transport.write_eof()
        self.is_ended = True

    def close(self, *, by_reset: bool = False) -> None:
        """Let go of the connection."""
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

    def __init__(self, proxy: Proxy, port: str) -> None:
        self.proxy = proxy
        self.port = port
        self.number = -1
        self.heard = b""
        self.is_open = False
        self.is_dead = False
        self.is_upgrading = port == "push_port"
        self.awaits_answer = False
        self.opening: asyncio.Task[None] | None = None
        self.verdict: asyncio.TimerHandle | None = None
        self.client = Endpoint(self)
        self.server = Endpoint(self)
        self.up = DelayLine(self, self.client, self.deliver_up)
        self.down = DelayLine(self, self.server, self.deliver_down)
        proxy.paths.add(self)

    def into(self, sink: Endpoint) -> DelayLine:
        """Return the direction that leads to one end."""
        return self.up if sink is self.server else self.down

    def take(self, source: Endpoint, item: bytes | Signal) -> None:
        """Something has come from one end."""
        if self.is_dead:
            self.swallow(source, item)
        elif not self.is_open:
            self.listen(item)
        elif self.proxy.conditions.is_under("path_loss", self.number):
            self.die()
            self.swallow(source, item)
        else:
            if isinstance(item, bytes):
                self.awaits_answer = source is self.client
            self.into(self.server if source is self.client else self.client).put(item)

    # -- opening ---------------------------------------------------------------------------

    def listen(self, item: bytes | Signal) -> None:
        """A client that is not through introduces itself, or goes."""
        if isinstance(item, Signal):
            if self.opening is not None:
                self.opening.cancel()
            self.client.close()
            return
        self.heard += item
        if self.opening is None and len(self.heard) >= _INTRODUCTION.size:
            (self.number,) = _INTRODUCTION.unpack_from(self.heard)
            self.heard = self.heard[_INTRODUCTION.size :]
            self.opening = self.proxy.spawn(self.open())

    async def open(self) -> None:
        """Send a SYN and wait for its answer; whoever gets none tries again, and gives up."""
        conditions, number = self.proxy.conditions, self.number
        for k in range(SYN_RETRIES + 1):
            half_s = conditions.one_way_s(number)
            await asyncio.sleep(half_s)
            if not conditions.is_under("path_loss", number):
                break
            retry_s = syn_retry_s(k) / conditions.time_scale
            await asyncio.sleep(max(0.0, retry_s - half_s))
        else:
            self.client.close(by_reset=True)
            return
        try:
            await self.proxy.connect(self)
        except OSError:
            await asyncio.sleep(conditions.one_way_s(number))
            self.client.close(by_reset=True)

    def made(self, end: Endpoint) -> None:
        """A connection is up; with the server's, so is the path, unless the client has gone."""
        if end is self.client:
            return
        if not self.client.is_up:
            self.server.close()
            return
        self.is_open = True
        self.take(self.server, Signal.THROUGH)
        if self.heard:
            self.take(self.client, self.heard)

    # -- open ------------------------------------------------------------------------------

    def deliver_up(self, item: bytes | Signal) -> None:
        """What came from the client has crossed."""
        if isinstance(item, bytes):
            is_first, self.is_upgrading = self.is_upgrading, False
            if is_first and self.proxy.conditions.is_under("block_upgrades", self.number):
                self.refuse()
                return
            self.proxy.up_bytes += len(item)
        self.hand_over(self.server, item)

    def refuse(self) -> None:
        """Answer an upgrade in the server's place, which has seen nothing but a connection."""
        self.server.end()
        self.server.close()
        self.down.put(self.proxy.forbidden())
        self.down.put(Signal.FIN)

    def deliver_down(self, item: bytes | Signal) -> None:
        """What came from the server has crossed."""
        if isinstance(item, bytes):
            self.proxy.down_bytes += len(item)
        self.hand_over(self.client, item)

    def hand_over(self, sink: Endpoint, item: bytes | Signal) -> None:
        """Give one end what has crossed."""
        if isinstance(item, bytes):
            sink.send(item)
        elif item is Signal.THROUGH:
            sink.send(THROUGH)
        elif item is Signal.RST:
            sink.close(by_reset=True)
        else:
            sink.end()
            if self.client.is_ended and self.server.is_ended:
                self.client.close()
                self.server.close()

    def forget(self) -> None:
        """One of the ends is gone; when both are, so is the path."""
        if not self.client.is_up and not self.server.is_up:
            self.clear()
            self.proxy.paths.discard(self)

    def clear(self) -> None:
        """Nothing is on its way any more."""
        self.up.clear()
        self.down.clear()

    # -- dead ------------------------------------------------------------------------------

    def die(self) -> None:
        """The path is dead, and nobody is told."""
        self.is_dead = True
        self.clear()
        if self.awaits_answer:
            self.await_verdict()

    def swallow(self, source: Endpoint, item: bytes | Signal) -> None:
        """What is sent on a dead path is gone."""
        if source is self.client and isinstance(item, bytes):
            self.await_verdict()
        if self.client.has_heard_end and self.server.has_heard_end:
            self.client.close()
            self.server.close()

    def await_verdict(self) -> None:
        """A request will not be answered: some day the client's kernel gives up on it.

        A WebSocket has other means to notice, as in the simulation.
        """
        if self.verdict is None and self.port == "poll_port":
            self.verdict = self.proxy.loop.call_later(
                self.proxy.unanswered_s, lambda: self.client.close(by_reset=True)
            )


class Proxy:
    """All paths of a run; a context manager that listens on two ports of its own.

    Parameters
    ----------
    settings : dict
        ``scenario``, ``seed``, ``replication``, ``time_scale``, and the server's ``poll_port`` and
        ``push_port``.

    Attributes
    ----------
    ports : dict of str to int
        Its own ``poll_port`` and ``push_port``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        scenario: Scenario = settings["scenario"]
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        workload = compile_workload(scenario, settings["seed"], settings["replication"])
        self.conditions = Conditions(scenario, workload, settings["time_scale"])
        self.spec = scenario.wire_spec()
        self.unanswered_s = scenario.network.unanswered_s / settings["time_scale"]
        self.is_small = bool(workload.limits)
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.paths: set[ProxiedConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.late_s: list[float] = []
        self.up_bytes = 0
        self.down_bytes = 0
        self.listeners: list[asyncio.Server] = []
        self.ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        for port in ("poll_port", "push_port"):
            listener = await self.loop.create_server(
                partial(self.welcome, port), "127.0.0.1", 0, backlog=_BACKLOG
            )
            self.listeners.append(listener)
            self.ports[port] = listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self.listeners:
            listener.close()
        for task in self.tasks:
            task.cancel()
        for path in list(self.paths):
            path.clear()
            path.client.close(by_reset=True)
            path.server.close(by_reset=True)
        await asyncio.sleep(0)  # asyncio closes a socket one turn later

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        """Run a coroutine beside the others; what it raises reaches the loop's handler."""
        task: asyncio.Task[None] = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.ended)
        return task

    def ended(self, task: asyncio.Task[None]) -> None:
        """A coroutine has ended."""
        self.tasks.discard(task)
        if not task.cancelled():
            task.result()

    def welcome(self, port: str) -> Endpoint:
        """Return the client's end of a new path."""
        return ProxiedConnection(self, port).client

    async def connect(self, path: ProxiedConnection) -> None:
        """Connect a path to the server's port."""
        address = ("127.0.0.1", self.settings[path.port])
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(socket.socket())
            raw.setblocking(False)
            if self.is_small:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            await self.loop.sock_connect(raw, address)
            await self.loop.create_connection(lambda: path.server, sock=raw)
            stack.pop_all()

    def forbidden(self) -> bytes:
        """Return the answer to a blocked upgrade: as long as the server's own refusal."""
        refused = wire.upgrade_refused(self.spec, formatdate(usegmt=True))
        head, _, body = refused.partition(b"\r\n\r\n")
        was, now = b"503 Service Unavailable", b"403 Forbidden"
        text = b"Forbidden".ljust(len(body) + len(was) - len(now))
        head = head.replace(was, now).replace(b": %d\r\n" % len(body), b": %d\r\n" % len(text))
        return head + b"\r\n\r\n" + text

    def begin(self, start_s: float) -> None:
        """The run starts, by the clock, at `start_s`."""
        conditions = self.conditions
        conditions.start_s = start_s
        for window in conditions.windows["path_loss"]:
            self.loop.call_at(conditions.to_clock(window.start_s) + _TICK_S, self.lose)
        for window in conditions.windows["bandwidth"]:
            self.loop.call_at(conditions.to_clock(window.end_s) + _TICK_S, self.widen)

    def lose(self) -> None:
        """The paths that a fault now concerns die."""
        for path in self.paths:
            stands = path.is_open and not path.is_dead
            if stands and self.conditions.is_under("path_loss", path.number):
                path.die()

    def widen(self) -> None:
        """A limit has ended: what it held back may go."""
        for path in list(self.paths):
            path.down.pump()

    def report(self) -> dict[str, Any]:
        """Return the bytes passed each way, and how late the proxy's timers were, seconds."""
        late_s = np.array(self.late_s or [0.0])
        return {
            "up_bytes": self.up_bytes,
            "down_bytes": self.down_bytes,
            "late_s": {"median": float(np.median(late_s)), "max": float(late_s.max())},
        }


async def run(parent: Parent) -> None:
    """Pass on until the parent says stop, or is gone."""
    settings = parent.receive()
    loop = asyncio.get_running_loop()
    proxy = Proxy(settings)
    told: asyncio.Queue[Any] = asyncio.Queue()
    loop.set_exception_handler(
        lambda _, context: told.put_nowait(
            context.get("exception") or RuntimeError(context["message"])
        )
    )
    async with proxy:
        gc.disable()  # a full collection would hold up everybody for milliseconds
        before_s = time.process_time()
        parent.send(proxy.ports)
        parent.watch(loop, told)
        while isinstance(message := await told.get(), float):
            proxy.begin(message)
        if isinstance(message, BaseException):
            raise message
        if message is not None:
            parent.send({**proxy.report(), "cpu_s": time.process_time() - before_s})


if __name__ == "__main__":
    asyncio.run(run(Parent()))
