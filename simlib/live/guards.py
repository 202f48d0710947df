"""What one connection can make the lab's server do and hold, whoever is at its other end.

Each port has its guard around the library that serves it. Both ask `admission` before they let a
connection in, and count it until it ends. Beside that

* the poll port is aiohttp's: it answers one request after the other, limits a request's head, and
  stops to read while it writes. A peer that takes nothing for long is given up by the kernel.
* the push port's connections limit what websockets does not: the whole head, the frames per
  second, the replies (pongs) that wait for a peer that does not read, and the time that a peer has
  to hang up after the connection has failed. What the scenario pushes is not limited here, but by
  its policy for slow consumers, see `send_buffers`: under ``unbounded`` it is all kept.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode, Frame
from websockets.protocol import Event

from simlib.live.admission import Admission
from simlib.live.packets import limit_segments

MOST_HEAD_BYTES = 16_384
"""The longest head of a request to upgrade."""
MOST_REPLY_BYTES = 65_536
"""The most that waits for a peer of what it has made the server say."""
ACCEPTS_AT_ONCE = 4
"""So many connections are accepted before the event loop turns to others."""
CLOSE_S = 1.0
"""How long a peer has to close its side."""
_PIECE_BYTES = 512  # of what has arrived is handled before the limits are looked at
_STALL_S = 60.0
_MOST_UNREAD_BYTES = 65_536


def address_of(transport: asyncio.BaseTransport | None) -> str:
    """Return the address at the other end of a connection; ``""`` if it has gone."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if peer else ""


def listening_socket(port: int) -> socket.socket:
    """Return a socket bound to a port of the loopback address; 0 for any that is free."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1)
    limit_segments(listener)
    return listener


def give_up_stalled(listener: socket.socket, slowest_bytes_per_s: float) -> None:
    """Let the kernel end connections whose peer takes nothing for a minute.

    On the slowest path of the scenario, one that is read from as fast as it carries must not count
    as stalled.
    """
    stall_s = _STALL_S + _MOST_UNREAD_BYTES / slowest_bytes_per_s
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        timeout_ms = min(int(stall_s * 1000.0), 2**31 - 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)


class PollGuard(asyncio.Protocol):
    """One connection to the poll port: it hands on to aiohttp's protocol what it lets in.

    Parameters
    ----------
    admission : Admission
    new_protocol : callable
        Makes the protocol that serves the connection.
    on_end : callable
        Is told of the transport of each connection that has ended: aiohttp does not tell a handler
        that its client has gone.
    """

    def __init__(
        self,
        admission: Admission,
        new_protocol: Callable[[], asyncio.Protocol],
        on_end: Callable[[asyncio.BaseTransport], None],
    ) -> None:
        self.admission = admission
        self.new_protocol = new_protocol
        self.on_end = on_end
        self.transport: asyncio.BaseTransport
        self.address = ""
        self.served: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        assert isinstance(transport, asyncio.Transport)
        self.address = address_of(transport)
        if not self.admission.lets_in(self.address, asyncio.get_running_loop().time()):
            transport.abort()
            return
        self.served, self.transport = self.new_protocol(), transport
        self.served.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have arrived."""
        if self.served is not None:
            self.served.data_received(data)

    def eof_received(self) -> bool | None:
        """asyncio: the other side will send no more."""
        return self.served.eof_received() if self.served is not None else None

    def pause_writing(self) -> None:
        """asyncio: the other side reads slowly."""
        if self.served is not None:
            self.served.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: the other side has read."""
        if self.served is not None:
            self.served.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection has ended."""
        if self.served is not None:
            self.admission.goes(self.address)
            self.served.connection_lost(exc)
            self.on_end(self.transport)


class GuardedConnection(ServerConnection):
    """One connection to the push port, within limits.

    Parameters
    ----------
    admission : Admission
    *args, **kwargs
        As `websockets.asyncio.server.serve` gives them.
    """

    def __init__(self, *args: Any, admission: Admission, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.admission = admission
        self.address = ""
        self.is_let_in = False
        self.head_bytes = 0
        self.reply_bytes = 0
        self.has_failed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        assert isinstance(transport, asyncio.Transport)
        self.address = address_of(transport)
        self.is_let_in = self.admission.lets_in(self.address, self.loop.time())
        if self.is_let_in:
            super().connection_made(transport)
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection has ended."""
        if self.is_let_in:
            self.admission.goes(self.address)
            self.admission.frames.forget(self)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have arrived."""
        for start in range(0, len(data), _PIECE_BYTES):
            if self.has_failed:
                return  # whatever it sends on is not looked at
            piece = data[start : start + _PIECE_BYTES]
            if self.request is None:
                self.head_bytes += len(piece)
            waited = self.transport.get_write_buffer_size()
            super().data_received(piece)
            grown = self.transport.get_write_buffer_size() - waited
            self.reply_bytes = min(self.reply_bytes, waited) + max(0, grown)
            if self.request is None and self.head_bytes > MOST_HEAD_BYTES:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self.protocol.send_response(self.protocol.reject(status, "Head too large\n"))
                self.fail("heads")
            elif self.reply_bytes > MOST_REPLY_BYTES:
                self.fail("replies")
                self.transport.abort()  # what waits is not read anyway
            elif self.protocol.eof_sent:
                self.fail()

    def process_event(self, event: Event) -> None:
        """Take one frame, or the request; close if frames come too fast."""
        super().process_event(event)
        if not isinstance(event, Frame) or self.has_failed:
            return
        if not self.admission.frames.admits(self, self.loop.time()):
            self.protocol.fail(CloseCode.POLICY_VIOLATION, "too many frames")
            self.fail("frames")

    def fail(self, limit: str | None = None) -> None:
        """Send what is to be said last, and end the connection if the peer does not do so soon."""
        if limit is not None:
            self.admission.refused[limit] += 1
        self.has_failed = True
        self.send_data()
        self.loop.call_later(CLOSE_S, self.transport.abort)
