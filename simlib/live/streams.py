"""The lab's side of a stream of server-sent events: what the server writes to one client.

aiohttp answers the request, on the port of the polls. What follows the head of its answer is
written to the connection as chunks that are made once for all clients, as `websockets.broadcast`
writes frames.
"""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast

from simlib.core import wire
from simlib.core.wire import WireSpec


class StreamConnection:
    """One stream, from the head of its answer to its end.

    Parameters
    ----------
    transport : asyncio.WriteTransport
        Of the connection on which it is.

    Attributes
    ----------
    has_ended : asyncio.Event
    """

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.transport = transport
        self.has_ended = asyncio.Event()

    def write(self, event: bytes) -> None:
        """Write an event or a comment, as one chunk."""
        if not self.transport.is_closing():
            self.transport.write(wire.chunk(event))

    async def write_comments(self, every_s: float) -> None:
        """Write a comment each so many seconds until the connection ends."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await self.has_ended.wait()
                return
            except TimeoutError:
                self.write(wire.STREAM_COMMENT)


Subscriber = ServerConnection | StreamConnection
"""A connection that the lab's server pushes on."""


def tell(subscribers: Any, text: str, version: int) -> None:
    """Send a text to subscribers, of one kind: as a frame, or as an event with a version as its id.

    Parameters
    ----------
    subscribers : collection of Subscriber
    text : str
    version : int
    """
    one = next(iter(subscribers), None)
    if isinstance(one, StreamConnection):
        event = wire.stream_event(text, version)
        for stream in subscribers:
            stream.write(event)
    else:
        broadcast(subscribers, text)


def text_spec(spec: WireSpec, by_stream: bool) -> WireSpec:
    """Return the spec that texts are made by: on a stream, those of a native connection."""
    return spec._replace(envelope="native") if by_stream else spec
