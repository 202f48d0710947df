"""The IP packets of a connection, as the kernel counts them: what a provider bills.

Linux tells how many segments a socket has sent and received, those that only acknowledge included
(``TCP_INFO``, since Linux 4.2). Each has the headers that the simulation counts: 20 bytes of IPv4,
20 of TCP and 12 of the time stamps that Linux sends by default (RFC 7323). Loopback would pass
64 KiB in one segment, so the lab's sockets agree on what an Ethernet frame has room for.
"""

from __future__ import annotations

import socket
import struct
from asyncio.trsock import TransportSocket

from simlib.core.wire import HEADER_BYTES, SEGMENT_BYTES

_MOST_BYTES = SEGMENT_BYTES + 12  # the kernel counts the time stamps in
_SEGMENTS = struct.Struct("II")
_SEGMENTS_AT = 136  # tcpi_segs_out and tcpi_segs_in in struct tcp_info of linux/tcp.h


def limit_segments(listener: socket.socket | TransportSocket) -> None:
    """Have the connections of a listening socket use segments as they would on an Ethernet."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _MOST_BYTES)


class HeaderCounter:
    """The headers of a connection's segments, from when the counter was made.

    Parameters
    ----------
    sock : socket.socket
        Connected.
    """

    def __init__(self, sock: socket.socket | TransportSocket) -> None:
        self._sock = sock
        self._sent, self._received = self._read()

    def take(self) -> tuple[int, int]:
        """Return the bytes of headers that were sent and received since the last call."""
        before = self._sent, self._received
        self._sent, self._received = self._read()
        sent, received = self._sent - before[0], self._received - before[1]
        return HEADER_BYTES * sent, HEADER_BYTES * received

    def _read(self) -> tuple[int, int]:
        length = _SEGMENTS_AT + _SEGMENTS.size
        told = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, length)
        sent, received = _SEGMENTS.unpack_from(told, _SEGMENTS_AT)
        return sent, received
