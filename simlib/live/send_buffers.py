"""How the lab's server treats clients that do not take their pushes in time.

`core.backpressure` defines each policy; here it is applied to real connections. ``unbounded`` is
`websockets.broadcast`, ``block`` is a loop that awaits each send. Under the other policies a
message is written at once only while the connection's write buffer is empty, because what is in
that buffer cannot be taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection
from typing import Any

import websockets
from websockets.asyncio.server import ServerConnection

from simlib.core import wire
from simlib.core.backpressure import Overflow, SendingRules, kept
from simlib.core.wire import Message, WireSpec
from simlib.live.streams import Subscriber, tell


class SendBuffers:
    """The changes that wait in the server's process, for all of its connections.

    Parameters
    ----------
    rules : SendingRules
    spec : WireSpec
        By which texts are made.
    message : Message, optional
        As which the clients hear of a change: PUSH, or NOTICE, or what a stream has for them.

    Attributes
    ----------
    most_bytes : dict of int to int
        The most that was held for each client, bytes; only clients for which something was held.
    """

    def __init__(
        self, rules: SendingRules, spec: WireSpec, message: Message = Message.PUSH
    ) -> None:
        self.rules = rules
        self.spec = spec
        self.push_bytes = int(wire.message_sizes(spec, "payload")[message, 1])
        is_notice = message in (Message.NOTICE, Message.STREAM_NOTICE)
        self.text_of = wire.notice_text if is_notice else wire.push_text
        self.waiting_text_of = self.text_of
        if rules.overflow == Overflow.COALESCE and message == Message.PUSH:
            self.waiting_text_of = wire.snapshot_text
        self.numbers: dict[Subscriber, int] = {}
        self.waiting: dict[Subscriber, deque[int]] = {}
        self.most_bytes: dict[int, int] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._broadcasts: asyncio.Queue[tuple[int, list[ServerConnection]]] = asyncio.Queue()

    @property
    def write_limit(self) -> int | tuple[int, int]:
        """The size from which `websockets.serve` should call a write buffer full, bytes."""
        if self.rules.overflow == Overflow.BLOCK:
            return self.rules.buffer_bytes, self.rules.buffer_bytes
        if self.rules.overflow in (Overflow.DROP_OLDEST, Overflow.COALESCE):
            return 0
        return 2**15

    def add(self, connection: Subscriber, number: int) -> None:
        """Add the connection of a client that has subscribed."""
        self.numbers[connection] = number

    def remove(self, connection: Subscriber) -> None:
        """Remove a connection that has ended, and the changes that wait for it."""
        self.numbers.pop(connection, None)
        self.waiting.pop(connection, None)

    def send(self, subscribers: Collection[Any], version: int) -> None:
        """Push a change to all subscribers, as far as the policy allows."""
        overflow = self.rules.overflow
        if overflow == Overflow.BLOCK:
            self._broadcasts.put_nowait((version, list(subscribers)))
            return
        if overflow == Overflow.CLOSE:
            most = self.rules.buffer_bytes - self.push_bytes
            for connection in subscribers:
                if connection.transport.get_write_buffer_size() > most:
                    connection.transport.abort()
        elif overflow != Overflow.UNBOUNDED:
            lagging = [connection for connection in subscribers if self._is_lagging(connection)]
            for connection in lagging:
                self._enqueue(connection, version)
            subscribers = set(subscribers).difference(lagging)
        tell(subscribers, self.text_of(self.spec, version), version)
        for connection in subscribers:
            self._record_held_bytes(connection)

    async def send_serially(self) -> None:
        """Under ``block``, send each broadcast to one client after the other, awaiting each."""
        while True:
            version, subscribers = await self._broadcasts.get()
            text = self.text_of(self.spec, version)
            for connection in subscribers:
                with contextlib.suppress(websockets.ConnectionClosed):
                    await connection.send(text)
                self._record_held_bytes(connection)

    def _is_lagging(self, connection: ServerConnection) -> bool:
        return connection in self.waiting or connection.transport.get_write_buffer_size() > 0

    def _enqueue(self, connection: ServerConnection, version: int) -> None:
        """Let a change wait for a connection; if too many wait, drop the oldest."""
        waiting = self.waiting.get(connection)
        if waiting is None:
            waiting = self.waiting[connection] = deque()
            task = asyncio.get_running_loop().create_task(self._drain(connection, waiting))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)
        waiting.append(version)
        # The transport's own write buffer counts towards the limit too.
        held = -(-connection.transport.get_write_buffer_size() // self.push_bytes)
        while len(waiting) > max(1, kept(self.rules, len(waiting) + held, self.push_bytes) - held):
            waiting.popleft()
        self._record_held_bytes(connection)

    async def _drain(self, connection: ServerConnection, waiting: deque[int]) -> None:
        """Send the changes that wait for a connection as fast as its kernel takes them."""
        with contextlib.suppress(websockets.ConnectionClosed, OSError):
            await connection.drain()
            while waiting:
                await connection.send(self.waiting_text_of(self.spec, waiting.popleft()))
        if self.waiting.get(connection) is waiting:
            del self.waiting[connection]

    def _record_held_bytes(self, connection: Subscriber) -> None:
        held = connection.transport.get_write_buffer_size()
        held += self.push_bytes * len(self.waiting.get(connection, ()))
        number = self.numbers.get(connection)
        if held and number is not None:
            self.most_bytes[number] = max(self.most_bytes.get(number, 0), held)
